//! Readers who follow calls as they end.
//! `Calls` hands each call out; a reader who is too slow misses some and learns how many, and no call waits for anybody.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CallRecord, Filter};
use crate::mailbox::{Bounds, Followed, Mailbox};

/// Readers who may follow at one time.
pub const FOLLOWERS_MAX: usize = 64;
/// Calls that wait for one reader.
pub const FOLLOW_CALLS_MAX: usize = 4_096;

/// A record has bounds of its own, so that counting them is enough.
const BOUNDS: Bounds = Bounds { letters_max: FOLLOW_CALLS_MAX, bytes_max: usize::MAX };

/// That [`FOLLOWERS_MAX`] readers follow already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot follow calls: {FOLLOWERS_MAX} readers follow already")]
pub struct FollowersFull;

/// One reader's place; dropping it leaves.
#[derive(Debug)]
pub struct Follower {
    place: Arc<Place>,
    followers: Arc<Followers>,
}

impl Follower {
    /// The next call that ended, or how many were missed. Nothing is lost when this is cancelled.
    pub async fn next(&mut self) -> Option<Followed<Arc<CallRecord>>> {
        self.place.letters.next().await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut places = self.followers.lock();
        places.retain(|place| !Arc::ptr_eq(place, &self.place));
        self.followers.count.store(places.len(), Relaxed);
    }
}

/// All who follow.
#[derive(Debug, Default)]
pub(super) struct Followers {
    /// How many there are, so that a call that nobody follows takes no lock for it.
    count: AtomicUsize,
    // Std mutex: held while a call is handed out, never over a system call or an await.
    places: Mutex<Vec<Arc<Place>>>,
}

#[derive(Debug)]
struct Place {
    filter: Filter,
    letters: Mailbox<Arc<CallRecord>>,
}

impl Followers {
    pub(super) fn add(self: &Arc<Self>, filter: &Filter) -> Result<Follower, FollowersFull> {
        let mut places = self.lock();
        if places.len() >= FOLLOWERS_MAX {
            return Err(FollowersFull);
        }
        let place = Arc::new(Place { filter: filter.clone(), letters: Mailbox::new(BOUNDS) });
        places.push(Arc::clone(&place));
        self.count.store(places.len(), Relaxed);
        Ok(Follower { place, followers: Arc::clone(self) })
    }

    /// Hands a call out to those who want it.
    pub(super) fn publish(&self, call: &Arc<CallRecord>) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        for place in self.lock().iter().filter(|place| place.filter.matches(&call.function)) {
            place.letters.put(std::iter::once((Arc::clone(call), 0)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
