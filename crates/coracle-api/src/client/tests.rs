//! The client against a server of two dozen lines: what it sends, and what it makes of the answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coracle_model::{Body, Digest, FunctionRef};
use expect_test::{Expect, expect};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{Client, ClientError, FunctionCall};
use crate::{FunctionQuery, LogQuery, ProblemView, SecretValue};

/// Serves one answer to each request; gives its address, and what was asked.
async fn server(
    answer: impl Fn() -> Response<Body> + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(String::new()));
    let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            let service = service_fn(move |request: Request<Incoming>| {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                async move {
                    let (head, body) = request.into_parts();
                    let mut text = format!("{} {}\n", head.method, head.uri);
                    for name in
                        ["authorization", "content-type", "content-length", "transfer-encoding", "x-a"]
                    {
                        for value in head.headers.get_all(name) {
                            text += &format!("{name}: {}\n", value.to_str().unwrap());
                        }
                    }
                    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    text += &format!("{}\n", String::from_utf8_lossy(&body[..body.len().min(200)]));
                    log.lock().unwrap().push_str(&text);
                    Ok::<_, Infallible>(answer())
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service),
            );
        }
    });
    (address, asked)
}

fn client(address: SocketAddr) -> Client {
    Client::new(&format!("http://{address}"), Some("secret-token")).unwrap()
}

fn answer(status: u16, body: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::once(body));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

fn check_error(error: &ClientError, expected: Expect) {
    let text = format!("{error:#?}");
    // The port is another one each time.
    let text = text.lines().map(|line| if line.contains("url: ") { "    url," } else { line });
    expected.assert_eq(&text.collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn a_problem_comes_back_as_it_was_sent() {
    let body = r#"{"code":"forbidden","message":"m","hint":"h","docs":"d"}"#;
    let (address, _) = server(move || answer(403, body)).await;
    let ClientError::Problem(problem) = client(address).status().await.unwrap_err() else {
        panic!("no problem")
    };
    let expected = ProblemView {
        status: 403,
        code: "forbidden".into(),
        message: "m".into(),
        hint: Some("h".into()),
        call_id: None,
        docs: "d".into(),
    };
    assert_eq!(*problem, expected);
}

#[tokio::test]
async fn what_is_no_coracle_server_is_told_apart() {
    let (address, _) = server(|| answer(404, "<html>")).await;
    check_error(
        &client(address).status().await.unwrap_err(),
        expect![[r#"
        Protocol {
            url,
            reason: "it is 404 Not Found and says not why: is this a Coracle server?",
        }"#]],
    );
    let (address, _) = server(|| answer(200, "<html>")).await;
    check_error(
        &client(address).status().await.unwrap_err(),
        expect![[r#"
        Protocol {
            url,
            reason: "expected value at line 1 column 1",
        }"#]],
    );
}

#[tokio::test]
async fn where_nobody_listens_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client(address).status().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_request_carries_the_token_and_its_json() {
    let (address, asked) = server(|| answer(204, "")).await;
    let (namespace, name) = (Default::default(), "api-key".parse().unwrap());
    client(address).set_secret(&namespace, &name, &SecretValue::Value("v".into())).await.unwrap();
    expect![[r#"
        PUT /v1/namespaces/default/secrets/api-key
        authorization: Bearer secret-token
        content-type: application/json
        content-length: 13
        {"value":"v"}
    "#]]
    .assert_eq(&asked.lock().unwrap());
    assert_eq!(format!("{:?}", client(address)), format!("Client {{ url: \"http://{address}\", .. }}"));
}

#[tokio::test]
async fn an_artifact_that_is_not_there_is_none() {
    let (address, asked) = server(|| answer(404, r#"{"code":"x","message":"m","docs":"d"}"#)).await;
    assert_eq!(client(address).artifact(&Digest::from_bytes([0; 32])).await.unwrap(), None);
    assert!(asked.lock().unwrap().starts_with("GET /v1/artifacts/0000"));
}

#[tokio::test]
async fn an_upload_says_its_length_and_tells_of_its_progress() {
    let digest = Digest::from_bytes([1; 32]);
    let (address, asked) =
        server(move || Response::new(Body::once(format!(r#"{{"digest":"{digest}","size":200000}}"#)))).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 200_000]).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let view = client(address).upload(file.path(), move |sent| log.lock().unwrap().push(sent)).await.unwrap();
    assert_eq!((view.digest, view.size), (digest, 200_000));
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 1 && seen.is_sorted() && seen.last() == Some(&200_000), "{seen:?}");
    let asked = asked.lock().unwrap();
    assert!(asked.contains("content-length: 200000") && !asked.contains("transfer-encoding"), "{asked}");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let error = client(([127, 0, 0, 1], 1).into()).upload("no/such.wasm".as_ref(), |_| ()).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read no/such.wasm");
}

#[tokio::test]
async fn lines_of_a_log_are_put_together_from_pieces() {
    const LINE: &str = r#"{"time":"2026-01-31T12:00:00Z","function":"a.default","revision":1,"instance":2,"stream":"stdout","text":"x"}"#;
    let (address, asked) = server(|| {
        let text = format!("{LINE}\n{LINE}\n");
        let pieces: Vec<_> = text.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        Response::new(Body::stream(StreamBody::new(futures_util::stream::iter(frames))))
    })
    .await;
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut lines = client(address).logs(&query).await.unwrap();
    let mut seen = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        seen.push(serde_json::to_string(&line).unwrap());
    }
    assert_eq!(seen, [LINE, LINE]);
    assert!(asked.lock().unwrap().starts_with("GET /v1/logs?follow=true\n"));
}

#[tokio::test]
async fn a_call_gives_back_whatever_the_function_answers() {
    let (address, asked) = server(|| answer(500, "sorry")).await;
    let mut headers = HeaderMap::new();
    headers.append("x-a", "1".parse().unwrap());
    headers.append("x-a", "2".parse().unwrap());
    let mut reply = client(address)
        .call(FunctionCall {
            function: FunctionRef::parse("resize.shop").unwrap(),
            method: Method::POST,
            path: "/thumb?w=64".into(),
            headers,
            body: Body::once("in"),
        })
        .await
        .unwrap();
    assert_eq!(reply.head.status, 500);
    assert_eq!(reply.body.collect(100).await.unwrap(), "sorry");
    assert!(reply.timings.connect <= reply.timings.first_byte && reply.timings.first_byte <= reply.total());
    expect![[r#"
        POST /function/resize.shop/thumb?w=64
        authorization: Bearer secret-token
        content-length: 2
        x-a: 1
        x-a: 2
        in
    "#]]
    .assert_eq(&asked.lock().unwrap());
}

#[tokio::test]
async fn all_functions_are_asked_for_in_few_pages_unless_the_query_says_how_many() {
    let (address, asked) = server(|| answer(200, r#"{"items":[]}"#)).await;
    let client = client(address);
    assert!(client.functions_all(&FunctionQuery::default()).await.unwrap().is_empty());
    let ten = FunctionQuery { limit: Some(10), ..FunctionQuery::default() };
    assert!(client.functions_all(&ten).await.unwrap().is_empty());
    let asked = asked.lock().unwrap();
    let paths: Vec<_> = asked.lines().filter(|line| line.starts_with("GET ")).collect();
    assert_eq!(paths, ["GET /v1/functions?limit=250", "GET /v1/functions?limit=10"]);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_not_collected() {
    let (address, _) = server(|| answer(200, "0123456789")).await;
    let error = client(address).backup().await.unwrap().collect(9).await.unwrap_err();
    assert!(error.to_string().contains("longer than 9 bytes"), "{error}");
}
