//! Checks 9 and 10: secrets and namespaces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::face::{Face, deployment, refusal};
use crate::guests::until;
use crate::wire::ask;

#[test]
fn a_secret_that_no_file_could_hold_is_not_made() {
    let face = Face::start();
    for name in [".", ".."] {
        let refused = face.ask("POST", "/system/secrets", &json!({ "name": name, "value": "hush" }));
        assert_eq!(refusal(&refused), (400, "invalid-name".into()), "{name}");
        let native = crate::wire::admin(
            &face.server,
            "PUT",
            &format!("/v1/namespaces/default/secrets/{name}"),
            br#"{"value":"hush"}"#,
        );
        assert_eq!(refusal(&native), (400, "invalid-name".into()), "{name}");
        let typed = face.server.run_with(&["secret", "set", name], b"hush");
        assert!(
            typed.stderr.contains("cannot name a secret: programs read each as a file"),
            "{}",
            typed.stderr
        );
    }
    assert_eq!(face.get("/system/secrets").json(), json!([]));
}

#[test]
fn check_9_secrets_are_made_listed_changed_and_removed_as_the_command_line_does_it() {
    let face = Face::bare();
    let secret = json!({ "name": "api-key", "namespace": "openfaas-fn", "value": "hush-7f" });
    assert_eq!(face.ask("POST", "/system/secrets", &secret).status, 202);
    assert_eq!(refusal(&face.ask("POST", "/system/secrets", &secret)), (409, "already-exists".into()));
    let listed = face.get("/system/secrets");
    assert_eq!(listed.json(), json!([{ "name": "api-key", "namespace": "openfaas-fn" }]));
    assert_eq!(face.get("/system/secrets?namespace=openfaas-fn").json(), listed.json());
    assert_eq!(face.ask("PUT", "/system/secrets", &secret).status, 202);
    let unknown = json!({ "name": "other", "value": "x" });
    assert_eq!(refusal(&face.ask("PUT", "/system/secrets", &unknown)), (404, "secret-not-found".into()));
    let named = json!({ "name": "api-key", "namespace": "openfaas-fn" });
    assert_eq!(face.ask("DELETE", "/system/secrets", &named).status, 202);
    assert_eq!(refusal(&face.ask("DELETE", "/system/secrets", &named)), (404, "secret-not-found".into()));
    assert_eq!(face.get("/system/secrets").json(), json!([]));
}

#[test]
fn check_9_a_deploy_that_names_a_secret_that_is_not_there_is_refused() {
    let face = Face::start();
    let refused = face.ask("POST", "/system/functions", &deployment("f", json!({ "secrets": ["gone"] })));
    assert_eq!(refusal(&refused), (400, "missing-secret".into()));
    assert!(refused.text().contains("`gone`"), "{}", refused.text());
}

#[test]
fn check_10_namespaces_are_made_shown_changed_listed_and_removed_as_the_command_line_does_it() {
    let face = Face::bare();
    let sent = json!({ "name": "shop", "labels": { "openfaas": "1" }, "annotations": { "openfaas": "1" } });
    assert_eq!(face.ask("POST", "/system/namespace/", &sent).status, 201);
    assert_eq!(refusal(&face.ask("POST", "/system/namespace/", &sent)), (409, "already-exists".into()));
    assert_eq!(face.get("/system/namespace/shop").json(), sent);
    let changed =
        json!({ "name": "shop", "labels": { "openfaas": "1", "team": "media" }, "annotations": {} });
    assert_eq!(face.ask("PUT", "/system/namespace/shop", &changed).status, 202);
    assert_eq!(face.get("/system/namespace/shop").json(), changed);
    assert_eq!(face.get("/system/namespaces").json(), json!(["openfaas-fn", "shop"]));
    assert_eq!(face.get("/system/namespace/openfaas-fn").json()["name"], "openfaas-fn");
    let listed = face.server.json(&["namespace", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "one of them is ours by another name: {listed}");

    assert_eq!(face.ask("DELETE", "/system/namespace/shop", &Value::Null).status, 202);
    for (method, path) in [("GET", "/system/namespace/shop"), ("DELETE", "/system/namespace/shop")] {
        assert_eq!(refusal(&face.ask(method, path, &Value::Null)), (404, "namespace-not-found".into()));
    }
    assert_eq!(
        refusal(&face.ask("PUT", "/system/namespace/shop", &changed)),
        (404, "namespace-not-found".into())
    );
    let first = json!({ "name": "openfaas-fn" });
    assert_eq!(refusal(&face.ask("POST", "/system/namespace/", &first)), (409, "already-exists".into()));
}

#[test]
fn check_10_what_was_noted_of_a_namespace_survives_the_server() {
    let face = Face::bare();
    let sent = json!({ "name": "shop", "labels": { "openfaas": "1" } });
    face.ask("POST", "/system/namespace/", &sent);
    let face = face.killed();
    assert_eq!(face.get("/system/namespace/shop").json(), sent);
}

#[test]
fn check_10_one_name_in_two_namespaces_is_two_functions() {
    let face = Face::start();
    face.ask("POST", "/system/namespace/", &json!({ "name": "shop" }));
    let say = |text: &str| json!({ "envVars": { "fprocess": "", "SAYS": text } });
    face.deploy_mirror("f", say("here"));
    let mut there = deployment("f", say("there"));
    there["namespace"] = "shop".into();
    assert_eq!(face.deploy(&there), [404, 202]);
    let names = |query: &str| -> Vec<Value> {
        face.list(query).iter().map(|function| function["namespace"].clone()).collect()
    };
    assert_eq!(names(""), ["openfaas-fn"]);
    assert_eq!(names("?namespace=openfaas-fn"), ["openfaas-fn"]);
    assert_eq!(names("?namespace=shop"), ["shop"]);
    let shown =
        |query: &str| face.get(&format!("/system/function/f{query}")).json()["envVars"]["SAYS"].clone();
    assert_eq!((shown(""), shown("?namespace=shop")), (json!("here"), json!("there")));
    assert_eq!(ask(&face.server, "POST", "/function/f.shop", &[], b"").status, 200);

    let removal = json!({ "functionName": "f", "namespace": "shop" });
    assert_eq!(face.ask("DELETE", "/system/functions", &removal).status, 202);
    assert_eq!(ask(&face.server, "POST", "/function/f.shop", &[], b"").status, 404);
    assert_eq!(face.invoke("f", b"").status, 200);
}

#[test]
fn check_9_a_value_reaches_the_function_byte_for_byte() {
    let face = Face::start();
    let bytes: Vec<u8> = (0..=255).collect();
    face.ask("POST", "/system/secrets", &json!({ "name": "text", "value": "  hush\n" }));
    let raw = json!({ "name": "raw", "rawValue": BASE64.encode(&bytes) });
    let made = face.ask("POST", "/system/secrets", &raw);
    assert_eq!(made.status, 202, "{}", made.text());
    face.deploy_mirror("f", json!({ "secrets": ["text", "raw"] }));
    let read = |name: &str| ask(&face.server, "GET", &format!("/function/f/secret/{name}"), &[], b"").body;
    assert_eq!((read("text"), read("raw")), (b"  hush\n".to_vec(), bytes));
    face.ask("PUT", "/system/secrets", &json!({ "name": "text", "value": "new" }));
    // A function whose secret changed is started anew, and the old one serves until then.
    until("the new value", || (read("text") == b"new").then_some(()));
}
