//! Under which names this server holds leases: one, and those of before that still run something.
//! The worker and `put.rs` lease under the current one; `heartbeat.rs` keeps all of them alive.
//!
//! When the answer to a commit that leased something is lost, nobody knows what was leased; and when a name was not kept
//! alive in time, others may have what was leased under it. Then a new name takes over. What was leased under the old one
//! and has not begun is given back, and it leaves when all is over that is known of it: what nobody knew of waits again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use coracle_runtime::random_bits;
use coracle_store::Holder;
use tokio::sync::Notify;

/// What stands in a holder's name between the server's and what makes it another than those before.
const DIVIDER: char = '-';
/// Names that are remembered though nothing is known of them: more leave by themselves, when their time is over.
const NAMES_MAX: usize = 1_000;
/// The most of a server's name that stands in a holder's: four bytes each, and a holder has room for 256.
const NODE_CHARS_MAX: usize = 56;

#[derive(Debug)]
pub(crate) struct Sessions {
    node: String,
    // Std mutex: held for a look-up, never over an await.
    state: Mutex<State>,
    /// Told when the last of what was known is over.
    all_over: Notify,
}

#[derive(Debug)]
struct State {
    current: Holder,
    /// Until when the current name is alive, by what the database heard last; never yet, if it has not heard of it.
    until: Option<Instant>,
    /// Leases that are known of, and commits that may lease; of every name that has not left.
    known: HashMap<Holder, u64>,
}

impl Sessions {
    pub(crate) fn new(node: &str) -> Self {
        let current = fresh(node);
        let known = [(current.clone(), 0)].into();
        let state = State { current, until: None, known };
        Self { node: node.to_owned(), state: Mutex::new(state), all_over: Notify::new() }
    }

    /// The current name, which is used for a commit that may lease something, or for so many leases.
    pub(crate) fn begin(&self) -> Holder {
        let mut state = self.lock();
        let current = state.current.clone();
        *state.known.entry(current.clone()).or_default() += 1;
        current
    }

    /// So many leases are known of beside those before.
    pub(crate) fn more(&self, holder: &Holder, leases: u64) {
        *self.lock().known.entry(holder.clone()).or_default() += leases;
    }

    /// One that was begun, or known of, is over.
    pub(crate) fn over(&self, holder: &Holder) {
        let mut state = self.lock();
        if let Some(known) = state.known.get_mut(holder) {
            *known = known.saturating_sub(1);
        }
        if state.is_over() {
            self.all_over.notify_waiters();
        }
    }

    /// Nobody knows what was leased under this name, or who has it: another takes over.
    pub(crate) fn renew(&self, doubtful: &Holder) {
        let mut state = self.lock();
        if state.current == *doubtful {
            state.renew(&self.node);
        }
    }

    /// The current name.
    pub(crate) fn current(&self) -> Holder {
        self.lock().current.clone()
    }

    /// Whether what is leased under this name is ours for sure: it is the current one, and was kept in time.
    pub(crate) fn is_ours(&self, holder: &Holder, now: Instant) -> bool {
        let state = self.lock();
        state.current == *holder && state.until.is_some_and(|until| now < until)
    }

    /// Whether the current name is alive until then, by what the database has heard.
    pub(crate) fn lasts_until(&self, then: Instant) -> bool {
        self.lock().until.is_some_and(|until| then < until)
    }

    /// Waits until no lease is known of, and no commit that may lease is on its way.
    pub(crate) async fn until_over(&self) {
        loop {
            let over = self.all_over.notified();
            tokio::pin!(over);
            // Before the look, so that an end between the two is heard.
            over.as_mut().enable();
            if self.lock().is_over() {
                return;
            }
            over.await;
        }
    }

