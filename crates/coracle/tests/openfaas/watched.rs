//! Checks 7 and 15: functions behind a watchdog, most often one that the server keeps itself, deployed and called as OpenFaaS' clients do.
//! What a watchdog must do in every case stands in `tests/watchdog.rs`.

use serde_json::json;

use crate::face::{Face, deployment, refusal};
use crate::guests::until;
use crate::wire::{self, address, ask};

/// Waits until so many calls are running.
fn until_running(face: &Face, count: u32) {
    until("the running calls", || {
        let metrics = wire::admin(&face.server, "GET", "/metrics", b"").text();
        let line = metrics.lines().find(|line| line.starts_with("coracle_calls_in_flight{"))?;
        (line.rsplit(' ').next()?.parse() == Ok(count)).then_some(())
    });
}

#[test]
fn check_7_a_process_a_call_reads_the_call_in_its_environment() {
    let face = Face::start();
    face.deploy_mirror("env", json!({ "envProcess": "/mirror env", "envVars": { "LEVEL": "info" } }));
    let reply = ask(&face.server, "POST", "/function/env/a/b?x=1", &[("x-foo", "bar")], b"");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = reply.text();
    for line in [
        "Http_Method=POST",
        "Http_Query=x=1",
        "Http_Path=/a/b",
        "Http_X_Foo=bar",
        "LEVEL=info",
        "fprocess=/mirror env",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line}: {seen}");
    }
    assert!(reply.header("x-duration-seconds").is_some(), "{reply:?}");
    assert_eq!(face.status("env")["envProcess"], "/mirror env");
    until("the words of its watchdog", || {
        let log = face.get("/system/logs?name=env").text();
        (log.contains("Forking fprocess") && log.contains("Wrote ") && log.contains(" Bytes")).then_some(())
    });
}

#[test]
fn check_7_a_process_that_fails_is_a_500() {
    let face = Face::start();
    face.deploy_mirror("fail", json!({ "envProcess": "/mirror fail" }));
    let reply = face.invoke("fail", b"what went in");
    assert_eq!(reply.status, 500, "{}", reply.text());
    assert!(!reply.body.is_empty());
    face.deploy_mirror("cat", json!({ "envProcess": "/mirror cat" }));
    assert_eq!(face.invoke("cat", b"what went in").text(), "what went in");
}

#[test]
fn an_image_with_a_watchdog_of_its_own_runs_unchanged() {
    let face = Face::start_with_watchdog();
    let health = json!({ "com.openfaas.health.http.path": "/_/health" });
    face.deploy_mirror("f", json!({ "annotations": health, "readOnlyRootFilesystem": true }));
    assert_eq!(face.invoke("f", b"what went in").text(), "what went in");
    let well = wire::get(&face.server, "/function/f/_/health");
    assert_eq!((well.status, well.text().as_str()), (200, "OK"), "its lock file could be written");
    let shown = wire::admin(&face.server, "GET", "/v1/namespaces/default/functions/f", b"").json();
    assert_eq!(shown["contract"], "http", "nobody else keeps its contract: {shown}");
    until("its own words, once a call", || {
        let log = face.get("/system/logs?name=f").text();
        let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
        let counts = (count("Listening on port: 8080"), count("Forking fprocess."), count("Wrote 12 Bytes"));
        (counts == (1, 1, 1)).then_some(())
    });
    // What is deployed outranks what the image says, and it is the watchdog that reads it.
    assert_eq!(face.deploy(&deployment("f", json!({ "envProcess": "/mirror env" }))), [202]);
    until("the new process", || {
        let reply = ask(&face.server, "POST", "/function/f/a/b", &[("x-foo", "bar")], b"");
        let seen = reply.text();
        let has = |wanted: &str| seen.lines().any(|line| line == wanted);
        (has("Http_Method=POST") && has("Http_Path=/a/b") && has("fprocess=/mirror env")).then_some(())
    });
    assert_eq!(face.deploy(&deployment("f", json!({ "envProcess": "/mirror fail" }))), [202]);
    until("its failure", || (face.invoke("f", b"").status == 500).then_some(()));
}

#[test]
fn check_15_a_function_takes_no_more_calls_at_once_than_it_says() {
    let face = Face::start();
    let env = json!({
        "mode": "http", "http_upstream_url": "http://127.0.0.1:5000", "PORT": "5000", "max_inflight": "1"
    });
    face.deploy_mirror("f", json!({ "envProcess": "/mirror", "envVars": env }));
    assert_eq!(face.invoke("f", b"").status, 200);
    assert_eq!(wire::get(&face.server, "/function/f/_/health").status, 200);
    let to = address(&face.server).to_owned();
    let slow = std::thread::spawn(move || {
        wire::try_ask(&to, "POST", "/function/f/slow/3000", &[], b"").unwrap().status
    });
    until_running(&face, 1);
    let second = face.invoke("f", b"");
    assert_eq!(second.status, 429, "{}", second.text());
    assert!(
        second.text().contains("Concurrent request limit exceeded. Max concurrent requests: 1"),
        "{}",
        second.text()
    );
    assert_eq!(wire::get(&face.server, "/function/f/_/ready").status, 429);
    assert_eq!(slow.join().unwrap(), 200);
    // Its place is given back when its body has ended, which its client may see a moment before.
    until("a free place", || (face.invoke("f", b"").status == 200).then_some(()));
}

#[test]
fn check_15_a_call_that_takes_too_long_is_a_504() {
    let face = Face::start();
    let env = json!({
        "mode": "http", "http_upstream_url": "http://127.0.0.1:5000", "PORT": "5000", "exec_timeout": "500ms"
    });
    face.deploy_mirror("f", json!({ "envProcess": "/mirror", "envVars": env }));
    assert_eq!(face.invoke("f", b"").status, 200);
    let late = ask(&face.server, "POST", "/function/f/slow/20000", &[], b"");
    assert_eq!((refusal(&late).0, late.header("x-openfaas-internal")), (504, Some("of-watchdog")));
}

#[test]
fn check_15_a_call_in_flight_is_finished_when_the_server_is_told_to_end() {
    let face = Face::start();
    face.deploy_mirror("cat", json!({ "envProcess": "/mirror slow 1500" }));
    let to = address(&face.server).to_owned();
    let slow =
        std::thread::spawn(move || wire::try_ask(&to, "POST", "/function/cat", &[], b"still here").unwrap());
    until_running(&face, 1);
    let (code, _data) = face.server.stop();
    let reply = slow.join().unwrap();
    assert_eq!((code, reply.status, reply.text().as_str()), (0, 200, "still here"));
}
