//! Queued calls whose bodies are too long for their message: they reach the function byte for byte, wherever it runs, and go when nobody needs them.
//! The function is `sha256sum`; sandboxes of programs need root.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use some of what they share with others")]
mod guests;
#[expect(dead_code, reason = "these tests use some of what they share with others")]
mod harness;
mod nodes;
mod queued;
#[expect(dead_code, reason = "these tests use some of what they share with others")]
mod wire;

use std::path::Path;
use std::time::{Duration, SystemTime};

use guests::until;
use harness::{Data, Server};
use nodes::Cluster;
use queued::{ended, queued};
use sha2::{Digest as _, Sha256};
use wire::{Wire, admin, ask};

/// More than a message holds.
const LONG: usize = 8 << 20;
/// How long ago a file was needed for it to be forgotten, and some more.
const LONG_AGO: Duration = Duration::from_secs(2 * 60 * 60);

/// Bytes that are all but alike, and never the same for two seeds.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// The name of an artifact, which is what the function says as well.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Deploys a function that tells the digest of what it gets.
fn deploy_digest(server: &Server) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("app")).unwrap();
    std::fs::write(folder.path().join("app/about"), "nothing of its own").unwrap();
    let manifest = "[function.digest]\ncode = 'app'\ncommand = ['/usr/bin/sha256sum']\ncontract = 'stdio'\nrequest_body = '9MiB'\n";
    std::fs::write(folder.path().join("coracle.toml"), manifest).unwrap();
    server.ok(&["deploy", folder.path().to_str().unwrap()]);
}

/// What the function said of the body of a call.
fn told(call: &serde_json::Value) -> String {
    assert_eq!(call["state"], "succeeded", "{call}");
    call["result"]["body"].as_str().unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn a_long_body_arrives_whole_and_its_file_goes_when_nobody_needs_it() {
    let server = Server::start();
    deploy_digest(&server);
    let (now, later) = (bytes(1, LONG), bytes(2, LONG));
    let id = queued(&server, "/async-function/digest", &[], &now);
    let call = ended(&server, &id);
    assert_eq!((told(&call), &call["body_bytes"]), (digest(&now), &LONG.into()));
    queued(&server, "/async-function/digest", &[("x-coracle-delay", "1h"), ("x-call-id", "later")], &later);

    let server = long_after(server);
    until("that the file is gone", || (!file(&server, &now).exists()).then_some(()));
    assert!(file(&server, &later).exists(), "its call waits");
    server.ok(&["queue", "cancel", "later"]);
    let server = long_after(server);
    until("that the file is gone", || (!file(&server, &later).exists()).then_some(()));
}

fn file(server: &Server, body: &[u8]) -> std::path::PathBuf {
    server.data().join("artifacts").join(digest(body))
}

/// The same server when all of its files are old; it looks what nobody needs when it starts, and then every hour.
fn long_after(server: Server) -> Server {
    let (code, data) = server.stop();
    assert_eq!(code, 0);
    for artifact in std::fs::read_dir(data.path().join("artifacts")).unwrap() {
        age(&artifact.unwrap().path());
    }
    Server::start_with(data, &[])
}

#[expect(clippy::disallowed_methods, reason = "the age of a file is seen by the real clock")]
fn age(file: &Path) {
    let opened = std::fs::File::options().write(true).open(file).unwrap();
    opened.set_modified(SystemTime::now() - LONG_AGO).unwrap();
}

#[test]
fn a_long_body_reaches_the_node_that_runs_the_call_when_the_one_that_took_it_is_gone() {
    let mut cluster = Cluster::start(2);
    deploy_digest(&cluster.nodes[0]);
    let body = bytes(3, LONG);
    until("the function", || {
        let reply = ask(&cluster.nodes[1], "POST", "/function/digest", &[], b"");
        (reply.status == 200).then_some(())
    });
    // Long enough for the node to be gone by then.
    let delay = [("x-coracle-delay", "1s"), ("x-call-id", "later")];
    queued(&cluster.nodes[0], "/async-function/digest", &delay, &body);
    drop(cluster.nodes.remove(0).kill());
    let two = &cluster.nodes[0];
    let call = ended(two, "later");
    assert_eq!((told(&call), &call["body_bytes"]), (digest(&body), &LONG.into()));

    let waits = bytes(4, LONG);
    queued(two, "/async-function/digest", &[("x-coracle-delay", "1h")], &waits);
    let kept = |body: &[u8]| {
        let count = format!("SELECT count(*) FROM coracle.artifact_part WHERE digest = '{}'", digest(body));
        cluster.postgres.sql("coracle", &count).unwrap()
    };
    assert_eq!((kept(&body), kept(&waits)), ("8".to_owned(), "8".to_owned()), "1 MiB each");
    let micros = LONG_AGO.as_micros();
    let age = format!("UPDATE coracle.artifact SET touched = touched - {micros}");
    cluster.postgres.sql("coracle", &age).unwrap();
    let _three = cluster.node(Data::new());
    until("that the body is gone", || (kept(&body) == "0").then_some(()));
    assert_eq!(kept(&waits), "8", "its call waits");
}

#[test]
fn while_the_database_is_away_a_long_body_is_told_to_come_again() {
    let mut cluster = Cluster::start(1);
    deploy_digest(&cluster.nodes[0]);
    cluster.postgres.kill().unwrap();
    let body = bytes(5, LONG);
    let refused = ask(&cluster.nodes[0], "POST", "/async-function/digest", &[], &body);
    assert_eq!(refused.problem(), (503, "store-unavailable".to_owned()));
    assert!(refused.header("retry-after").is_some());
    cluster.postgres.start_again().unwrap();
    until("that it is taken", || {
        let reply = ask(&cluster.nodes[0], "POST", "/async-function/digest", &[("x-call-id", "mine")], &body);
        (reply.status == 202).then_some(())
    });
    assert_eq!(told(&ended(&cluster.nodes[0], "mine")), digest(&body));
}

#[test]
fn a_body_over_the_bound_is_refused_and_leaves_nothing() {
    let server = Server::start();
    deploy_digest(&server);
    let files = || std::fs::read_dir(server.data().join("artifacts")).unwrap().count();
    let before = files();
    let long = bytes(6, (9 << 20) + 1);
    let said_before = ask(&server, "POST", "/async-function/digest", &[], &long);
    // One that does not say how long it is.
    let mut wire = Wire::to(&server);
    let head = format!(
        "POST /async-function/digest HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        wire::address(&server),
        long.len()
    );
    wire.send(head);
    // It may be answered before its end.
    let _ = wire.try_send(&long).and_then(|()| wire.try_send("\r\n0\r\n\r\n"));
    for reply in [said_before, wire.reply("POST")] {
        assert_eq!(reply.problem(), (413, "request-too-large".to_owned()));
        let problem = reply.json();
        let (message, hint) = (problem["message"].as_str().unwrap(), problem["hint"].as_str().unwrap());
        assert!(message.contains("9MiB") && hint.contains("request_body"), "{problem}");
    }
    assert_eq!(files(), before);
    assert_eq!(admin(&server, "GET", "/v1/queue", b"").json()["totals"]["waiting"], 0);
}
