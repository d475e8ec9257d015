//! Checks 6 to 8: calls, what the function sees of them, and what comes back.

use serde_json::{Value, json};

use crate::face::{Face, refusal};
use crate::guests::now;
use crate::wire::{Wire, address, ask};

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

#[test]
fn check_6_a_call_reaches_the_function_as_it_was_sent_whatever_the_method() {
    let face = Face::start();
    face.deploy_mirror("f", Value::Null);
    for name in ["f", "f.openfaas-fn", "f.default"] {
        for method in METHODS {
            let path = format!("/function/{name}/a/b?x=1");
            let reply = ask(&face.server, method, &path, &[("x-mine", "7")], b"the body");
            assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
            let start: u64 = reply.header("x-start-time").unwrap().parse().unwrap();
            assert!(start > 1_700_000_000_000_000_000, "nanoseconds: {start}");
            let id = reply.header("x-call-id").unwrap();
            if method == "HEAD" {
                continue;
            }
            let seen = reply.text();
            assert!(seen.starts_with(&format!("{method} /a/b?x=1 HTTP/1.1\r\n")), "{seen}");
            assert!(seen.ends_with("\r\n\r\nthe body"), "{seen}");
            let has = |line: &str| seen.to_ascii_lowercase().lines().any(|seen| seen == line);
            for line in [
                "x-mine: 7",
                &format!("x-call-id: {id}"),
                &format!("x-start-time: {start}"),
                &format!("x-forwarded-host: {}", address(&face.server)),
                "x-forwarded-for: 127.0.0.1",
            ] {
                assert!(has(line), "{line}: {seen}");
            }
        }
    }
}

#[test]
fn check_6_an_id_of_the_caller_reaches_the_function_and_is_not_said_back() {
    let face = Face::start();
    face.deploy_mirror("f", Value::Null);
    let reply = ask(&face.server, "POST", "/function/f", &[("x-call-id", "order-17")], b"");
    assert!(reply.text().to_ascii_lowercase().contains("x-call-id: order-17"), "{}", reply.text());
    assert_eq!(reply.header("x-call-id"), None);
    assert!(reply.header("x-start-time").is_some());
}

#[test]
fn check_6_a_refusal_says_which_call_it_refused_too() {
    let face = Face::bare();
    let reply = ask(&face.server, "POST", "/function/none", &[], b"");
    assert_eq!(refusal(&reply), (404, "function-not-found".into()));
    assert_eq!(reply.header("x-call-id"), reply.json()["call_id"].as_str());
    assert!(reply.header("x-start-time").is_some());
}

#[test]
fn check_6_redirects_and_bytes_pass_as_they_are() {
    let face = Face::start();
    face.deploy_mirror("f", Value::Null);
    let reply = ask(&face.server, "GET", "/function/f/redirect", &[], b"");
    assert_eq!((reply.status, reply.header("location")), (302, Some("/elsewhere")));
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let reply = ask(&face.server, "POST", "/function/f/echo", &[], &bytes);
    assert!(reply.body == bytes, "{} bytes of {}", reply.body.len(), bytes.len());
    assert_eq!(ask(&face.server, "GET", "/function/f/status/418", &[], b"").status, 418);
}

#[test]
fn check_8_a_queued_call_is_a_202_at_once_and_other_verbs_are_refused() {
    let face = Face::bare();
    face.server.deploy("hello");
    for path in ["/async-function/hello", "/async-function/hello.openfaas-fn/a/b?x=1"] {
        let reply = ask(&face.server, "POST", path, &[], b"Ada");
        assert_eq!((reply.status, reply.text().as_str()), (202, ""));
        let id = reply.header("x-call-id").unwrap();
        assert!(reply.header("x-start-time").is_some());
        let call = face.get(&format!("/v1/calls/{id}?wait=30s")).json();
        assert_eq!(call["result"]["body"], "Hello, Ada!\n", "{call}");
        for method in ["GET", "PUT", "PATCH"] {
            let reply = ask(&face.server, method, path, &[], b"");
            assert_eq!(refusal(&reply), (405, "method-not-allowed".into()), "{method}");
            assert!(reply.header("allow").unwrap().contains("POST"), "{reply:?}");
        }
    }
    let reply = ask(&face.server, "POST", "/async-function/hello", &[("x-call-id", "order-17")], b"");
    assert_eq!(reply.header("x-call-id"), Some("order-17"));
    let reply = ask(&face.server, "POST", "/async-function/none", &[], b"");
    assert_eq!(refusal(&reply), (404, "function-not-found".into()));
}

#[test]
fn check_15_events_arrive_one_by_one() {
    let face = Face::start();
    face.deploy_mirror("f", json!({}));
    assert_eq!(face.invoke("f", b"").status, 200, "it is up");
    let mut wire = Wire::to(&face.server);
    let host = address(&face.server);
    wire.send(format!(
        "GET /function/f/events HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n"
    ));
    assert_eq!(wire.head("GET").header("content-type"), Some("text/event-stream"));
    let (mut text, mut times) = (String::new(), Vec::new());
    while let Some(piece) = wire.piece().unwrap() {
        text += &String::from_utf8_lossy(&piece);
        times.push(now());
    }
    assert_eq!(text.matches("data: ").count(), 5, "{text}");
    assert_eq!(times.len(), 5, "each came by itself");
    // They were sent 200 ms apart; had they been held back, they would have come together.
    assert!((times[4] - times[0]).as_millis() >= 600, "{times:?}");
}
