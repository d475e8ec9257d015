//! The examples: each deployed as its own `coracle.toml` says, and called as its README says.
//! The real binary, with the guests that `cargo xtask guests` built: a test needs no toolchain of theirs.
//! Those that run in sandboxes need root, and Debian's python3 and nodejs.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use guests::until;
use harness::{Ended, Server};
use serde_json::{Value, json};
use wire::{Reply, ask, get, neighbour_on_the_network};

#[test]
fn hello_in_rust_greets() {
    greets("hello-rust");
}

#[test]
fn hello_in_javascript_greets() {
    greets("hello-js");
}

#[test]
fn hello_in_python_greets() {
    greets("hello-python");
}

#[test]
fn hello_in_c_greets() {
    greets("hello-c");
}

#[test]
fn hello_in_a_web_server_of_python_greets() {
    let server = Server::start();
    server.ok(&["deploy", examples().join("hello-python-http").to_str().unwrap()]);
    greets_on(&server, "hello-python-http");
}

#[test]
fn hello_in_a_web_server_of_node_greets() {
    let server = Server::start();
    server.ok(&["deploy", examples().join("hello-node-http").to_str().unwrap()]);
    greets_on(&server, "hello-node-http");
}

#[test]
fn hello_in_a_binary_of_this_machine_greets() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    // Built beside a copy: the tests leave nothing among the sources.
    for file in ["Cargo.toml", "coracle.toml", "src/main.rs"] {
        let copy = folder.path().join(file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(examples().join("hello-binary").join(file), copy).unwrap();
    }
    let mut deploy = server.command(&["deploy", folder.path().to_str().unwrap()]);
    // The manifest says where cargo puts what it builds.
    let ended = Ended::of(deploy.env_remove("CARGO_TARGET_DIR").stdin(Stdio::null()).output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    greets_on(&server, "hello-binary");
}

fn greets(example: &str) {
    greets_on(&deployed(example, &[]), example);
}

/// All of them say the same, so that their READMEs and `coracle new` may say the same of all.
fn greets_on(server: &Server, example: &str) {
    assert_eq!(server.ok(&["call", example, "-d", "Ada"]), "Hello, Ada!\n");
    assert_eq!(server.ok(&["call", example]), "Hello, world!\n");
    let reply = get(server, &format!("/function/{example}"));
    let kind = reply.header("content-type").unwrap().to_ascii_lowercase().replace(' ', "");
    assert_eq!((reply.status, kind.as_str()), (200, "text/plain;charset=utf-8"));
    logged(server, example, "greeting Ada\n");
    logged(server, example, "greeting world\n");
}

#[test]
fn markdown_becomes_html_without_the_html_in_it() {
    let server = deployed("markdown", &[]);
    let reply =
        post(&server, "markdown", "# Tea\n\n| a | b |\n|---|---|\n| 1 | ~~2~~ |\n\n<script>x</script>");
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    let html = reply.text();
    assert!(html.starts_with("<h1>Tea</h1>\n<table>"), "{html}");
    assert!(html.contains("<td><del>2</del></td>") && html.contains("&lt;script&gt;"), "{html}");
    assert!(!html.contains("<script"), "{html}");
    logged(&server, "markdown", "bytes of Markdown as");
}

#[test]
fn csv_becomes_json_or_a_complaint_that_names_the_line() {
    let server = deployed("csv-to-json", &[]);
    let reply =
        post(&server, "csv-to-json", "\u{feff}name,born\nAda,1815\n\"Hopper, Grace\",1906\nÉmilie,\n");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let rows = json!([
        { "name": "Ada", "born": "1815" },
        { "name": "Hopper, Grace", "born": "1906" },
        { "name": "Émilie", "born": "" },
    ]);
    assert_eq!(reply.json(), rows);
    logged(&server, "csv-to-json", "converted 3 rows\n");

    let many: String = (0..20_000).map(|number| format!("{number},{}\n", number * 2)).collect();
    let all = post(&server, "csv-to-json", &format!("number,double\n{many}")).json();
    assert_eq!(all.as_array().map(Vec::len), Some(20_000), "more than one write of WASI takes");

    let complaint = post(&server, "csv-to-json", "name\nAda,1815\n");
    assert_eq!(complaint.status, 400);
    assert_eq!(complaint.text(), "the body is not CSV: line 2 has more fields than the first line\n");
    assert_eq!(post(&server, "csv-to-json", "").text(), "the body is not CSV: it is empty\n");
}

#[test]
fn fetch_reaches_the_host_it_was_granted_and_says_that_it_cannot_reach_another() {
    let ((granted, _serving), (other, _serving_too)) =
        (neighbour_on_the_network(), neighbour_on_the_network());
    // By name: addresses of this machine stay closed unless they are named as such.
    let granted = granted.replace("127.0.0.1", "localhost");
    let server = deployed("fetch", &["--outbound", &granted]);

    let reply = get(&server, &format!("/function/fetch?url={granted}/"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "from the neighbour"));
    logged(&server, "fetch", &format!("{granted}/ answered 200\n"));

    let refused = get(&server, &format!("/function/fetch?url={other}/"));
    assert_eq!(refused.status, 502);
    let text = refused.text();
    assert!(text.starts_with(&format!("{other}/ was not reached: ")), "{text}");
    assert!(text.ends_with("hint: coracle logs fetch\n"), "{text}");
    logged(&server, "fetch", &format!("{other}/ was not reached: "));
    logged(&server, "fetch", &format!(r#"outbound = ["{other}"]"#));

    assert_eq!(get(&server, "/function/fetch").status, 400);
    assert_eq!(get(&server, "/function/fetch?url=nonsense").status, 502);
}

#[test]
fn a_program_upper_cases_its_input() {
    let server = deployed("stdio-upper", &[]);
    let reply = post(&server, "stdio-upper", "straße, tea\n");
    assert_eq!(reply.text(), "STRASSE, TEA\n");
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    logged(&server, "stdio-upper", "upper-casing 13 bytes\n");
}

#[test]
fn every_example_says_in_three_lines_what_it_is_for() {
    for entry in fs::read_dir(examples()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.join("coracle.toml").exists() {
            let readme = fs::read_to_string(folder.join("README.md")).unwrap();
            assert_eq!(readme.lines().count(), 3, "{}", folder.display());
            assert!(readme.contains("coracle call ") || readme.contains("curl "), "{}", folder.display());
        }
    }
}

/// A server with an example on it, deployed by its own manifest and these flags.
fn deployed(example: &str, flags: &[&str]) -> Server {
    let manifest = fs::read_to_string(examples().join(example).join("coracle.toml")).unwrap();
    let settings =
        manifest.lines().filter(|line| !line.starts_with("build = ") && !line.starts_with("code = "));
    let code = Value::from(built(example).to_str().unwrap());
    let manifest: Vec<String> = settings.map(str::to_owned).chain([format!("code = {code}")]).collect();

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("coracle.toml"), manifest.join("\n")).unwrap();
    let server = Server::start();
    server.ok(&[&["deploy", folder.path().to_str().unwrap()], flags].concat());
    server
}

/// An example as the chore built it.
fn built(example: &str) -> PathBuf {
    let file =
        Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("guests").join(format!("{example}.wasm"));
    assert!(file.exists(), "{} is not there: run `cargo xtask guests`", file.display());
    file
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn post(server: &Server, example: &str, body: &str) -> Reply {
    ask(server, "POST", &format!("/function/{example}"), &[], body.as_bytes())
}

/// Waits until the log of a function has this.
fn logged(server: &Server, example: &str, text: &str) {
    until(text, || server.ok(&["logs", example]).contains(text).then_some(()));
}
