//! Programs in sandboxes, with the real binary: what they are for, what they must not do, and how they end.
//! `guests/hostile` is a web server whose paths are misdeeds. Needs root, as sandboxes do, and Debian's python3.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

mod archive;
#[expect(dead_code, reason = "these tests use a part of it")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::io::{Read as _, Write as _};
use std::path::Path;

use guests::until;
use harness::{Data, Ended, Server};
use wire::{Reply, Wire, ask, get};

/// A folder with a manifest of these lines, and `hostile.py` beside it.
fn folder(lines: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/hostile/hostile.py");
    std::fs::create_dir(folder.path().join("app")).unwrap();
    std::fs::copy(source, folder.path().join("app/hostile.py")).unwrap();
    std::fs::write(folder.path().join("coracle.toml"), lines).unwrap();
    folder
}

/// `hostile`, deployed to a new server with these lines in its manifest.
fn hostile(lines: &str) -> Server {
    let server = Server::start();
    deploy(&server, lines);
    server
}

fn deploy(server: &Server, lines: &str) {
    let deployed = try_deploy(server, lines);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
}

fn try_deploy(server: &Server, lines: &str) -> Ended {
    let manifest = format!(
        "[function.hostile]\ncode = 'app'\ncommand = ['/usr/bin/python3', 'hostile.py']\ncontract = 'http'\n{lines}\n"
    );
    server.run(&["deploy", folder(&manifest).path().to_str().unwrap()])
}

/// A program that runs for each call, deployed as `run`.
fn runs(command: &str, lines: &str) -> Server {
    let server = Server::start();
    let manifest =
        format!("[function.run]\ncode = 'app'\ncommand = {command}\ncontract = 'stdio'\n{lines}\n");
    server.ok(&["deploy", folder(&manifest).path().to_str().unwrap()]);
    server
}

fn text(server: &Server, path: &str) -> String {
    let reply = get(server, &format!("/function/hostile/{path}"));
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.text()
}

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn message(reply: &Reply) -> String {
    reply.json()["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_web_server_of_the_machines_python_is_a_function() {
    let server = hostile("env = { GREETING = 'Ahoy' }");
    assert_eq!(text(&server, ""), "ready");
    assert_eq!(text(&server, "env?n=GREETING"), "Ahoy");
    assert_eq!(text(&server, "env?n=PATH_INFO"), "(not set)");
    let body = vec![b'x'; 300_000];
    let reply = ask(&server, "POST", "/function/hostile/echo", &[], &body);
    assert_eq!((reply.status, reply.body.len()), (200, body.len()));
    assert_eq!(get(&server, "/function/hostile/nowhere").status, 404, "its own answers pass as they are");
}

#[test]
fn a_program_takes_no_core_away_from_the_server_that_wakes_it() {
    let server = hostile("");
    assert_eq!(text(&server, "policy"), "batch");
}

#[test]
fn a_program_sees_nothing_of_the_machine_and_has_no_rights() {
    let server = hostile("");
    let who = text(&server, "who");
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(who.contains(line), "{line}: {who}");
    }
    assert!(who.contains("Uid:\t1000"), "{who}");
    let data = server.data().display().to_string();
    let table = [
        ("read?p=/proc/1/root/etc/passwd".to_owned(), "refused"),
        ("read?p=/proc/1/environ".to_owned(), "refused"),
        ("read?p=/etc/shadow".to_owned(), "refused"),
        (format!("list?p={data}"), "refused"),
        ("list?p=/root".to_owned(), "refused"),
        ("list?p=/sys/firmware".to_owned(), ""),
        ("write?p=/usr/bin/new".to_owned(), "refused"),
        ("write?p=/home/app/new".to_owned(), "refused"),
        ("write?p=/proc/sys/kernel/hostname".to_owned(), "refused"),
        ("write?p=/sys/kernel/mm/ksm/run".to_owned(), "refused"),
        ("write?p=/tmp/new".to_owned(), "done"),
        ("mount".to_owned(), "Operation not permitted"),
        ("unshare".to_owned(), "Operation not permitted"),
        ("ptrace".to_owned(), "Operation not permitted"),
        ("keyctl".to_owned(), "Operation not permitted"),
        ("device".to_owned(), "refused"),
    ];
    let kcore = text(&server, "read?p=/proc/kcore");
    // Not every kernel has one.
    assert!(kcore == "(empty)" || kcore.contains("No such file"), "{kcore}");
    for (path, expected) in table {
        let said = text(&server, &path);
        let fits = if expected.is_empty() { said.is_empty() } else { said.starts_with(expected) };
        assert!(fits, "{path}: {said}");
    }
    let processes = text(&server, "list?p=/proc");
    let processes = processes.lines().filter(|name| name.parse::<u32>().is_ok()).count();
    assert_eq!(processes, 2, "its first process, and the program");
}