    /// The names to be kept alive. If the current one was not kept in time, that is another from now on.
    pub(crate) fn to_keep(&self, now: Instant) -> Vec<Holder> {
        let mut state = self.lock();
        if state.until.is_some_and(|until| now >= until) {
            state.renew(&self.node);
        }
        let State { current, known, .. } = &*state;
        known
            .iter()
            .filter(|(name, known)| **known > 0 || *name == current)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The database has heard of these. If that took longer than the current one was alive, others may have come between:
    /// then its time stays over.
    pub(crate) fn kept(&self, names: &[Holder], until: Instant, now: Instant) {
        let mut state = self.lock();
        if names.contains(&state.current) && state.until.is_none_or(|before| now < before) {
            state.until = state.until.max(Some(until));
        }
    }

    /// Every name that has not left.
    pub(crate) fn all(&self) -> Vec<Holder> {
        self.lock().known.keys().cloned().collect()
    }

    /// The names that have nothing left to do, and are forgotten now.
    pub(crate) fn leaving(&self) -> Vec<Holder> {
        let mut state = self.lock();
        let State { current, known, .. } = &mut *state;
        let leaving: Vec<Holder> = known
            .iter()
            .filter(|(name, known)| **known == 0 && *name != current)
            .map(|(name, _)| name.clone())
            .collect();
        known.retain(|name, _| !leaving.contains(name));
        leaving
    }

    /// A name that could not leave yet.
    pub(crate) fn not_left(&self, holder: Holder) {
        self.lock().known.entry(holder).or_default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn renew(&mut self, node: &str) {
        self.current = fresh(node);
        self.until = None;
        if self.known.len() >= NAMES_MAX {
            self.known.retain(|_, known| *known > 0);
        }
        self.known.insert(self.current.clone(), 0);
    }

    fn is_over(&self) -> bool {
        self.known.values().all(|known| *known == 0)
    }
}

/// The server that held leases under this name.
pub(crate) fn node_of(holder: &Holder) -> &str {
    let name = holder.as_str();
    match name.rsplit_once(DIVIDER) {
        Some((node, _)) => node,
        None => name,
    }
}

fn fresh(node: &str) -> Holder {
    // The name of a server may be long, or no name for a holder.
    let node: String = node.chars().filter(|c| !c.is_control()).take(NODE_CHARS_MAX).collect();
    Holder::new(&format!("{node}{DIVIDER}{:016x}", random_bits())).expect("short text on one line")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_holder_tells_which_server_it_is() {
        for (node, told) in [
            ("local", "local".to_owned()),
            ("web-1:8080", "web-1:8080".to_owned()),
            ("a\nb", "ab".to_owned()),
            ("", String::new()),
            (&"🛶".repeat(200), "🛶".repeat(NODE_CHARS_MAX)),
        ] {
            assert_eq!(node_of(&fresh(node)), told);
        }
    }

    #[test]
    fn a_doubtful_name_leaves_when_what_is_known_of_it_is_over() {
        let sessions = Sessions::new("a");
        let first = sessions.begin();
        sessions.more(&first, 1);
        sessions.renew(&first);
        let second = sessions.begin();
        assert_ne!(first, second);
        sessions.renew(&first);
        assert_eq!(sessions.begin(), second, "it was renewed already");
        sessions.over(&first);
        assert_eq!((sessions.leaving(), sessions.all().len()), (vec![], 2));
        sessions.over(&first);
        assert_eq!((sessions.leaving(), sessions.all()), (vec![first], vec![second]));
    }

    #[test]
    fn what_was_not_kept_in_time_begins_no_more() {
        let (sessions, start) = (Sessions::new("a"), tokio::time::Instant::now().into_std());
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = sessions.begin();
        assert!(!sessions.is_ours(&first, start), "the database has not heard of it");
        let names = sessions.to_keep(start);
        assert_eq!(names, std::slice::from_ref(&first), "it was never kept, and so never late");
        sessions.kept(&names, at(15), start);
        assert!(sessions.is_ours(&first, at(14)) && !sessions.is_ours(&first, at(15)));
        sessions.kept(&sessions.to_keep(at(14)), at(29), at(14));
        assert!(sessions.is_ours(&first, at(28)));
        let names = sessions.to_keep(at(29));
        let second = sessions.begin();
        assert_ne!(first, second);
        assert_eq!(sessions.to_keep(at(60)).len(), 2, "a name that was never kept is not late");
        sessions.kept(&names, at(44), at(61));
        assert!(sessions.is_ours(&second, at(43)) && !sessions.is_ours(&first, at(30)));
        let names = sessions.to_keep(at(43));
        sessions.kept(&names, at(58), at(44));
        assert!(!sessions.is_ours(&second, at(44)), "others may have come before the news of it");
        sessions.to_keep(at(45));
        assert_ne!(sessions.current(), second);
    }

    #[test]
    fn a_long_outage_leaves_few_names() {
        let sessions = Sessions::new("a");
        let running = sessions.begin();
        for _ in 0..5 * NAMES_MAX {
            let name = sessions.begin();
            sessions.renew(&name);
            if name != running {
                sessions.over(&name);
            }
        }
        assert!(sessions.all().len() <= NAMES_MAX + 1);
        let kept = sessions.to_keep(tokio::time::Instant::now().into_std());
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept.contains(&running) && kept.contains(&sessions.current()));
    }
}
