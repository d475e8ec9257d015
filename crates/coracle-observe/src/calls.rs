//! The last calls: what each was, how long its parts took, and how it ended.
//! Invoke records every call here; `/v1/calls` and `coracle show` read, and follow. In memory only: after a restart they are gone.

mod follow;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_model::{CallId, FunctionRef, NamespaceName};
use foldhash::fast::RandomState;
use jiff::{SignedDuration, Timestamp};

use crate::bounded;

use follow::Followers;
pub use follow::{FOLLOW_CALLS_MAX, FOLLOWERS_MAX, Follower, FollowersFull};

/// Calls kept of one function.
pub const CALLS_PER_FUNCTION_MAX: usize = 32;
/// Calls kept of a function once [`CALLS_KEPT_MAX`] is reached.
pub const CALLS_PER_FUNCTION_MIN: usize = 4;
/// Calls kept of all functions together, whoever they belong to.
pub const CALLS_RECENT_MAX: usize = 2_048;
/// Calls kept by function, before rings stop growing: with 10,000 functions, 32 each would be over 100 MB.
pub const CALLS_KEPT_MAX: usize = 65_536;
/// Bytes kept of a path.
pub const PATH_BYTES_MAX: usize = 256;
/// Bytes kept of the message of a call that failed.
pub const MESSAGE_BYTES_MAX: usize = 512;

/// Records beyond [`CALLS_RECENT_MAX`] that go at once: each has left the processor's caches by then, and of those that are
/// freed together, the memory is warm for the next ones.
const CALLS_LET_GO_AT_ONCE: usize = 64;

/// Locks that calls of different functions spread over.
const SHARDS: usize = 16;

/// One call that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRecord {
    /// Which call.
    pub id: CallId,
    /// What was called.
    pub function: FunctionRef,
    /// The revision that ran.
    pub revision: u32,
    /// The method of the request.
    pub method: http::Method,
    /// The path that the function saw, cut to [`PATH_BYTES_MAX`].
    pub path: String,
    /// The status that the client saw.
    pub status: u16,
    /// When it came in.
    pub started: Timestamp,
    /// Microseconds it waited to be admitted.
    pub waited_us: u32,
    /// Microseconds until an instance was ready.
    pub started_us: u32,
    /// Microseconds the guest ran.
    pub run_us: u32,
    /// Microseconds from coming in to the end of the body.
    pub total_us: u32,
    /// Whether it had to wait for code to be mapped or an instance to start.
    pub cold: bool,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// The most memory that the instance used.
    pub memory_peak_bytes: u64,
    /// How it ended.
    pub end: End,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With a whole answer of the guest.
    Ok,
    /// With a problem.
    Failed {
        /// The code of the problem, which `coracle explain` knows.
        code: Cow<'static, str>,
        /// What happened, cut to [`MESSAGE_BYTES_MAX`].
        message: String,
    },
}

/// Which calls to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Whatever ran last.
    All,
    /// Those of one namespace.
    Namespace(NamespaceName),
    /// Those of one function.
    Function(FunctionRef),
}

impl Filter {
    /// Whether calls of this function are among them.
    pub fn matches(&self, function: &FunctionRef) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => function.namespace == *namespace,
            Self::Function(only) => function == only,
        }
    }
}

/// The last calls; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hasher: RandomState,
    // Std mutexes: held for a push and a pop, never over an await.
    shards: [Mutex<Shard>; SHARDS],
    recent: Mutex<Ring>,
    kept: AtomicUsize,
    followers: Arc<Followers>,
}

/// Oldest first; it grows as calls come, so that a function called twice does not pay for 32.
type Ring = VecDeque<Arc<CallRecord>>;
type Shard = foldhash::HashMap<FunctionRef, Ring>;

impl Calls {
    /// Keeps a call, and lets the oldest go when there is no room.
    pub fn record(&self, mut record: CallRecord) {
        bounded::cut(&mut record.path, PATH_BYTES_MAX);
        if let End::Failed { message, .. } = &mut record.end {
            bounded::cut(message, MESSAGE_BYTES_MAX);
        }
        let record = Arc::new(record);
        self.keep_by_function(&record);
        let mut recent = lock(&self.0.recent);
        recent.push_back(record);
        let is_long = recent.len() >= CALLS_RECENT_MAX + CALLS_LET_GO_AT_ONCE;
        let let_go = is_long.then(|| recent.drain(..CALLS_LET_GO_AT_ONCE).collect::<Vec<_>>());
        drop(recent);
        drop(let_go);
    }

    /// The last `n` calls, newest first.
    pub fn last(&self, filter: &Filter, n: usize) -> Vec<Arc<CallRecord>> {
        match filter {
            Filter::All => lock(&self.0.recent).iter().rev().take(n.min(CALLS_RECENT_MAX)).cloned().collect(),
            Filter::Function(function) => last_of(&lock(self.shard(function)), filter, n),
            Filter::Namespace(_) => {
                newest(self.0.shards.iter().flat_map(|shard| last_of(&lock(shard), filter, n)).collect(), n)
            }
        }
    }

