//! Queued calls as people and scripts have them: sent, looked at, told of, cancelled, run again, and refused.
//! What the queue does when it is killed, and in which order, is tested in its own crate.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, sync_channel};

use expect_test::expect;
use guests::{acid, until};
use harness::Server;
use serde_json::Value;
use wire::{Reply, admin, ask};

/// Queues a call as anybody may, and gives its identity.
fn queued(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
    let reply = ask(server, "POST", path, headers, body);
    assert_eq!((reply.status, reply.text().as_str()), (202, ""), "{reply:?}");
    reply.header("x-call-id").unwrap().to_owned()
}

/// A call, once it has ended.
fn ended(server: &Server, id: &str) -> Value {
    until("the end of the call", || {
        let reply = admin(server, "GET", &format!("/v1/calls/{id}?wait=30s"), b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
        let call = reply.json();
        let state = call["state"].as_str().unwrap();
        (!matches!(state, "waiting" | "running")).then_some(call)
    })
}

fn refused(reply: &Reply) -> (u16, String) {
    reply.problem()
}

/// A receiver of callbacks, which answers each with this; gives its port, and the requests.
fn receiver(answer: &'static str) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = sync_channel(16);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
            while !is_whole(&seen) {
                match stream.read(&mut piece) {
                    Ok(length) if length > 0 => seen.extend(&piece[..length]),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer.as_bytes()); // Whoever asked may be gone.
            let _ = sender.send(String::from_utf8_lossy(&seen).into_owned());
        }
    });
    (port, received)
}

/// Whether a request with a length has come whole.
fn is_whole(seen: &[u8]) -> bool {
    let text = String::from_utf8_lossy(seen);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.parse().unwrap())
}

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

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
fn what_a_receiver_said_is_shown_and_its_result_is_delivered_again() {
    let server = Server::start();
    let (port, received) = receiver("HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\n\r\n");
    let grant = format!("http://127.0.0.1:{port}");
    let hello = harness::wasm("hello");
    server.ok(&["deploy", hello.to_str().unwrap(), "--name", "hello", "--outbound", &grant]);
    let id = queued(&server, "/async-function/hello", &[("x-callback-url", &grant)], b"");
    received.recv().unwrap();
    let dead = until("the delivery that is dead", || {
        let shown = server.run(&["queue", "show", &id]);
        shown.stdout.contains("is dead").then_some(shown)
    });
    let (shown, said) = (&dead.stdout, &dead.stderr);
    assert!(
        shown.contains(&format!("to {grant} is dead, tried once: trying again would not help")),
        "{shown}"
    );
    let (_, told) =
        shown.split_once(&format!("\n\nits result to {grant}\n1. delivery-redirected  ")).unwrap();
    assert!(
        told.contains("\n   ") && told.contains("answered 302, a redirect to `http://elsewhere/`"),
        "{told}"
    );
    assert_eq!(*said, format!("hint: to send its result again: coracle queue redrive {id}\n"));
    assert_eq!(server.json(&["queue", "redrive", &id])["calls"], 1);
    assert!(received.recv().unwrap().starts_with("POST / HTTP/1.1\r\n"));
}

#[test]
fn a_callback_has_the_result_and_openfaas_headers() {
    let server = Server::start();
    let (port, received) = receiver(OK);
    let grant = format!("http://127.0.0.1:{port}");
    let hello = harness::wasm("hello");
    server.ok(&["deploy", hello.to_str().unwrap(), "--name", "hello", "--outbound", &grant]);
    let url = format!("{grant}/done?n=1");
    let id = queued(&server, "/async-function/hello", &[("x-callback-url", &url)], b"Ada");
    let told = received.recv().unwrap();
    assert!(told.starts_with("POST /done?n=1 HTTP/1.1\r\n"), "{told}");
    for line in [
        format!("x-call-id: {id}"),
        "x-function-name: hello.default".to_owned(),
        "x-function-status: 200".to_owned(),
        format!("host: 127.0.0.1:{port}"),
    ] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    assert!(told.contains("\r\nx-duration-seconds: 0.") && told.ends_with("\r\n\r\nHello, Ada!\n"), "{told}");
    // By our own address it is told in our own words.
    let path = "/v1/functions/hello/calls?async";
    let bearer = wire::bearer(&wire::token(&server));
    let headers = [("authorization", bearer.as_str()), ("x-callback-url", &url)];
    assert_eq!(ask(&server, "POST", path, &headers, b"").status, 202);
    let told = received.recv().unwrap();
    assert!(told.contains("\r\nx-coracle-state: succeeded\r\n"), "{told}");
}

