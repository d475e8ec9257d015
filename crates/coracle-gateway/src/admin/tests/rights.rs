//! Who may ask what, and what a wrong request is told.
//! Tokens, reaches, methods, and errors in the shape that was asked for.

use super::*;

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
          "message": "the body is not what was expected: unknown field `artefact`, expected one of `artifact`, `image`, `contract`, `command`, `entrypoint`, `workdir`, `user`, `port`, `health`, `start_timeout`, `read_only`, `network`, `secrets_in_env`, `http2`, `cpu`, `processes`, `scale`, `queue`, `env`, `secrets`, `outbound`, `memory`, `timeout`, `stream_timeout`, `concurrency`, `waiting`, `request_body`, `response_body`, `log_rate`, `reuse`, `route`, `private`, `content_type`, `labels`, `annotations`, `original` at line 2 column 12"
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
                  "message": "the call `order/17` is not queued, and not among the last ones"
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
