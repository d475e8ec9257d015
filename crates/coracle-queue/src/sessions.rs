//! Under which names this server holds leases: one, and those of before that still run something.
//! The worker and `put.rs` lease under the current one; `heartbeat.rs` keeps all of them alive.
//!
//! When the answer to a commit that leased something is lost, nobody knows what was leased.
//! Then a new name takes over, and the old one leaves when all is over that is known of it: what nobody knew of waits again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coracle_runtime::random_bits;
use coracle_store::Holder;
use tokio::sync::Notify;

/// What stands in a holder's name between the server's and what makes it another than those before.
const DIVIDER: char = '-';
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
    /// Leases that are known of, and commits that may lease; of every name that has not left.
    known: HashMap<Holder, u64>,
}

impl Sessions {
    pub(crate) fn new(node: &str) -> Self {
        let current = fresh(node);
        let known = [(current.clone(), 0)].into();
        Self { node: node.to_owned(), state: Mutex::new(State { current, known }), all_over: Notify::new() }
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

    /// Nobody knows what was leased under this name: another takes over.
    pub(crate) fn renew(&self, doubtful: &Holder) {
        let mut state = self.lock();
        if state.current == *doubtful {
            state.current = fresh(&self.node);
            let current = state.current.clone();
            state.known.insert(current, 0);
        }
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

    /// The names to be kept alive.
    pub(crate) fn all(&self) -> Vec<Holder> {
        self.lock().known.keys().cloned().collect()
    }

    /// The names that have nothing left to do, and are forgotten now.
    pub(crate) fn leaving(&self) -> Vec<Holder> {
        let mut state = self.lock();
        let State { current, known } = &mut *state;
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
}
