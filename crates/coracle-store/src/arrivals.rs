//! Telling workers where something has begun to wait: a set of topics for each, which forgets nothing and never grows
//! beyond its bound. [`Arrivals`] is held by callers of [`Database::arrivals`](crate::Database::arrivals).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::Topic;

/// The most topics that wait for one slow reader; one more, and it is told to look at all.
const TOPICS_MAX: usize = 4096;

/// The topics in which something has begun to wait since they were last taken from here.
///
/// Dropping it ends it.
#[derive(Debug)]
pub struct Arrivals(Arc<Reader>);

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// In these topics, and how long it is until the first of it is due: zero if it is due now.
    In(HashMap<Topic, Duration>),
    /// Everywhere: too much has happened to say where, or news was missed.
    Everywhere,
}

impl Arrivals {
    /// Where something has begun to wait, waiting for it; `None` once the database is closed.
    ///
    /// May be dropped while it waits: nothing is lost by that.
    pub async fn next(&mut self) -> Option<Where> {
        loop {
            {
                let mut news = self.0.news();
                if std::mem::take(&mut news.everywhere) {
                    news.topics.clear();
                    return Some(Where::Everywhere);
                }
                if !news.topics.is_empty() {
                    return Some(Where::In(std::mem::take(&mut news.topics)));
                }
                if news.closed {
                    return None;
                }
            }
            self.0.filled.notified().await;
        }
    }
}

/// How long it is until something is due that has begun to wait, by topic.
pub(crate) type Waits = HashMap<Topic, Duration>;

/// Something has begun to wait in a topic; the shortest wait is kept.
pub(crate) fn sooner(waits: &mut Waits, topic: &Topic, wait: Duration) {
    match waits.get_mut(topic) {
        Some(known) => *known = wait.min(*known),
        None => drop(waits.insert(topic.clone(), wait)),
    }
}

/// From one moment in microseconds to another; nothing, if it has passed.
pub(crate) fn wait(due: i64, now: i64) -> Duration {
    Duration::from_micros(u64::try_from(due.saturating_sub(now)).unwrap_or(0))
}

/// Everybody who waits for arrivals in one database.
#[derive(Debug, Default)]
pub(crate) struct Doorbells {
    // Std mutex: held while topics are moved into sets, never over `.await`.
    readers: Mutex<Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    all: Vec<Weak<Reader>>,
    closed: bool,
}

#[derive(Debug)]
struct Reader {
    news: Mutex<News>,
    // One reader waits at most, so that the one permit of `notify_one` never goes to the wrong place.
    filled: Notify,
}

#[derive(Debug)]
struct News {
    topics: Waits,
    everywhere: bool,
    closed: bool,
}

impl Doorbells {
    pub(crate) fn arrivals(&self) -> Arrivals {
        let mut readers = self.readers();
        let news = News { topics: Waits::new(), everywhere: false, closed: readers.closed };
        let reader = Arc::new(Reader { news: Mutex::new(news), filled: Notify::new() });
        readers.all.retain(|reader| reader.strong_count() > 0);
        readers.all.push(Arc::downgrade(&reader));
        Arrivals(reader)
    }

    /// Hands out where something has begun to wait, once that is durable.
    pub(crate) fn publish(&self, topics: &Waits) {
        if topics.is_empty() {
            return;
        }
        self.each(|news| {
            topics.iter().for_each(|(topic, wait)| sooner(&mut news.topics, topic, *wait));
            if news.topics.len() > TOPICS_MAX {
                news.everywhere = true;
            }
        });
    }

    /// Has everybody look everywhere, because news may have been missed.
    pub(crate) fn look_everywhere(&self) {
        self.each(|news| news.everywhere = true);
    }

    /// Ends all of them, once what waits in them was taken.
    pub(crate) fn close(&self) {
        self.each(|news| news.closed = true);
        let mut readers = self.readers();
        readers.closed = true;
        readers.all.clear();
    }

    fn each(&self, tell: impl Fn(&mut News)) {
        for reader in self.readers().all.iter().filter_map(Weak::upgrade) {
            tell(&mut reader.news());
            reader.filled.notify_one();
        }
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const LATER: Duration = Duration::from_secs(60);

    fn waits<T: AsRef<str>>(all: impl IntoIterator<Item = (T, Duration)>) -> Waits {
        all.into_iter().map(|(name, wait)| (Topic::new(name.as_ref()).unwrap(), wait)).collect()
    }

    #[tokio::test]
    async fn a_slow_reader_hears_of_each_topic_once_and_of_what_is_due_first() {
        let doorbells = Doorbells::default();
        let mut arrivals = doorbells.arrivals();
        doorbells.publish(&waits([("a/1", LATER), ("a/3", NOW)]));
        doorbells.publish(&waits([("a/2", LATER), ("a/1", NOW), ("a/3", LATER)]));
        let all = waits([("a/1", NOW), ("a/2", LATER), ("a/3", NOW)]);
        assert_eq!(arrivals.next().await, Some(Where::In(all)));
        doorbells.publish(&waits((0..=TOPICS_MAX).map(|n| (format!("a/{n}"), NOW))));
        assert_eq!(arrivals.next().await, Some(Where::Everywhere));
        doorbells.close();
        assert_eq!(arrivals.next().await, None);
        assert_eq!(doorbells.arrivals().next().await, None);
    }
}
