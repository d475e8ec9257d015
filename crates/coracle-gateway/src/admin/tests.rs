//! The API as its clients see it: a real router over a real catalog, store and runtime, in a directory that goes away.
//! Text in, text out; nothing is compiled here, so deploys of real code are tested with the binary.

mod client;
mod functions;
mod names;
mod past;
mod queued;
mod rights;
mod uploads;

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
use coracle_observe::metrics::Class;
use coracle_runtime::{Bounds, Host, ImageBounds, Images, Printed, Programs, Runtime, Secret};
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
        let database =
            Arc::new(Embedded::open(&data.database(), Arc::new(coracle_observe::clock::System)).unwrap());
        let observe = Observe::open(&data.logs(), Limits::default(), clock.clone()).unwrap();
        let key = SecretKey::load_or_create(&data.key()).unwrap();
        let catalog =
            Catalog::open(Arc::clone(&database) as Arc<dyn Database>, key, clock.clone()).await.unwrap();
        let bounds = Bounds { instances: 1, ..Bounds::DEFAULT };
        // No code is compiled, so that no program has to do it.
        let program = dir.path().join("no-compiler");
        let images = Images::open(&data.images(), ImageBounds::DEFAULT).unwrap();
        let programs =
            Programs::open(images.clone(), artifacts.clone(), &data.sandboxes(), program.clone()).unwrap();
        let (cache, host) = (data.cache(), Arc::new(NoHost));
        let runtime =
            Runtime::open(bounds, artifacts.clone(), programs, &cache, program, host, clock.clone()).unwrap();
        let invoke = Invoke::new(catalog.clone(), runtime.clone(), observe.clone(), 1, 0);
        let parts = coracle_queue::Parts {
            database: Arc::clone(&database) as Arc<dyn Database>,
            artifacts: artifacts.clone(),
            catalog: catalog.clone(),
            invoke: invoke.clone(),
            observe: observe.clone(),
        };
        let admin = Admin {
            queue: Queue::open(parts, coracle_queue::Options::default()).await.unwrap(),
            invoke,
            authenticator: Authenticator::new(catalog.clone(), None),
            catalog,
            runtime,
            observe,
            artifacts,
            images,
            nodes: Nodes::alone(Arc::clone(&database) as Arc<dyn Database>, "http://127.0.0.1:8080"),
            embedded: Some(database),
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

/// A line of the function `hello`.
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
