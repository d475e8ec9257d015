//! Whether a guest is ready: its port accepts, and its health path answers 2xx.
//! The sandbox waits for it after a start, and asks again from time to time.

use std::fmt;
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::bodies::request::RequestBody;
use crate::oci::connection::{Line, Source, open_multiplexed};
use crate::oci::head;
use crate::oci::http1::Plain;
use crate::oci::ingress::{Ingress, Inlet};
use crate::oci::pool::Protocol;

/// How long the answer to one question may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after the first question, and the longest one: each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How much of the answer to a health check is read for the sake of its connection, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why a guest is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unready {
    /// Nothing accepts connections on its port.
    Deaf,
    /// The connection was accepted, and the answer is not HTTP or does not come.
    Mute,
    /// The health path answered with something else than 2xx.
    Unwell(StatusCode),
    /// The instance has ended.
    Ended,
}

impl Ingress {
    /// Waits until the guest is ready, or the deadline has passed; then it says what was missing last.
    pub(crate) async fn ready(&self, deadline: Instant, health: Option<&str>) -> Result<(), Unready> {
        let inlet = self.inlet();
        let mut pause = PAUSE_MIN;
        let mut missing = Unready::Deaf;
        let waiting = async {
            loop {
                match inlet.ask(health).await {
                    Ok(()) => return,
                    Err(unready) => missing = unready,
                }
                // The guest is a process that tells nobody when it listens.
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        };
        tokio::select! {
            biased;
            () = inlet.ended.cancelled() => Err(Unready::Ended),
            in_time = timeout_at(deadline, waiting) => in_time.map_err(|_| missing),
        }
    }

    /// Whether the guest accepts a connection, and its health path answers 2xx.
    pub(crate) async fn is_ready(&self, health: Option<&str>) -> bool {
        let inlet = self.inlet();
        !inlet.ended.is_cancelled() && inlet.ask(health).await.is_ok()
    }
}

impl Inlet {
    async fn ask(&self, health: Option<&str>) -> Result<(), Unready> {
        let mut missing = Unready::Deaf;
        let asking = async {
            let stream = self.pool.connect().await.map_err(|_| Unready::Deaf)?;
            missing = Unready::Mute;
            match health {
                None => {
                    // The first call needs a connection, and here is one.
                    if self.pool.protocol == Protocol::Http1 {
                        self.pool.keep(Box::new(Plain::new(stream)));
                    }
                    Ok(())
                }
                Some(path) => {
                    let line = match self.pool.protocol {
                        Protocol::Http1 => Line::Plain(Box::new(Plain::new(stream))),
                        Protocol::Http2 => {
                            let sender = open_multiplexed(stream).await.map_err(|_| Unready::Mute)?;
                            Line::Multiplexed(sender)
                        }
                    };
                    self.ask_on(line, path).await
                }
            }
        };
        match timeout(ANSWER_TIMEOUT, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(missing),
        }
    }

    async fn ask_on(&self, line: Line, path: &str) -> Result<(), Unready> {
        let mut request = Request::new(());
        *request.uri_mut() = format!("http://localhost{path}").parse().map_err(|_| Unready::Mute)?;
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("coracle-health"));
        head::prepare(&mut request, self.pool.protocol);
        let asked = line.ask(request, RequestBody::empty()).await;
        let (mut source, head) = asked.map_err(|_| Unready::Mute)?;
        if !head.status.is_success() {
            return Err(Unready::Unwell(head.status));
        }
        // What it says beside its status is of no interest, but a connection that is read out can carry a call.
        let read = http_body_util::Limited::new(&mut source, ANSWER_BYTES_MAX).collect().await;
        if let (Ok(_), Source::Plain(plain)) = (read, source) {
            self.pool.keep(plain);
        }
        Ok(())
    }
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deaf => f.write_str("it does not listen on its port"),
            Self::Mute => f.write_str("it accepted a connection and did not answer"),
            Self::Unwell(status) => write!(f, "its health path answers {status}"),
            Self::Ended => f.write_str("it has ended"),
        }
    }
}
