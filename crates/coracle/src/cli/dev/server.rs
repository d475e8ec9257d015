//! The server that `coracle dev` deploys to: the one that runs, else one within this very process.
//! The loop asks it for a client each time, because a server that went away may come back elsewhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use coracle_api::Client;
use coracle_model::{Problem, code};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::options::Common;
use crate::serve;
use crate::stop::{Done, Stop};

/// Where a server of our own listens, if nobody else does.
const PORT: u16 = 8080;

/// How long calls in flight may take at the end: whoever presses Ctrl-C is waiting.
const DRAIN: Duration = Duration::from_secs(1);

/// A server.
#[derive(Debug)]
pub(super) enum Server {
    /// Somebody else's, found anew for each client.
    Running(Common),
    /// Our own.
    Embedded(Embedded),
}

/// A server within this process; it ends with it.
#[derive(Debug)]
pub(super) struct Embedded {
    client: Client,
    serving: JoinHandle<Result<(), Problem>>,
    stop: oneshot::Sender<()>,
}

impl Server {
    /// Finds the server that runs, or starts one.
    pub(super) async fn find(common: &Common, listen: Option<SocketAddr>) -> Done<Self> {
        if listen.is_none() {
            match common.client() {
                Ok(client) if client.whoami().await.is_ok() => return Ok(Self::Running(common.clone())),
                // Named, but not there, or not for us: whoever named it wants to know.
                Ok(client) if common.names_a_server() => {
                    return Err(client.whoami().await.err().map_or(Stop::Shown, Into::into));
                }
                Err(stop) if common.names_a_server() => return Err(stop),
                // Nobody serves this data directory.
                _ => {}
            }
        }
        let data = common.data_dir()?;
        let wanted = listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        let options = |listen| serve::Options {
            incremental: true,
            drain: DRAIN,
            ..serve::Options::new(data.clone(), listen)
        };
        match Embedded::start(options(wanted)).await {
            Err(problem) if listen.is_none() && problem.code == &code::ADDRESS_IN_USE => {
                // The usual port is only a convenience.
                Ok(Self::Embedded(Embedded::start(options(SocketAddr::new(wanted.ip(), 0))).await?))
            }
            started => Ok(Self::Embedded(started?)),
        }
    }

    /// A client of it.
    pub(super) fn client(&self) -> Done<Client> {
        match self {
            Self::Running(common) => common.client(),
            Self::Embedded(embedded) => Ok(embedded.client.clone()),
        }
    }

    /// Waits for the end of a server of our own, which is nothing that should happen.
    pub(super) async fn ended(&mut self) -> Problem {
        let Self::Embedded(embedded) = self else { return std::future::pending().await };
        match (&mut embedded.serving).await {
            Ok(Err(problem)) => problem,
            _ => Problem::new(&code::INTERNAL, "the server ended by itself"),
        }
    }

    /// Stops a server of our own; what its calls still do is not waited for long.
    pub(super) async fn stop(self) {
        if let Self::Embedded(Embedded { serving, stop, .. }) = self {
            let _ = stop.send(()); // It may have ended already.
            let _ = serving.await;
        }
    }
}

impl Embedded {
    async fn start(options: serve::Options) -> Result<Self, Problem> {
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve::serve(options, ready, async move {
            let _ = stopped.await; // The other end is dropped only with the process.
        }));
        let Ok(ready) = is_ready.await else {
            return Err(match serving.await {
                Ok(Err(problem)) => problem,
                _ => Problem::new(&code::INTERNAL, "the server did not start"),
            });
        };
        let client = Client::new(&serve::url_of(ready.address), Some(&ready.admin_token));
        let client = client.map_err(|error| Problem::new(&code::INTERNAL, error.to_string()))?;
        Ok(Self { client, serving, stop })
    }
}