#[test]
fn whoever_a_program_runs_as_owns_nothing_of_the_machine() {
    let server = hostile("user = '0'");
    assert!(text(&server, "who").contains("Uid:\t0"), "root of its sandbox");
    for path in ["/usr", "/usr/bin/python3", "/etc/services"] {
        assert_eq!(text(&server, &format!("owner?p={path}")), "65534", "{path}: nobody that it knows");
    }
    assert!(text(&server, "write?p=/usr/bin/new").starts_with("refused"));
}

#[test]
fn a_program_cannot_bound_the_process_that_starts_it() {
    let server = runs(
        "['/usr/bin/python3', '-c', 'import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3))']",
        "",
    );
    for _ in 0..2 {
        let reply = ask(&server, "POST", "/function/run", &[], b"");
        assert_eq!(reply.problem(), problem(502, "guest-exited"));
        assert!(message(&reply).contains("PermissionError"), "{}", reply.text());
    }
}

#[test]
fn a_caller_does_not_say_what_was_called() {
    let server = runs(
        "['/usr/bin/python3', '-c', 'import os; print(os.environ[\"Http_Path\"], os.environ[\"Http_X_Role\"])']",
        "env = { Http_X_Role = 'guest' }",
    );
    let reply = ask(&server, "POST", "/function/run/own", &[("Path", "/other"), ("X-Role", "admin")], b"");
    assert_eq!(reply.text(), "/own guest\n");
}

#[test]
fn a_program_reaches_nothing_that_it_was_not_granted() {
    let server = hostile("");
    let port = server.url.rsplit(':').next().unwrap();
    for host in ["127.0.0.1", "169.254.169.254", "10.0.0.1", "192.0.2.1"] {
        let said = text(&server, &format!("reach?h={host}&p={port}"));
        assert!(said.starts_with("refused"), "{host}: {said}");
    }
    let said = text(&server, "resolve?n=example.com");
    assert!(said.starts_with("refused"), "{said}");
}

#[test]
fn the_way_out_leads_to_what_was_granted_and_says_what_was_not() {
    let outside = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let port = outside.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        let (mut client, _) = outside.accept().unwrap();
        let mut head = [0; 4096];
        let read = client.read(&mut head).unwrap();
        client
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\noutside")
            .unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let server = hostile(&format!("outbound = ['http://127.0.0.2:{port}', 'https://*.example.com']"));
    assert_eq!(text(&server, &format!("fetch?u=http://127.0.0.2:{port}/page")), "200 outside");
    assert!(answering.join().unwrap().starts_with("GET /page HTTP/1.1\r\n"), "in origin form");
    let said = text(&server, &format!("fetch?u=http://127.0.0.3:{port}/"));
    assert!(said.starts_with("403") && said.contains("outbound = ["), "{said}");
}

