//! All that is left to chance, drawn from one seed: what calls do, when they are sent, and who is killed when.
//! Recorder, producers and chaos ask here, so that a seed gives the same choices again.

use std::time::Duration;

use fastrand::Rng;

/// The statuses that a function answers which ends well, in the end.
const GOOD: u16 = 200;
/// What is tried again, and what is not.
const TRIED_AGAIN: u16 = 503;
const NOT_TRIED_AGAIN: u16 = 404;

/// What one call is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// What the function answers at its first run, its second, and so on; the last one holds for all that follow.
    pub(crate) answers: Vec<u16>,
    /// How long each run takes.
    pub(crate) takes: Duration,
    /// Which of the groups of its producer it belongs to.
    pub(crate) group: Option<u8>,
    /// How long it is put off.
    pub(crate) delay: Option<Duration>,
    /// Whether it is sent with a key, and again until somebody has taken it.
    pub(crate) has_key: bool,
    /// Whether it is cancelled as soon as it was taken.
    pub(crate) is_cancelled: bool,
    /// How long its producer waits before it sends the next one.
    pub(crate) pause: Duration,
}

/// The groups of one producer.
const GROUPS: u8 = 3;

impl Choice {
    /// That of a call; no call's depends on another's.
    pub(crate) fn of(seed: u64, number: u32) -> Self {
        let mut rng = rng(seed, u64::from(number));
        let answers = match rng.u32(..100) {
            0..70 => vec![GOOD],
            70..88 => [vec![TRIED_AGAIN; rng.usize(1..3)], vec![GOOD]].concat(),
            88..94 => vec![TRIED_AGAIN],
            _ => vec![NOT_TRIED_AGAIN],
        };
        let group = rng.bool().then(|| rng.u8(..GROUPS));
        Self {
            answers,
            takes: Duration::from_millis(if rng.u32(..20) == 0 {
                rng.u64(300..1_500)
            } else {
                rng.u64(..20)
            }),
            group,
            delay: (group.is_none() && rng.u32(..4) == 0).then(|| Duration::from_millis(rng.u64(1..2_000))),
            // The order of a group can only be judged if it is known who came first.
            has_key: group.is_some() || rng.bool(),
            is_cancelled: rng.u32(..10) == 0,
            pause: Duration::from_millis(rng.u64(..40)),
        }
    }

    /// What the function answers at its run of this number, from 0.
    pub(crate) fn answer(&self, run: usize) -> u16 {
        self.answers[run.min(self.answers.len() - 1)]
    }
}

/// What is done to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// A node is killed, and is back after a while.
    Node { which: usize, back_after: Duration },
    /// The database is killed, and is back after a while.
    Database { back_after: Duration },
}

/// Blows without end, each after a pause; the database is hit only where there is one to be hit.
pub(crate) fn blows(seed: u64, nodes: usize, has_database: bool) -> impl Iterator<Item = (Duration, Blow)> {
    let mut rng = rng(seed, u64::MAX);
    std::iter::repeat_with(move || {
        let pause = Duration::from_millis(rng.u64(400..2_500));
        let back_after = Duration::from_millis(rng.u64(..800));
        let blow = match has_database && rng.u32(..4) == 0 {
            true => Blow::Database { back_after },
            false => Blow::Node { which: rng.usize(..nodes), back_after },
        };
        (pause, blow)
    })
}

/// The chance of one actor.
pub(crate) fn rng(seed: u64, actor: u64) -> Rng {
    Rng::with_seed(seed ^ actor.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
