//! Queued calls as people and scripts have them: sent, looked at, cancelled, run again, and refused.
//! Who is told of their ends is tested in `callbacks.rs`; what the queue does when it is killed, in its own crate.

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
mod queued;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use expect_test::expect;
use guests::{acid, until};
use harness::Server;
use queued::{ended, queued};
use wire::{Reply, admin, ask};

fn refused(reply: &Reply) -> (u16, String) {
    reply.problem()
}

#[test]
fn a_queued_call_runs_and_its_result_is_kept() {
    let server = acid(&[]);
    let id = queued(&server, "/async-function/acid/headers?x=1", &[("x-mine", "7")], b"a body");
    let call = ended(&server, &id);
    assert_eq!((&call["state"], &call["result"]["status"]), (&"succeeded".into(), &200.into()), "{call}");
    let seen = call["result"]["body"].as_str().unwrap();
    assert!(seen.starts_with("method: POST\n") && seen.contains("path: /headers?x=1\n"), "{seen}");
    assert!(seen.contains("x-mine: 7\n") && seen.contains(&format!("x-call-id: {id}\n")), "{seen}");
    assert_eq!(call["attempts"].as_array().map(Vec::len), Some(1), "{call}");
    assert_eq!(server.ok(&["queue", "show", &id, "--result"]), seen);
    assert!(server.ok(&["queue", "show", &id]).contains("succeeded, tried once"));
    assert!(server.ok(&["queue", "list", "--state", "succeeded"]).contains(&id));
    let totals = &server.json(&["queue", "status"])["totals"];
    assert_eq!((&totals["waiting"], &totals["running"]), (&0.into(), &0.into()), "{totals}");

    // Our own API queues any method and path, and has the call of another namespace.
    let path = "/v1/functions/acid/calls?async&method=PUT&path=/headers%3Fy=2";
    let reply = admin(&server, "POST", path, b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(reply.header("x-call-id"), Some(&*id));
    let call = ended(&server, &id);
    assert_eq!((&call["method"], &call["path"]), (&"PUT".into(), &"/headers?y=2".into()));
    assert!(call["result"]["body"].as_str().unwrap().starts_with("method: PUT\n"), "{call}");
}

#[test]
fn a_call_is_queued_from_the_command_line_and_waited_for() {
    let server = Server::start();
    server.deploy("hello");
    let waited = server.run(&["call", "hello", "--async", "--wait", "-d", "Ada"]);
    assert_eq!((waited.code, waited.stdout.as_str()), (0, "Hello, Ada!\n"), "{}", waited.stderr);
    let sent = server.run(&["call", "hello", "--async", "-d", "Grace"]);
    let id = sent.stdout.trim_end();
    assert_eq!((sent.code, id.len()), (0, 32), "{}", sent.to_text());
    assert_eq!(sent.stderr, format!("hello is queued: coracle queue show {id}\n"));
    assert_eq!(ended(&server, id)["result"]["body"], "Hello, Grace!\n");
    let json = server.json(&["call", "hello", "--async", "--wait"]);
    assert_eq!((&json["state"], &json["result"]["status"]), (&"succeeded".into(), &200.into()));
    assert_eq!(server.run(&["call", "hello", "--wait"]).code, 2);
    assert!(server.run(&["call", "nobody", "--async"]).stderr.starts_with("error[function-not-found]:"));
}

#[test]
fn a_call_that_is_given_up_is_shown_with_its_story_and_runs_again() {
    let server = acid(&["--set", "queue.attempts=2", "--set", "queue.first_wait=1ms"]);
    let failed =
        server.run(&["call", "acid", "--async", "--wait", "--path", "/trap", "-H", "x-call-id: mine"]);
    assert_eq!(failed.code, 1, "{}", failed.to_text());
    expect![[r#"
        exit code 1
        --- stderr
        waiting for mine
        failed: acid is dead: all of its 2 attempts failed
        hint: coracle queue show mine
    "#]]
    .assert_eq(&failed.to_text());

    let dead = server.json(&["queue", "list", "--state", "dead"]);
    assert_eq!((&dead[0]["id"], &dead[0]["attempts_made"]), (&"mine".into(), &2.into()), "{dead}");
    let shown = server.ok(&["queue", "show", "mine"]);
    assert!(shown.contains("dead, tried 2 times"), "{shown}");
    assert!(shown.contains("1. guest-trapped") && shown.contains("2. guest-trapped"), "{shown}");
    assert!(shown.contains("| ") && shown.contains("asked to trap"), "{shown}");
    assert_eq!(server.json(&["queue", "status"])["totals"]["dead"], 1);
    assert!(server.ok(&["show", "acid"]).contains("1 dead"));

    // Nobody sits at a terminal here, so nobody is asked.
    assert_eq!(server.json(&["queue", "redrive", "mine"])["calls"], 1);
    assert_eq!(ended(&server, "mine")["state"], "dead");
    assert_eq!(server.json(&["queue", "redrive", "--all", "--function", "acid"])["calls"], 1);
    assert_eq!(ended(&server, "mine")["attempts_made"], 6, "each time it has two, and its story goes on");
    server.ok(&["remove", "acid"]);
    let gone = server.run(&["queue", "redrive", "mine"]);
    assert!(gone.code == 1 && gone.stderr.starts_with("error[function-not-found]:"), "{}", gone.stderr);
    assert_eq!(server.run(&["queue", "purge", "--yes"]).code, 2, "whose calls are removed must be said");
    assert_eq!(server.json(&["queue", "purge", "--function", "acid"])["calls"], 1);
    let purged = server.run(&["queue", "show", "mine"]);
    assert!(purged.stderr.starts_with("error[call-not-found]:"), "{}", purged.stderr);
}

#[test]
fn a_call_that_waits_is_cancelled_and_one_that_has_ended_is_not() {
    let server = Server::start();
    server.deploy("hello");
    let delay = [("x-coracle-delay", "1h"), ("x-call-id", "later")];
    queued(&server, "/async-function/hello/a", &delay, b"");
    let waiting = &server.json(&["queue", "list", "hello"])[0];
    assert_eq!((&waiting["id"], &waiting["state"]), (&"later".into(), &"waiting".into()));
    let table = server.ok(&["queue", "list"]);
    assert!(table.contains("later  hello     POST /a  waiting      0  in "), "{table}");
    // Who may call may not cancel what others sent.
    let reply = ask(&server, "DELETE", "/async-function/later", &[], b"");
    assert_eq!(refused(&reply), (401, "unauthenticated".into()));
    assert_eq!(server.ok(&["queue", "cancel", "later"]), "");
    assert_eq!(ended(&server, "later")["state"], "cancelled");
    let again = server.run(&["queue", "cancel", "later"]);
    assert!(again.code == 1 && again.stderr.starts_with("error[call-ended]:"), "{}", again.stderr);

    // One that is not there keeps no other from it.
    for id in ["a", "b"] {
        queued(&server, "/async-function/hello", &[("x-coracle-delay", "1h"), ("x-call-id", id)], b"");
    }
    expect![[r#"
        exit code 1
        --- stderr
        cancelled a: it never runs
        error[call-not-found]: the queue has no call `nope`, nor remembers one
        hint: how a call ended is kept for a day; `coracle queue list` shows what is there
        see: coracle explain call-not-found
        cancelled b: it never runs
    "#]]
    .assert_eq(&server.run(&["queue", "cancel", "a", "nope", "b"]).to_text());

    let id = queued(&server, "/async-function/hello", &[("x-coracle-delay", "1h")], b"");
    assert_eq!(admin(&server, "DELETE", &format!("/async-function/{id}"), b"").status, 202);
    let reply = admin(&server, "DELETE", &format!("/async-function/{id}"), b"");
    assert_eq!(refused(&reply), (409, "call-ended".into()));
    let none = admin(&server, "POST", "/v1/calls/nobody/cancel", b"");
    assert_eq!(refused(&none), (404, "call-not-found".into()));
}

#[test]
fn a_function_that_nobody_knows_is_named() {
    let server = Server::start();
    for verb in [
        &["queue", "list", "nobody"][..],
        &["queue", "status", "nobody"],
        &["queue", "redrive", "--function", "nobody"],
        &["queue", "purge", "--function", "nobody"],
    ] {
        let ended = server.run(verb);
        let said = ended.stderr.starts_with("error[function-not-found]:");
        assert!(ended.code == 1 && said, "{verb:?}: {}", ended.stderr);
    }
    // One that is gone is known as long as it has calls.
    server.deploy("hello");
    queued(&server, "/async-function/hello", &[("x-coracle-delay", "1h")], b"");
    server.ok(&["remove", "hello"]);
    assert_eq!(server.ok(&["queue", "list", "hello", "--state", "dead"]).lines().count(), 0);
    assert_eq!(server.json(&["queue", "purge", "--function", "hello", "--state", "waiting"])["calls"], 1);
    assert_eq!(server.run(&["queue", "list", "hello"]).code, 1);
}

#[test]
fn a_queued_call_that_printed_nothing_has_no_lines() {
    let server = acid(&[]);
    let delay = [("x-coracle-delay", "1h"), ("x-call-id", "later")];
    queued(&server, "/async-function/acid/count", &delay, b"");
    expect![[r#"
        exit code 0
        --- stderr
        no lines of the call later
        hint: it was queued, and is waiting: coracle queue show later
    "#]]
    .assert_eq(&server.run(&["logs", "acid", "--call", "later"]).to_text());
    let unknown = server.run(&["logs", "--call", "nobody"]);
    assert!(unknown.stderr.starts_with("error[call-not-found]:"), "{}", unknown.stderr);
}

#[test]
fn whoever_waits_for_a_call_is_told_that_it_outlives_the_server() {
    let server = Server::start();
    server.deploy("hello");
    let wait = ["call", "hello", "--async", "--wait", "-H", "x-coracle-delay: 1h", "-H", "x-call-id: later"];
    let mut waiting = server.command(&wait).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "waiting for later");
    server.kill();
    let said: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(waiting.wait().unwrap().code(), Some(1));
    assert!(
        said[0].starts_with("error[server-unreachable]: the call later is still queued, but "),
        "{said:?}"
    );
    assert_eq!(said[1], "hint: once the server is back: coracle queue show later");
}

#[test]
fn the_same_key_is_the_same_call() {
    let server = acid(&[]);
    let key = [("idempotency-key", "order-17")];
    let first = queued(&server, "/async-function/acid/count", &key, b"");
    assert_eq!(queued(&server, "/async-function/acid/count", &key, b""), first);
    let other = ask(&server, "POST", "/async-function/acid/count", &key, b"another");
    assert_eq!(refused(&other), (422, "idempotency-key-reused".into()));
    let event = |id| [("ce-specversion", "1.0"), ("ce-type", "paid"), ("ce-source", "/shop"), ("ce-id", id)];
    let one = queued(&server, "/async-function/acid/count", &event("1"), b"");
    assert_eq!(queued(&server, "/async-function/acid/count", &event("1"), b""), one);
    assert_ne!(queued(&server, "/async-function/acid/count", &event("2"), b""), one);
    let whole = br#"{"specversion":"1.0","type":"paid","source":"/shop","id":"3"}"#;
    let structured = [("content-type", "application/cloudevents+json")];
    let three = queued(&server, "/async-function/acid/count", &structured, whole);
    assert_eq!(queued(&server, "/async-function/acid/count", &structured, whole), three);
}

#[test]
fn a_call_that_was_accepted_outlives_its_server() {
    let server = Server::start();
    server.deploy("hello");
    // Long enough for the server to be gone by then.
    let delay = [("x-coracle-delay", "1s"), ("x-call-id", "later")];
    queued(&server, "/async-function/hello", &delay, b"Ada");
    let server = Server::start_with(server.kill(), &[]);
    assert_eq!(ended(&server, "later")["result"]["body"], "Hello, Ada!\n");
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let server = Server::start_with(harness::Data::new(), &["--queue-depth", "2"]);
    server.deploy("hello");
    let delay = [("x-coracle-delay", "1h")];
    let full = until("that it is full", || {
        let reply = ask(&server, "POST", "/async-function/hello", &delay, b"");
        (reply.status != 202).then_some(reply)
    });
    assert_eq!(refused(&full), (429, "queue-full".into()));
    assert!(full.header("retry-after").is_some());
    assert_eq!(server.json(&["queue", "purge", "--all", "--state", "waiting", "--yes"])["calls"], 2);
    expect![[r#"
        exit code 0
        --- stderr
        no calls are queued
    "#]]
    .assert_eq(&server.run(&["queue", "status"]).to_text());
}

#[test]
fn a_full_disk_takes_no_calls_and_loses_none() {
    let data = harness::Data::new();
    let folder = data.path().parent().unwrap().to_owned();
    let root = rustix::process::geteuid().is_root();
    // Somebody who is not root may still be root of a namespace of their own.
    let unshare: &[&str] =
        if root { &["unshare", "--mount"] } else { &["unshare", "--map-root-user", "--mount"] };
    let mount = "mount -t tmpfs -o size=6m,mode=0700 tmpfs \"$0\" && exec \"$@\"";
    let within = [unshare, &["sh", "-c", mount, folder.to_str().unwrap()]].concat();
    let server = Server::start_within(&within, data, &[]);
    let token = wire::token(&server);
    let deployed = harness::coracle()
        .args(["deploy", harness::wasm("hello").to_str().unwrap(), "--name", "hello"])
        .env("CORACLE_URL", &server.url)
        .env("CORACLE_TOKEN", &token)
        .output()
        .unwrap();
    assert!(deployed.status.success(), "{deployed:?}");

    let body = vec![b'x'; 100 << 10];
    let delay = [("x-coracle-delay", "1h")];
    let mut accepted = Vec::new();
    let full = loop {
        let reply = ask(&server, "POST", "/async-function/hello", &delay, &body);
        if reply.status != 202 {
            break reply;
        }
        accepted.push(reply.header("x-call-id").unwrap().to_owned());
    };
    assert_eq!(refused(&full), (503, "store-unavailable".into()));
    assert!(full.header("retry-after").is_some() && !accepted.is_empty());
    for id in &accepted {
        let call = admin(&server, "GET", &format!("/v1/calls/{id}"), b"").json();
        assert_eq!(call["state"], "waiting", "{call}");
    }
    // Whoever waits for an answer has one all the same.
    assert_eq!(ask(&server, "POST", "/function/hello", &[], b"Ada").text(), "Hello, Ada!\n");
}

#[test]
fn a_call_that_comes_with_the_id_of_another_gets_one_of_ours() {
    let server = acid(&[]);
    let headers = [("x-coracle-delay", "1h"), ("x-call-id", "mine")];
    let first = queued(&server, "/async-function/acid/count", &headers, b"");
    let second = queued(&server, "/async-function/acid/count", &headers, b"");
    assert_eq!((first.as_str(), second.len()), ("mine", 32), "{second}");
    server.ok(&["queue", "cancel", "mine"]);
    assert_ne!(queued(&server, "/async-function/acid/count", &headers, b""), "mine", "it is remembered");
    assert_eq!(server.json(&["queue", "status"])["totals"]["waiting"], 2);
}