#[test]
fn what_a_program_wants_too_much_of_ends_at_its_own_bounds() {
    let server = hostile("memory = '64MiB'\nprocesses = 20");
    let said = text(&server, "forks");
    assert!(said.contains("Resource temporarily unavailable"), "{said}");
    for path in ["/tmp/fill", "/dev/shm/fill"] {
        let said = text(&server, &format!("fill?p={path}"));
        assert!(said.contains("No space left on device"), "{path}: {said}");
    }
    let reply = get(&server, "/function/hostile/memory");
    assert_eq!(reply.problem(), problem(502, "guest-out-of-memory"));
    assert!(message(&reply).contains("64MiB"), "{}", reply.text());
    assert_eq!(text(&server, ""), "ready", "another instance took its place");
}

#[test]
fn a_program_that_ends_is_told_and_replaced() {
    let server = hostile("");
    let reply = get(&server, "/function/hostile/exit?c=7");
    assert_eq!(reply.problem(), problem(502, "guest-exited"));
    assert!(message(&reply).contains("exited with code 7"), "{}", reply.text());
    let half = get(&server, "/function/hostile/exit-in-body");
    assert!(half.status == 502 || !half.whole, "{half:?}");
    assert_eq!(text(&server, ""), "ready");
    until("what it said", || server.ok(&["logs", "hostile"]).contains("asked to leave").then_some(()));
}

#[test]
fn a_program_that_never_becomes_ready_says_what_is_missing() {
    let server = Server::start();
    let deployed = try_deploy(&server, "start_timeout = '700ms'\nenv = { LISTEN_ON = '9999' }");
    assert_eq!(deployed.code, 1);
    assert!(deployed.stderr.contains("error[guest-not-ready]: "), "{}", deployed.stderr);
    let reply = get(&server, "/function/hostile/");
    assert_eq!(reply.problem(), problem(504, "guest-not-ready"));
    assert!(message(&reply).contains("8080"), "{}", reply.text());
    deploy(&server, "port = 9999\nenv = { LISTEN_ON = '9999' }");
    assert_eq!(text(&server, ""), "ready");
}

#[test]
fn a_program_that_cannot_be_run_says_why() {
    let table = [
        ("['./missing']", "there is no such program"),
        ("['missing']", "there is no such program"),
        ("['./hostile.py']", ""),
        ("['/home/app']", "may not be executed"),
    ];
    for (command, expected) in table.iter().filter(|(_, expected)| !expected.is_empty()) {
        let server = runs(command, "");
        let reply = ask(&server, "POST", "/function/run", &[], b"");
        assert_eq!(reply.problem(), problem(502, "program-not-started"), "{command}");
        assert!(message(&reply).contains(expected), "{command}: {}", reply.text());
    }
}

#[test]
fn any_command_is_a_function() {
    let server = runs("['/bin/cat']", "content_type = 'text/plain'");
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let reply = ask(&server, "POST", "/function/run", &[], &body);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain")));
    assert!(reply.whole && reply.body == body);
    let server = runs(
        "['/bin/sh', '-c', 'echo \"$Http_Method $Http_Path $Http_Query $Http_X_Colour\"; echo $HOME >&2']",
        "",
    );
    let mut wire = Wire::to(&server);
    wire.send("GET /function/run/a/b?c=d HTTP/1.1\r\nhost: x\r\nx-colour: red\r\n\r\n");
    assert_eq!(wire.reply("GET").text(), "GET /a/b c=d red\n");
    until("its standard error", || server.ok(&["logs", "run"]).contains("/home/app").then_some(()));
}

#[test]
fn an_exit_code_that_says_it_failed_fails_the_call() {
    let server = runs("['/bin/sh', '-c', 'echo half; echo no such order >&2; exit 3']", "");
    let reply = ask(&server, "POST", "/function/run", &[], b"");
    assert_eq!(reply.problem(), problem(502, "guest-exited"));
    assert!(message(&reply).contains("exited with code 3: no such order"), "{}", reply.text());
}

