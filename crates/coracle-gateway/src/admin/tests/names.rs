//! Secrets, tokens and namespaces.
//! What goes in, what comes back, and what never does.

use super::*;

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
