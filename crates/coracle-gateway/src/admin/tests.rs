//! The API as its clients see it: a real router over a real catalog, store and runtime, in a directory that goes away.
//! Text in, text out; nothing is compiled here, so deploys of real code are tested with the binary.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use coracle_catalog::{Catalog, Deploy, Deployment, SecretKey};
use coracle_invoke::Invoke;
use coracle_model::{
    CallId, Code, Contract, Digest, FunctionRef, NamespaceName, Reach, Scope, SecretName, Settings,
};
use coracle_observe::Observe;
use coracle_observe::calls::{CallRecord, End};
use coracle_observe::clock::Simulated;
use coracle_observe::logs::{Limits, Line, Stream};
use coracle_runtime::{Bounds, Host, Printed, Runtime, Secret};
use coracle_store::{Artifacts, DataDir, Database, Embedded};
use expect_test::{Expect, expect};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tempfile::TempDir;
use tower_service::Service;

use super::*;
use crate::Authenticator;

/// The largest upload of these tests.
const UPLOAD_BYTES_MAX: u64 = 1_000;

/// What no guest asks here.
#[derive(Debug)]
struct NoHost;

impl Host for NoHost {
    fn log(&self, _: Printed) {}
    fn denied(&self, _: &FunctionRef) {}
    fn secret(&self, _: &NamespaceName, _: &SecretName) -> Option<Secret> {
        None
    }
}

struct Server {
    admin: Admin,
    router: Router,
    clock: Arc<Simulated>,
    token: String,
    dir: TempDir,
}