#[test]
fn the_ends_of_calls_are_told_to_a_function_a_topic_or_a_url() {
    let server = acid(&["--set", "queue.on_success=function:hello", "--set", "queue.on_failure=topic:lost"]);
    server.deploy("hello");
    queued(&server, "/async-function/acid/count", &[], b"");
    let told = until("the call of the function that is told", || {
        let calls = server.json(&["queue", "list", "hello", "--state", "succeeded"]);
        calls[0]["id"].as_str().map(str::to_owned)
    });
    let told = &ended(&server, &told)["result"]["body"];
    assert!(told.as_str().unwrap().contains(r#""state":"succeeded""#), "{told}");

    // A status that says that trying again would not help.
    let lost = queued(&server, "/async-function/acid/status?code=404", &[], b"");
    assert_eq!(ended(&server, &lost)["state"], "failed");
    let outcomes = server.json(&["queue", "topic", "lost"]);
    let (place, outcome) = (outcomes[0]["place"].as_u64().unwrap(), &outcomes[0]["outcome"]);
    assert_eq!(
        (&outcome["call"], &outcome["state"]),
        (&lost.as_str().into(), &"failed".into()),
        "{outcomes}"
    );
    assert_eq!(outcome["response"]["status"], 404);
    assert!(server.ok(&["queue", "topic", "lost"]).contains(&lost));
    let behind = server.json(&["queue", "topic", "lost", "--after", &place.to_string()]);
    assert_eq!(behind.as_array().map(Vec::len), Some(0));

    let (port, received) = receiver(OK);
    let grant = format!("http://127.0.0.1:{port}");
    let (outbound, target) = (format!("outbound={grant}"), format!("queue.on_failure={grant}/lost"));
    guests::deploy(&server, "acid", &["--set", &outbound, "--set", &target]);
    queued(&server, "/async-function/acid/status?code=404", &[("x-call-id", "mine")], b"");
    let told = received.recv().unwrap();
    assert!(told.starts_with("POST /lost HTTP/1.1\r\n") && told.contains("x-call-id: mine\r\n"), "{told}");
    assert!(told.contains(r#""state":"failed""#), "{told}");
}

#[test]
fn a_callback_goes_nowhere_that_a_caller_should_not_reach() {
    let server = Server::start();
    let (elsewhere, visited) = receiver(OK);
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{elsewhere}/\r\n\r\n");
    let (port, received) = receiver(answer.leak());
    let grant = format!("http://127.0.0.1:{port}");
    let hello = harness::wasm("hello");
    server.ok(&["deploy", hello.to_str().unwrap(), "--name", "hello", "--outbound", &grant]);
    for url in [&*format!("http://127.0.0.1:{elsewhere}/"), "http://localhost/", "http://169.254.169.254/x"] {
        let reply = ask(&server, "POST", "/async-function/hello", &[("x-callback-url", url)], b"");
        assert_eq!(refused(&reply), (403, "callback-denied".into()), "{url}");
        assert!(reply.json()["hint"].as_str().unwrap().contains("outbound = ["), "{}", reply.text());
    }
    // A redirect is not followed, and not tried again.
    let id = queued(&server, "/async-function/hello", &[("x-callback-url", &grant)], b"");
    received.recv().unwrap();
    let call = until("the delivery that is dead", || {
        let call = ended(&server, &id);
        (call["deliveries"][0]["state"] == "dead").then_some(call)
    });
    assert_eq!(call["state"], "succeeded", "the call itself went well");
    let attempt = &call["deliveries"][0]["attempts"][0];
    assert_eq!(attempt["problem"]["code"], "delivery-redirected", "{call}");
    assert!(visited.try_recv().is_err(), "nobody came");
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
fn what_is_too_large_is_refused_and_what_is_large_is_kept_beside() {
    let server = acid(&["--request-body", "8MiB", "--memory", "256MiB"]);
    let large = vec![b'x'; 7 << 20];
    let id = queued(&server, "/async-function/acid/sink", &[], &large);
    let call = ended(&server, &id);
    assert_eq!((&call["state"], &call["body_bytes"]), (&"succeeded".into(), &(7 << 20).into()), "{call}");
    let too_large = vec![b'x'; 9 << 20];
    let reply = ask(&server, "POST", "/async-function/acid/sink", &[], &too_large);
    assert_eq!(refused(&reply), (413, "request-too-large".into()));
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