    /// The last `n` calls, newest first, and then those that end from now on: none twice, none left out between.
    ///
    /// Of each function no more than [`CALLS_PER_FUNCTION_MAX`] are among the first.
    ///
    /// # Errors
    /// [`FollowersFull`].
    pub fn follow(
        &self,
        filter: &Filter,
        n: usize,
    ) -> Result<(Vec<Arc<CallRecord>>, Follower), FollowersFull> {
        // A call is kept and handed out under the lock of its shard: with all locks held, it is either before us or after.
        let held: Vec<_> = self.0.shards.iter().map(lock).collect();
        let follower = self.0.followers.add(filter)?;
        let calls = held.iter().flat_map(|shard| last_of(shard, filter, n)).collect();
        Ok((newest(calls, n), follower))
    }

    /// The call with this identity, if it is still kept; the latest one, where a client chose the same identity twice.
    pub fn get(&self, id: &CallId) -> Option<Arc<CallRecord>> {
        // Compared as text: an identity of ours that comes back from a client is the same identity.
        let is_it = |call: &&Arc<CallRecord>| call.id.as_str() == id.as_str();
        if let Some(call) = lock(&self.0.recent).iter().rev().find(is_it) {
            return Some(Arc::clone(call));
        }
        self.0
            .shards
            .iter()
            .find_map(|shard| lock(shard).values().find_map(|ring| ring.iter().rev().find(is_it).cloned()))
    }

    /// Drops the calls of a function that was removed.
    pub fn forget(&self, function: &FunctionRef) {
        if let Some(ring) = lock(self.shard(function)).remove(function) {
            self.0.kept.fetch_sub(ring.len(), Relaxed);
        }
        lock(&self.0.recent).retain(|call| call.function != *function);
    }

    fn keep_by_function(&self, record: &Arc<CallRecord>) {
        let full = self.0.kept.load(Relaxed) >= CALLS_KEPT_MAX;
        let room = if full { CALLS_PER_FUNCTION_MIN } else { CALLS_PER_FUNCTION_MAX };
        let mut shard = lock(self.shard(&record.function));
        // Looked up by reference: the entry interface would clone the name for every call.
        let (before, after) = match shard.get_mut(&record.function) {
            Some(ring) => {
                let before = ring.len();
                while ring.len() >= room {
                    ring.pop_front();
                }
                ring.push_back(Arc::clone(record));
                (before, ring.len())
            }
            None => {
                shard.insert(record.function.clone(), Ring::from([Arc::clone(record)]));
                (0, 1)
            }
        };
        self.0.followers.publish(record);
        drop(shard);
        if after >= before {
            self.0.kept.fetch_add(after - before, Relaxed);
        } else {
            self.0.kept.fetch_sub(before - after, Relaxed);
        }
    }

    fn shard(&self, function: &FunctionRef) -> &Mutex<Shard> {
        let hash = self.0.hasher.hash_one(function);
        &self.0.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }
}

impl CallRecord {
    /// When its body ended.
    pub fn ended(&self) -> Timestamp {
        let took = SignedDuration::from_micros(i64::from(self.total_us));
        self.started.checked_add(took).unwrap_or(Timestamp::MAX)
    }
}

/// The last `n` calls of each function that is wanted, newest first.
fn last_of(shard: &Shard, filter: &Filter, n: usize) -> Vec<Arc<CallRecord>> {
    let of = |ring: &Ring| ring.iter().rev().take(n).cloned().collect::<Vec<_>>();
    match filter {
        Filter::Function(function) => shard.get(function).map(of).unwrap_or_default(),
        _ => shard
            .iter()
            .filter(|(function, _)| filter.matches(function))
            .flat_map(|(_, ring)| of(ring))
            .collect(),
    }
}

