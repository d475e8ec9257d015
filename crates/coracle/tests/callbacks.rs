//! Who is told how queued calls ended: by a callback, as a target, and nobody whom a caller should not reach.
//! Receivers listen on the loopback, where a grant is needed.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of it")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
mod queued;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};

use guests::{acid, until};
use harness::{Data, Server};
use queued::{ended, queued};
use serde_json::Value;
use wire::ask;

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
        assert_eq!(reply.problem(), (403, "callback-denied".into()), "{url}");
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

/// Somebody who takes connections and says nothing; gives its port, and who came.
fn silence() -> (u16, Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, visits) = sync_channel(16);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for visit in listener.incoming() {
            let _ = sender.send(visit.unwrap()); // The test may be over.
        }
    });
    (port, visits)
}

/// The one delivery of a call, once it is given up.
fn dead_delivery(server: &Server, id: &str) -> Value {
    until("the delivery that is dead", || {
        let call = ended(server, id);
        assert_eq!(call["state"], "succeeded", "the call itself went well: {call}");
        (call["deliveries"][0]["state"] == "dead").then(|| call["deliveries"][0].clone())
    })
}

fn deploy_hello(server: &Server, grants: &[&str]) {
    let hello = harness::wasm("hello");
    let grants = grants.iter().flat_map(|grant| ["--outbound", grant]);
    let deploy: Vec<&str> =
        ["deploy", hello.to_str().unwrap(), "--name", "hello"].into_iter().chain(grants).collect();
    server.ok(&deploy);
}

#[test]
fn a_receiver_that_never_answers_is_given_up_and_the_story_is_kept() {
    let server = Server::start_with(Data::new(), &["--delivery-timeout", "200ms"]);
    let (port, visits) = silence();
    let grant = format!("http://127.0.0.1:{port}");
    deploy_hello(&server, &[&grant]);
    let begun = guests::now();
    let id = queued(&server, "/async-function/hello", &[("x-callback-url", &grant)], b"Ada");
    assert_eq!(ended(&server, &id)["state"], "succeeded", "it does not wait for whoever is told of it");
    let delivery = dead_delivery(&server, &id);
    // Five times 200 ms, and waits of at most 1, 2, 4 and 8 s between them.
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    let attempts = delivery["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 5, "{delivery}");
    for attempt in attempts {
        assert_eq!(attempt["problem"]["code"], "delivery-failed", "{attempt}");
        let message = attempt["problem"]["message"].as_str().unwrap();
        assert!(message.ends_with("it did not answer within 0.2 s"), "{message}");
        assert!(attempt["took_ms"].as_u64().unwrap() >= 200, "{attempt}");
    }
    assert_eq!(visits.try_iter().count(), 5);
    let shown = server.ok(&["queue", "show", &id]);
    assert!(shown.contains("is dead, tried 5 times: all of its 5 attempts failed"), "{shown}");
    assert!(shown.contains("5. delivery-failed") && shown.contains("did not answer within"), "{shown}");
    assert_eq!(server.json(&["queue", "status"])["totals"]["dead"], 1);
    assert_eq!(server.json(&["queue", "redrive", &id])["calls"], 1);
    visits.recv().unwrap();
}

#[test]
fn a_name_that_stands_for_a_private_address_is_found_out_and_may_be_allowed() {
    let (port, received) = receiver(OK);
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(hosts.path(), "127.0.0.1 localhost hooks.example.com\n").unwrap();
    let root = rustix::process::geteuid().is_root();
    // Somebody who is not root may still be root of a namespace of their own.
    let unshare: &[&str] =
        if root { &["unshare", "--mount"] } else { &["unshare", "--map-root-user", "--mount"] };
    let mount = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let within = [unshare, &["sh", "-c", mount, hosts.path().to_str().unwrap()]].concat();
    let server = Server::start_within(&within, Data::new(), &[]);
    deploy_hello(&server, &[]);
    let name = format!("http://hooks.example.com:{port}");
    // Nobody knows by its text what it stands for.
    let id = queued(&server, "/async-function/hello", &[("x-callback-url", &name)], b"Ada");
    let delivery = dead_delivery(&server, &id);
    assert_eq!(delivery["attempts"].as_array().map(Vec::len), Some(1), "it is not tried again: {delivery}");
    let problem = &delivery["attempts"][0]["problem"];
    assert_eq!(problem["code"], "callback-denied", "{delivery}");
    assert!(
        problem["message"].as_str().unwrap().contains("is the address 127.0.0.1, which is not public"),
        "{problem}"
    );
    assert!(received.try_recv().is_err(), "nobody came");

    let address = format!("http://127.0.0.1:{port}");
    deploy_hello(&server, &[&name, &address]);
    server.ok(&["queue", "redrive", &id]);
    assert!(received.recv().unwrap().contains(&format!("host: hooks.example.com:{port}\r\n")));
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
