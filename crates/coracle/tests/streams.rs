//! Bodies in both directions, the dialects of HTTP, and what a guest sees of a request.
//! The real binary, spoken to over sockets and by HTTP/2.

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::io::Write as _;

use guests::{acid, built, deploy, record, until};
use harness::{Server, wasm};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use wire::{Reply, Wire, address, admin, ask, get};

const MEBIBYTE: usize = 1 << 20;

/// What `acid` saw of a request, as it tells at `/headers`.
fn seen(reply: &Reply) -> Vec<(String, String)> {
    let text = reply.text();
    let pairs = text.lines().filter_map(|line| line.split_once(": "));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn value<'a>(seen: &'a [(String, String)], name: &str) -> Option<&'a str> {
    seen.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_hundred_mebibytes_go_up_and_come_down() {
    const PIECES: usize = 100;
    let server = acid(&[]);
    let mut up = Wire::to(&server);
    up.send(format!(
        "POST /function/acid/sink HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        PIECES * MEBIBYTE
    ));
    let piece = vec![b'x'; MEBIBYTE];
    for _ in 0..PIECES {
        up.send(&piece);
    }
    let reply = up.reply("POST");
    assert_eq!(reply.text(), format!("{}\n", PIECES * MEBIBYTE));

    let mut down = Wire::get(&server, &format!("/function/acid/source?bytes={}", PIECES * MEBIBYTE));
    let id = down.head("GET").header("x-call-id").unwrap().to_owned();
    let mut bytes = 0;
    while let Some(piece) = down.piece().unwrap() {
        assert!(piece.iter().all(|byte| *byte == b'x'));
        bytes += piece.len();
    }
    assert_eq!(bytes, PIECES * MEBIBYTE);
    let record = record(&server, &id);
    assert_eq!((&record["outcome"], &record["bytes_out"]), (&"ok".into(), &bytes.into()));
}