impl Server {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("data")).unwrap();
        let clock = Arc::new(Simulated::new("2026-01-31T12:00:00Z".parse().unwrap()));
        let artifacts = Artifacts::open(&data.artifacts()).unwrap();
        let database = Arc::new(Embedded::open(&data.database()).unwrap());
        let observe = Observe::open(&data.logs(), Limits::default(), clock.clone()).unwrap();
        let key = SecretKey::load_or_create(&data.key()).unwrap();
        let catalog =
            Catalog::open(Arc::clone(&database) as Arc<dyn Database>, key, clock.clone()).await.unwrap();
        let bounds = Bounds { instances: 1, ..Bounds::default() };
        // No code is compiled, so that no program has to do it.
        let program = dir.path().join("no-compiler");
        let runtime =
            Runtime::open(bounds, artifacts.clone(), &data.cache(), program, Arc::new(NoHost), clock.clone())
                .unwrap();
        let admin = Admin {
            invoke: Invoke::new(catalog.clone(), runtime.clone(), observe.clone(), 1, 0),
            authenticator: Authenticator::new(catalog.clone()),
            catalog,
            runtime,
            observe,
            artifacts,
            database,
            data: Arc::new(data),
            upload_bytes_max: UPLOAD_BYTES_MAX,
        };
        let (_, token) = admin.catalog.mint("tests", Scope::Admin, Reach::All, None).await.unwrap();
        Self { router: admin.clone().router(), admin, clock, token, dir }
    }

    async fn mint(&self, scope: Scope, reach: Reach) -> String {
        self.admin.catalog.mint("", scope, reach, None).await.unwrap().1
    }

    /// Deploys a function whose code nobody will look at.
    async fn deploy(&self, function: &str, settings: Settings) {
        let function = FunctionRef::parse(function).unwrap();
        let code = Code::Wasm(Digest::from_bytes([7; 32]));
        let functions =
            vec![Deployment { name: function.name, code, contract: Contract::Component, settings }];
        self.admin
            .catalog
            .deploy(Deploy { namespace: function.namespace, app: None, functions })
            .await
            .unwrap();
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        let Ok(response) = self.router.clone().call(request).await;
        response
    }

    /// Asks as the holder of a token; an empty one is nobody.
    async fn ask(&self, token: &str, line: &str, body: impl Into<Body>) -> (StatusCode, String) {
        let response = self.send(request(token, line, body.into())).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Asks as the admin, and compares status and body.
    async fn check(&self, line: &str, body: &str, expected: Expect) {
        let (status, body) = self.ask(&self.token, line, body.to_owned()).await;
        let body = match serde_json::from_str::<serde_json::Value>(&body) {
            Ok(json) => serde_json::to_string_pretty(&json).unwrap(),
            Err(_) => body,
        };
        expected.assert_eq(&format!("{}\n{body}", status.as_u16()));
    }

    async fn json(&self, line: &str, body: &str) -> serde_json::Value {
        let (status, body) = self.ask(&self.token, line, body.to_owned()).await;
        assert!(status.is_success(), "{line}: {status} {body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// A request of a line such as `GET /v1/status`.
fn request(token: &str, line: &str, body: Body) -> Request<Body> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(body).unwrap()
}

fn in_shop() -> Reach {
    Reach::Namespace(NamespaceName::parse("shop").unwrap())
}

fn only_hello() -> Reach {
    Reach::Function(FunctionRef::parse("hello.shop").unwrap())
}

#[tokio::test]
async fn the_document_and_the_routes_name_the_same_operations() {
    let started = server::Started::now(&Simulated::new("2026-01-31T12:00:00Z".parse().unwrap()));
    let mut routed: Vec<_> = routes(started)
        .into_iter()
        .filter(|(_, path, _)| path.starts_with("/v1/"))
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    let mut documented: Vec<_> =
        coracle_api::operations().into_iter().map(|(method, path)| format!("{method} {path}")).collect();
    routed.sort();
    documented.sort();
    assert_eq!(routed, documented);
}

#[tokio::test]
async fn nobody_gets_anything_but_the_document_without_a_token() {
    let server = Server::open().await;
    for (method, path) in coracle_api::operations() {
        let path = path.replace("{digest}", &"0".repeat(64)).replace(['{', '}'], "");
        let (status, body) = server.ask("", &format!("{method} {path}"), "{}").await;
        let expected = if path == "/v1/openapi.json" { 200 } else { 401 };
        assert_eq!(status.as_u16(), expected, "{method} {path}: {body}");
    }
    assert_eq!(server.ask("", "GET /healthz", "").await, (StatusCode::OK, "ok\n".to_owned()));
    assert_eq!(server.ask("", "GET /metrics", "").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_reaches_what_it_names_and_nothing_beside() {
    let server = Server::open().await;
    server.admin.catalog.create_namespace(&NamespaceName::parse("shop").unwrap()).await.unwrap();
    server.deploy("hello.shop", Settings::default()).await;
    let tokens = [
        server.mint(Scope::Call, Reach::All).await,
        server.mint(Scope::Deploy, only_hello()).await,
        server.mint(Scope::Deploy, in_shop()).await,
        server.mint(Scope::Deploy, Reach::All).await,
        server.mint(Scope::Admin, in_shop()).await,
        server.token.clone(),
    ];
    let table = [
        ("GET /v1/whoami", [200, 200, 200, 200, 200, 200]),
        ("GET /v1/status", [200, 200, 200, 200, 200, 200]),
        ("GET /v1/functions", [403, 200, 200, 200, 200, 200]),
        ("GET /v1/functions?namespace=default", [403, 200, 403, 200, 403, 200]),
        ("GET /v1/namespaces/shop/functions/hello", [403, 200, 200, 200, 200, 200]),
        ("GET /v1/namespaces/shop/functions/hello/revisions", [403, 200, 200, 200, 200, 200]),
        ("GET /v1/namespaces/shop/functions/other", [403, 403, 404, 404, 404, 404]),
        ("GET /v1/namespaces/default/functions/hello", [403, 403, 403, 404, 403, 404]),
        ("GET /v1/namespaces/shop/apps", [403, 403, 200, 200, 200, 200]),
        ("GET /v1/namespaces/shop/secrets", [403, 403, 200, 200, 200, 200]),
        ("GET /v1/namespaces/default/secrets", [403, 403, 403, 200, 403, 200]),
        ("GET /v1/calls", [403, 200, 200, 200, 200, 200]),
        ("GET /v1/calls?namespace=default", [403, 403, 403, 200, 403, 200]),
        ("GET /v1/logs?function=hello", [403, 200, 200, 200, 200, 200]),
        ("GET /v1/logs?namespace=default", [403, 403, 403, 200, 403, 200]),
        ("GET /v1/namespaces", [403, 200, 200, 200, 200, 200]),
        ("PUT /v1/namespaces/more", [403, 403, 403, 403, 403, 201]),
        ("GET /v1/tokens", [403, 403, 403, 403, 403, 200]),
        ("POST /v1/backup", [403, 403, 403, 403, 403, 200]),
        ("GET /metrics", [200, 403, 403, 200, 403, 200]),
    ];
    for (line, expected) in table {
        for (token, expected) in tokens.iter().zip(expected) {
            let function =
                server.admin.authenticator.principal(request(token, line, Body::empty()).headers()).unwrap();
            let (status, body) = server.ask(token, line, "").await;
            // The default namespace has no `hello`, so that all of its log and function lines are empty there.
            assert_eq!(status.as_u16(), expected, "{line} as {function:?}: {body}");
        }
    }
}

#[tokio::test]
async fn a_list_shows_what_the_token_reaches() {
    let server = Server::open().await;
    server.admin.catalog.create_namespace(&NamespaceName::parse("shop").unwrap()).await.unwrap();
    for function in ["hello", "hello.shop", "other.shop"] {
        server.deploy(function, Settings::default()).await;
    }
    let listed = async |reach, line: &str| {
        let token = server.mint(Scope::Deploy, reach).await;
        let (_, body) = server.ask(&token, line, "").await;
        let page: serde_json::Value = serde_json::from_str(&body).unwrap();
        let name =
            |item: &serde_json::Value| item["path"].as_str().or(item["name"].as_str()).unwrap().to_owned();
        page["items"].as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        listed(Reach::All, "GET /v1/functions").await,
        "/function/hello /function/hello.shop /function/other.shop"
    );
    assert_eq!(listed(in_shop(), "GET /v1/functions").await, "/function/hello.shop /function/other.shop");
    assert_eq!(listed(only_hello(), "GET /v1/functions").await, "/function/hello.shop");
    assert_eq!(listed(only_hello(), "GET /v1/functions?namespace=default").await, "");
    assert_eq!(listed(Reach::All, "GET /v1/namespaces").await, "default shop");
    assert_eq!(listed(only_hello(), "GET /v1/namespaces").await, "shop");
}

#[tokio::test]
async fn every_wrong_request_is_told_what_is_wrong() {
    let server = Server::open().await;
    server
        .check(
            "GET /v1/function",
            "",
            expect![[r#"
        404
        {
          "code": "route-not-found",
          "docs": "coracle explain route-not-found",
          "hint": "did you mean `/v1/functions`?",
          "message": "there is no `/v1/function` in this API"
        }"#]],
        )
        .await;
    server
        .check(
            "GET /v1/namespaces/default/functions/a%2Fb",
            "",
            expect![[r#"
        400
        {
          "code": "invalid-name",
          "docs": "coracle explain invalid-name",
          "message": "`a/b` is not a name of a function: a name is 1 to 64 of the characters A-Z a-z 0-9 _ -"
        }"#]],
        )
        .await;
    server.check("GET /v1/functions?limt=3", "", expect![[r#"
        400
        {
          "code": "bad-request",
          "docs": "coracle explain bad-request",
          "hint": "did you mean `limit`?",
          "message": "the query is not what was expected: unknown parameter `limt`, expected one of `namespace`, `app`, `label`, `after`, `limit`"
        }"#]]).await;
    server
        .check(
            "GET /v1/functions?limit=0",
            "",
            expect![[r#"
        400
        {
          "code": "bad-request",
          "docs": "coracle explain bad-request",
          "hint": "go on with `after`, which is the `next` of the page before",
          "message": "`limit` is 0; it may be 1 to 1000"
        }"#]],
        )
        .await;
    server
        .check(
            "GET /v1/functions?label=team",
            "",
            expect![[r#"
        400
        {
          "code": "bad-request",
          "docs": "coracle explain bad-request",
          "hint": "write it as `KEY=VALUE`",
          "message": "the label `team` has no value"
        }"#]],
        )
        .await;
    server.check("PUT /v1/namespaces/default/functions/hello", "{\n  \"artefact\": 1\n}", expect![[r#"
        400
        {
          "code": "bad-request",
          "docs": "coracle explain bad-request",
          "hint": "did you mean `artifact`?",
          "message": "the body is not what was expected: unknown field `artefact`, expected one of `artifact`, `env`, `secrets`, `outbound`, `memory`, `timeout`, `stream_timeout`, `concurrency`, `waiting`, `request_body`, `response_body`, `log_rate`, `reuse`, `route`, `private`, `content_type`, `labels`, `annotations` at line 2 column 12"
        }"#]]).await;
    server
        .check(
            "PUT /v1/namespaces/default/functions/hello",
            "{",
            expect![[r#"
        400
        {
          "code": "bad-request",
          "docs": "coracle explain bad-request",
          "message": "the body is not what was expected: EOF while parsing an object at line 1 column 1"
        }"#]],
        )
        .await;
    server
        .check(
            "POST /v1/tokens",
            &"x".repeat(coracle_api::JSON_BYTES_MAX + 1),
            expect![[r#"
        413
        {
          "code": "request-too-large",
          "docs": "coracle explain request-too-large",
          "hint": "code is uploaded to `/v1/artifacts`, and named here by its digest",
          "message": "the body has more than 1048576 bytes"
        }"#]],
        )
        .await;
    server
        .check(
            "GET /v1/artifacts/xyz",
            "",
            expect![[r#"
        400
        {
          "code": "bad-request",
          "docs": "coracle explain bad-request",
          "message": "`xyz`: a digest is 64 hexadecimal digits"
        }"#]],
        )
        .await;
    server
        .check(
            "GET /v1/calls/order%2F17",
            "",
            expect![[r#"
        404
        {
          "code": "call-not-found",
          "docs": "coracle explain call-not-found",
          "hint": "`coracle logs --call` may still know it",
          "message": "the call `order/17` is not among the last ones"
        }"#]],
        )
        .await;
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let server = Server::open().await;
    let response = server.send(request(&server.token, "PATCH /v1/tokens", Body::empty())).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()["x-coracle-error"], "method-not-allowed");
    assert_eq!(response.headers()["allow"], "GET,HEAD,POST");
    assert!(!response.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn a_client_that_prefers_text_gets_text() {
    let server = Server::open().await;
    let mut asked = request("cor_wrong", "GET /v1/status", Body::empty());
    asked.headers_mut().insert("accept", "text/plain".parse().unwrap());
    let response = server.send(asked).await;
    assert_eq!(response.headers()["www-authenticate"], r#"Basic realm="coracle", Bearer"#);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"error: the token is not known here\nhint: "), "{body:?}");
}

#[tokio::test]
async fn a_token_is_taken_as_the_password_of_any_user() {
    use base64::Engine;
    let server = Server::open().await;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("admin:{}", server.token));
    let mut asked = request("", "GET /v1/whoami", Body::empty());
    asked.headers_mut().insert("authorization", format!("Basic {pair}").parse().unwrap());
    assert_eq!(server.send(asked).await.status(), StatusCode::OK);
}

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

#[tokio::test]
async fn an_upload_is_kept_whole_or_not_at_all() {
    let server = Server::open().await;
    let files = || std::fs::read_dir(server.dir.path().join("data/artifacts")).unwrap().count();
    server
        .check(
            "POST /v1/artifacts",
            "abc",
            expect![[r#"
        201
        {
          "digest": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
          "size": 3
        }"#]],
        )
        .await;
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    server
        .check(
            &format!("GET /v1/artifacts/{abc}"),
            "",
            expect![[r#"
        200
        {
          "digest": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
          "size": 3
        }"#]],
        )
        .await;
    server
        .check(
            &format!("GET /v1/artifacts/{}", "0".repeat(64)),
            "",
            expect![[r#"
                404
                {
                  "code": "artifact-not-found",
                  "docs": "coracle explain artifact-not-found",
                  "hint": "send its bytes to `POST /v1/artifacts` first",
                  "message": "the artifact 000000000000 is not uploaded"
                }"#]],
        )
        .await;
    assert_eq!(files(), 1);

    // Over the bound: told by its length before anything is read, and found on the way.
    let mut told = request(&server.token, "POST /v1/artifacts", Body::from("abc"));
    told.headers_mut().insert("content-length", "1001".parse().unwrap());
    assert_eq!(server.send(told).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let large = "x".repeat(1_001);
    server
        .check(
            "POST /v1/artifacts",
            &large,
            expect![[r#"
        413
        {
          "code": "request-too-large",
          "docs": "coracle explain request-too-large",
          "hint": "build without debug information; whoever runs the server can raise the bound",
          "message": "the upload has more than 1000B"
        }"#]],
        )
        .await;
    let pieces = large.as_bytes().chunks(100).map(bytes::Bytes::copy_from_slice).collect::<Vec<_>>();
    let pieces = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let body = Body::new(StreamBody::new(futures_util::stream::iter(pieces)));
    assert_eq!(server.ask(&server.token, "POST /v1/artifacts", body).await.0, StatusCode::PAYLOAD_TOO_LARGE);

    let broken = [Ok(Frame::data("half".into())), Err(std::io::Error::other("the client went away"))];
    let body = Body::new(StreamBody::new(futures_util::stream::iter(broken)));
    let (status, text) = server.ask(&server.token, "POST /v1/artifacts", body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    assert!(text.contains("ended before its end"), "{text}");
    assert_eq!(files(), 1);
}

#[tokio::test]
async fn an_upload_that_never_comes_is_given_up() {
    let server = Server::open().await;
    tokio::time::pause();
    for line in ["POST /v1/artifacts", "POST /v1/tokens"] {
        let waiting = Arc::new(tokio::sync::Notify::new());
        let asked = Arc::clone(&waiting);
        let never = futures_util::stream::poll_fn(move |_| {
            asked.notify_one();
            std::task::Poll::<Option<Result<Frame<bytes::Bytes>, Infallible>>>::Pending
        });
        // Time is moved by hand: it does not pass by itself while a thread waits to write.
        let later = async {
            waiting.notified().await;
            tokio::time::advance(Duration::from_secs(31)).await;
        };
        let ((status, _), ()) =
            tokio::join!(server.ask(&server.token, line, Body::new(StreamBody::new(never))), later);
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{line}");
    }
}

#[tokio::test]
async fn a_secret_goes_in_and_never_comes_back() {
    let server = Server::open().await;
    let path = "/v1/namespaces/default/secrets";
    server
        .check(
            &format!("PUT {path}/api-key"),
            r#"{"value": "hunter2"}"#,
            expect![[r#"
        204
    "#]],
        )
        .await;
    server
        .check(
            &format!("PUT {path}/other"),
            r#"{"value_base64": "aHVudGVyMg=="}"#,
            expect![[r#"
        204
    "#]],
        )
        .await;
    let revealed = |name: &str| {
        let secret = server.admin.catalog.reveal(&NamespaceName::default(), &name.parse().unwrap());
        String::from_utf8(secret.unwrap().expose().to_vec()).unwrap()
    };
    assert_eq!((revealed("api-key").as_str(), revealed("other").as_str()), ("hunter2", "hunter2"));
    server
        .check(
            &format!("GET {path}"),
            "",
            expect![[r#"
        200
        {
          "items": [
            {
              "name": "api-key",
              "updated": "2026-01-31T12:00:00Z"
            },
            {
              "name": "other",
              "updated": "2026-01-31T12:00:00Z"
            }
          ]
        }"#]],
        )
        .await;
    server
        .check(
            &format!("PUT {path}/other"),
            r#"{"value_base64": "hunter2!"}"#,
            expect![[r#"
        400
        {
          "code": "bad-request",
          "docs": "coracle explain bad-request",
          "hint": "or send text as `value`",
          "message": "`value_base64` is not Base64"
        }"#]],
        )
        .await;
    server
        .check(
            &format!("DELETE {path}/other"),
            "",
            expect![[r#"
        204
    "#]],
        )
        .await;
    server
        .check(
            &format!("DELETE {path}/other"),
            "",
            expect![[r#"
        404
        {
          "code": "secret-not-found",
          "docs": "coracle explain secret-not-found",
          "hint": "coracle secret list",
          "message": "namespace `default` has no secret `other`"
        }"#]],
        )
        .await;
}

#[tokio::test]
async fn a_token_is_shown_once_and_opens_nothing_after_its_time() {
    let server = Server::open().await;
    let request = r#"{"label": "ci", "scope": "deploy", "function": "hello", "expires_in": "1h"}"#;
    let created = server.json("POST /v1/tokens", request).await;
    let (token, id) = (created["token"].as_str().unwrap(), created["id"].as_str().unwrap());
    assert_eq!(server.ask(token, "GET /v1/whoami", "").await.0, StatusCode::OK);
    let (_, listed) = server.ask(&server.token, "GET /v1/tokens", "").await;
    assert!(listed.contains(id) && !listed.contains(token), "{listed}");
    server.clock.advance(Duration::from_secs(3600));
    let (status, body) = server.ask(token, "GET /v1/whoami", "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body.contains("the token has expired"), "{body}");

    let other = server.json("POST /v1/tokens", r#"{"scope": "call"}"#).await;
    let (token, id) = (other["token"].as_str().unwrap(), other["id"].as_str().unwrap());
    assert_eq!(server.ask(token, "GET /v1/whoami", "").await.0, StatusCode::OK);
    assert_eq!(
        server.ask(&server.token, &format!("DELETE /v1/tokens/{id}"), "").await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(server.ask(token, "GET /v1/whoami", "").await.0, StatusCode::UNAUTHORIZED);
    server
        .check(
            &format!("DELETE /v1/tokens/{id}"),
            "",
            expect![[r#"
        404
        {
          "code": "token-not-found",
          "docs": "coracle explain token-not-found",
          "hint": "coracle token list",
          "message": "there is no token of this id"
        }"#]],
        )
        .await;
}

#[tokio::test]
async fn a_namespace_put_twice_is_put_once() {
    let server = Server::open().await;
    server
        .check(
            "PUT /v1/namespaces/shop",
            "",
            expect![[r#"
        201
        {
          "created": "2026-01-31T12:00:00Z",
          "functions": 0,
          "name": "shop"
        }"#]],
        )
        .await;
    assert_eq!(server.ask(&server.token, "PUT /v1/namespaces/shop", "").await.0, StatusCode::OK);
    server.deploy("hello.shop", Settings::default()).await;
    server
        .check(
            "DELETE /v1/namespaces/shop",
            "",
            expect![[r#"
        409
        {
          "code": "namespace-not-empty",
          "docs": "coracle explain namespace-not-empty",
          "hint": "remove them first",
          "message": "namespace `shop` has 1 functions and 0 secrets"
        }"#]],
        )
        .await;
    server.admin.catalog.remove(&FunctionRef::parse("hello.shop").unwrap()).await.unwrap();
    server
        .check(
            "DELETE /v1/namespaces/shop",
            "",
            expect![[r#"
        204
    "#]],
        )
        .await;
}

#[tokio::test]
async fn the_last_calls_are_shown_with_how_they_ended() {
    let server = Server::open().await;
    let call = |id: &str, end| CallRecord {
        id: CallId::parse(id).unwrap(),
        function: FunctionRef::parse("hello.shop").unwrap(),
        revision: 3,
        method: http::Method::GET,
        path: "/thumb".into(),
        status: 200,
        started: "2026-01-31T12:00:00Z".parse().unwrap(),
        waited_us: 1,
        started_us: 20,
        run_us: 300,
        total_us: 321,
        cold: true,
        bytes_in: 4,
        bytes_out: 5,
        memory_peak_bytes: 65_536,
        end,
    };
    server.admin.observe.calls.record(call("good", End::Ok));
    let failed = End::Failed { code: "guest-trapped".into(), message: "`hello` crashed".into() };
    server.admin.observe.calls.record(call("bad", failed));
    server
        .check(
            "GET /v1/calls/good",
            "",
            expect![[r#"
        200
        {
          "bytes_in": 4,
          "bytes_out": 5,
          "cold": true,
          "function": "hello.shop",
          "id": "good",
          "memory_bytes": 65536,
          "method": "GET",
          "outcome": "ok",
          "path": "/thumb",
          "revision": 3,
          "run_us": 300,
          "start_us": 20,
          "started": "2026-01-31T12:00:00Z",
          "status": 200,
          "total_us": 321,
          "waited_us": 1
        }"#]],
        )
        .await;
    server
        .check(
            "GET /v1/calls?failed=true&limit=1",
            "",
            expect![[r#"
        200
        {
          "items": [
            {
              "bytes_in": 4,
              "bytes_out": 5,
              "cold": true,
              "function": "hello.shop",
              "hint": "coracle explain guest-trapped",
              "id": "bad",
              "memory_bytes": 65536,
              "message": "`hello` crashed",
              "method": "GET",
              "outcome": "guest-trapped",
              "path": "/thumb",
              "revision": 3,
              "run_us": 300,
              "start_us": 20,
              "started": "2026-01-31T12:00:00Z",
              "status": 200,
              "total_us": 321,
              "waited_us": 1
            }
          ]
        }"#]],
        )
        .await;
    let elsewhere = server.mint(Scope::Deploy, Reach::Namespace(NamespaceName::default())).await;
    let (status, body) = server.ask(&elsewhere, "GET /v1/calls/good", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    assert_eq!(server.ask(&elsewhere, "GET /v1/calls", "").await.1, r#"{"items":[]}"#);
}

fn line(at: &str, text: &str) -> Line {
    Line {
        at: at.parse().unwrap(),
        function: FunctionRef::parse("hello").unwrap(),
        revision: 1,
        instance: 2,
        call: CallId::parse("order-17"),
        stream: Stream::Stdout,
        text: text.into(),
    }
}

#[tokio::test]
async fn logs_are_read_from_their_end_and_from_a_time() {
    let server = Server::open().await;
    let logs = &server.admin.observe.logs;
    for (at, text) in
        [("2026-01-31T11:50:00Z", "one"), ("2026-01-31T11:58:00Z", "two"), ("2026-01-31T11:59:00Z", "three")]
    {
        logs.write(line(at, text));
    }
    let texts = async |query: &str| {
        let (status, body) = server.ask(&server.token, &format!("GET /v1/logs{query}"), "").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let lines = body.lines().map(|line| serde_json::from_str::<coracle_api::LogLine>(line).unwrap().text);
        lines.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(texts("").await, "one two three");
    assert_eq!(texts("?tail=1").await, "three");
    assert_eq!(texts("?since=5m").await, "two three");
    assert_eq!(texts("?since=5m&tail=1").await, "three");
    assert_eq!(texts("?since=2026-01-31T11:59:00Z").await, "three");
    assert_eq!(texts("?function=hello&call=order-17&stream=stdout").await, "one two three");
    assert_eq!(texts("?stream=stderr").await, "");
    assert_eq!(texts("?function=other").await, "");
    server
        .check(
            "GET /v1/logs?tail=1",
            "",
            expect![[r#"
        200
        {
          "call": "order-17",
          "function": "hello.default",
          "instance": 2,
          "revision": 1,
          "stream": "stdout",
          "text": "three",
          "time": "2026-01-31T11:59:00Z"
        }"#]],
        )
        .await;
    server.check("GET /v1/logs?since=yesterday", "", expect![[r#"
        400
        {
          "code": "bad-request",
          "docs": "coracle explain bad-request",
          "message": "the query is not what was expected: `yesterday` is neither a time as `2026-01-31T12:00:00Z` nor a span as `5m`"
        }"#]]).await;
}

#[tokio::test]
async fn a_reader_who_follows_sees_each_line_once() {
    let server = Server::open().await;
    let logs = server.admin.observe.logs.clone();
    for (query, minute) in [("?follow=true&tail=5", 50), ("?follow=true&since=1h", 52)] {
        logs.write(line(&format!("2026-01-31T11:{minute}:00Z"), "before"));
        let response =
            server.send(request(&server.token, &format!("GET /v1/logs{query}"), Body::empty())).await;
        let mut body = response.into_body();
        let mut next = async || {
            let frame = body.frame().await.unwrap().unwrap();
            String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
        };
        let before = next().await;
        assert!(before.contains("before"), "{before}");
        logs.write(line(&format!("2026-01-31T11:{}:00Z", minute + 1), "after"));
        let after = next().await;
        assert_eq!((after.lines().count(), after.contains(r#""text":"after""#)), (1, true), "{after}");
    }
}

#[tokio::test]
async fn a_backup_is_a_file_and_leaves_none_behind() {
    let server = Server::open().await;
    let response = server.send(request(&server.token, "POST /v1/backup", Body::empty())).await;
    let length = response.headers()["content-length"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(length, body.len().to_string());
    let file = server.dir.path().join("backup");
    std::fs::write(&file, &body).unwrap();
    DataDir::restore(&file, &server.dir.path().join("restored")).unwrap();
    let left = std::fs::read_dir(server.dir.path().join("data")).unwrap();
    let left: Vec<_> = left.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains("backup")), "{left:?}");
}

#[tokio::test]
async fn the_status_shows_its_inside_to_an_admin_only() {
    let server = Server::open().await;
    server.clock.advance(Duration::from_secs(90));
    let status = server.json("GET /v1/status", "").await;
    assert_eq!((&status["uptime_s"], &status["namespaces"]), (&90.into(), &1.into()));
    assert_eq!(status["details"]["instances_max"], 1);
    let token = server.mint(Scope::Deploy, Reach::All).await;
    let (_, body) = server.ask(&token, "GET /v1/status", "").await;
    assert!(!body.contains("details"), "{body}");
}

/// Serves the routes on a port of their own; gives the URL.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let router = router.clone();
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                router.clone().call(request.map(Body::new))
            });
            let io = hyper_util::rt::TokioIo::new(io);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    url
}

#[tokio::test]
async fn the_client_and_the_routes_understand_each_other() {
    let server = Server::open().await;
    let client = coracle_api::Client::new(&serve(server.router.clone()).await, Some(&server.token)).unwrap();
    let file = server.dir.path().join("abc");
    std::fs::write(&file, "abc").unwrap();
    let uploaded = client.upload(&file, |_| ()).await.unwrap();
    assert_eq!(client.artifact(&uploaded.digest).await.unwrap(), Some(uploaded));
    assert_eq!(client.artifact(&Digest::from_bytes([0; 32])).await.unwrap(), None);
    assert_eq!(client.whoami().await.unwrap().scope, Some(Scope::Admin));
    assert_eq!(client.status().await.unwrap().functions, 0);

    let mut settings = Settings::default();
    settings.env.insert("LEVEL".into(), "info".into());
    let function = FunctionRef::parse("hello").unwrap();
    server.deploy("hello", settings.clone()).await;
    server.deploy("other", Settings::default()).await;
    assert_eq!(client.function(&function).await.unwrap().settings, (&settings).into());
    let by_one = coracle_api::FunctionQuery { limit: Some(1), ..Default::default() };
    assert_eq!(client.functions_all(&by_one).await.unwrap().len(), 2);
    assert_eq!(client.revisions(&function).await.unwrap()[0].number, 1);
    client.remove(&function).await.unwrap();
    assert!(matches!(client.function(&function).await, Err(coracle_api::ClientError::Problem(_))));

    let request = coracle_api::TokenRequest {
        label: "ci".into(),
        scope: Scope::Call,
        namespace: None,
        function: None,
        expires_in: None,
    };
    let created = client.create_token(&request).await.unwrap();
    assert!(client.tokens().await.unwrap().contains(&created.view));
    client.revoke_token(&created.view.id).await.unwrap();

    server.admin.observe.logs.write(line("2026-01-31T11:59:00Z", "hi"));
    let query = coracle_api::LogQuery { follow: true, ..Default::default() };
    let mut lines = client.logs(&query).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().text, "hi");
}

/// Larger than what the sockets between them hold, so that the server answers while the client still sends.
#[tokio::test]
async fn a_client_that_uploads_too_much_reads_why() {
    let mut server = Server::open().await;
    server.admin.upload_bytes_max = 8 << 20;
    let url = serve(server.admin.clone().router()).await;
    let client = coracle_api::Client::new(&url, Some(&server.token)).unwrap();
    let file = server.dir.path().join("large");
    std::fs::File::create(&file).unwrap().set_len(15 << 20).unwrap();
    match client.upload(&file, |_| ()).await {
        Err(coracle_api::ClientError::Problem(problem)) => assert_eq!(problem.code, "request-too-large"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn metrics_answer_without_a_token_on_an_address_of_their_own() {
    let server = Server::open().await;
    server.admin.observe.metrics.function(&FunctionRef::parse("hello").unwrap());
    let mut router = server.admin.clone().metrics_router();
    let Ok(response) = router.call(request("", "GET /metrics", Body::empty())).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains(r#"function="hello""#), "{body:?}");
    let Ok(response) = router.call(request("", "GET /v1/status", Body::empty())).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}
