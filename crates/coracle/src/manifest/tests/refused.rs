//! Manifests that are refused: what is wrong, where it stands, and what to write in its place.
//! A module of the tests beside it, which show what is understood.

use super::*;

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
