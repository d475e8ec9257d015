//! Uploads: kept whole or not at all, and refused so that the client reads why.
//! Bodies that pause, end early, or are too large.

use super::*;

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
