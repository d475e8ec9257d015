//! One topic on the board: what is leased of it and waits to be started, and how much more should be leased.
//! Held by `board.rs`, which knows how many places are free.

use std::collections::VecDeque;
use std::time::Duration;

use coracle_model::NamespaceName;
use coracle_store::MESSAGES_MAX;
use jiff::Timestamp;

use super::{DELIVERIES_MAX, Leased};
use crate::fair::cost_of;

/// The most messages of one lane that are leased ahead of their start.
const AHEAD_MAX: u32 = 128;
/// How long the calls take that a lane leases ahead: enough to hide a commit, and little to lose if the server ends.
const AHEAD_TIME: Duration = Duration::from_millis(20);
/// Bytes that one lane leases at once, as far as its messages were of the usual size.
const PAGE_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) namespace: NamespaceName,
    /// Whether it is of deliveries, and not of calls.
    pub(super) delivers: bool,
    pub(super) page: VecDeque<Leased>,
    pub(super) running: u32,
    /// Calls that may run at once.
    pub(super) limit: u32,
    pub(super) trust: Trust,
    /// How long its calls take, as an average that forgets.
    took_us: f64,
    /// How large its messages are, likewise.
    pub(super) bytes: f64,
    pub(super) more: More,
    /// Whether a take is on its way to the database.
    pub(super) is_taking: bool,
    /// What arrived while it was.
    pub(super) news: More,
    pub(super) is_hungry: bool,
}

/// What the database has for a lane, as far as it is known; what is due first is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum More {
    /// Something that is due.
    Due,
    /// Nothing before this time.
    Later(Timestamp),
    /// Nothing.
    Nothing,
}

/// How much a lane may lease at once.
///
/// A call that brings the server down takes the attempts of all that ran with it; so where attempts were lost, a lane
/// begins with one call and leases one more with each that ended. It begins so again with each call that was lost more
/// than once: of those that were lost with it the first time, most have ended before.
///
/// What was leased ahead loses nothing; but the call itself may be so quick that nobody knows that it had begun. So a lane
/// begins without leasing ahead: whatever may have been among what was lost is leased as begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing is known yet: one call is looked at first.
    Unknown,
    /// Attempts were lost: at most so many.
    Careful(u32),
    /// Something may have been lost before so many ended: as much as it can run.
    Watchful(u32),
    /// As much as it can run, and a page ahead.
    Full,
}

impl More {
    pub(super) fn after(wait: Duration, now: Timestamp) -> Self {
        match wait {
            Duration::ZERO => Self::Due,
            wait => Self::Later(now.checked_add(wait).unwrap_or(Timestamp::MAX)),
        }
    }
}

impl Lane {
    pub(super) fn new(namespace: NamespaceName, delivers: bool) -> Self {
        Self {
            namespace,
            delivers,
            page: VecDeque::new(),
            running: 0,
            limit: DELIVERIES_MAX,
            trust: Trust::Unknown,
            took_us: 10_000.0,
            bytes: 1_000.0,
            more: More::Nothing,
            is_taking: false,
            news: More::Nothing,
            is_hungry: false,
        }
    }

    /// Messages came; the one of them that was lost most often was lost so often.
    pub(super) fn came(&mut self, losses: usize) {
        self.trust = match (losses, self.trust) {
            (0, Trust::Unknown) => Trust::Watchful(0),
            (0, trust) | (1, trust @ Trust::Careful(_)) => trust,
            _ => Trust::Careful(1),
        };
    }

    pub(super) fn ended(&mut self, took: Duration) {
        self.took_us = self.took_us * 0.9 + took.as_secs_f64() * 1e6 * 0.1;
        if let Trust::Careful(most) = self.trust {
            self.trust = if most >= self.limit { Trust::Watchful(0) } else { Trust::Careful(most + 1) };
        }
        if let Trust::Watchful(ended) = self.trust {
            self.trust =
                if ended >= self.limit + AHEAD_MAX { Trust::Full } else { Trust::Watchful(ended + 1) };
        }
    }

    /// How many more messages it should lease, given how many places are free.
    pub(super) fn wants(&self, places_free: u32) -> usize {
        let here = self.page.len() + self.running as usize;
        let places = self.limit.saturating_sub(self.running).min(places_free.max(1));
        match self.trust {
            Trust::Unknown => 1usize.saturating_sub(here),
            Trust::Careful(most) => (most as usize).saturating_sub(here),
            Trust::Watchful(_) => (places as usize).saturating_sub(self.page.len()),
            Trust::Full => {
                let ahead = f64::from(self.limit) * AHEAD_TIME.as_secs_f64() * 1e6 / self.took_us.max(1.0);
                let whole = places as usize + (ahead as usize).min(AHEAD_MAX as usize);
                // In pages: a take for each call would be a commit for each.
                if self.page.len() > whole / 2 { 0 } else { whole - self.page.len() }
            }
        }
        .min((PAGE_BYTES as f64 / self.bytes) as usize + 1)
        .min(MESSAGES_MAX)
    }

    /// With how many of those it begins at once.
    pub(super) fn begins(&self, places_free: u32) -> usize {
        match self.trust {
            Trust::Careful(_) => MESSAGES_MAX,
            _ => {
                let places = self.limit.saturating_sub(self.running).min(places_free) as usize;
                places.saturating_sub(self.page.len())
            }
        }
    }

    /// What its next call costs, if it may start one.
    pub(super) fn next_cost(&self) -> Option<u32> {
        let next = self.page.front()?;
        (self.running < self.limit).then(|| cost_of(next.message.payload.len()))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.page.is_empty() && self.running == 0 && !self.is_taking && self.more == More::Nothing
    }
}
