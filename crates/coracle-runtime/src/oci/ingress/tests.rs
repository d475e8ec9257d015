//! Claims about the way into a program, which is a script of raw bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_model::{Body, BodyError, CallId, Limits, Problem, code};
use futures_util::future::join_all;
use http::{Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::oci::pool::Protocol;
use crate::oci::readiness::Unready;
use crate::oci::testing::{Guest, answer_all, guest, read_head, uri};
use crate::wasm::{Answer, Ended, Running, Work};

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

async fn http1<F, S>(limits: Limits, script: S) -> Guest
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream, usize) -> F + Send + 'static,
{
    guest(limits, Protocol::Http1, script).await
}

async fn ended(running: Running) -> Ended {
    match running {
        Running::Over(ended) => ended,
        Running::Still(task) => task.await.unwrap(),
    }
}

/// Reads an answer to its end: status and body, or the name of the problem.
async fn told(answer: Answer) -> String {
    let reply = match answer.reply {
        Ok(reply) => reply,
        Err(problem) => return problem.code.name.to_owned(),
    };
    let status = reply.status().as_u16();
    match reply.into_body().collect().await {
        Ok(body) => format!("{status} {}", String::from_utf8_lossy(&body.to_bytes())),
        Err(BodyError::Problem(problem)) => format!("{status} then {}", problem.code.name),
        Err(BodyError::Broken(error)) => format!("{status} then {error}"),
    }
}

/// A body whose pieces come when the test sends them.
fn piecewise() -> (mpsc::Sender<Bytes>, Body) {
    let (send, mut receive) = mpsc::channel::<Bytes>(1);
    let pieces = futures_util::stream::poll_fn(move |cx| {
        receive.poll_recv(cx).map(|piece| piece.map(|piece| Ok::<_, Problem>(Frame::data(piece))))
    });
    (send, Body::stream(StreamBody::new(pieces)))
}

#[tokio::test]
async fn calls_share_a_connection_one_after_the_other() {
    let (heads, mut heard) = mpsc::channel(8);
    let guest = http1(Limits::default(), move |mut stream, _| {
        let heads = heads.clone();
        async move {
            while let Some(head) = read_head(&mut stream).await {
                heads.send(head).await.unwrap();
                stream.write_all(HELLO).await.unwrap();
            }
        }
    })
    .await;
    for _ in 0..3 {
        let answer = guest.get("/a?b=c").await;
        assert!(matches!(answer.running, Running::Over(Ended { problem: None, bytes_out: 5, .. })));
        assert_eq!(told(answer).await, "200 hello");
        assert_eq!(
            heard.recv().await.unwrap(),
            "GET /a?b=c HTTP/1.1\r\nhost: program.default.localhost:8080\r\n\r\n"
        );
    }
    assert_eq!(guest.accepted(), 1);
}

#[tokio::test]
async fn a_host_is_passed_on_as_the_caller_sent_it() {
    let guest = http1(Limits::default(), |mut stream, _| async move {
        let head = read_head(&mut stream).await.unwrap();
        let length = head.len();
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{head}").as_bytes())
            .await
            .unwrap();
    })
    .await;
    let request = Request::get(uri("/")).header(header::HOST, "shop.example").body(Body::empty()).unwrap();
    let heard = told(guest.serve(request).await).await;
    assert!(heard.contains("host: shop.example\r\n"), "{heard}");
    assert!(!heard.contains("localhost"), "{heard}");
}

#[tokio::test]
async fn events_flow_one_by_one_and_bodies_both_ways() {
    // Each piece of the request comes back as a chunk before the next is sent.
    let guest = http1(Limits::default(), |mut stream, _| async move {
        read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let mut buffer = [0; 64];
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            stream.write_all(&buffer[..count]).await.unwrap();
            if buffer[..count].starts_with(b"0\r\n") {
                return;
            }
        }
    })
    .await;
    let (send, body) = piecewise();
    let Answer { reply, running } = guest.serve(Request::post(uri("/")).body(body).unwrap()).await;
    let mut body = reply.unwrap().into_body();
    for piece in ["one", "two", "three"] {
        send.send(Bytes::from(piece)).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(send);
    assert!(body.frame().await.is_none());
    let ended = ended(running).await;
    assert_eq!((ended.problem.is_none(), ended.bytes_in, ended.bytes_out), (true, 11, 11));
}

#[tokio::test]
async fn a_connection_that_the_guest_closed_is_replaced() {
    let guest = http1(Limits::default(), |mut stream, _| async move {
        // It promises to keep the connection, and closes it.
        read_head(&mut stream).await.unwrap();
        stream.write_all(HELLO).await.unwrap();
    })
    .await;
    for _ in 0..50 {
        assert_eq!(told(guest.get("/").await).await, "200 hello");
    }
    assert_eq!(guest.accepted(), 50);
}

