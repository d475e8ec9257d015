//! Manifests and what is understood of them: text in, text out.
//! What is refused, and in which words, stands in `refused`.

mod refused;

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
