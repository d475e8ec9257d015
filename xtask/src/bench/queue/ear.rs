//! Hears when a function starts: the server that it asks, in this program, on loopback.
//! `pace.rs` and `backlog.rs` time with it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::surroundings::now;

/// How many starts wait to be looked at.
const HEARD_MAX: usize = 10_000;
/// How long to wait for a start.
const START_MAX: Duration = Duration::from_secs(60);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n";

/// What hears; its thread ends with the program.
pub(super) struct Ear {
    origin: String,
    heard: Receiver<Instant>,
}

impl Ear {
    /// One that answers at once.
    pub(super) fn answering() -> Result<Self, String> {
        Self::with(|mut stream| {
            let _ = stream.write_all(ANSWER); // Whoever asked may be gone.
            None
        })
    }

    /// One that never answers, and keeps its connections.
    pub(super) fn silent() -> Result<Self, String> {
        Self::with(Some)
    }

    fn with(answer: impl Fn(TcpStream) -> Option<TcpStream> + Send + 'static) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("listen: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("listen: {error}"))?;
        let (tell, heard) = sync_channel(HEARD_MAX);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                // A request of a function is one small piece; what it says does not matter.
                let _ = stream.read(&mut [0; 4096]);
                let _ = tell.try_send(now()); // Nobody looks at so many.
                kept.extend(answer(stream));
            }
        });
        Ok(Self { origin: format!("http://{address}"), heard })
    }

    /// What a function must be granted to reach it.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// The path of a call that asks it.
    pub(super) fn path(&self, function: &str) -> String {
        format!("{function}/fetch?url={}/", self.origin)
    }

    /// When the next function started.
    pub(super) fn next(&self) -> Result<Instant, String> {
        self.heard.recv_timeout(START_MAX).map_err(|_| "no function started".to_owned())
    }

    /// Forgets what was heard.
    pub(super) fn clear(&self) {
        while self.heard.try_recv().is_ok() {}
    }
}
