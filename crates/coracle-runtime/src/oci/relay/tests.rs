//! Claims about the way out of a sandbox, with names that the test makes up.

use std::net::SocketAddr;
use std::sync::Arc;

use coracle_model::{Destination, Outbound};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::oci::testing::{Told, output};

/// A relay with one listener, and where that is.
async fn relay(grants: &[&str], names: &[(&str, SocketAddr)], way: Way) -> (Relay, SocketAddr, Arc<Told>) {
    let told = Arc::<Told>::default();
    let grants: Vec<Outbound> = grants.iter().map(|grant| grant.parse().unwrap()).collect();
    let egress = Egress::new(grants.into(), output(&told)).resolving(names);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    (Relay::start(vec![(listener.into(), way)], &egress).unwrap(), at, told)
}

/// Somebody outside, who says what was said when the other has said all.
async fn outside() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut said = Vec::new();
                stream.read_to_end(&mut said).await.unwrap();
                stream.write_all(&said).await.unwrap();
            });
        }
    });
    address
}

/// Says something, then nothing more, and hears all there is.
async fn say(at: SocketAddr, what: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(what).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    // A connection that is refused may be reset.
    let _ = stream.read_to_end(&mut heard).await;
    String::from_utf8_lossy(&heard).into_owned()
}

fn to(scheme: &str, host: &str, port: u16) -> Destination {
    Destination::new(scheme, host, Some(port)).unwrap()
}

#[tokio::test]
async fn any_protocol_passes_to_the_one_destination_with_its_half_closed_ends() {
    let outside = outside().await;
    let grant = format!("postgres://db.example:{}", outside.port());
    let way = Way::Direct(to("postgres", "db.example", outside.port()));
    let local = "*://127.0.0.1:*";
    let (_relay, at, told) = relay(&[&grant, local], &[("db.example", outside)], way).await;
    assert_eq!(say(at, b"\x00\x01 not HTTP at all").await, "\x00\x01 not HTTP at all");
    assert!(told.lines().is_empty(), "{:?}", told.lines());
}

#[tokio::test]
async fn a_name_that_turns_to_a_private_address_is_not_dialled() {
    let outside = outside().await;
    let grant = format!("https://api.example:{}", outside.port());
    for address in ["127.0.0.1", "169.254.169.254", "10.0.0.1", "[::ffff:127.0.0.1]", "[::1]"] {
        let address: SocketAddr = format!("{address}:{}", outside.port()).parse().unwrap();
        let way = Way::Direct(to("https", "api.example", outside.port()));
        let (_relay, at, told) = relay(&[&grant], &[("api.example", address)], way).await;
        assert_eq!(say(at, b"hello").await, "", "{address}");
        let lines = told.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("which is not public"), "{lines:?}");
        assert!(lines[0].contains("outbound = [\"*://"), "{lines:?}");
        assert_eq!(lines[1], "denied");
    }
}

#[tokio::test]
async fn the_proxy_opens_tunnels_and_passes_requests_where_they_may_go() {
    let outside = outside().await;
    let port = outside.port();
    let names =
        [("a.good.example", outside), ("rebound.good.example", "169.254.169.254:80".parse().unwrap())];
    let grants =
        ["https://*.good.example:*", "http://*.good.example:*", "http://127.0.0.1:*", "https://127.0.0.1:*"];
    let (_relay, at, told) = relay(&grants, &names, Way::Proxy).await;

    assert_eq!(
        say(at, format!("CONNECT a.good.example:{port} HTTP/1.1\r\n\r\nhello").as_bytes()).await,
        "HTTP/1.1 200 Connection established\r\n\r\nhello"
    );
    let request = format!("POST http://a.good.example:{port}/x HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(
        say(at, request.as_bytes()).await,
        format!(
            "POST /x HTTP/1.1\r\nhost: a.good.example:{port}\r\nContent-Length: 2\r\nconnection: close\r\n\r\nhi"
        )
    );
    assert!(told.lines().is_empty(), "{:?}", told.lines());

    let table = [
        (
            "CONNECT evil.example:443 HTTP/1.1\r\n\r\n",
            "403 Forbidden",
            "outbound denied: https://evil.example: to allow it, add `outbound = [\"https://evil.example\"]`",
        ),
        (
            "CONNECT evil.example:5432 HTTP/1.1\r\n\r\n",
            "403 Forbidden",
            "`outbound = [\"*://evil.example:5432\"]`",
        ),
        (
            "GET http://evil.example/ HTTP/1.1\r\n\r\n",
            "403 Forbidden",
            "`outbound = [\"http://evil.example\"]`",
        ),
        ("CONNECT 10.0.0.1:443 HTTP/1.1\r\n\r\n", "403 Forbidden", "https://10.0.0.1"),
        ("CONNECT rebound.good.example:80 HTTP/1.1\r\n\r\n", "403 Forbidden", "which is not public"),
        ("CONNECT none.good.example:443 HTTP/1.1\r\n\r\n", "502 Bad Gateway", "no address"),
        ("GET http://a.good.example/ HTTP/1.1\r\nhost: evil.example\r\n\r\n", "400 Bad Request", "`Host`"),
        ("\x16\x03\x01\x02\x00", "400 Bad Request", "not HTTP"),
    ];
    for (request, status, said) in table {
        let heard = say(at, request.as_bytes()).await;
        assert!(
            heard.starts_with(&format!("HTTP/1.1 {status}\r\n")) && heard.contains(said),
            "{request}: {heard}"
        );
    }
    let denied = told.lines().iter().filter(|line| *line == "denied").count();
    assert_eq!(denied, 5, "{:?}", told.lines());
    let long = format!("GET http://a.good.example/ HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(17 << 10));
    assert!(say(at, long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn the_relay_ends_with_its_sandbox() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outside = listener.local_addr().unwrap();
    let grant = format!("x://127.0.0.1:{}", outside.port());
    let way = Way::Direct(to("x", "127.0.0.1", outside.port()));
    let (relay, at, _) = relay(&[&grant], &[], way).await;
    let mut inside = TcpStream::connect(at).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    drop(relay);
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(inside.read(&mut [0]).await.unwrap_or(0), 0);
}
