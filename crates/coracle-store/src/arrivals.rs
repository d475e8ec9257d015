//! Telling workers where something has begun to wait: a set of topics for each, which forgets nothing and never grows
//! beyond its bound. [`Arrivals`] is held by callers of [`Database::arrivals`](crate::Database::arrivals).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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
    /// In these topics.
    In(HashSet<Topic>),
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
    topics: HashSet<Topic>,
    everywhere: bool,
    closed: bool,
}

impl Doorbells {
    pub(crate) fn arrivals(&self) -> Arrivals {
        let mut readers = self.readers();
        let news = News { topics: HashSet::new(), everywhere: false, closed: readers.closed };
        let reader = Arc::new(Reader { news: Mutex::new(news), filled: Notify::new() });
        readers.all.retain(|reader| reader.strong_count() > 0);
        readers.all.push(Arc::downgrade(&reader));
        Arrivals(reader)
    }

    /// Hands out where something has begun to wait, once that is durable.
    pub(crate) fn publish(&self, topics: &HashSet<Topic>) {
        if topics.is_empty() {
            return;
        }
        self.each(|news| {
            news.topics.extend(topics.iter().cloned());
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

    fn topics(names: impl IntoIterator<Item = String>) -> HashSet<Topic> {
        names.into_iter().map(|name| Topic::new(&name).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_slow_reader_hears_of_each_topic_once() {
        let doorbells = Doorbells::default();
        let mut arrivals = doorbells.arrivals();
        doorbells.publish(&topics(["a/1".to_owned()]));
        doorbells.publish(&topics(["a/2".to_owned(), "a/1".to_owned()]));
        let both = topics(["a/1".to_owned(), "a/2".to_owned()]);
        assert_eq!(arrivals.next().await, Some(Where::In(both)));
        doorbells.publish(&topics((0..=TOPICS_MAX).map(|n| format!("a/{n}"))));
        assert_eq!(arrivals.next().await, Some(Where::Everywhere));
        doorbells.close();
        assert_eq!(arrivals.next().await, None);
        assert_eq!(doorbells.arrivals().next().await, None);
    }
}
