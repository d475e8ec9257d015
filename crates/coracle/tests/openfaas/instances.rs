//! Checks 12 and 13: how many instances there are, and what raises and lowers that number.

use serde_json::{Value, json};

use crate::face::{Face, refusal};
use crate::guests::until;
use crate::wire::ask;

/// How often an instance of `f` has started.
fn starts(face: &Face) -> usize {
    let log = face.get("/system/logs?name=f").text();
    log.lines().filter(|line| line.contains("the mirror is up")).count()
}

fn scale(face: &Face, replicas: u32) -> u16 {
    let body = json!({ "serviceName": "f", "replicas": replicas });
    face.ask("POST", "/system/scale-function/f", &body).status
}

/// What is said of the number of instances; zero is said by saying nothing.
fn replicas(face: &Face) -> u64 {
    face.status("f").get("replicas").and_then(Value::as_u64).unwrap_or(0)
}

#[test]
fn check_12_as_many_instances_run_as_are_asked_for_none_among_them() {
    let face = Face::start();
    face.deploy_mirror("f", Value::Null);
    face.until_available("f", 1);
    assert_eq!(scale(&face, 3), 202);
    assert_eq!(replicas(&face), 3);
    face.until_available("f", 3);
    assert_eq!(scale(&face, 0), 202);
    face.until_available("f", 0);
    assert_eq!(replicas(&face), 0);
    assert_eq!(face.invoke("f", b"").status, 200, "a call brings one back");
    face.until_available("f", 1);
    let body = json!({ "replicas": 500 });
    let clamped = face.ask("POST", "/system/scale-function/f", &body);
    let said = "500 instances of `f.default` were asked for, and 20 is what it has: its `scale.max` is 20\n";
    assert_eq!((clamped.status, clamped.text().as_str()), (202, said));
    assert_eq!(replicas(&face), 20, "no more than there may be");
    let granted = face.ask("POST", "/system/scale-function/f", &json!({ "replicas": 2 }));
    assert_eq!((granted.status, granted.text().as_str()), (202, ""));
    let other = json!({ "serviceName": "g", "replicas": 1 });
    let refused = face.ask("POST", "/system/scale-function/f", &other);
    assert_eq!(refusal(&refused), (400, "bad-request".into()));
    assert!(
        refused.text().contains("the path names `f`, and `serviceName` in the body `g`"),
        "{}",
        refused.text()
    );
    let none =
        face.ask("POST", "/system/scale-function/none", &json!({ "serviceName": "none", "replicas": 1 }));
    assert_eq!(refusal(&none), (404, "function-not-found".into()));
}

#[test]
fn check_12_twenty_first_calls_at_once_are_served_by_one_start() {
    let face = Face::start();
    face.deploy_mirror(
        "f",
        json!({ "labels": {
        "com.openfaas.scale.type": "capacity", "com.openfaas.scale.target": "50"
    } }),
    );
    face.until_available("f", 1);
    scale(&face, 0);
    face.until_available("f", 0);
    let before = starts(&face);
    std::thread::scope(|scope| {
        let call = || ask(&face.server, "POST", "/function/f/slow/300", &[], b"").status;
        let calls: Vec<_> = (0..20).map(|_| scope.spawn(call)).collect();
        for status in calls {
            assert_eq!(status.join().unwrap(), 200);
        }
    });
    until("the start", || (starts(&face) > before).then_some(()));
    assert_eq!(starts(&face), before + 1);
}

#[test]
fn check_13_the_least_number_runs_at_once_and_equal_bounds_never_move() {
    let face = Face::start();
    let labels = json!({ "labels": { "com.openfaas.scale.min": "2", "com.openfaas.scale.max": "2" } });
    face.deploy_mirror("f", labels);
    face.until_available("f", 2);
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| ask(&face.server, "POST", "/function/f/slow/200", &[], b"").status);
        }
    });
    assert_eq!((replicas(&face), starts(&face)), (2, 2));
}

#[test]
fn check_13_an_alert_raises_the_number_and_its_end_lowers_it() {
    let face = Face::start();
    let labels = json!({ "labels": { "com.openfaas.scale.max": "5", "com.openfaas.scale.factor": "40" } });
    face.deploy_mirror("f", labels);
    face.until_available("f", 1);
    let alert = |status: &str| {
        let one = |function: &str| json!({ "status": status, "labels": { "function_name": function } });
        let alerts = json!({ "alerts": [one("none.openfaas-fn"), one("f.openfaas-fn"), { "status": status, "labels": {} }] });
        let reply = face.ask("POST", "/system/alert", &alerts);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text()
    };
    let said = alert("firing");
    assert!(said.contains("[0] error: there is no function `none`") && said.contains("[2] error:"), "{said}");
    assert_eq!(replicas(&face), 3);
    alert("firing");
    assert_eq!(replicas(&face), 5);
    alert("firing");
    assert_eq!(replicas(&face), 5);
    alert("resolved");
    face.until_available("f", 1);
    assert_eq!(replicas(&face), 1);
    for body in ["{", "[]", r#"{"alerts": 7}"#] {
        assert_eq!(face.ask_bytes("POST", "/system/alert", body.as_bytes()).status, 400, "{body}");
    }
}