#[test]
fn a_command_never_takes_a_part_of_a_body_for_the_whole() {
    // It says in its log how much it was given, if its input ends.
    let server = runs("['/bin/sh', '-c', 'wc -c >&2; echo counted']", "");
    for cut in ["content-length: 100\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nX"] {
        let mut wire = Wire::to(&server);
        wire.send(format!("POST /function/run HTTP/1.1\r\nhost: x\r\n{cut}"));
        drop(wire);
    }
    let failed = until("both calls are recorded", || {
        let failed = server.ok(&["calls", "--failed"]);
        (failed.matches("client-gone").count() == 2).then_some(failed)
    });
    assert!(!failed.contains(" 200 "), "{failed}");
    let logs = server.ok(&["logs", "run"]);
    assert!(!logs.lines().any(|line| line.ends_with(" 3")), "{logs}");
    let whole = ask(&server, "POST", "/function/run", &[], b"abc");
    assert_eq!((whole.status, whole.text().as_str()), (200, "counted\n"));
}

#[test]
fn a_command_that_is_not_there_is_told_to_each_call_alike() {
    let server = runs("['no-such-program']", "");
    for _ in 0..20 {
        let reply = ask(&server, "POST", "/function/run", &[], b"");
        assert_eq!(reply.problem(), problem(502, "program-not-started"), "{}", reply.text());
        assert!(message(&reply).contains("no-such-program"), "{}", reply.text());
    }
}

/// Forks until all memory is taken, if it is told to.
const BOMB: &str = r#"
import os, sys, time
if sys.stdin.read() == "bomb":
    for _ in range(99):
        if os.fork() == 0:
            held = b"x" * (8 << 20)
            time.sleep(60)
    os.wait()
    sys.exit(1)
print("well")
"#;

#[test]
fn a_call_that_takes_all_memory_costs_no_other_call_its_sandbox() {
    let command = format!("['/usr/bin/python3', '-c', '''{BOMB}''']");
    let server = runs(&command, "memory = '64MiB'\nscale = { max = 1 }");
    for _ in 0..5 {
        assert_ne!(ask(&server, "POST", "/function/run", &[], b"bomb").status, 200);
        let next = ask(&server, "POST", "/function/run", &[], b"");
        assert_eq!((next.status, next.text().as_str()), (200, "well\n"));
    }
}

#[test]
fn a_program_that_does_not_find_a_host_is_told_that_it_was_not_granted() {
    let looks = "import socket; socket.create_connection((\"api.example.com\", 443))";
    let server = runs(&format!("['/usr/bin/python3', '-c', '{looks}']"), "");
    let reply = ask(&server, "POST", "/function/run", &[], b"");
    assert_eq!(reply.problem(), problem(502, "guest-exited"));
    assert!(reply.json()["hint"].as_str().unwrap().contains("outbound"), "{}", reply.text());
    until("the log says it too", || {
        server.ok(&["logs", "run"]).contains("it reaches no host that it was not granted").then_some(())
    });
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_all_that_it_started() {
    let server = runs("['/bin/sh', '-c', 'sleep 61234 & sleep 61234']", "timeout = '500ms'");
    assert_eq!(ask(&server, "POST", "/function/run", &[], b"").problem(), problem(504, "guest-timeout"));
    until("the end of its processes", || (!is_running("61234")).then_some(()));
}

#[test]
fn secrets_are_files_for_the_program_alone_and_variables_where_that_is_asked_for() {
    let server = Server::start();
    assert_eq!(server.run_with(&["secret", "set", "api-key"], b"hush").code, 0);
    deploy(&server, "secrets = ['api-key']");
    for path in ["/run/secrets/api-key", "/var/openfaas/secrets/api-key"] {
        assert_eq!(text(&server, &format!("read?p={path}")), "hush");
        assert!(text(&server, &format!("write?p={path}")).starts_with("refused"));
    }
    assert_eq!(text(&server, "env?n=API_KEY"), "(not set)");
    deploy(&server, "secrets = ['api-key']\nsecrets_in_env = true");
    assert_eq!(text(&server, "env?n=API_KEY"), "hush");
}

#[test]
fn events_arrive_one_by_one_and_another_protocol_is_passed_through() {
    let server = hostile("");
    let mut wire = Wire::get(&server, "/function/hostile/events");
    assert_eq!(wire.head("GET").header("content-type"), Some("text/event-stream"));
    assert_eq!(wire.piece().unwrap().unwrap(), b"data: 0\n\n");
    let mut wire = Wire::to(&server);
    wire.send(
        "GET /function/hostile/upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
    );
    let head = wire.head("GET");
    assert_eq!((head.status, head.header("upgrade")), (101, Some("echo")));
    for word in ["ping", "pong"] {
        wire.send(word);
        assert_eq!(wire.exactly(4), word.as_bytes());
    }
}

#[test]
fn an_idle_instance_is_frozen_and_answers_the_next_call_as_the_same() {
    let server = hostile("");
    let first = text(&server, "instance");
    until("a frozen instance", || (instances(&server, "frozen") == 1).then_some(()));
    assert_eq!(text(&server, "instance"), first);
}

#[test]
fn a_function_that_is_deployed_anew_fails_no_call() {
    let server = hostile("env = { V = '1' }\nscale = { min = 1 }");
    assert_eq!(text(&server, "env?n=V"), "1");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let mut last = String::new();
            let mut calls = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                last = text(&server, "env?n=V");
                calls += 1;
            }
            (last, calls)
        });
        deploy(&server, "env = { V = '2' }\nscale = { min = 1 }");
        until("the new revision", || (text(&server, "env?n=V") == "2").then_some(()));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let (_, calls) = calling.join().unwrap();
        assert!(calls > 0);
    });
}

