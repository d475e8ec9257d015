//! What this face must refuse, each with the status that clients know and a body that explains.

use serde_json::{Value, json};

use crate::face::{Face, deployment, refusal};
use crate::wire;

/// Sends a deployment that must be refused with 400, and gives what was said.
fn refused(face: &Face, deployment: &Value) -> String {
    for method in ["POST", "PUT"] {
        let reply = face.ask(method, "/system/functions", deployment);
        if method == "PUT" && reply.status == 404 {
            continue;
        }
        assert_eq!(reply.status, 400, "{method} {deployment}: {}", reply.text());
        refusal(&reply);
    }
    face.ask("POST", "/system/functions", deployment).text()
}

#[test]
fn a_deploy_that_says_what_cannot_be_is_told_what_could() {
    let face = Face::start();
    let label =
        |name: &str, value: &str| json!({ "labels": { (format!("com.openfaas.scale.{name}")): value } });
    let both = json!({ "labels": { "com.openfaas.scale.min": "9", "com.openfaas.scale.max": "3" } });
    let table = [
        (json!({ "limits": { "memory": "lots" } }), "lots"),
        (json!({ "limits": { "cpu": "-1" } }), "-1"),
        (both, "com.openfaas.scale.min"),
        (label("max", "100000"), "com.openfaas.scale.max"),
        (label("factor", "500"), "com.openfaas.scale.factor"),
        (label("min", "some"), "some"),
        (json!({ "namespace": "nowhere" }), "nowhere"),
        (json!({ "secrets": ["gone"] }), "gone"),
        (json!({ "envVars": { "mode": "static" , "fprocess": "x" } }), "static"),
    ];
    for (more, named) in table {
        let said = refused(&face, &deployment("f", more));
        assert!(said.contains(named), "{named}: {said}");
    }
    for name in ["Bad_Name!", "", "-f", "f-", "f.g", &"f".repeat(64)] {
        refused(&face, &deployment(name, Value::Null));
    }
    assert_eq!(face.list(""), [] as [Value; 0]);
    face.deploy_mirror("still", label("factor", "0"));
    let alert = json!({ "alerts": [{ "status": "firing", "labels": { "function_name": "still" } }] });
    let said = face.ask("POST", "/system/alert", &alert).text();
    assert!(said.contains("as before"), "a factor of 0 moves nothing: {said}");
}

#[test]
fn an_image_that_is_nowhere_is_no_reason_to_create_the_function() {
    let face = Face::start();
    face.deploy_mirror("f", Value::Null);
    // Bound, and never listened on: nobody else gets it meanwhile.
    let taken =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&taken, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = std::net::SocketAddr::try_from(rustix::net::getsockname(&taken).unwrap()).unwrap().port();
    let mut gone = deployment("f", Value::Null);
    for (image, status) in [(format!("127.0.0.1:{port}/gone:1"), 502), ("Not An Image".to_owned(), 400)] {
        gone["image"] = image.into();
        let reply = face.ask("PUT", "/system/functions", &gone);
        assert_eq!(reply.status, status, "{}", reply.text());
        refusal(&reply);
    }
    assert_eq!(face.invoke("f", b"").status, 200, "it is as it was");
}

#[test]
fn a_log_that_is_not_there_or_not_asked_for_rightly_is_refused() {
    let face = Face::bare();
    face.server.deploy("hello");
    let table = [
        ("name=none&follow=1", 404, "function-not-found"),
        ("", 422, "bad-request"),
        ("name=hello&tail=many", 422, "bad-request"),
        ("name=hello&since=yesterday", 422, "bad-request"),
        ("name=hello&follow=perhaps", 422, "bad-request"),
        ("name=hello&instance=hello-x7", 422, "bad-request"),
    ];
    for (query, status, code) in table {
        let reply = face.get(&format!("/system/logs?{query}"));
        assert_eq!(refusal(&reply), (status, code.into()), "{query}: {}", reply.text());
    }
}

#[test]
fn no_namespace_of_ours_takes_the_name_of_the_first_one_there() {
    let face = Face::bare();
    let created = face.server.run(&["namespace", "create", "openfaas-fn"]);
    assert_eq!(created.code, 1);
    assert!(created.stderr.starts_with("error[invalid-name]:"), "{}", created.stderr);
}

#[test]
fn what_belongs_to_an_admin_is_refused_to_others() {
    let face = Face::bare();
    face.server.deploy("hello");
    let call =
        face.server.json(&["token", "create", "--scope", "call"])["token"].as_str().unwrap().to_owned();
    let routes = [
        ("GET", "/system/functions", ""),
        ("POST", "/system/functions", r#"{"service":"f","image":"x"}"#),
        ("PUT", "/system/functions", r#"{"service":"hello","image":"x"}"#),
        ("DELETE", "/system/functions", r#"{"functionName":"hello"}"#),
        ("GET", "/system/function/hello", ""),
        ("POST", "/system/scale-function/hello", r#"{"serviceName":"hello","replicas":1}"#),
        ("GET", "/system/namespaces", ""),
        ("POST", "/system/namespace/", r#"{"name":"shop"}"#),
        ("GET", "/system/namespace/openfaas-fn", ""),
        ("DELETE", "/system/namespace/openfaas-fn", ""),
        ("GET", "/system/secrets", ""),
        ("POST", "/system/secrets", r#"{"name":"s","value":"x"}"#),
        ("DELETE", "/system/secrets", r#"{"name":"s"}"#),
        ("GET", "/system/logs?name=hello", ""),
        ("POST", "/system/alert", r#"{"alerts":[]}"#),
    ];
    for (method, path, body) in routes {
        let nobody = wire::ask(&face.server, method, path, &[], body.as_bytes());
        assert_eq!(refusal(&nobody), (401, "unauthenticated".into()), "{method} {path}");
        let header = wire::bearer(&call);
        let caller = wire::ask(&face.server, method, path, &[("authorization", &header)], body.as_bytes());
        assert_eq!(refusal(&caller), (403, "forbidden".into()), "{method} {path}");
    }
}
