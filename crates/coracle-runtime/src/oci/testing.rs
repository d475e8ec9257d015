//! Guests and grants for the tests of this folder: plain TCP on loopback stands for a sandbox's network.
//! A guest is a script of raw bytes, so that it can break every rule.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_model::{
    Body, CallId, Clock, Code, Contract, Digest, FunctionRef, Limits, NamespaceName, Revision, SecretName,
    Settings,
};
use coracle_observe::clock::System;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::host::{Host, Printed, Secret};
use crate::oci::ingress::Ingress;
use crate::oci::pool::{Protocol, Sockets};
use crate::output::{Output, Printer};
use crate::wasm::{Answer, Work};

/// A platform that remembers what it was told.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Vec<String>>);

impl Told {
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

impl Host for Told {
    fn log(&self, line: Printed) {
        self.tell(line.text);
    }

    fn denied(&self, _: &FunctionRef) {
        self.tell("denied".into());
    }

    fn secret(&self, _: &NamespaceName, _: &SecretName) -> Option<Secret> {
        None
    }
}

/// An output that goes to `told`.
pub(super) fn output(told: &Arc<Told>) -> Output {
    let host = Arc::clone(told) as Arc<dyn Host>;
    Output::new(&Printer::new(&revision(Limits::default()), host, Arc::new(System), true), 1)
}

/// A program that listens: what it does with each connection is a script.
pub(super) struct Guest {
    pub(super) ingress: Ingress,
    pub(super) told: Arc<Told>,
    accepted: Arc<AtomicUsize>,
}

impl Guest {
    /// Connections that it has accepted.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.serve(Request::get(uri(path)).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn serve(&self, request: Request<Body>) -> Answer {
        self.serve_within(request, Duration::from_secs(30)).await
    }

    pub(super) async fn serve_within(&self, request: Request<Body>, within: Duration) -> Answer {
        let work =
            Work { id: CallId::from_bits(7), request: Box::new(request), deadline: Instant::now() + within };
        self.ingress.serve(work).await.expect("the instance has not ended")
    }
}

/// The address of a path, as the gateway gives it.
pub(super) fn uri(path: &str) -> String {
    format!("http://program.default.localhost:8080{path}")
}

/// Starts a program with these bounds; the script is told how many connections came before.
pub(super) async fn guest<F, S>(limits: Limits, protocol: Protocol, script: S) -> Guest
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream, usize) -> F + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, accepted) = (Arc::<Told>::default(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(script(stream, counted.fetch_add(1, Ordering::SeqCst)));
        }
    });
    let ingress = Ingress::new(revision(limits), output(&told), sockets(), port, protocol);
    Guest { ingress, told, accepted }
}

/// Sockets of the network that the test runs in.
pub(super) fn sockets() -> Sockets {
    Arc::new(|| {
        Box::pin(async {
            let socket = TcpSocket::new_v4()?;
            // Tokio gives no socket away that is not connected.
            socket.as_fd().try_clone_to_owned()
        })
    })
}

pub(super) fn revision(limits: Limits) -> Arc<Revision> {
    Arc::new(Revision {
        function: FunctionRef::parse("program").unwrap(),
        number: 1,
        code: Code::Bundle(Digest::from_bytes([0; 32])),
        contract: Contract::Http,
        settings: Settings { limits, ..Settings::default() },
        created: System.now(),
    })
}

/// Reads a head, as far as its empty line; `None` when the connection ended before.
pub(super) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Answers each request of a connection with these bytes, as long as requests come.
pub(super) async fn answer_all(mut stream: TcpStream, answer: &[u8]) {
    while read_head(&mut stream).await.is_some() {
        stream.write_all(answer).await.unwrap();
    }
}
