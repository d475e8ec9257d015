//! Functions and apps: listed, shown, deployed, rolled back and removed.
//! Whole answers, as a client reads them.

use super::*;

#[tokio::test]
async fn a_function_is_listed_shown_rolled_back_and_removed() {
    let server = Server::open().await;
    let labelled =
        |value: &str| Settings { labels: [("team".into(), value.into())].into(), ..Settings::default() };
    server.deploy("hello", labelled("media")).await;
    server.clock.advance(Duration::from_secs(60));
    server.deploy("hello", labelled("web")).await;
    server.deploy("other", Settings::default()).await;

    server
        .check(
            "GET /v1/namespaces/default/functions/hello",
            "",
            expect![[r#"
                200
                {
                  "code": "wasm",
                  "contract": "component",
                  "created": "2026-01-31T12:00:00Z",
                  "digest": "0707070707070707070707070707070707070707070707070707070707070707",
                  "latest": 2,
                  "name": "hello",
                  "namespace": "default",
                  "path": "/function/hello",
                  "revision": 2,
                  "settings": {
                    "annotations": {},
                    "concurrency": 100,
                    "env": {},
                    "labels": {
                      "team": "web"
                    },
                    "log_rate": "1MiB",
                    "memory": "128MiB",
                    "outbound": [],
                    "private": false,
                    "queue": {
                      "age": "6h",
                      "attempts": 5,
                      "concurrency": 10,
                      "first_wait": "1s",
                      "longest_wait": "2m",
                      "retry_on": [
                        "429",
                        "5xx"
                      ]
                    },
                    "request_body": "1GiB",
                    "response_body": "1GiB",
                    "reuse": 0,
                    "route": [],
                    "secrets": [],
                    "stream_timeout": "30s",
                    "timeout": "30s",
                    "waiting": 1000
                  },
                  "stats": {
                    "calls": 0,
                    "errors": 0,
                    "in_flight": 0
                  },
                  "updated": "2026-01-31T12:01:00Z"
                }"#]],
        )
        .await;
    server
        .check(
            "GET /v1/namespaces/default/functions/helo",
            "",
            expect![[r#"
        404
        {
          "code": "function-not-found",
          "docs": "coracle explain function-not-found",
          "hint": "did you mean `hello`?",
          "message": "there is no function `helo` in the namespace `default`"
        }"#]],
        )
        .await;
    let names = async |query: &str| {
        let page = server.json(&format!("GET /v1/functions{query}"), "").await;
        let names: Vec<_> =
            page["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
        format!("{} next {}", serde_json::Value::from(names), page["next"])
    };
    assert_eq!(names("").await, r#"["hello","other"] next null"#);
    assert_eq!(names("?limit=1").await, r#"["hello"] next "hello.default""#);
    assert_eq!(names("?limit=1&after=hello.default").await, r#"["other"] next null"#);
    assert_eq!(names("?label=team%3Dweb").await, r#"["hello"] next null"#);
    assert_eq!(names("?label=team%3Dmedia").await, r#"[] next null"#);

    let revisions = async || {
        let page = server.json("GET /v1/namespaces/default/functions/hello/revisions", "").await;
        let shown = |item: &serde_json::Value| format!("{}:{}", item["number"], item["current"]);
        page["items"].as_array().unwrap().iter().map(shown).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(revisions().await, "2:true 1:false");
    let back = server.json("POST /v1/namespaces/default/functions/hello/rollback", "{}").await;
    assert_eq!((&back["revision"], &back["latest"]), (&1.into(), &2.into()));
    assert_eq!(revisions().await, "2:false 1:true");
    server
        .check(
            "POST /v1/namespaces/default/functions/hello/rollback",
            r#"{"revision": 9}"#,
            expect![[r#"
        404
        {
          "code": "revision-not-found",
          "docs": "coracle explain revision-not-found",
          "hint": "see the kept ones: coracle show hello",
          "message": "function `hello.default` has no revision 9"
        }"#]],
        )
        .await;
    server
        .check(
            "DELETE /v1/namespaces/default/functions/hello",
            "",
            expect![[r#"
        204
    "#]],
        )
        .await;
    assert_eq!(names("").await, r#"["other"] next null"#);
}

#[tokio::test]
async fn a_deploy_without_its_code_changes_nothing() {
    let server = Server::open().await;
    let spec = format!(r#"{{"artifact": "{}"}}"#, "0".repeat(64));
    server
        .check(
            "PUT /v1/namespaces/default/functions/hello",
            &spec,
            expect![[r#"
                404
                {
                  "code": "artifact-not-found",
                  "docs": "coracle explain artifact-not-found",
                  "hint": "send its bytes to `POST /v1/artifacts` first",
                  "message": "cannot deploy `hello`: the artifact 000000000000 is not uploaded"
                }"#]],
        )
        .await;
    let app = format!(r#"{{"functions": {{"hello": {spec}}}}}"#);
    server
        .check(
            "PUT /v1/namespaces/default/apps/shop",
            &app,
            expect![[r#"
                404
                {
                  "code": "artifact-not-found",
                  "docs": "coracle explain artifact-not-found",
                  "hint": "send its bytes to `POST /v1/artifacts` first",
                  "message": "cannot deploy `hello`: the artifact 000000000000 is not uploaded"
                }"#]],
        )
        .await;
    assert_eq!(server.admin.catalog.count(), 0);
}

#[tokio::test]
async fn an_app_is_shown_and_removed_as_a_whole() {
    let server = Server::open().await;
    let function = |name: &str| Deployment {
        name: name.parse().unwrap(),
        code: Code::Wasm(Digest::from_bytes([7; 32])),
        contract: Contract::Stdio,
        settings: Settings::default(),
    };
    let (namespace, app) = (NamespaceName::default(), Some("shop".parse().unwrap()));
    let functions = vec![function("a"), function("b")];
    server.admin.catalog.deploy(Deploy { namespace, app, functions }).await.unwrap();
    server
        .check(
            "GET /v1/namespaces/default/apps",
            "",
            expect![[r#"
        200
        {
          "items": [
            {
              "functions": [
                "a",
                "b"
              ],
              "name": "shop",
              "namespace": "default"
            }
          ]
        }"#]],
        )
        .await;
    server
        .check(
            "GET /v1/namespaces/default/apps/shop",
            "",
            expect![[r#"
        200
        {
          "functions": [
            "a",
            "b"
          ],
          "name": "shop",
          "namespace": "default"
        }"#]],
        )
        .await;
    server
        .check(
            "DELETE /v1/namespaces/default/apps/shop",
            "",
            expect![[r#"
        204
    "#]],
        )
        .await;
    server
        .check(
            "GET /v1/namespaces/default/apps/shop",
            "",
            expect![[r#"
        404
        {
          "code": "app-not-found",
          "docs": "coracle explain app-not-found",
          "hint": "`coracle list` shows the app of each function",
          "message": "there is no app `shop` in the namespace `default`"
        }"#]],
        )
        .await;
    assert_eq!(server.admin.catalog.count(), 0);
}
