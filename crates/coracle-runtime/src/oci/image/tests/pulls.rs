//! Pulls from a registry on loopback: one that is right, asks for a password, lies, is slow, or is not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use coracle_model::code;
use futures_util::{FutureExt as _, stream};
use tokio::net::TcpListener;

use super::super::Credentials;
use super::*;

/// How a registry behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Open,
    Basic,
    Bearer,
    Forbidding,
    Redirecting,
    Lying,
    Silent,
    Pausing,
    Failing,
}

struct Registry {
    made: Made,
    manner: Manner,
    address: std::net::SocketAddr,
    blobs_sent: AtomicUsize,
}

async fn registry(made: Made, manner: Manner) -> Arc<Registry> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registry = Arc::new(Registry { made, manner, address, blobs_sent: AtomicUsize::new(0) });
    let router = Router::new().fallback(answer).with_state(Arc::clone(&registry));
    tokio::spawn(async move { axum::serve(listener, router).await });
    registry
}

async fn answer(State(registry): State<Arc<Registry>>, request: Request) -> Response<Body> {
    let plain = |status, body: Vec<u8>| {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response
    };
    let path = request.uri().path().to_owned();
    let authorization =
        request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
    let basic = "Basic YWRhOnNlY3JldA=="; // ada:secret
    if path == "/token" {
        let allowed = authorization == basic;
        return if allowed {
            plain(StatusCode::OK, br#"{"token":"t0"}"#.to_vec())
        } else {
            plain(StatusCode::UNAUTHORIZED, Vec::new())
        };
    }
    let challenge = match registry.manner {
        Manner::Basic if authorization != basic => Some("Basic realm=\"r\"".to_owned()),
        Manner::Bearer if authorization != "Bearer t0" => {
            Some(format!("Bearer realm=\"http://{}/token\",service=\"s\"", registry.address))
        }
        _ => None,
    };
    if let Some(challenge) = challenge {
        let mut response = plain(StatusCode::UNAUTHORIZED, Vec::new());
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        return response;
    }
    match registry.manner {
        Manner::Silent => return std::future::pending().await,
        Manner::Failing => return plain(StatusCode::INTERNAL_SERVER_ERROR, b"x".repeat(1000)),
        Manner::Forbidding if path != "/v2/" => {
            return plain(StatusCode::FORBIDDEN, br#"{"errors":[{"code":"DENIED"}]}"#.to_vec());
        }
        _ => {}
    }
    let (kind, name) = match path.rsplit('/').collect::<Vec<_>>()[..] {
        [name, kind, ..] => (kind, name),
        _ => ("", ""),
    };
    let digest = name.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
    let digest = if name == "latest" { Some(registry.made.manifest) } else { digest };
    let Some(bytes) = digest.and_then(|digest| registry.made.blobs.get(&digest)) else {
        let status = if path == "/v2/" { StatusCode::OK } else { StatusCode::NOT_FOUND };
        return plain(status, br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_vec());
    };
    if kind == "blobs" {
        registry.blobs_sent.fetch_add(1, Ordering::Relaxed);
        match registry.manner {
            Manner::Redirecting if request.uri().query().is_none_or(|query| query != "moved") => {
                let mut response = plain(StatusCode::TEMPORARY_REDIRECT, Vec::new());
                response.headers_mut().insert(LOCATION, format!("{path}?moved").parse().unwrap());
                return response;
            }
            Manner::Lying if bytes.len() > 512 => {
                return plain(StatusCode::OK, tar(&[file("other", "other")]));
            }
            Manner::Pausing if bytes.len() > 512 => {
                let start = stream::iter([Ok::<_, std::io::Error>(bytes[..100].to_vec())]);
                let never = std::future::pending().into_stream();
                return Response::new(Body::from_stream(futures_util::StreamExt::chain(start, never)));
            }
            _ => {}
        }
    }
    plain(StatusCode::OK, bytes.clone())
}

async fn pull(
    manner: Manner,
    credentials: Option<Credentials>,
) -> Result<super::super::Image, coracle_model::Problem> {
    let outer = tempfile::tempdir().unwrap();
    let registry = registry(hello(), manner).await;
    let reference = format!("{}/team/hello", registry.address);
    let images = images(outer.path());
    let pulled = images.pull(&reference, credentials, |_| {}).await;
    // A layer that was on its way when another failed is let go of by the thread that unpacks it.
    let is_clear = async {
        while std::fs::read_dir(outer.path().join("images/tmp")).unwrap().count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), is_clear).await.expect("nothing is left");
    assert_eq!(images.list().len(), usize::from(pulled.is_ok()));
    pulled
}

fn ada(password: &str) -> Option<Credentials> {
    Some(Credentials::new("ada", password))
}

#[tokio::test]
async fn an_image_is_pulled_from_registries_of_every_manner() {
    for (manner, credentials) in [
        (Manner::Open, None),
        (Manner::Basic, ada("secret")),
        (Manner::Bearer, ada("secret")),
        (Manner::Redirecting, None),
    ] {
        let image =
            pull(manner, credentials).await.unwrap_or_else(|problem| panic!("{manner:?}: {problem:?}"));
        assert_eq!((image.digest, image.layers.len()), (hello().manifest, 2), "{manner:?}");
    }
}

#[tokio::test]
async fn a_registry_that_refuses_lies_or_is_silent_is_told_apart() {
    for (manner, credentials, code) in [
        (Manner::Basic, None, &code::REGISTRY_DENIED),
        (Manner::Basic, ada("wrong"), &code::REGISTRY_DENIED),
        (Manner::Bearer, None, &code::REGISTRY_DENIED),
        (Manner::Bearer, ada("wrong"), &code::REGISTRY_DENIED),
        (Manner::Forbidding, None, &code::REGISTRY_DENIED),
        (Manner::Lying, None, &code::IMAGE_INVALID),
        (Manner::Silent, None, &code::REGISTRY_UNAVAILABLE),
        (Manner::Pausing, None, &code::REGISTRY_UNAVAILABLE),
        (Manner::Failing, None, &code::REGISTRY_UNAVAILABLE),
    ] {
        let problem = pull(manner, credentials).await.unwrap_err();
        assert_eq!(problem.code, code, "{manner:?}: {problem}");
        assert!(!format!("{problem} {:?}", problem.hint).contains("secret"), "{problem}");
    }
}

#[tokio::test]
async fn nobody_there_and_no_such_image_are_told_apart() {
    let outer = tempfile::tempdir().unwrap();
    let images = images(outer.path());
    // Bound, and never listened on: nobody else gets it meanwhile.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = format!("{}/hello", taken.local_addr().unwrap());
    assert_eq!(images.pull(&nobody, None, |_| {}).await.unwrap_err().code, &code::REGISTRY_UNAVAILABLE);
    let registry = registry(hello(), Manner::Open).await;
    let problem = images.pull(&format!("{}/hello:2", registry.address), None, |_| {}).await.unwrap_err();
    assert_eq!(problem.code, &code::IMAGE_NOT_FOUND);
    assert_eq!(images.pull("NO SUCH", None, |_| {}).await.unwrap_err().code, &code::INVALID_NAME);
}

#[tokio::test]
async fn an_image_that_is_asked_for_twice_at_once_comes_once() {
    let outer = tempfile::tempdir().unwrap();
    let images = images(outer.path());
    let registry = registry(hello(), Manner::Open).await;
    let reference = format!("{}/team/hello", registry.address);
    let seen = std::sync::Mutex::new(Vec::new());
    let watched = images.pull(&reference, None, |progress| seen.lock().unwrap().push(progress));
    let (one, two) = tokio::join!(watched, images.pull(&reference, None, |_| {}));
    assert_eq!(one.unwrap().layers, two.unwrap().layers);
    // Two configurations, and each of the two layers once.
    assert_eq!(registry.blobs_sent.load(Ordering::Relaxed), 4);
    let last = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last.layers_done, last.bytes), (2, last.bytes_total));
    images.pull(&reference, None, |_| {}).await.unwrap();
    assert_eq!(registry.blobs_sent.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn of_an_index_this_machines_image_is_pulled_and_another_ones_is_refused() {
    let index_for = |architecture: &str| {
        let mut made = hello();
        let listed = json!({ "digest": format!("sha256:{}", made.manifest), "size": 1,
            "platform": { "os": "linux", "architecture": architecture } });
        let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [listed] });
        let index = index.to_string().into_bytes();
        made.manifest = digest_of(&index);
        made.blobs.insert(made.manifest, index);
        made
    };
    let outer = tempfile::tempdir().unwrap();
    let images = images(outer.path());
    let own = registry(index_for(architecture()), Manner::Open).await;
    let image = images.pull(&format!("{}/hello", own.address), None, |_| {}).await.unwrap();
    assert_eq!(image.digest, hello().manifest);
    let other = registry(index_for("s390x"), Manner::Open).await;
    let problem = images.pull(&format!("{}/hello", other.address), None, |_| {}).await.unwrap_err();
    assert_eq!(problem.code, &code::IMAGE_ARCHITECTURE);
    assert!(problem.message.contains("linux/s390x"), "{problem}");
}
