//! Manifests and what is understood of them: text in, text out.

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;

/// What a manifest says, or what is wrong with it, as a person would see it.
fn check(text: &str, expected: Expect) {
    let shown = match Manifest::parse("coracle.toml", text) {
        Ok(manifest) => shown(&manifest),
        Err(problem) => error(&problem),
    };
    expected.assert_eq(&shown);
}

fn error(problem: &Problem) -> String {
    let hint = problem.hint.iter().map(|hint| format!("hint: {hint}\n")).collect::<String>();
    format!("{}\n{hint}", problem.message)
}

fn shown(manifest: &Manifest) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "app {:?} namespace {:?}", manifest.app, manifest.namespace);
    for function in &manifest.functions {
        let name = &function.name;
        let _ = match &function.source {
            Source::Path(path) => {
                writeln!(text, "{name}: code {}, build {:?}", path.display(), function.build)
            }
            Source::Image(image) => writeln!(text, "{name}: image {image}"),
        };
        if let Some(contract) = function.contract {
            let _ = writeln!(text, "  contract {contract}");
        }
        let defaults = serde_json::to_value(Settings::default()).unwrap();
        let settings = serde_json::to_value(&function.settings).unwrap();
        let mut differing = |key: &str, value: &serde_json::Value, default: &serde_json::Value| {
            if value != default {
                let _ = writeln!(text, "  {key} = {value}");
            }
        };
        for (key, value) in settings.as_object().unwrap() {
            match value
                .as_object()
                .filter(|_| matches!(key.as_str(), "limits" | "program" | "scale" | "queue"))
            {
                Some(group) => {
                    group.iter().for_each(|(name, value)| differing(name, value, &defaults[key][name]))
                }
                None => differing(key, value, &defaults[key]),
            }
        }
    }
    text
}

