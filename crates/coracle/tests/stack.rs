//! Stack files of OpenFaaS, deployed by the real binary: what becomes of them, and what is said of their mistakes.
//! Their functions are images, so most of this needs root.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

mod archive;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use expect_test::{Expect, expect};
use harness::{Ended, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use wire::get;

/// A folder called `shop` with these files, in a folder of its own.
fn shop(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("shop")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join("shop").join(name), text).unwrap();
    }
    folder
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join("shop").join(name).to_str().unwrap().to_owned()
}

/// A server that has the image `shop/serve:1`.
fn server() -> Server {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let archive = archive::serve(folder.path());
    server.ok(&["image", "load", archive.to_str().unwrap(), "--tag", "shop/serve:1"]);
    server
}

/// A variable as the function sees it.
fn variable(server: &Server, function: &str, name: &str) -> String {
    get(server, &format!("/function/{function}/env/{name}")).text()
}

/// A function as the server has it.
fn shown(server: &Server, function: &str) -> Value {
    wire::admin(server, "GET", &format!("/v1/namespaces/default/functions/{function}"), b"").json()
}

fn names(listed: &Value) -> Vec<&str> {
    listed.as_array().unwrap().iter().map(|function| function["name"].as_str().unwrap()).collect()
}

const STACK: &str = "\
version: 1.0
provider:
  name: openfaas
  gateway: http://127.0.0.1:8080
functions:
  page:
    image: shop/serve:${TAG:-1}
    environment: &env
      LEVEL: info
      WORKERS: 4
      WHO: ${WHO}
    environment_file: [common.yml, page.yml]
    labels:
      com.openfaas.scale.max: 3
      team: media
    annotations: {topic: orders}
    secrets: [api-key]
    limits: {memory: 64Mi}
    requests: {memory: 32Mi}
    readonly_root_filesystem: true
  mail-worker:
    image: shop/serve:${TAG:-1}
    environment:
      <<: *env
      LEVEL: debug
";

fn files() -> TempDir {
    shop(&[
        ("stack.yaml", STACK),
        ("common.yml", "environment:\n  WORKERS: 8\n  COLOUR: blue\n"),
        ("page.yml", "environment:\n  COLOUR: ${GREEN}\n"),
    ])
}