#[test]
fn however_the_server_ends_nothing_of_a_sandbox_is_left() {
    let command = "['/usr/bin/python3', '-c', 'import http.server,os; http.server.HTTPServer((\"\", 8080), http.server.SimpleHTTPRequestHandler).serve_forever()', 'MARK']";
    for (mark, ends) in [("mark-of-kill-9", true), ("mark-of-term", false)] {
        let server = Server::start();
        let manifest = format!(
            "[function.run]\ncode = 'app'\ncommand = {}\ncontract = 'http'\n",
            command.replace("MARK", mark)
        );
        server.ok(&["deploy", folder(&manifest).path().to_str().unwrap()]);
        assert_eq!(get(&server, "/function/run/").status, 200);
        assert!(is_running(mark), "the program is there");
        let data: Data = if ends { server.kill() } else { server.stop().1 };
        until("the end of the program", || (!is_running(mark)).then_some(()));
        drop(data);
    }
}

#[test]
fn a_program_that_does_not_want_to_end_is_made_to() {
    let server = hostile("env = { IGNORE_TERM = '1', V = '1' }");
    assert_eq!(text(&server, ""), "ready");
    let (code, _) = server.stop();
    assert_eq!(code, 0);
}

#[test]
fn an_image_is_loaded_deployed_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let archive = archive::serve(folder.path());
    let server = Server::start();
    server.ok(&["image", "load", archive.to_str().unwrap(), "--tag", "shop/serve:1"]);
    let manifest = "[function.serve]\nimage = 'shop/serve:1'\n";
    std::fs::write(folder.path().join("coracle.toml"), manifest).unwrap();
    server.ok(&["deploy", folder.path().to_str().unwrap()]);
    assert_eq!(get(&server, "/function/serve/").text(), "hello\n");
    assert_eq!(get(&server, "/function/serve/env/COLOUR").text(), "red", "the environment of the image");
    assert_eq!(get(&server, "/function/serve/env/PORT").text(), "9000", "the port that it exposes");
}

/// Whether a process of the machine has this text among its arguments.
fn is_running(text: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes.map(|process| process.path().join("cmdline")).any(|line| {
        // One that ended in the meantime has none.
        std::fs::read(line).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    })
}

/// The instances of `hostile` in a state, as metrics tell them.
fn instances(server: &Server, state: &str) -> u64 {
    let metrics = wire::admin(server, "GET", "/metrics", b"").text();
    let line = metrics.lines().find(|line| {
        line.contains("_program_instances{") && line.contains("hostile") && line.contains(state)
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}
