//! Instances of a program, as `coracle scale`, `show`, `list` and `top` tell of them.
//! The real binary and the web server of `examples/hello-python-http`. Needs root, and Debian's python3.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of it")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::path::Path;

use guests::until;
use harness::{Ended, Server, wasm};

/// A server with a web server of Python on it, deployed as `site` with these flags.
fn site(flags: &[&str]) -> Server {
    let server = Server::start();
    deploy(&server, flags);
    server
}

fn deploy(server: &Server, flags: &[&str]) {
    let deployed = try_deploy(server, flags);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
}

fn try_deploy(server: &Server, flags: &[&str]) -> Ended {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello-python-http/src");
    let command = ["--command", "python3 -u server.py", "--contract", "http", "--health", "/healthz"];
    server.run(&[&["deploy", folder.to_str().unwrap(), "--name", "site"], &command[..], flags].concat())
}

/// How many instances are up, asleep or not.
fn up(server: &Server) -> u64 {
    let shown = server.json(&["show", "site"]);
    let instances = &shown["function"]["instances"];
    ["ready", "busy", "frozen"].iter().map(|state| instances[state].as_u64().unwrap()).sum()
}

#[test]
fn as_many_instances_run_as_are_asked_for() {
    let server = site(&[]);
    assert_eq!(up(&server), 1, "it was tried");
    let scaled = server.run(&["scale", "site", "3"]);
    assert_eq!((scaled.code, scaled.stderr.as_str()), (0, "site.default: 3 instances\n"));
    until("three are up", || (up(&server) == 3).then_some(()));
    assert_eq!(server.ok(&["call", "site", "-d", "Ada"]), "Hello, Ada!\n");
    assert_eq!(server.json(&["scale", "site", "1"])["instances"], 1);
    until("one is up", || (up(&server) == 1).then_some(()));
    server.ok(&["scale", "site", "0"]);
    until("none is up", || (up(&server) == 0).then_some(()));
    assert_eq!(server.ok(&["call", "site", "-d", "Ada"]), "Hello, Ada!\n", "a call starts one");
    assert_eq!(server.json(&["list"])[0]["revision"], 1, "no revision was made");
}

#[test]
fn a_scale_out_of_bounds_says_which_setting_bounds_it() {
    let server = site(&["--set", "scale={min=1,max=2}"]);
    let scaled = server.run(&["scale", "site", "5"]);
    let said = "site.default: 2 instances\nhint: 2 is the most that `scale.max` allows: deploy with `--set scale.max=5`\n";
    assert_eq!((scaled.code, scaled.stderr.as_str()), (0, said));
}

#[test]
fn none_is_none_until_the_next_call_which_brings_the_minimum_back() {
    let server = site(&["--set", "scale={min=2,max=2}"]);
    until("two are up", || (up(&server) == 2).then_some(()));
    let scaled = server.run(&["scale", "site", "0"]);
    let said = "site.default: nothing of it runs until it is called\n";
    assert_eq!((scaled.code, scaled.stderr.as_str()), (0, said));
    until("none is up", || (up(&server) == 0).then_some(()));
    assert_eq!(server.ok(&["call", "site", "-d", "Ada"]), "Hello, Ada!\n");
    until("two are up", || (up(&server) == 2).then_some(()));
}

#[test]
fn what_is_no_program_or_nothing_is_not_scaled() {
    let server = Server::start();
    server.ok(&["deploy", wasm("hello").to_str().unwrap(), "--name", "hello"]);
    for (name, code) in [("hello", "invalid-settings"), ("nowhere", "function-not-found")] {
        let scaled = server.run(&["scale", name, "2"]);
        assert_eq!(scaled.code, 1, "{name}");
        assert!(scaled.stderr.starts_with(&format!("error[{code}]: ")), "{}", scaled.stderr);
    }
    assert_eq!(server.run(&["scale", "hello", "many"]).code, 2);
    assert_eq!(server.run(&["scale", "hello", "100000"]).code, 2);
}

#[test]
fn show_has_how_a_program_is_run_and_what_changed() {
    let server = site(&["--port", "3000", "--set", "cpu=500m", "--set", "scale.max=3"]);
    assert_eq!(server.ok(&["call", "site"]), "Hello, world!\n");
    let shown = server.ok(&["show", "site"]);
    for line in [
        "code      bundle, http, ",
        "now       0 running, 0 waiting",
        "instances 1 ",
        "scale     0 to 3, 10 calls each, 5m idle\n",
        "command   python3 -u server.py\n",
        "port      3000\n",
        "health    /healthz\n",
        "cpu       500m\n",
    ] {
        assert!(shown.contains(&format!("\n  {line}")), "{line}\n{shown}");
    }

    deploy(&server, &["--set", "read_only=true", "--set", "secrets_in_env=true"]);
    let shown = server.ok(&["show", "site"]);
    for text in [
        "root      read only\n",
        "secrets   in the environment too\n",
        "scale.max 3 → 20",
        "port 3000 → unset",
    ] {
        assert!(shown.contains(text), "{text}\n{shown}");
    }
}

#[test]
fn show_says_why_no_instance_starts_and_when_the_next_one_does() {
    let server = Server::start();
    let deployed =
        try_deploy(&server, &["--port", "3000", "--env", "PORT=4000", "--set", "start_timeout=500ms"]);
    assert_eq!(deployed.code, 1, "{}", deployed.stderr);
    let said = "error[guest-not-ready]: revision 1 of `site` does not start: `site.default` was not ready within 500ms: ";
    assert!(deployed.stderr.contains(said), "{}", deployed.stderr);
    let called = server.run(&["call", "site"]);
    assert!(called.stderr.starts_with("error[guest-not-ready]: "), "{}", called.stderr);
    let shown = server.ok(&["show", "site"]);
    assert!(shown.contains("\n  instances none\n"), "{shown}");
    assert!(shown.contains("\n  trouble   `site.default` was not ready within 500ms: "), "{shown}");
    assert!(shown.contains("LAST FAILURES\nguest-not-ready 504 "), "{shown}");
}
