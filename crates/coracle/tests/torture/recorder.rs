//! What functions ask at each run: it writes down that they ran, and tells them how long to take and what to answer.
//! A server on loopback, of threads; the tests read at their end what it saw.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::checker::{Moment, Run};
use crate::choices::Choice;

/// The longest request that is read.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// What is seen of runs; a clone is the same.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    seed: u64,
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    moments: AtomicU64,
    runs: Mutex<Runs>,
}

#[derive(Debug, Default)]
struct Runs {
    all: Vec<Run>,
    counts: HashMap<u32, usize>,
}

impl Recorder {
    /// One that answers as the choices of this seed say; its threads end with the test.
    pub(crate) fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let recorder = Self { seed, address, seen: Arc::default() };
        let of_thread = recorder.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let recorder = of_thread.clone();
                std::thread::spawn(move || recorder.hear(stream));
            }
        });
        recorder
    }

    /// What a function must be granted to reach it.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a function asks for at each run of a call.
    pub(crate) fn url_of(&self, call: u32) -> String {
        format!("{}/{call}", self.origin())
    }

    /// The next moment; whatever is seen gets one as soon as it is seen.
    pub(crate) fn moment(&self) -> Moment {
        self.seen.moments.fetch_add(1, Ordering::SeqCst)
    }

    /// All runs so far.
    pub(crate) fn runs(&self) -> Vec<Run> {
        self.seen.runs.lock().unwrap().all.clone()
    }

    /// A question that is cut off in its middle asked nothing.
    fn hear(&self, mut stream: TcpStream) -> Option<()> {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut piece = [0; 1024];
            let length = stream.read(&mut piece).ok().filter(|length| *length > 0)?;
            request.extend_from_slice(&piece[..length]);
            assert!(request.len() <= REQUEST_BYTES_MAX, "nobody sends so much");
        }
        let text = String::from_utf8(request).ok()?;
        let call: u32 = text.split(' ').nth(1)?.strip_prefix('/')?.parse().ok()?;
        let choice = Choice::of(self.seed, call);
        let (index, run) = self.begin(call);
        if is_cut_off(&stream, choice.takes) {
            return None;
        }
        let status = choice.answer(run);
        // Written down before it is said: what follows the answer happens later.
        self.seen.runs.lock().unwrap().all[index].answered = Some((self.moment(), status));
        let answer =
            format!("HTTP/1.1 {status} Told\r\ncontent-length: 5\r\nconnection: close\r\n\r\ntold\n");
        stream.write_all(answer.as_bytes()).ok()
    }

    /// Writes down a run, and says which one that is: of all, and of its call.
    fn begin(&self, call: u32) -> (usize, usize) {
        let mut runs = self.seen.runs.lock().unwrap();
        runs.all.push(Run { call, began: self.moment(), answered: None });
        let count = runs.counts.entry(call).or_default();
        *count += 1;
        let run = *count - 1;
        (runs.all.len() - 1, run)
    }
}

/// Whether the other side went away within this time.
fn is_cut_off(stream: &TcpStream, within: Duration) -> bool {
    if within.is_zero() {
        return false;
    }
    stream.set_read_timeout(Some(within)).unwrap();
    match stream.peek(&mut [0; 1]) {
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        // It sends nothing more: what is there to be read is its end.
        Ok(_) => true,
    }
}