#[test]
fn a_body_is_echoed_byte_for_byte_while_it_is_sent() {
    let server = acid(&[]);
    let sent: Vec<u8> =
        (0..5_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut wire = Wire::to(&server);
    wire.send(format!(
        "POST /function/acid/echo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        sent.len()
    ));
    let reply = std::thread::scope(|scope| {
        let mut sender = wire.sender();
        let sent = &sent;
        scope.spawn(move || sender.write_all(sent).unwrap());
        wire.reply("POST")
    });
    assert!(reply.whole && reply.body == sent, "{} bytes came back", reply.body.len());
}

#[test]
fn events_arrive_one_by_one_before_the_end() {
    let server = Server::start();
    server.deploy("sse");
    // The second event is a minute away: the first can only have come before the end.
    let mut far = Wire::get(&server, "/function/sse?count=2&interval=60s");
    let head = far.head("GET");
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert!(String::from_utf8(far.piece().unwrap().unwrap()).unwrap().starts_with("id: 0\n"));
    let near = get(&server, "/function/sse?count=3&interval=10ms");
    assert_eq!(near.text().matches("data: event").count(), 3);
    assert!(near.whole);
}

#[test]
fn head_and_options_are_the_functions_to_answer() {
    let server = acid(&[]);
    let mut wire = Wire::to(&server);
    wire.send("HEAD /function/acid/source?bytes=1000 HTTP/1.1\r\nhost: x\r\n\r\n");
    let head = wire.reply("HEAD");
    assert_eq!((head.status, head.body.len()), (200, 0));
    // Nothing of a body stands between this answer and the next.
    wire.send("GET /function/acid/count HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(wire.reply("GET").text(), "1\n");
    let options = ask(&server, "OPTIONS", "/function/acid/headers", &[], b"");
    assert!(options.text().starts_with("method: OPTIONS\n"), "{}", options.text());
    let own = ask(&server, "PROPFIND", "/function/acid/headers", &[], b"");
    assert!(own.text().starts_with("method: PROPFIND\n"), "{}", own.text());
}

#[test]
fn who_asks_before_sending_a_body_is_told_to_go_on() {
    let server = acid(&["--request-body", "1KiB"]);
    let ask = |length: usize| {
        let mut wire = Wire::to(&server);
        wire.send(format!(
            "POST /function/acid/sink HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        ));
        wire
    };
    let mut wire = ask(5);
    assert_eq!(wire.head("POST").status, 100);
    wire.send("hello");
    assert_eq!(wire.reply("POST").text(), "5\n");
    assert_eq!(ask(5_000).reply("POST").problem(), (413, "request-too-large".to_owned()));
}

#[tokio::test]
async fn http_2_is_spoken_on_the_same_port() {
    let server = acid(&[]);
    let stream = tokio::net::TcpStream::connect(address(&server)).await.unwrap();
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let calls = (0..20).map(|number| {
        let (mut client, url) = (client.clone(), server.url.clone());
        async move {
            let body = Full::new(bytes::Bytes::from(vec![b'x'; number * 10_000]));
            let request = http::Request::post(format!("{url}/function/acid/echo")).body(body).unwrap();
            let reply = client.send_request(request).await.unwrap();
            assert_eq!((reply.status().as_u16(), reply.version()), (200, http::Version::HTTP_2));
            assert!(reply.headers().contains_key("x-call-id"));
            assert_eq!(reply.into_body().collect().await.unwrap().to_bytes().len(), number * 10_000);
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(get(&server, "/function/acid/count").text(), "1\n", "and HTTP/1.1 as well");
}

#[test]
fn a_guest_whose_client_went_away_is_stopped() {
    let server = acid(&["--stream-timeout", "10m", "--timeout", "10m"]);
    for path in ["source?bytes=1000000000", "loop-after-head", "sleep-after-head?ms=600000"] {
        let mut wire = Wire::get(&server, &format!("/function/acid/{path}"));
        let id = wire.head("GET").header("x-call-id").unwrap().to_owned();
        wire.piece().unwrap().unwrap();
        drop(wire);
        assert_eq!(record(&server, &id)["outcome"], "client-gone", "{path}");
    }
    for path in ["loop", "sleep?ms=600000"] {
        let mut wire = Wire::to(&server);
        let id = format!("gone-{}", path.len());
        wire.send(format!("GET /function/acid/{path} HTTP/1.1\r\nhost: x\r\nx-call-id: {id}\r\n\r\n"));
        guests::until("the call in flight", || {
            let status = wire::admin(&server, "GET", "/v1/status", b"").json();
            (status["details"]["in_flight"] == 1).then_some(())
        });
        drop(wire);
        assert_eq!(record(&server, &id)["outcome"], "client-gone", "{path}");
    }
}

#[test]
fn a_trace_goes_on_through_the_guest() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let server = acid(&[]);
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let reply = ask(&server, "GET", "/function/acid/headers", &[("traceparent", &parent)], b"");
    let seen_parent = value(&seen(&reply), "traceparent").unwrap().to_owned();
    assert!(
        seen_parent.starts_with(&format!("00-{TRACE}-")) && seen_parent.ends_with("-01"),
        "{seen_parent}"
    );
    assert_ne!(seen_parent, parent, "the call is a span of its own");
    let begun = seen(&get(&server, "/function/acid/headers"));
    assert_eq!(value(&begun, "traceparent").unwrap().len(), parent.len(), "without one, it begins one");
    let wrong = ask(&server, "GET", "/function/acid/headers", &[("traceparent", "00-nonsense")], b"");
    assert_eq!(value(&seen(&wrong), "traceparent").unwrap().len(), parent.len());
}

#[test]
fn a_guest_sees_who_asked_for_what() {
    let server = acid(&[]);
    let headers =
        [("host", "shop.example"), ("x-forwarded-for", "203.0.113.9"), ("te", "trailers"), ("x-own", "1")];
    let seen = seen(&ask(&server, "GET", "/function/acid/headers?a=b%20c", &headers, b""));
    assert_eq!(value(&seen, "path"), Some("/headers?a=b%20c"));
    assert_eq!(value(&seen, "authority"), Some("shop.example"));
    assert_eq!(value(&seen, "x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
    assert_eq!(value(&seen, "x-forwarded-host"), Some("shop.example"));
    assert_eq!(value(&seen, "x-forwarded-proto"), Some("http"));
    assert_eq!((value(&seen, "x-own"), value(&seen, "te")), (Some("1"), None));
    assert!(value(&seen, "x-call-id").is_some());
}

#[test]
fn a_call_has_the_identity_it_came_with_or_a_new_one() {
    let server = acid(&[]);
    let sent = ask(&server, "GET", "/function/acid/headers", &[("x-call-id", "order-17")], b"");
    assert_eq!(value(&seen(&sent), "x-call-id"), Some("order-17"));
    assert_eq!(sent.header("x-call-id"), None, "who sent it knows it");
    assert_eq!(record(&server, "order-17")["path"], "/headers");
    let new = get(&server, "/function/acid/headers");
    assert_eq!(value(&seen(&new), "x-call-id"), new.header("x-call-id"));
}

#[test]
fn a_function_answers_under_a_host_name_of_its_own() {
    let server = acid(&[]);
    let at = |host: &str, path: &str| ask(&server, "GET", path, &[("host", host)], b"");
    let reply = at("acid.default.localhost:8080", "/headers?x=1");
    assert_eq!(value(&seen(&reply), "path"), Some("/headers?x=1"));
    assert_eq!(at("nobody.default.localhost", "/").problem(), (404, "function-not-found".to_owned()));
    assert_eq!(at("localhost", "/nothing").problem(), (404, "route-not-found".to_owned()));
    assert_eq!(at("acid.default.localhost", "/v1/status").status, 404, "all of its paths are the guest's");
}

#[test]
fn routes_lead_to_their_functions_and_ours_are_not_given_away() {
    let server = Server::start();
    deploy(&server, "shop", &["--route", "/shop/*", "--route", "/users/:id/posts", "--route", "/exact"]);
    server.deploy("hello");
    for path in ["/shop", "/shop/headers", "/shop/a/b", "/users/7/posts", "/exact"] {
        assert!(
            get(&server, path).text().contains("no such path") || get(&server, path).status == 200,
            "{path}"
        );
    }
    for path in ["/shops", "/users/7", "/exact/", "/users//posts"] {
        assert_eq!(get(&server, path).problem(), (404, "route-not-found".to_owned()), "{path}");
    }
    assert_eq!(get(&server, "/").header("location"), Some("/ui/"), "as long as nobody answers it");
    deploy(&server, "first", &["--route", "/"]);
    assert_eq!(get(&server, "/").header("location"), None);
    let file = wasm("hello");
    let deploy =
        |route: &str| server.run(&["deploy", file.to_str().unwrap(), "--name", "x", "--route", route]);
    for ours in ["/v1/mine", "/function/x", "/healthz", "/metrics"] {
        let ended = deploy(ours);
        assert_ne!(ended.code, 0, "{ours}");
        assert!(ended.stderr.contains("Coracle's own"), "{}", ended.stderr);
    }
    let taken = deploy("/shop/*");
    assert!(taken.stderr.starts_with("error[route-taken]:"), "{}", taken.stderr);
    assert_eq!(get(&server, "/function/x").status, 404);
}

/// With a guest that is done when its head is there, as most are: one that streams has a task of its own.
#[test]
fn an_instance_is_made_ahead_whether_its_client_stays_or_goes() {
    for connection in ["keep-alive", "close"] {
        let server = Server::start();
        server.ok(&["deploy", built("tiny").to_str().unwrap(), "--name", "tiny"]);
        let mut wire = Wire::to(&server);
        wire.send(format!("GET /function/tiny HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\r\n"));
        assert_eq!(wire.reply("GET").status, 200);
        until(&format!("an instance that waits, after {connection}"), || {
            let status = admin(&server, "GET", "/v1/status", b"").json();
            (status["details"]["instances_idle"] == 1).then_some(())
        });
    }
}