#[test]
fn the_shortest_manifest_has_the_defaults() {
    check(
        "[function.hello]\ncode = 'hello.wasm'",
        expect![[r#"
        app None namespace None
        hello: code hello.wasm, build None
    "#]],
    );
}

#[test]
fn every_key_is_understood() {
    check(
        include_str!("../../../../docs/coracle.toml"),
        expect![[r#"
            app Some("shop") namespace Some("team-a")
            resize: code target/wasm32-wasip2/release/resize.wasm, build Some("cargo build --release --target wasm32-wasip2")
              annotations = {"owner":"ada@example.com"}
              content_type = "text/plain"
              env = {"LEVEL":"info"}
              labels = {"team":"media"}
              concurrency = 7
              log_bytes_per_second = 65536
              memory_bytes = 268435456
              request_body_bytes = 1048576
              response_body_bytes = 2097152
              stream_timeout = {"nanos":0,"secs":90}
              timeout = {"nanos":0,"secs":10}
              waiting = 0
              outbound = ["https://api.example.com"]
              private = true
              concurrency = 2
              on_failure = "topic:dead-orders"
              on_success = "function:notify"
              retry = {"age":{"nanos":0,"secs":3600},"attempts":8,"first_wait":{"nanos":500000000,"secs":0},"longest_wait":{"nanos":0,"secs":60},"statuses":["409","429","5xx"]}
              reuse = 1000
              routes = ["/resize/*","/pictures/:id"]
              secrets = ["api-key"]
            api: code dist, build None
              contract http
              command = ["./server","--verbose"]
              cpu_millis = 500
              health = "/healthz"
              http2 = true
              port = 3000
              processes = 64
              secrets_in_env = true
              start_timeout = {"nanos":0,"secs":10}
              idle = {"nanos":0,"secs":600}
              max = 5
              min = 1
              target = 50
              secrets = ["api-key"]
            site: image docker.io/library/nginx:1
              entrypoint = ["/docker-entrypoint.sh"]
              network = "host"
              read_only = true
              user = "101:101"
              workdir = "/srv"
        "#]],
    );
}

#[test]
fn functions_keep_the_order_of_the_file() {
    check(
        "[function.zebra]\ncode = 'z.wasm'\nroute = '/z'\n[function.ant]\ncode = 'a.wasm'\n",
        expect![[r#"
            app None namespace None
            zebra: code z.wasm, build None
              routes = ["/z"]
            ant: code a.wasm, build None
        "#]],
    );
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    check(
        "[function.hello]\ncode = 'hello.wasm'\nmemroy = '64MiB'",
        expect![[r#"
        coracle.toml:3:1: unknown key `memroy`
          |
        3 | memroy = '64MiB'
          | ^^^^^^
        hint: did you mean `memory`?
    "#]],
    );
    check(
        "nmespace = 'x'\n[function.hello]\ncode = 'hello.wasm'",
        expect![[r#"
        coracle.toml:1:1: unknown key `nmespace`
          |
        1 | nmespace = 'x'
          | ^^^^^^^^
        hint: did you mean `namespace`?
    "#]],
    );
    check(
        "[functions.hello]\ncode = 'hello.wasm'",
        expect![[r#"
        coracle.toml:1:2: unknown key `functions`
          |
        1 | [functions.hello]
          |  ^^^^^^^^^
        hint: did you mean `function`?
    "#]],
    );
    check(
        "[function.hello]\ncode = 'hello.wasm'\nreplicas = 3",
        expect![[r#"
            coracle.toml:3:1: unknown key `replicas`
              |
            3 | replicas = 3
              | ^^^^^^^^
            hint: known here: build, code, image, contract, command, entrypoint, workdir, user, port, health, http2, start_timeout, read_only, network, secrets_in_env, cpu, processes, scale, route, private, env, secrets, outbound, memory, timeout, stream_timeout, concurrency, waiting, request_body, response_body, log_rate, reuse, content_type, labels, annotations, queue
        "#]],
    );
}

#[test]
fn a_key_of_a_function_above_all_functions_is_explained() {
    check(
        "memory = '64MiB'\n[function.hello]\ncode = 'hello.wasm'",
        expect![[r#"
        coracle.toml:1:1: `memory` belongs to a function
          |
        1 | memory = '64MiB'
          | ^^^^^^
        hint: move it below a line `[function.NAME]`
    "#]],
    );
}

#[test]
fn a_program_is_a_folder_an_executable_or_an_image() {
    check(
        "[function.site]\nimage = 'nginx:1'\nscale = { min = 1, idle = '1m' }\ncpu = '1.5'\nmemory = '8GiB'\n\
         [function.api]\ncode = 'dist'\ncontract = 'http'\ncommand = ['./server', '-v']\nport = 3000\n\
         [function.cat]\ncode = '/bin/cat'",
        expect![[r#"
            app None namespace None
            site: image nginx:1
              memory_bytes = 8589934592
              cpu_millis = 1500
              idle = {"nanos":0,"secs":60}
              min = 1
            api: code dist, build None
              contract http
              command = ["./server","-v"]
              port = 3000
            cat: code /bin/cat, build None
        "#]],
    );
}

#[test]
fn a_key_that_the_code_does_not_obey_is_refused() {
    check(
        "[function.f]\ncode = 'f.wasm'\nport = 80",
        expect![[r#"
        coracle.toml:3:1: `port` is for programs, and `code` is WebAssembly
          |
        3 | port = 80
          | ^^^^
        hint: remove it, or deploy a folder, an archive, an executable or an image
    "#]],
    );
    check(
        "[function.f]\nreuse = 5\nimage = 'nginx'",
        expect![[r#"
        coracle.toml:2:1: `reuse` is for WebAssembly, and this is an image
          |
        2 | reuse = 5
          | ^^^^^
        hint: remove it: an instance of a program serves calls for as long as it runs
    "#]],
    );
    check(
        "[function.f]\ncode = 'f.wasm'\nimage = 'nginx'",
        expect![[r#"
        coracle.toml:3:1: the function `f` has `code` and `image`
          |
        3 | image = 'nginx'
          | ^^^^^
        hint: remove one of them: a function is a file or folder, or an image
    "#]],
    );
    check(
        "[function.f]\nimage = 'nginx 1'",
        expect![[r#"
        coracle.toml:2:9: this is not a name of an image
          |
        2 | image = 'nginx 1'
          |         ^^^^^^^^^
        hint: write it as in `image = "docker.io/library/nginx:1"`
    "#]],
    );
}

#[test]
fn the_keys_of_a_program_say_what_they_want() {
    check(
        "[function.f]\nimage = 'f'\ncommand = './server -v'",
        expect![[r#"
        coracle.toml:3:11: `command` must be an array of words, as ["./server", "--verbose"], and is a text
          |
        3 | command = './server -v'
          |           ^^^^^^^^^^^^^
        hint: for what a shell would do, write ["sh", "-c", "…"]
    "#]],
    );
    check(
        "[function.f]\nimage = 'f'\ncontract = 'grpc'",
        expect![[r#"
            coracle.toml:3:12: `grpc` is not a contract: write `http` for a program that listens, `stdio` for one that reads its input and prints, `watchdog` for one that its `fprocess` names
              |
            3 | contract = 'grpc'
              |            ^^^^^^
        "#]],
    );
    check(
        "[function.f]\nimage = 'f'\nport = 65_536",
        expect![[r#"
        coracle.toml:3:8: `port` must be a whole number from 1 to 65535
          |
        3 | port = 65_536
          |        ^^^^^^
    "#]],
    );
    check(
        "[function.f]\nimage = 'f'\ncpu = 'half'",
        expect![[r#"
        coracle.toml:3:7: `half` is not a share of processors: write `500m` for half a core, `1` or `1.5`
          |
        3 | cpu = 'half'
          |       ^^^^^^
    "#]],
    );
    check(
        "[function.f]\nimage = 'f'\nnetwork = 'bridge'",
        expect![[r#"
        coracle.toml:3:11: `bridge` is not a network: write `own` for one of its own, `host` for that of the machine
          |
        3 | network = 'bridge'
          |           ^^^^^^^^
    "#]],
    );
    check(
        "[function.f]\nimage = 'f'\nscale = { minimum = 1 }",
        expect![[r#"
            coracle.toml:3:11: unknown key `minimum`
              |
            3 | scale = { minimum = 1 }
              |           ^^^^^^^
            hint: known here: min, max, target, grows, idle
        "#]],
    );
    check(
        "[function.f]\nimage = 'f'\nscale = { idle = '2d' }",
        expect![[r#"
            coracle.toml:3:18: `idle` must be from 1ms to 1d, as "5m"
              |
            3 | scale = { idle = '2d' }
              |                  ^^^^
        "#]],
    );
}

#[test]
fn a_single_key_is_set_as_in_a_manifest_and_its_quotes_may_be_left_out() {
    let set = |key, value| {
        let mut function = Function::new("f".parse().unwrap(), Source::Image("nginx".into()));
        super::set(&mut function, key, value).map(|()| function).map_err(|problem| error(&problem))
    };
    assert_eq!(set("cpu", "500m").unwrap().settings.program.cpu_millis, Some(500));
    assert_eq!(set("user", "'1000'").unwrap().settings.program.user.as_deref(), Some("1000"));
    assert_eq!(set("user", "1000").unwrap().settings.program.user.as_deref(), Some("1000"));
    assert!(set("read_only", "true").unwrap().settings.program.read_only);
    assert_eq!(set("scale.max", "3").unwrap().settings.scale.max, 3);
    assert_eq!(set("entrypoint", "['a', 'b']").unwrap().settings.program.entrypoint, ["a", "b"]);
    assert!(set("start_timeout", "1m\nuser = 1").is_err());
    expect![[r#"
        --set:1:1: unknown key `processses`
          |
        1 | processses = 3
          | ^^^^^^^^^^
        hint: did you mean `processes`?
    "#]]
    .assert_eq(&set("processses", "3").unwrap_err());
    expect![[r#"
        --set:1:1: `code` is no setting
          |
        1 | code = "x"
          | ^^^^
        hint: name it as in `coracle deploy FILE`
    "#]]
    .assert_eq(&set("code", "x").unwrap_err());
}

#[test]
fn a_wrong_type_says_what_was_wanted_and_what_is_there() {
    check(
        "[function.hello]\ncode = 3",
        expect![[r#"
        coracle.toml:2:8: `code` must be a text, in quotes, and is a number
          |
        2 | code = 3
          |        ^
    "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\nprivate = 'yes'",
        expect![[r#"
        coracle.toml:3:11: `private` must be true or false, and is a text
          |
        3 | private = 'yes'
          |           ^^^^^
    "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\nconcurrency = '5'",
        expect![[r#"
            coracle.toml:3:15: `concurrency` must be a whole number from 1 to 100000, and is a text
              |
            3 | concurrency = '5'
              |               ^^^
        "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\nsecrets = ['a', 2]",
        expect![[r#"
        coracle.toml:3:17: `secrets` must be a text, in quotes, and is a number
          |
        3 | secrets = ['a', 2]
          |                 ^
    "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\nenv = { LEVEL = 3 }",
        expect![[r#"
        coracle.toml:3:17: `LEVEL` must be a text, in quotes, and is a number
          |
        3 | env = { LEVEL = 3 }
          |                 ^
    "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\nmemory = 128",
        expect![[r#"
            coracle.toml:3:10: `memory` must be a text, as "256MiB", and is a number
              |
            3 | memory = 128
              |          ^^^
        "#]],
    );
    check(
        "function = 'hello'",
        expect![[r#"
        coracle.toml:1:12: `function` must be a table, and is a text
          |
        1 | function = 'hello'
          |            ^^^^^^^
    "#]],
    );
}

#[test]
fn a_value_out_of_range_says_the_range() {
    check(
        "[function.hello]\ncode = 'a.wasm'\nmemory = '8GiB'",
        expect![[r#"
            coracle.toml:3:10: `memory` must be from 64KiB to 4GiB, as "256MiB"
              |
            3 | memory = '8GiB'
              |          ^^^^^^
        "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\ntimeout = '0s'",
        expect![[r#"
            coracle.toml:3:11: `timeout` must be from 1ms to 1d, as "30s"
              |
            3 | timeout = '0s'
              |           ^^^^
        "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\nconcurrency = 0",
        expect![[r#"
            coracle.toml:3:15: `concurrency` must be a whole number from 1 to 100000
              |
            3 | concurrency = 0
              |               ^
        "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\nreuse = -1",
        expect![[r#"
            coracle.toml:3:9: `reuse` must be a whole number from 0 to 4294967295
              |
            3 | reuse = -1
              |         ^^
        "#]],
    );
}

#[test]
fn a_value_that_means_nothing_says_how_to_write_it() {
    check(
        "[function.hello]\ncode = 'a.wasm'\nmemory = '128 megs'",
        expect![[r#"
        coracle.toml:3:10: `128 megs` is not a size: write `128MiB`, `64KiB` or a number of bytes
          |
        3 | memory = '128 megs'
          |          ^^^^^^^^^^
    "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\ntimeout = '30'",
        expect![[r#"
        coracle.toml:3:11: `30` is not a span of time: write `250ms`, `30s`, `5m` or `1m30s`
          |
        3 | timeout = '30'
          |           ^^^^
    "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\nroute = '/function/x'",
        expect![[r#"
        coracle.toml:3:9: route `/function/x`: this path is Coracle's own: choose another first segment
          |
        3 | route = '/function/x'
          |         ^^^^^^^^^^^^^
    "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\noutbound = ['example.com']",
        expect![[r#"
        coracle.toml:3:13: `example.com` does not say which hosts may be reached: write it with a scheme, as in `https://api.example.com`
          |
        3 | outbound = ['example.com']
          |             ^^^^^^^^^^^^^
    "#]],
    );
    check(
        "[function.'a/b']\ncode = 'a.wasm'",
        expect![[r#"
        coracle.toml:1:11: `a/b` is not a name of a function: a name is 1 to 64 of the characters A-Z a-z 0-9 _ -
          |
        1 | [function.'a/b']
          |           ^^^^^
    "#]],
    );
    check(
        "app = 'a b'\n[function.hello]\ncode = 'a.wasm'",
        expect![[r#"
            coracle.toml:1:7: `a b` is not a name of an app: a name is 1 to 64 of the characters A-Z a-z 0-9 _ -
              |
            1 | app = 'a b'
              |       ^^^^^
        "#]],
    );
}

#[test]
fn a_function_needs_code() {
    check(
        "[function.hello]\nmemory = '64MiB'",
        expect![[r#"
            coracle.toml:1:11: the function `hello` has no `code`
              |
            1 | [function.hello]
              |           ^^^^^
            hint: add a line `code = "FILE.wasm"`, `code = "FOLDER"` or `image = "NAME:TAG"`
        "#]],
    );
    check(
        "[function.hello]\ncode = ''",
        expect![[r#"
            coracle.toml:2:8: `code` is empty
              |
            2 | code = ''
              |        ^^
            hint: name the file or the folder to deploy
        "#]],
    );
    check(
        "app = 'shop'",
        expect![[r#"
            coracle.toml has no function
            hint: add a table `[function.NAME]` with a line `code = "FILE.wasm"`, or `image = "NAME:TAG"`
        "#]],
    );
    check(
        "",
        expect![[r#"
            coracle.toml has no function
            hint: add a table `[function.NAME]` with a line `code = "FILE.wasm"`, or `image = "NAME:TAG"`
        "#]],
    );
}

#[test]
fn text_that_is_not_toml_is_shown_where_it_breaks() {
    check(
        "[function.hello\ncode = 'a.wasm'",
        expect![[r#"
        coracle.toml:1:16: unclosed table, expected `]`
          |
        1 | [function.hello
          |                ^
    "#]],
    );
    check(
        "[function.hello]\ncode = a.wasm",
        expect![[r#"
        coracle.toml:2:8: string values must be quoted, expected literal string
          |
        2 | code = a.wasm
          |        ^^^^^^
    "#]],
    );
    check(
        "[function.hello]\ncode = 'a.wasm'\ncode = 'b.wasm'",
        expect![[r#"
        coracle.toml:3:1: duplicate key
          |
        3 | code = 'b.wasm'
          | ^^^^
    "#]],
    );
    check(
        "[function.hello]\n\tcode = 'ä.wasm",
        expect![[r#"
        coracle.toml:2:16: invalid literal string, expected `'`
          |
        2 | 	code = 'ä.wasm
          | 	              ^
    "#]],
    );
}

#[test]
fn a_missing_file_names_its_path_and_the_build_command() {
    let artifact = |text: &str| {
        let manifest = Manifest::parse("coracle.toml", text).unwrap();
        error(&manifest.functions[0].path(Path::new("/nowhere")).unwrap_err())
    };
    expect![[r#"
        coracle.toml:2:8: the code of `hello` does not exist: /nowhere/hello.wasm
          |
        2 | code = 'hello.wasm'
          |        ^^^^^^^^^^^^
        hint: build it first, or add a line `build = "COMMAND"` that does
    "#]]
    .assert_eq(&artifact("[function.hello]\ncode = 'hello.wasm'"));
    expect![[r#"
        coracle.toml:3:8: the code of `hello` does not exist: /nowhere/hello.wasm
          |
        3 | code = 'hello.wasm'
          |        ^^^^^^^^^^^^
        hint: `make` succeeded, but writes another file: correct `code`
    "#]]
    .assert_eq(&artifact("[function.hello]\nbuild = 'make'\ncode = 'hello.wasm'"));
}
