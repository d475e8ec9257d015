//! Queued calls of several servers on one PostgreSQL: one cancels what another runs, and one runs what another accepted.
//! Each test starts a PostgreSQL of its own.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use some of what they share with others")]
mod guests;
#[expect(dead_code, reason = "these tests use some of what they share with others")]
mod harness;
mod nodes;
mod queued;
#[expect(dead_code, reason = "these tests use some of what they share with others")]
mod wire;

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use guests::{deploy, until};
use harness::Server;
use nodes::Cluster;
use queued::{ended, queued};
use wire::{admin, get};

/// What does not happen within so long does not happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who is visited and says nothing: whoever fetches from there runs until it is stopped.
fn silence() -> (String, Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, visits) = sync_channel(16);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for visit in listener.incoming() {
            let _ = sender.send(visit.unwrap()); // The test may be over.
        }
    });
    (url, visits)
}

/// Whether a visitor has gone, or goes soon.
fn goes(mut visit: TcpStream) -> bool {
    visit.set_read_timeout(Some(PATIENCE)).unwrap();
    // It says what it wants, and then waits for an answer.
    let mut said = Vec::new();
    match visit.read_to_end(&mut said) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// How many calls run on this node.
fn in_flight(node: &Server) -> String {
    let metrics = admin(node, "GET", "/metrics", b"").text();
    let mut lines = metrics.lines().filter(|line| line.starts_with("coracle_calls_in_flight"));
    let line = lines.find(|line| line.contains("acid"));
    line.and_then(|line| line.split(' ').next_back()).unwrap_or("0").to_owned()
}

#[test]
fn a_call_that_runs_is_stopped_by_whichever_node_is_asked() {
    let cluster = Cluster::start(3);
    let [one, two, three] = &cluster.nodes[..] else { panic!("three were started") };
    let (url, visits) = silence();
    deploy(one, "acid", &["--outbound", &url, "--timeout", "10m"]);
    for node in [one, two, three] {
        until("the function", || (get(node, "/function/acid/").status == 200).then_some(()));
    }
    let fetch = format!("/async-function/acid/fetch?url={url}");
    for (id, asked) in [("by-two", two), ("by-three", three)] {
        queued(one, &fetch, &[("x-call-id", id)], b"");
        let visit = visits.recv_timeout(PATIENCE).unwrap();
        assert_eq!([one, two, three].map(in_flight), ["1", "0", "0"], "it runs where it was accepted");
        for node in [one, two, three] {
            let call = admin(node, "GET", &format!("/v1/calls/{id}"), b"").json();
            assert_eq!(call["state"], "running", "{call}");
        }
        if id == "by-two" {
            let said = asked.run(&["queue", "cancel", id]);
            assert_eq!((said.code, said.stderr.as_str()), (0, "cancelled by-two: it is stopped\n"));
        } else {
            assert_eq!(admin(asked, "DELETE", &format!("/async-function/{id}"), b"").status, 202);
        }
        for node in [one, two, three] {
            let call = admin(node, "GET", &format!("/v1/calls/{id}"), b"").json();
            assert_eq!(call["state"], "cancelled", "{call}");
            let again = node.run(&["queue", "cancel", id]);
            assert!(again.stderr.starts_with("error[call-ended]:"), "{}", again.stderr);
        }
        assert!(goes(visit), "the function has ended");
        until("that nothing runs", || (in_flight(one) == "0").then_some(()));
    }
    // Not even when the node that ran them is gone.
    let mut cluster = cluster;
    drop(cluster.nodes.remove(0).kill());
    for node in &cluster.nodes {
        let id = queued(node, "/async-function/acid/count", &[], b"");
        assert_eq!(ended(node, &id)["state"], "succeeded");
    }
    assert!(visits.try_recv().is_err(), "none of them runs again");
    let left = "SELECT count(*) FROM coracle.message WHERE state < 3";
    assert_eq!(cluster.postgres.sql("coracle", left).unwrap(), "0", "and none is left that could");
}