fn newest(mut calls: Vec<Arc<CallRecord>>, n: usize) -> Vec<Arc<CallRecord>> {
    calls.sort_by_key(|call| std::cmp::Reverse(call.ended()));
    calls.truncate(n);
    calls
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Followed;

    fn record(function: &str, number: u32) -> CallRecord {
        CallRecord {
            id: CallId::from_bits(u128::from(number)),
            function: FunctionRef::parse(function).expect("a name"),
            revision: 1,
            method: http::Method::GET,
            path: "/".to_owned(),
            status: 200,
            started: Timestamp::from_second(i64::from(number)).expect("a time"),
            waited_us: 0,
            started_us: 40,
            run_us: 60,
            total_us: 100,
            cold: false,
            bytes_in: 0,
            bytes_out: 2,
            memory_peak_bytes: 65_536,
            end: End::Ok,
        }
    }

    fn function(name: &str) -> Filter {
        Filter::Function(FunctionRef::parse(name).expect("a name"))
    }

    fn numbers(calls: &Calls, filter: &Filter, n: usize) -> Vec<i64> {
        calls.last(filter, n).iter().map(|call| call.started.as_second()).collect()
    }

    #[test]
    fn the_last_calls_come_newest_first() {
        let calls = Calls::default();
        for (number, name) in ["a", "b", "c.shop", "a"].iter().enumerate() {
            calls.record(record(name, number as u32));
        }
        assert_eq!(numbers(&calls, &Filter::All, 3), [3, 2, 1]);
        assert_eq!(numbers(&calls, &function("a"), 9), [3, 0]);
        assert_eq!(numbers(&calls, &Filter::Namespace(NamespaceName::default()), 2), [3, 1]);
        assert_eq!(numbers(&calls, &function("nobody"), 9), [] as [i64; 0]);
    }

    #[test]
    fn a_busy_function_does_not_push_out_a_quiet_one() {
        let calls = Calls::default();
        calls.record(record("quiet", 0));
        for number in 1..=(CALLS_RECENT_MAX + CALLS_LET_GO_AT_ONCE) as u32 {
            calls.record(record("busy", number));
        }
        assert_eq!(calls.last(&Filter::All, usize::MAX).len(), CALLS_RECENT_MAX);
        assert_eq!(calls.last(&function("busy"), usize::MAX).len(), CALLS_PER_FUNCTION_MAX);
        assert_eq!(numbers(&calls, &function("quiet"), 9), [0]);
        assert_eq!(calls.get(&CallId::from_bits(0)).map(|call| call.status), Some(200));
        assert_eq!(calls.get(&CallId::from_bits(1)), None);
    }

    #[test]
    fn a_call_is_found_by_the_text_of_its_identity() {
        let calls = Calls::default();
        calls.record(record("a", 7));
        let told = CallId::parse(CallId::from_bits(7).as_str()).expect("an identity");
        assert!(calls.get(&told).is_some());
    }

    #[tokio::test]
    async fn a_reader_follows_calls_from_the_last_ones_on() {
        let calls = Calls::default();
        calls.record(record("a", 1));
        calls.record(record("b", 2));
        calls.record(record("c.shop", 3));
        let shop = Filter::Namespace(NamespaceName::default());
        let (last, mut follower) = calls.follow(&shop, 1).expect("a place");
        assert_eq!(last.iter().map(|call| call.started.as_second()).collect::<Vec<_>>(), [2]);
        let (_, mut other) = calls.follow(&function("a"), 0).expect("a place");
        for (name, number) in [("c.shop", 4), ("b", 5), ("a", 6)] {
            calls.record(record(name, number));
        }
        let next = async |follower: &mut Follower| match follower.next().await {
            Some(Followed::One(call)) => call.started.as_second(),
            other => panic!("{other:?}"),
        };
        assert_eq!((next(&mut follower).await, next(&mut follower).await), (5, 6));
        assert_eq!(next(&mut other).await, 6);
    }

    #[tokio::test]
    async fn a_reader_who_is_too_slow_learns_how_many_calls_it_missed() {
        let calls = Calls::default();
        let (_, mut follower) = calls.follow(&Filter::All, 0).expect("a place");
        for number in 0..FOLLOW_CALLS_MAX as u32 + 7 {
            calls.record(record("a", number));
        }
        for _ in 0..FOLLOW_CALLS_MAX {
            assert!(matches!(follower.next().await, Some(Followed::One(_))));
        }
        assert_eq!(follower.next().await, Some(Followed::Missed(7)));
    }

    #[test]
    fn readers_are_bounded_and_those_who_leave_make_room() {
        let calls = Calls::default();
        let follow = || calls.follow(&Filter::All, 0).map(|(_, follower)| follower);
        let mut followers: Vec<_> = (0..FOLLOWERS_MAX).map(|_| follow().expect("a place")).collect();
        assert_eq!(follow().err(), Some(FollowersFull));
        followers.pop();
        assert!(follow().is_ok());
    }

    #[test]
    fn many_functions_keep_fewer_calls_each() {
        let calls = Calls::default();
        calls.0.kept.store(CALLS_KEPT_MAX, Relaxed);
        for number in 0..9 {
            calls.record(record("a", number));
        }
        assert_eq!(numbers(&calls, &function("a"), 9), [8, 7, 6, 5]);
        assert_eq!(calls.0.kept.load(Relaxed), CALLS_KEPT_MAX + CALLS_PER_FUNCTION_MIN);
    }

    #[test]
    fn a_forgotten_function_leaves_no_calls() {
        let calls = Calls::default();
        calls.record(record("a", 1));
        calls.record(record("b", 2));
        calls.forget(&FunctionRef::parse("a").expect("a name"));
        assert_eq!(numbers(&calls, &Filter::All, 9), [2]);
        assert_eq!(numbers(&calls, &function("a"), 9), [] as [i64; 0]);
        assert_eq!(calls.0.kept.load(Relaxed), 1);
    }

    #[test]
    fn paths_and_messages_are_cut() {
        let calls = Calls::default();
        let end = End::Failed { code: "guest-trapped".into(), message: "m".repeat(10_000) };
        calls.record(CallRecord { path: "p".repeat(10_000), end, ..record("a", 1) });
        let kept = calls.last(&Filter::All, 1).remove(0);
        assert!(kept.path.len() <= PATH_BYTES_MAX);
        assert!(matches!(&kept.end, End::Failed { message, .. } if message.len() <= MESSAGE_BYTES_MAX));
    }
}
