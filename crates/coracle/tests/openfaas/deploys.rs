//! Checks 1 to 5: who is let in, who answers, and deploys from the first to the last.

use serde_json::{Value, json};

use crate::face::{Face, basic, deployment, refusal};
use crate::guests::until;
use crate::harness::{Data, Server};
use crate::mirror::IMAGE;
use crate::wire::{self, ask};

#[test]
fn check_1_a_login_takes_the_right_password() {
    let face = Face::bare();
    assert_eq!(face.get("/system/functions").status, 200);
    let nobody = wire::get(&face.server, "/system/functions");
    assert_eq!(refusal(&nobody), (401, "unauthenticated".into()));
    assert!(nobody.header("www-authenticate").unwrap().starts_with("Basic realm="), "{nobody:?}");
    let wrong = basic("admin", "wrong");
    let wrong = ask(&face.server, "GET", "/system/functions", &[("authorization", &wrong)], b"");
    assert_eq!(refusal(&wrong), (401, "unauthenticated".into()));
}

#[test]
fn check_1_a_login_takes_the_pair_of_the_files_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("basic-auth-user"), "ada\n").unwrap();
    std::fs::write(folder.path().join("basic-auth-password"), "hush-7f\n").unwrap();
    let server = Server::start_with(Data::new(), &["--basic-auth-dir", folder.path().to_str().unwrap()]);
    let status = |user: &str, password: &str| {
        let header = basic(user, password);
        ask(&server, "GET", "/system/functions", &[("authorization", &header)], b"").status
    };
    assert_eq!(status("ada", "hush-7f"), 200);
    assert_eq!(status("ada", "hush-7"), 401);
    assert_eq!(status("eve", "hush-7f"), 401);
    assert_eq!(status("admin", &wire::token(&server)), 200);
}

#[test]
fn check_2_a_version_names_provider_orchestration_release_and_commit() {
    let info = Face::bare().get("/system/info").json();
    for path in [
        "/provider/provider",
        "/provider/orchestration",
        "/provider/version/release",
        "/provider/version/sha",
        "/version/release",
        "/version/sha",
        "/arch",
    ] {
        assert!(
            info.pointer(path).and_then(Value::as_str).is_some_and(|text| !text.is_empty()),
            "{path}: {info}"
        );
    }
}

#[test]
fn check_3_a_deploy_updates_what_is_there_and_creates_what_is_not() {
    let face = Face::start();
    assert_eq!(face.deploy(&deployment("f", Value::Null)), [404, 202]);
    assert_eq!(face.deploy(&deployment("f", json!({ "envVars": { "LEVEL": "info" } }))), [202]);
    assert_eq!(face.invoke("f", b"hi").status, 200);
    let again = face.ask("POST", "/system/functions", &deployment("f", Value::Null));
    assert_eq!(refusal(&again), (400, "already-exists".into()));
    assert!(again.text().contains("PUT"), "{}", again.text());
}

