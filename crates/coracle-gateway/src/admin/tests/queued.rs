//! Calls that are to be queued, and are refused before anything is kept of them; and who may look at the queue.
//! What becomes of those that are taken is tested with the binary.

use super::*;

/// Asks with headers, and shows the status, the code, what went wrong and what to do.
async fn said(server: &Server, token: &str, line: &str, headers: &[(&str, &str)]) -> String {
    let mut request = request(token, line, Body::from("a body"));
    for (name, value) in headers {
        request.headers_mut().append(
            http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    let response = server.send(request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().unwrap_or("none").to_owned();
    let said = format!("{status} {}: {}\n    hint: {}\n", text("code"), text("message"), text("hint"));
    // Tokens have other names each time.
    match token.rsplit('_').nth(1) {
        Some(id) => said.replace(id, "ID"),
        None => said,
    }
}

async fn said_of_all(server: &Server, line: &str, cases: &[&[(&str, &str)]], expected: Expect) {
    let mut all = String::new();
    for headers in cases {
        all += &said(server, "", line, headers).await;
    }
    expected.assert_eq(&all);
}

#[tokio::test]
async fn what_is_asked_of_the_queue_is_checked_before_the_call_is_kept() {
    let server = Server::open().await;
    server.deploy("hello", Settings::default()).await;
    let long = "k".repeat(10 << 10);
    said_of_all(
        &server,
        "POST /async-function/hello",
        &[
            &[("x-coracle-delay", "-1")],
            &[("x-coracle-delay", "soon")],
            &[("x-coracle-delay", "365d")],
            &[("x-coracle-delay", "2027-12-24T18:00:00Z")],
            &[("x-coracle-delay", "1s"), ("x-coracle-delay", "2s")],
            &[("x-coracle-group", "")],
            &[("x-coracle-group", "grün")],
            &[("idempotency-key", &long)],
            &[("idempotency-key", "")],
            &[("x-callback-url", "example.com/done")],
            &[("x-callback-url", "ftp://example.com/done")],
            &[("x-callback-url", "https://me:hush@example.com/done")],
        ],
        expect![[r#"
            400 invalid-delay: `-1` is not a delay
                hint: write a span such as `30s` or `2h`, or a time such as `2026-12-24T18:00:00Z`
            400 invalid-delay: `soon` is not a delay
                hint: write a span such as `30s` or `2h`, or a time such as `2026-12-24T18:00:00Z`
            400 invalid-delay: the delay `365d` is longer than 30d
                hint: send the call later, or have it sent by something that keeps time
            400 invalid-delay: the delay `2027-12-24T18:00:00Z` is longer than 30d
                hint: send the call later, or have it sent by something that keeps time
            400 bad-request: the header `x-coracle-delay` came more than once
                hint: send it once, with one value
            400 invalid-group: `` does not name a group
                hint: a group has a name of 1 to 128 visible ASCII characters
            400 invalid-group: `grün` does not name a group
                hint: a group has a name of 1 to 128 visible ASCII characters
            400 invalid-idempotency-key: the idempotency key has 10240 bytes, at most 256 are allowed
                hint: send a short key that names the call, such as a UUID
            400 invalid-idempotency-key: the idempotency key is empty
                hint: send a short key that names the call, such as a UUID
            400 invalid-callback: the callback `example.com/done` is not valid
                hint: name a URL such as `https://example.com/results`
            400 invalid-callback: the callback `ftp://example.com/done` begins with neither `http://` nor `https://`
                hint: name a URL such as `https://example.com/results`
            400 invalid-callback: the callback `example.com/done` holds a user or a password, which would be kept in the open
                hint: name a URL such as `https://example.com/results`
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_function_that_is_not_there_and_a_private_one_queue_nothing() {
    let server = Server::open().await;
    server.admin.catalog.create_namespace(&NamespaceName::parse("shop").unwrap()).await.unwrap();
    server.deploy("mine", Settings { private: true, ..Settings::default() }).await;
    let beside = server.mint(Scope::Call, only_hello()).await;
    let mut all = String::new();
    for (token, line) in [
        ("", "POST /async-function/nobody"),
        ("", "POST /async-function/nobody.shop/a/b"),
        ("", "POST /async-function/a%20b"),
        ("", "POST /v1/functions/mine/calls?async"),
        (&server.token, "POST /v1/functions/nobody/calls?async"),
        (&server.token, "POST /v1/namespaces/shop/functions/nobody/calls?async"),
        ("", "POST /async-function/mine"),
        ("wrong", "POST /async-function/mine"),
        (&beside, "POST /v1/functions/mine/calls?async"),
        ("", "GET /async-function/mine"),
        ("", "PUT /async-function/mine"),
    ] {
        all += &said(&server, token, line, &[]).await;
    }
    expect![[r#"
        404 function-not-found: there is no function `nobody` in the namespace `default`
            hint: `coracle list` shows those that are deployed
        404 function-not-found: there is no function `nobody` in the namespace `shop`
            hint: `coracle list -n shop` shows those that are deployed
        400 invalid-name: `a%20b` is not a name of a function: a name is 1 to 64 of the characters A-Z a-z 0-9 _ -
            hint: `coracle list` shows the functions that are deployed
        401 unauthenticated: a token is needed, and none came
            hint: send `Authorization: Bearer TOKEN`, or log in as `admin` with the token as the password; the admin's is in the file `admin.token` of the data directory
        404 function-not-found: there is no function `nobody` in the namespace `default`
            hint: `coracle list` shows those that are deployed
        404 function-not-found: there is no function `nobody` in the namespace `shop`
            hint: `coracle list -n shop` shows those that are deployed
        401 unauthenticated: a token is needed, and none came
            hint: send `Authorization: Bearer TOKEN`, or log in as `admin` with the token as the password; the admin's is in the file `admin.token` of the data directory
        401 unauthenticated: the token is not known here
            hint: it may be of another server or revoked; the admin's is in the file `admin.token` of the data directory
        403 forbidden: the token `ID` has the scope `call` for the function `hello.shop`, and this takes `call` for the function `mine.default`
            hint: use a token with the scope `call` for the function `mine.default`: coracle token create --scope call
        405 method-not-allowed: `/async-function/mine` does not take GET
            hint: the header `Allow` names what it takes
        405 method-not-allowed: `/async-function/mine` does not take PUT
            hint: the header `Allow` names what it takes
    "#]].assert_eq(&all);
}

#[tokio::test]
async fn a_call_of_our_own_api_says_that_it_is_to_be_queued_and_how() {
    let server = Server::open().await;
    server.deploy("hello", Settings::default()).await;
    let mut all = String::new();
    for query in
        ["", "?async=no", "?async&method=CONNECT", "?async&method=P%20T", "?async&path=%20", "?asink"]
    {
        all += &said(&server, &server.token, &format!("POST /v1/functions/hello/calls{query}"), &[]).await;
    }
    expect![[r#"
        400 bad-request: only calls that are to be queued are made here
            hint: add `?async` to the address; call `/function/NAME` to wait for the answer
        400 bad-request: only calls that are to be queued are made here
            hint: add `?async` to the address; call `/function/NAME` to wait for the answer
        400 bad-request: `CONNECT` is not a method that a function is called with
            hint: write for example `method=PUT`
        400 bad-request: `P T` is not a method that a function is called with
            hint: write for example `method=PUT`
        400 bad-request: `path` is not a path: invalid uri character
            hint: write for example `path=/thumb%3Fwidth=64`
        400 bad-request: the query is not what was expected: unknown parameter `asink`, expected one of `async`, `method`, `path`
            hint: none
    "#]].assert_eq(&all);
}

#[tokio::test]
async fn an_event_may_be_as_large_as_a_message_of_the_queue() {
    let server = Server::open().await;
    server.deploy("hello", Settings::default()).await;
    let mut request =
        request("", "POST /async-function/hello", Body::from(vec![b' '; crate::submit::EVENT_BYTES_MAX + 1]));
    request
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/cloudevents+json"));
    assert_eq!(server.send(request).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_queue_is_for_those_who_may_deploy() {
    let server = Server::open().await;
    server.admin.catalog.create_namespace(&NamespaceName::parse("shop").unwrap()).await.unwrap();
    server.deploy("hello.shop", Settings::default()).await;
    let caller = server.mint(Scope::Call, in_shop()).await;
    let mut all = String::new();
    for line in
        ["GET /v1/queue", "GET /v1/queue/calls?state=dead", "POST /v1/queue/redrive", "POST /v1/queue/purge"]
    {
        for token in ["", &caller] {
            let body = r#"{"state":"dead"}"#;
            let body = if line.contains("purge") { body } else { "{}" };
            let (status, _) = server.ask(token, line, body).await;
            all += &format!("{} {line}\n", status.as_u16());
        }
    }
    let outside = r#"{"namespace":"default","state":"dead"}"#;
    let deployer = server.mint(Scope::Deploy, in_shop()).await;
    let (status, _) = server.ask(&deployer, "POST /v1/queue/purge", outside).await;
    all += &format!("{} of another namespace\n", status.as_u16());
    expect![[r#"
        401 GET /v1/queue
        403 GET /v1/queue
        401 GET /v1/queue/calls?state=dead
        403 GET /v1/queue/calls?state=dead
        401 POST /v1/queue/redrive
        403 POST /v1/queue/redrive
        401 POST /v1/queue/purge
        403 POST /v1/queue/purge
        403 of another namespace
    "#]]
    .assert_eq(&all);
    server.check("POST /v1/queue/purge", r#"{"state":"running"}"#, expect![[r#"
        400
        {
          "code": "bad-request",
          "docs": "coracle explain bad-request",
          "hint": "name the state `waiting` or `dead`; one that runs is cancelled with `coracle queue cancel`",
          "message": "calls that are running are not removed"
        }"#]]).await;
}