#[test]
fn a_folder_with_a_stack_file_is_deployed_as_one_app() {
    let (server, folder) = (server(), files());
    assert_eq!(server.run_with(&["secret", "set", "api-key"], b"hush").code, 0);
    let mut deploy = server.command(&["deploy", &path(&folder, ""), "--env", "LEVEL=trace", "--json"]);
    let ended = Ended::of(deploy.env("WHO", "Ada").stdin(Stdio::null()).output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(names(&serde_json::from_str(&ended.stdout).unwrap()), ["mail-worker", "page"]);

    let seen = ["LEVEL", "WORKERS", "WHO", "COLOUR"].map(|name| variable(&server, "page", name));
    assert_eq!(seen, ["trace", "8", "Ada", "${GREEN}"], "flags before files, and later files before earlier");
    assert_eq!(variable(&server, "mail-worker", "WORKERS"), "4", "what was merged");

    let page = shown(&server, "page");
    let settings = &page["settings"];
    assert_eq!((&page["app"], &settings["memory"]), (&json!("shop"), &json!("64MiB")));
    assert_eq!((&settings["scale"]["max"], &settings["read_only"]), (&json!(3), &json!(true)));

    let told = wire::admin(&server, "GET", "/system/function/page", b"").json();
    let said = json!({
        "name": "page",
        "image": "shop/serve:1",
        "envVars": { "LEVEL": "trace", "WORKERS": "8", "WHO": "Ada", "COLOUR": "${GREEN}" },
        "labels": { "com.openfaas.scale.max": "3", "team": "media", "faas_function": "page" },
        "annotations": { "topic": "orders" },
        "secrets": ["api-key"],
        "limits": { "memory": "64Mi" },
        "requests": { "memory": "32Mi" },
        "readOnlyRootFilesystem": true,
    });
    for (key, value) in said.as_object().unwrap() {
        assert_eq!(&told[key], value, "faas-cli is told of `{key}` what the file said");
    }
}

#[test]
fn what_is_chosen_is_deployed_and_the_others_stay_until_all_are() {
    let (server, folder) = (
        server(),
        shop(&[(
            "stack.yml",
            "functions:\n  a-worker: {image: shop/serve:1}\n  page: {image: shop/serve:1}\n",
        )]),
    );
    let (file, shop) = (path(&folder, "stack.yml"), path(&folder, ""));
    server.ok(&["deploy", &shop, "--filter", "*-worker"]);
    assert_eq!(names(&server.json(&["list"])), ["a-worker"]);
    server.ok(&["deploy", &file, "--regex", "^pa"]);
    server.ok(&["deploy", &file, "--name", "page", "--env", "A=1"]);
    assert_eq!(names(&server.json(&["list"])), ["a-worker", "page"]);
    let none = server.run(&["deploy", &file, "--filter", "x*"]);
    assert!(none.stderr.contains("hint: it has: a-worker, page"), "{}", none.stderr);

    fs::write(&file, "functions:\n  page: {image: shop/serve:1}\n").unwrap();
    let whole = server.run(&["deploy", &file]);
    assert!(whole.stderr.contains("removed a-worker: its app has it no longer"), "{}", whole.stderr);
    assert_eq!(names(&server.json(&["list"])), ["page"]);

    assert!(whole.stderr.contains("the app is called shop, as its folder is"), "{}", whole.stderr);

    let other = server.run(&["deploy", &file, "--app", "other"]);
    assert!(other.stderr.contains("function `page` belongs to app `shop`"), "{}", other.stderr);
    assert!(
        other.stderr.contains("hint: if this is that app: `coracle deploy --app shop`"),
        "{}",
        other.stderr
    );
    assert!(!other.stderr.contains("the app is called"), "{}", other.stderr);
}

#[test]
fn the_flag_of_faas_cli_names_the_file() {
    let (server, folder) =
        (server(), shop(&[("functions.yml", "functions:\n  page: {image: shop/serve:1}\n")]));
    let file = path(&folder, "functions.yml");
    server.ok(&["deploy", "-f", &file]);
    server.ok(&["deploy", "--yaml", &file]);
    assert_eq!(names(&server.json(&["list"])), ["page"]);
    let both = server.run(&["deploy", &file, "-f", &file]);
    assert_eq!(both.code, 2, "{}", both.stderr);
}

#[test]
fn a_namespace_that_fails_costs_no_other_its_functions() {
    let image = "{image: shop/serve:1";
    let (server, folder) =
        (server(), shop(&[("stack.yaml", &format!("functions:\n  orders: {image}}}\n  web: {image}}}\n"))]));
    let (file, shop) = (path(&folder, "stack.yaml"), path(&folder, ""));
    server.ok(&["deploy", &shop]);
    let write = |more: &str| {
        let orders = format!("  orders: {image}, namespace: team{more}}}\n");
        fs::write(&file, format!("functions:\n{orders}  web: {image}}}\n")).unwrap();
    };
    let moved = |more: &str| {
        write(more);
        server.run(&["deploy", &shop])
    };
    let is_running = || names(&server.json(&["list", "-n", "default"])) == ["orders", "web"];

    let ended = moved("");
    assert!(ended.stderr.contains("there is no namespace `team`"), "{}", ended.stderr);
    assert!(is_running());
    server.ok(&["namespace", "create", "team"]);
    let ended = moved(", secrets: [api-key]");
    assert!(ended.stderr.contains("hint: coracle secret set api-key -n team"), "{}", ended.stderr);
    assert!(is_running());
    // What only the deploy of the last namespace finds out: a path has one function.
    write("");
    let ended = server.run(&["deploy", &shop, "--route", "/x/*"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("orders stays: nothing is removed before"), "{}", ended.stderr);
    assert!(is_running(), "{}", ended.stderr);

    let ended = moved("");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("removed orders: its app has it no longer"), "{}", ended.stderr);
    assert_eq!(names(&server.json(&["list", "-n", "team"])), ["orders"]);
    assert_eq!(names(&server.json(&["list", "-n", "default"])), ["web"]);
}

#[test]
fn several_namespaces_of_a_file_are_an_app_each() {
    let (server, folder) = (
        server(),
        shop(&[(
            "stack.yaml",
            "\
functions:
  a: {image: shop/serve:1, namespace: openfaas-fn, environment: {ROOM: first}}
  b: {image: shop/serve:1, namespace: team, environment: {ROOM: second}}
",
        )]),
    );
    let missing = server.run(&["deploy", &path(&folder, "")]);
    assert!(missing.stderr.contains("error[namespace-not-found]"), "{}", missing.stderr);
    assert_eq!(server.json(&["list"]), json!([]), "nothing is deployed before all namespaces are there");
    server.ok(&["namespace", "create", "team"]);
    server.ok(&["deploy", &path(&folder, "")]);
    assert_eq!(variable(&server, "a", "ROOM"), "first");
    assert_eq!(variable(&server, "b.team", "ROOM"), "second");
    server.ok(&["deploy", &path(&folder, ""), "-n", "team"]);
    assert_eq!(variable(&server, "a.team", "ROOM"), "first", "the flag outranks the file");
    let dev = server.run(&["dev", &path(&folder, "")]);
    assert!(dev.stderr.contains("names several namespaces, and one is worked on"), "{}", dev.stderr);
}

#[test]
fn an_image_that_is_nowhere_says_what_makes_it() {
    let server = Server::start();
    // Bound, and never listened on: nobody else gets it meanwhile.
    let taken =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&taken, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = std::net::SocketAddr::try_from(rustix::net::getsockname(&taken).unwrap()).unwrap().port();
    let image = format!("127.0.0.1:{port}/team/page:1");
    let folder = shop(&[
        ("stack.yaml", &format!("functions:\n  page: {{lang: go, handler: ./page, image: '{image}'}}\n")),
        ("ready.yaml", &format!("functions:\n  page: {{image: '{image}'}}\n")),
    ]);
    let said = |file: &str| {
        let ended = server.run(&["deploy", &path(&folder, file)]);
        assert_eq!(ended.code, 1);
        assert!(ended.stderr.contains("the image of `page` is not there: "), "{}", ended.stderr);
        let hint = ended.stderr.lines().find(|line| line.starts_with("hint: ")).unwrap();
        hint.replace(&path(&folder, ""), "").replace(&image, "IMAGE")
    };
    expect!["hint: faas-cli build -f stack.yaml --filter page, then docker save IMAGE -o page.tar, then coracle image load page.tar"].assert_eq(&said("stack.yaml"));
    expect!["hint: docker save IMAGE -o page.tar where the image is, then coracle image load page.tar"]
        .assert_eq(&said("ready.yaml"));
    assert_eq!(server.json(&["list"]), json!([]));
}

#[test]
fn a_manifest_of_ours_wins_and_says_so() {
    let server = Server::start();
    let hello = fs::canonicalize(harness::wasm("hello")).unwrap();
    let folder = shop(&[
        ("stack.yaml", "functions:\n  page: {image: nobody/page:1}\n"),
        ("coracle.toml", &format!("[function.hello]\ncode = {}\n", Value::from(hello.to_str().unwrap()))),
    ]);
    let ended = server.run(&["deploy", &path(&folder, "")]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("coracle.toml is what is deployed;"), "{}", ended.stderr);
    assert_eq!(names(&server.json(&["list"])), ["hello"]);
}

#[test]
fn every_mistake_of_a_file_is_shown_where_it_stands() {
    let server = Server::start();
    let check = |text: &str, expected: Expect| {
        let folder = shop(&[("stack.yaml", text), ("broken.yml", "environment:\n  - a\n")]);
        let ended = server.run(&["deploy", &path(&folder, "")]);
        assert_eq!(ended.code, 1);
        expected.assert_eq(&ended.stderr.replace(&path(&folder, ""), ""));
    };
    check(
        "functions:\n  a:\n\timage: x\n",
        expect![[r#"
        error[invalid-manifest]: stack.yaml:3:1: a tab is in the indentation, which YAML wants to be of spaces
          |
        3 | 	image: x
          | ^
        hint: write spaces in its place, two for each level
        see: coracle explain invalid-manifest
    "#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    image: y\n",
        expect![[r#"
        error[invalid-manifest]: stack.yaml:4:5: `image` is there twice
          |
        4 |     image: y
          |     ^
        hint: keep one of them
        see: coracle explain invalid-manifest
    "#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    enviroment: {}\n",
        expect![[r#"
        error[invalid-manifest]: stack.yaml:4:5: unknown key `enviroment`
          |
        4 |     enviroment: {}
          |     ^
        hint: did you mean `environment`?
        see: coracle explain invalid-manifest
    "#]],
    );
    check(
        "functions:\n  a:\n    image: ${TAG\n",
        expect![[r#"
            error[invalid-manifest]: stack.yaml:3:12: `${TAG`: what follows the name is no operation
              |
            3 |     image: ${TAG
              |            ^
            hint: write `${NAME}` or `${NAME:-DEFAULT}`, and `$$` for a dollar sign
            see: coracle explain invalid-manifest
        "#]],
    );
    check(
        "functions:\n  Bad_Name!:\n    image: x\n",
        expect![[r#"
        error[invalid-name]: stack.yaml:2:3: the function `Bad_Name!`: `service` is `Bad_Name!`, which is not a name of a function
        hint: use 1 to 63 of a-z 0-9 -, and begin and end with a letter or a digit, as in `resize-2`
        see: coracle explain invalid-name
    "#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    limits: {memory: lots}\n",
        expect![[r#"
            error[bad-request]: stack.yaml:4:22: the function `a`: `limits.memory` is `lots`, which is no amount of memory
            hint: write for example `128Mi`, `1Gi` or `500M`
            see: coracle explain bad-request
        "#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    environment_file: [gone.yml]\n",
        expect![[r#"
            error[invalid-manifest]: cannot read gone.yml: No such file or directory (os error 2)
            hint: `a` names it: such a file lies beside the stack file, or below
            see: coracle explain invalid-manifest
        "#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    environment_file: [broken.yml]\n",
        expect![[r#"
        error[invalid-manifest]: broken.yml:2:3: this is not as an environment file has it
        hint: write `environment:`, and below that a line `  NAME: VALUE` for each variable
        see: coracle explain invalid-manifest
    "#]],
    );
}

#[test]
fn what_only_the_server_finds_wrong_is_shown_where_it_stands_too() {
    let server = server();
    let text = "functions:\n  page:\n    image: shop/serve:1\n    fprocess: cat\n    environment:\n      exec_timeout: soon\n";
    let folder = shop(&[("stack.yaml", text)]);
    let ended = server.run(&["deploy", &path(&folder, "")]);
    assert_eq!(ended.code, 1);
    expect![[r#"
        the app is called shop, as its folder is; `--app` calls it something else
        error[invalid-settings]: stack.yaml:6:21: cannot deploy `page`: `exec_timeout` of `soon` is no span of time
        hint: write seconds, as in "30", or a span, as in "1m30s"
        see: coracle explain invalid-settings
    "#]]
    .assert_eq(&ended.stderr.replace(&path(&folder, ""), ""));
}

#[test]
fn dev_deploys_at_every_save_and_says_that_it_builds_nothing() {
    let (server, folder) = (
        server(),
        shop(&[
            (
                "stack.yaml",
                "functions:\n  page: {image: shop/serve:1, environment_file: [e.yml]}\n  web: {image: shop/serve:1}\n",
            ),
            ("e.yml", "environment: {A: 1}\n"),
        ]),
    );
    let mut child = server
        .command(&["dev", &path(&folder, ""), "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |wanted: &str| loop {
        let event: Value = serde_json::from_str(&events.next().unwrap().unwrap()).unwrap();
        if event["event"] == wanted {
            return event["revision"].as_u64();
        }
    };
    assert_eq!((next("deployed"), next("deployed")), (Some(1), Some(1)));
    // As editors do, so that nobody reads half of it.
    let save = |name: &str, text: &str| {
        let draft = path(&folder, ".draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, path(&folder, name)).unwrap();
    };
    save("e.yml", "environment: {A: 2}\n");
    assert_eq!(next("deployed"), Some(2));
    assert_eq!(variable(&server, "page", "A"), "2");
    // As one does who loaded an image.
    save("e.yml", "environment: {A: 2}\n");
    while next("unchanged") != Some(2) {}
    let page = "functions:\n  page: {image: shop/serve:1, environment_file: [e.yml]}\n";
    save("stack.yaml", page);
    next("removed");
    assert_eq!(names(&server.json(&["list"])), ["page"]);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert!(ended.stderr.contains("nothing is built here"), "{}", ended.stderr);
    assert!(ended.stderr.contains("coracle image load NAME.tar"), "{}", ended.stderr);
}