#[test]
fn check_4_what_was_sent_is_said_back_and_nothing_beside() {
    let face = Face::start();
    face.ask("POST", "/system/secrets", &json!({ "name": "api-key", "value": "hush" }));
    let sent = json!({
        "service": "whole", "image": IMAGE,
        "envVars": { "TAG": "x", "FROM_FILE": "y" },
        "constraints": ["node.role == worker"],
        "secrets": ["api-key"],
        "labels": { "team": "media", "com.openfaas.scale.min": "1" },
        "annotations": { "topic": "orders", "schedule": "*/5 * * * *" },
        "limits": { "memory": "64Mi", "cpu": "500m" },
        "requests": { "memory": "32Mi" },
        "readOnlyRootFilesystem": true
    });
    assert_eq!(face.deploy(&sent), [404, 202]);
    let shown = face.get("/system/function/whole?usage=1").json();
    for field in [
        "image",
        "envVars",
        "constraints",
        "secrets",
        "annotations",
        "limits",
        "requests",
        "readOnlyRootFilesystem",
    ] {
        assert_eq!(shown[field], sent[field], "{field}: {shown}");
    }
    assert_eq!(
        shown["labels"],
        json!({ "team": "media", "com.openfaas.scale.min": "1", "faas_function": "whole" })
    );
    assert_eq!(shown["namespace"], "openfaas-fn");
    let listed = face.list("");
    assert_eq!(listed.len(), 1, "nothing of our own is in it: {listed:?}");
    assert_eq!((&listed[0]["name"], &listed[0]["limits"]), (&json!("whole"), &sent["limits"]));

    face.deploy(&json!({ "service": "bare", "image": IMAGE }));
    let bare = face.status("bare");
    for absent in ["envVars", "limits", "requests", "constraints", "secrets", "envProcess"] {
        assert!(bare.get(absent).is_none(), "{absent}: {bare}");
    }
    assert_eq!((&bare["labels"], &bare["annotations"]), (&json!({ "faas_function": "bare" }), &json!({})));
    let created: jiff::Timestamp = bare["createdAt"].as_str().unwrap().parse().unwrap();
    assert!(created.as_second() > 1_700_000_000);
}

#[test]
fn check_4_a_function_that_was_deployed_natively_is_listed_too() {
    let face = Face::bare();
    face.server.deploy("hello");
    let listed = face.list("");
    assert_eq!(listed[0]["name"], "hello");
    assert!(listed[0]["image"].as_str().unwrap().starts_with("coracle/wasm:"), "{listed:?}");
    assert_eq!((&listed[0]["replicas"], &listed[0]["availableReplicas"]), (&json!(1), &json!(1)));
    assert_eq!(face.invoke("hello", b"Ada").text(), "Hello, Ada!\n");
}

#[test]
fn check_5_what_is_not_there_or_cannot_be_is_refused_as_clients_know_it() {
    let face = Face::bare();
    assert_eq!(refusal(&face.get("/system/function/none")), (404, "function-not-found".into()));
    let none = face.ask("DELETE", "/system/functions", &json!({ "functionName": "none" }));
    assert_eq!(refusal(&none), (404, "function-not-found".into()));
    for body in ["{", "[]", "\"f\"", "{}", r#"{"service":"f"}"#, r#"{"service":7,"image":"x"}"#] {
        let refused = face.ask_bytes("POST", "/system/functions", body.as_bytes());
        assert_eq!(refused.status, 400, "{body}: {}", refused.text());
        refusal(&refused);
    }
    let bad = json!({ "service": "Bad_Name!", "image": IMAGE });
    assert_eq!(refusal(&face.ask("POST", "/system/functions", &bad)), (400, "invalid-name".into()));
    assert_eq!(wire::ask(&face.server, "POST", "/function/.openfaas-fn", &[], b"").status, 404);
}

#[test]
fn a_function_is_removed_once() {
    let face = Face::start();
    face.deploy_mirror("f", Value::Null);
    assert_eq!(face.invoke("f", b"").status, 200);
    let removal = json!({ "functionName": "f" });
    assert_eq!(face.ask("DELETE", "/system/functions", &removal).status, 202);
    assert_eq!(face.ask("DELETE", "/system/functions", &removal).status, 404);
    assert_eq!(refusal(&face.invoke("f", b"")), (404, "function-not-found".into()));
    assert_eq!(face.list(""), [] as [Value; 0]);
}

#[test]
fn of_two_that_create_a_function_at_once_one_does() {
    let face = Face::start();
    let mut statuses = std::thread::scope(|scope| {
        let create = || face.ask("POST", "/system/functions", &deployment("f", Value::Null)).status;
        [scope.spawn(create), scope.spawn(create)].map(|deploy| deploy.join().unwrap())
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 400]);
    until("the function", || (face.invoke("f", b"").status == 200).then_some(()));
}
