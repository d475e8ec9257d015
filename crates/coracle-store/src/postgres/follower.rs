//! Hearing of what other nodes have done: it listens, and has the feed catch up.
//! Started by [`Postgres::open`](super::Postgres::open), and ended by its close.

use std::fmt::Write as _;
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
use crate::Topic;
use crate::arrivals::{Waits, sooner};

/// How often removals are swept that everybody has seen.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// The longest list of topics in one notification; PostgreSQL takes 7999 bytes.
const PAYLOAD_BYTES_MAX: usize = 7000;
/// In place of a list that would be longer. No topic has such a character.
const EVERYWHERE: &str = "\u{1}";
/// How long to wait before it is tried again to listen.
const PAUSE: Duration = Duration::from_millis(200);

/// Listens from before this returns until the task is aborted.
pub(super) async fn start(target: Arc<Target>, feed: Arc<Feed>) -> Result<JoinHandle<()>, ConnectError> {
    let mut listening = listen(&target).await?;
    Ok(tokio::spawn(async move {
        loop {
            let (session, notified) = &mut listening;
            let Err(error) = follow(session, notified, &feed).await;
            tracing::debug!(%error, "stopped following the other nodes");
            listening = listen_again(&target).await;
            // Of what was said in the meantime, the feed knows what is about entries.
            feed.doorbells.look_everywhere();
        }
    }))
}

async fn listen_again(target: &Target) -> Listening {
    loop {
        if let Ok(listening) = listen(target).await {
            return listening;
        }
        tokio::time::sleep(PAUSE).await;
    }
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
                let mut next = notification;
                while let Some(notification) = next {
                    news.add(notification.payload(), feed.is_of_writer(notification.process_id()));
                    next = notified.try_recv().ok();
                }
                news.tell(session, feed).await?;
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
    arrived: Waits,
    everywhere: bool,
    /// Some said something: with none, the connection is gone, which the next query then says.
    any: bool,
}

impl News {
    fn add(&mut self, payload: &str, is_ours: bool) {
        self.any = true;
        let (newest, topics) = payload.split_once('\n').unwrap_or((payload, ""));
        self.newest = self.newest.max(newest.parse().ok());
        // The writer of this node has rung for its own.
        if is_ours {
            return;
        }
        self.everywhere |= topics == EVERYWHERE;
        for (topic, wait) in topics.lines().filter_map(arrival) {
            sooner(&mut self.arrived, &topic, wait);
        }
    }

    async fn tell(self, session: &Session, feed: &Feed) -> Result<(), Error> {
        if self.everywhere {
            feed.doorbells.look_everywhere();
        } else {
            feed.doorbells.publish(&self.arrived);
        }
        if self.any && self.newest.is_none() {
            return Ok(());
        }
        let mut told = feed.lock().await;
        match self.newest {
            Some(newest) if told.has(newest) => Ok(()),
            _ => feed.catch_up(session, &mut told).await,
        }
    }
}

/// What a notification says of these news: the newest revision, if there is one, and then the topics, one a line, each
/// behind the microseconds until something in it is due.
pub(super) fn payload(newest: Option<u64>, arrived: &Waits) -> String {
    let newest = newest.map(|newest| newest.to_string()).unwrap_or_default();
    let mut payload = format!("{newest}\n");
    let all = payload.len();
    for (topic, wait) in arrived {
        let _ = writeln!(payload, "{} {topic}", wait.as_micros()); // A string takes all.
        if payload.len() > PAYLOAD_BYTES_MAX {
            payload.truncate(all);
            payload.push_str(EVERYWHERE);
            break;
        }
    }
    payload
}

/// What one line says.
fn arrival(line: &str) -> Option<(Topic, Duration)> {
    let (wait, topic) = line.split_once(' ')?;
    Some((Topic::new(topic).ok()?, Duration::from_micros(wait.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(count: usize) -> Waits {
        let topic = |number| Topic::new(&format!("default/calls/{number:06}")).unwrap();
        (0..count).map(|number| (topic(number), Duration::from_micros(number as u64))).collect()
    }

    #[test]
    fn what_a_notification_says_is_heard() {
        for (newest, count, everywhere) in
            [(Some(7), 0, false), (None, 3, false), (Some(7), 3, false), (None, 1000, true)]
        {
            let payload = payload(newest, &topics(count));
            assert!(payload.len() < 8000, "PostgreSQL takes no more");
            let mut news = News::default();
            news.add(&payload, false);
            let expected = if everywhere { 0 } else { count };
            assert_eq!((news.newest, news.arrived, news.everywhere), (newest, topics(expected), everywhere));
            let mut own = News::default();
            own.add(&payload, true);
            assert_eq!((own.newest, own.arrived.len(), own.everywhere), (newest, 0, false));
        }
    }
}
