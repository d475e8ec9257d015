//! Hearing of what other nodes have done: it listens, and has the feed catch up.
//! Started by [`Postgres::open`](super::Postgres::open), and ended by its close.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_postgres::{Error, Notification};

use super::feed::{self, Feed};
use super::group::LISTEN;
use super::session::Session;
use super::target::{ConnectError, Target};

/// How often removals are swept that everybody has seen.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long to wait before it is tried again to listen.
const PAUSE: Duration = Duration::from_millis(200);

/// Listens from before this returns until the task is aborted.
pub(super) async fn start(target: Arc<Target>, feed: Arc<Feed>) -> Result<JoinHandle<()>, ConnectError> {
    let mut line = listen(&target).await?;
    Ok(tokio::spawn(async move {
        loop {
            let Err(error) = follow(&line.0, &mut line.1, &feed).await;
            tracing::debug!(%error, "stopped following the other nodes");
            line = loop {
                match listen(&target).await {
                    Ok(line) => break line,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            };
        }
    }))
}

type Listening = (Session, mpsc::Receiver<Notification>);

async fn listen(target: &Target) -> Result<Listening, ConnectError> {
    let (mut session, notified) = Session::listening(target).await?;
    let refused = |source| target.refused(source);
    session.prepare(&feed::STATEMENTS).await.map_err(refused)?;
    session.execute(LISTEN).await.map_err(refused)?;
    Ok((session, notified))
}

/// Follows until the connection fails.
async fn follow(
    session: &Session,
    notified: &mut mpsc::Receiver<Notification>,
    feed: &Feed,
) -> Result<std::convert::Infallible, Error> {
    // What happened before anybody listened.
    feed.catch_up(session, &mut *feed.lock().await).await?;
    let mut sweeping = tokio::time::interval(SWEEP_EVERY);
    sweeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            notification = notified.recv() => {
                let mut news = News::default();
                // Closed when the connection is gone, which the query then says.
                let mut next = notification;
                while let Some(notification) = next {
                    news.add(notification.payload());
                    next = notified.try_recv().ok();
                }
                let mut told = feed.lock().await;
                if news.newest.is_none_or(|newest| !told.has(newest)) {
                    feed.catch_up(session, &mut told).await?;
                }
            }
            _ = sweeping.tick() => feed::sweep(session).await?,
        }
    }
}

/// What some notifications say together.
#[derive(Debug, Default)]
struct News {
    /// The newest revision of an entry.
    newest: Option<u64>,
}

impl News {
    fn add(&mut self, payload: &str) {
        self.newest = self.newest.max(payload.parse().ok());
    }
}