#[tokio::test]
async fn what_is_not_a_response_is_the_guests_fault() {
    let table: [(&[u8], &str); 8] = [
        (b"", "guest-no-response"),
        (b"HTTP/1.1 200 OK\r\nconte", "guest-no-response"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "guest-invalid-response"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", "200 then guest-invalid-response"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "200 then guest-invalid-response",
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n", "guest-invalid-response"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            "guest-invalid-response",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", "200 to the end"),
    ];
    for (answer, expected) in table {
        let guest = http1(Limits::default(), move |mut stream, _| async move {
            read_head(&mut stream).await.unwrap();
            stream.write_all(answer).await.unwrap();
        })
        .await;
        let heard = told(guest.get("/").await).await;
        // Whether the end comes together with the head is the kernel's choice.
        assert!(expected.ends_with(&heard) || heard == expected, "{heard}, not {expected}");
    }
}

#[tokio::test]
async fn heads_without_bodies_keep_their_length() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 7000000000\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ),
    ] {
        let guest =
            http1(
                Limits::default(),
                move |stream, _| async move { answer_all(stream, answer.as_bytes()).await },
            )
            .await;
        for _ in 0..2 {
            let request = Request::builder().method(method).uri(uri("/")).body(Body::empty()).unwrap();
            let answered = guest.serve(request).await;
            let reply = answered.reply.as_ref().unwrap();
            assert_eq!(reply.headers().contains_key("content-length"), method == "HEAD");
            let heard = told(answered).await;
            assert!(answer.contains(heard.trim()), "{heard}");
        }
        assert_eq!(guest.accepted(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_a_timeout_and_closes_the_connection() {
    let (closed, is_closed) = oneshot::channel();
    let closed = std::sync::Mutex::new(Some(closed));
    let guest = http1(Limits::default(), move |mut stream, _| {
        let closed = closed.lock().unwrap().take();
        async move {
            read_head(&mut stream).await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
            closed.unwrap().send(()).unwrap();
        }
    })
    .await;
    let request = Request::get(uri("/")).body(Body::empty()).unwrap();
    let answer = guest.serve_within(request, Duration::from_millis(30)).await;
    assert_eq!(told(answer).await, "guest-timeout");
    is_closed.await.unwrap();
    assert!(guest.told.lines()[0].starts_with("guest-timeout: "), "{:?}", guest.told.lines());
}

#[tokio::test]
async fn a_caller_who_does_not_send_its_body_is_late_itself() {
    let limits = Limits { stream_timeout: Duration::from_millis(30), ..Limits::default() };
    let guest = http1(limits, |mut stream, _| async move {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let (_send, body) = piecewise();
    let answer = guest.serve(Request::post(uri("/")).body(body).unwrap()).await;
    assert_eq!(told(answer).await, "request-timeout");
}

#[tokio::test]
async fn a_body_that_pauses_for_too_long_is_cut_off() {
    let limits = Limits { stream_timeout: Duration::from_millis(40), ..Limits::default() };
    let guest = http1(limits, |mut stream, _| async move {
        read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await.unwrap();
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let Answer { reply, running } = guest.get("/").await;
    let error = reply.unwrap().into_body().collect().await.unwrap_err();
    assert!(matches!(error, BodyError::Problem(problem) if problem.code == &code::GUEST_STREAM_TIMEOUT));
    assert_eq!(ended(running).await.problem.unwrap().code, &code::GUEST_STREAM_TIMEOUT);
}

#[tokio::test]
async fn bodies_over_their_bounds_are_refused() {
    let limits = Limits { response_body_bytes: 8, request_body_bytes: 8, ..Limits::default() };
    let promised = http1(limits.clone(), |stream, _| {
        answer_all(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789")
    })
    .await;
    assert_eq!(told(promised.get("/").await).await, "response-too-large");

    let streamed = http1(limits.clone(), |mut stream, _| async move {
        read_head(&mut stream).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n1234\r\n")
            .await
            .unwrap();
        // The rest comes when the head is out.
        tokio::task::yield_now().await;
        let _ = stream.write_all(b"5\r\n56789\r\n").await;
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let heard = told(streamed.get("/").await).await;
    assert_eq!(heard, "200 then response-too-large");

    let reading = http1(limits, |mut stream, _| async move {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
    })
    .await;
    let (send, body) = piecewise();
    let calling = reading.serve(Request::post(uri("/")).body(body).unwrap());
    let sending = async {
        for _ in 0..3 {
            let _ = send.send(Bytes::from_static(b"1234")).await;
        }
        send
    };
    let (answer, _send) = tokio::join!(calling, sending);
    assert_eq!(told(answer).await, "request-too-large");
}

#[tokio::test]
async fn a_body_that_is_not_read_is_not_buffered() {
    const BYTES: usize = 64 << 20;
    /// What kernels keep for a connection, and a little of ours.
    const BUFFERED_MAX: usize = 24 << 20;
    let (stuck, is_stuck) = oneshot::channel();
    let stuck = std::sync::Mutex::new(Some(stuck));
    let guest = http1(Limits::default(), move |mut stream, _| {
        let mut stuck = stuck.lock().unwrap().take();
        async move {
            read_head(&mut stream).await.unwrap();
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let (piece, mut written) = (vec![7; 64 << 10], 0);
            while written < BYTES {
                // A write that takes this long waits for the reader.
                if stuck.is_some()
                    && tokio::time::timeout(Duration::from_millis(200), stream.writable()).await.is_err()
                {
                    stuck.take().unwrap().send(written).unwrap();
                }
                stream.writable().await.unwrap();
                match stream.try_write(&piece[..piece.len().min(BYTES - written)]) {
                    Ok(count) => written += count,
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                }
            }
        }
    })
    .await;
    let Answer { reply, running } = guest.get("/").await;
    let written = is_stuck.await.unwrap();
    assert!(written < BUFFERED_MAX, "{written} bytes were taken from the guest");
    let mut body = reply.unwrap().into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(read, BYTES);
    drop(body);
    assert_eq!(ended(running).await.bytes_out, BYTES as u64);
}

#[tokio::test]
async fn the_end_of_the_instance_ends_its_calls() {
    let guest = Arc::new(
        http1(Limits::default(), |mut stream, count| async move {
            read_head(&mut stream).await.unwrap();
            if count == 0 {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await.unwrap();
            }
            let _ = stream.read(&mut [0]).await;
        })
        .await,
    );
    let streaming = guest.get("/").await;
    let waiting = tokio::spawn({
        let guest = Arc::clone(&guest);
        async move { told(guest.get("/").await).await }
    });
    while guest.accepted() < 2 {
        tokio::task::yield_now().await;
    }
    guest.ingress.ended(Problem::new(&code::GUEST_EXITED, "it exited with code 3"));
    assert_eq!(waiting.await.unwrap(), "guest-exited");
    assert_eq!(told(streaming).await, "200 then guest-exited");
    let work = Work {
        id: CallId::from_bits(8),
        request: Box::new(Request::get(uri("/late")).body(Body::empty()).unwrap()),
        deadline: Instant::now() + Duration::from_secs(30),
    };
    let untouched = guest.ingress.serve(work).await.unwrap_err();
    assert_eq!(untouched.request.uri().path(), "/late", "for another instance to serve");
}

#[tokio::test]
async fn a_client_who_goes_takes_the_connection_along() {
    let (closed, mut is_closed) = mpsc::channel(2);
    let guest = http1(Limits::default(), move |mut stream, count| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            if count == 0 {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await.unwrap();
            }
            let _ = stream.read(&mut [0]).await;
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let Answer { reply, running } = guest.get("/").await;
    drop(reply);
    is_closed.recv().await.unwrap();
    assert_eq!(ended(running).await.problem.unwrap().code, &code::CLIENT_GONE);
    let mut call = Box::pin(guest.get("/"));
    while guest.accepted() < 2 {
        let mut step = std::pin::pin!(tokio::task::yield_now());
        tokio::select! {
            biased;
            _ = &mut call => panic!("the guest does not answer"),
            () = &mut step => {}
        }
    }
    drop(call);
    is_closed.recv().await.unwrap();
}

#[tokio::test]
async fn idle_connections_are_closed_on_demand() {
    let (closed, mut is_closed) = mpsc::channel(1);
    let guest = http1(Limits::default(), move |stream, _| {
        let closed = closed.clone();
        async move {
            answer_all(stream, HELLO).await;
            closed.send(()).await.unwrap();
        }
    })
    .await;
    assert_eq!(told(guest.get("/").await).await, "200 hello");
    guest.ingress.close_idle();
    is_closed.recv().await.unwrap();
    assert_eq!(told(guest.get("/").await).await, "200 hello");
    assert_eq!(guest.accepted(), 2);
}

#[tokio::test]
async fn many_calls_at_once_are_all_answered() {
    let guest = http1(Limits::default(), |stream, _| answer_all(stream, HELLO)).await;
    for _ in 0..5 {
        let answers = join_all((0..100).map(|_| async { told(guest.get("/").await).await })).await;
        assert!(answers.iter().all(|answer| answer == "200 hello"));
    }
    assert!(guest.accepted() <= 100, "{} connections", guest.accepted());
}

/// The client's end of a connection that changes its protocol, and what the client holds of it.
async fn client_end() -> (hyper::upgrade::OnUpgrade, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(near)).await.unwrap();
    tokio::spawn(driver.with_upgrades());
    let request =
        Request::get("/").header("connection", "upgrade").header("upgrade", "x").body(Body::empty()).unwrap();
    let answered = tokio::spawn(sender.send_request(request));
    read_head(&mut far).await.unwrap();
    far.write_all(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await.unwrap();
    (hyper::upgrade::on(answered.await.unwrap().unwrap()), far)
}

#[tokio::test]
async fn a_connection_changes_its_protocol_when_both_sides_want_it() {
    let guest = http1(Limits::default(), |mut stream, _| async move {
        let head = read_head(&mut stream).await.unwrap();
        assert!(
            head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"),
            "{head}"
        );
        let agreed =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nwelcome";
        stream.write_all(agreed.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.write_all(b"bye").await.unwrap();
    })
    .await;
    let (upgrade, mut client) = client_end().await;
    let request = Request::get(uri("/"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .extension(upgrade)
        .body(Body::empty())
        .unwrap();
    let Answer { reply, running } = guest.serve(request).await;
    let reply = reply.unwrap();
    assert_eq!(reply.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(reply.headers()["upgrade"], "websocket");
    client.write_all(b"echo").await.unwrap();
    let mut heard = [0; 11];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"welcomeecho");
    client.shutdown().await.unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "bye");
    let ended = ended(running).await;
    assert_eq!((ended.problem.is_none(), ended.bytes_in, ended.bytes_out), (true, 4, 14));
}

#[tokio::test]
async fn calls_of_grpc_share_a_connection_and_end_in_trailers() {
    let guest = guest(Limits::default(), Protocol::Http2, |stream, _| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                assert_eq!(request.headers()["te"], "trailers");
                assert_eq!(request.uri().authority().unwrap(), "program.default.localhost:8080");
                let mut body = request.into_body();
                let mut send = respond.send_response(http::Response::new(()), false).unwrap();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    send.send_data(data, false).unwrap();
                }
                let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect();
                send.send_trailers(trailers).unwrap();
            });
        }
    })
    .await;
    let call = || async {
        let request = Request::post(uri("/s/M")).header("te", "x").body(Body::once("ping")).unwrap();
        let Answer { reply, running } = guest.serve(request).await;
        let body = reply.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), "ping");
        assert!(ended(running).await.problem.is_none());
    };
    call().await;
    join_all((0..20).map(|_| call())).await;
    assert_eq!(guest.accepted(), 1);
    guest.ingress.close_idle();
    call().await;
    assert_eq!(guest.accepted(), 2);
}

#[tokio::test]
async fn a_guest_is_ready_when_its_health_path_says_so() {
    let guest = http1(Limits::default(), |mut stream, count| async move {
        let head = read_head(&mut stream).await.unwrap();
        assert!(head.starts_with("GET /up HTTP/1.1\r\n"), "{head}");
        let status = if count < 3 { "503 Not Yet" } else { "200 OK" };
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        answer_all(stream, HELLO).await;
    })
    .await;
    let soon = || tokio::time::Instant::now() + Duration::from_secs(30);
    assert!(!guest.ingress.is_ready(Some("/up")).await);
    assert_eq!(guest.ingress.ready(soon(), Some("/up")).await, Ok(()));
    // The first call goes over the connection that was asked last.
    assert_eq!(told(guest.get("/").await).await, "200 hello");
    assert_eq!(guest.accepted(), 4);
}

#[tokio::test]
async fn a_guest_that_is_not_ready_in_time_says_what_was_missing() {
    let unwell = http1(Limits::default(), |stream, _| {
        answer_all(stream, b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")
    })
    .await;
    let at_once = || tokio::time::Instant::now() + Duration::from_millis(50);
    let missing = unwell.ingress.ready(at_once(), Some("/")).await.unwrap_err();
    assert_eq!(missing, Unready::Unwell(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(unwell.ingress.ready(at_once(), None).await, Ok(()));
    unwell.ingress.ended(Problem::new(&code::GUEST_EXITED, "it exited"));
    assert_eq!(unwell.ingress.ready(at_once(), None).await, Err(Unready::Ended));
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_passed_on() {
    let guest = http1(Limits::default(), |mut stream, _| async move {
        read_head(&mut stream).await.unwrap();
        let both = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        stream.write_all(both).await.unwrap();
    })
    .await;
    let reply = guest.get("/").await.reply.unwrap();
    assert_eq!(reply.headers().get(header::CONTENT_LENGTH), None);
    assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test]
async fn a_flood_of_early_hints_is_cut_off_in_time() {
    let guest = http1(Limits::default(), |mut stream, _| async move {
        read_head(&mut stream).await.unwrap();
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n".repeat(1_000);
        while stream.write_all(&hints).await.is_ok() {}
    })
    .await;
    let request = Request::get(uri("/")).body(Body::empty()).unwrap();
    let answer = guest.serve_within(request, Duration::from_millis(300)).await;
    assert_eq!(told(answer).await, "guest-timeout");
}
