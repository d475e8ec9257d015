//! The tasks of a fleet: the life of one instance from its start to its end, its freezing, its health, and the alarm.
//! The fleet spawns them; each does one thing and tells the fleet.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::{Problem, code};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::fleet::Inner;
use crate::fleet::member::{Berth, Member, Start};
use crate::fleet::settle::Step;
use crate::fleet::state::Sleep;

/// From asking an instance to end until it is made to.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(10);
/// An instance that does not say within this time whether it is well is not.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The life of one instance.
pub(super) async fn live<S: Start>(fleet: Arc<Inner<S>>, number: u64, dismissed: Arc<Notify>) {
    let slot = Tenure { fleet: &fleet, number, is_over: false };
    let start = async {
        let place = fleet.house.place().await?;
        Ok((place, fleet.start.start().await?))
    };
    let started = tokio::select! {
        started = start => started,
        () = dismissed.notified() => return slot.end(),
    };
    let (_place, member) = match started {
        Ok(started) => started,
        Err(problem) => return slot.failed(problem),
    };
    let berth = Arc::new(Berth::new(number, member));
    if fleet.is_wanted(&berth) {
        tokio::select! {
            how = berth.member.ended() => {
                slot.crashed(&how);
                // What it started may be there still.
                return berth.member.stop(Duration::ZERO).await;
            }
            () = dismissed.notified() => {}
        }
    }
    berth.thaw().await;
    berth.member.stop(STOP_GRACE).await;
    slot.end();
}

/// Freezes an instance, if no call has come by then.
pub(super) async fn freeze<S: Start>(fleet: Arc<Inner<S>>, berth: Arc<Berth<S::Member>>) {
    let sleep_is = |sleep| {
        let mut state = fleet.lock();
        state.ready_one(berth.number).is_some_and(|ready| ready.sleep == sleep)
    };
    berth.freeze(|| sleep_is(Sleep::Freezing)).await;
    fleet.turn(berth.number, Sleep::Freezing, Sleep::Frozen);
}

/// Asks an instance whether it is well.
pub(super) async fn check<S: Start>(fleet: Arc<Inner<S>>, berth: Arc<Berth<S::Member>>, begun: Instant) {
    let is_healthy = tokio::time::timeout(CHECK_TIMEOUT, berth.member.is_healthy()).await.unwrap_or(false);
    fleet.act_with(|state, now, steps| {
        let unwell = |times| unhealthy(&fleet, times);
        if let Some((dismissed, is_replaced)) = state.checked(berth.number, begun, is_healthy, unwell, now) {
            steps.push(Step::Dismiss(dismissed));
            if is_replaced {
                steps.push(state.begin_start());
            }
        }
    });
}

/// Waits until there is something to do that no event tells, and does it.
pub(super) async fn alarm<S: Start>(fleet: Arc<Inner<S>>) {
    loop {
        let Some(at) = fleet.lock().alarm else { return };
        // Whether it was moved shows in the time of it.
        let _ = tokio::time::timeout_at(at, fleet.alarm_moved.notified()).await;
        if Instant::now() >= at {
            return fleet.act(|state, _| state.alarm = None);
        }
    }
}

impl<S: Start> Inner<S> {
    /// An instance is awake.
    pub(super) fn thawed(self: &Arc<Self>, number: u64) {
        self.turn(number, Sleep::Waking, Sleep::Awake);
    }

    fn turn(&self, number: u64, from: Sleep, to: Sleep) {
        if let Some(ready) = self.lock().ready_one(number)
            && ready.sleep == from
        {
            ready.sleep = to;
        }
    }

    /// Takes in an instance that has started, if there is a use for it still.
    fn is_wanted(self: &Arc<Self>, berth: &Arc<Berth<S::Member>>) -> bool {
        let is_wanted = self.act(|state, now| state.started(berth, now));
        self.changed.notify_waiters();
        is_wanted
    }
}

/// The slot of an instance while its task runs: a task that breaks off leaves none behind, and counts as a failed start.
struct Tenure<'a, S: Start> {
    fleet: &'a Arc<Inner<S>>,
    number: u64,
    is_over: bool,
}

impl<S: Start> Tenure<'_, S> {
    fn end(mut self) {
        self.is_over = true;
    }

    fn failed(self, problem: Box<Problem>) {
        let number = self.number;
        tracing::info!(function = %self.fleet.function, %problem, "an instance did not start");
        self.fleet.act(|state, now| state.start_failed(number, *problem, now));
        self.end();
    }

    fn crashed(self, how: &str) {
        let number = self.number;
        let problem = ended(self.fleet, how);
        tracing::info!(function = %self.fleet.function, %problem, "an instance ended by itself");
        self.fleet.act_with(|state, now, steps| {
            if state.crashed(number, problem, now) {
                steps.push(state.begin_start());
            }
        });
        self.end();
    }
}

impl<S: Start> Drop for Tenure<'_, S> {
    fn drop(&mut self) {
        let (number, is_over) = (self.number, self.is_over);
        self.fleet.act(|state, now| match is_over {
            true => drop(state.remove(number)),
            false => state.start_failed(number, broke_off(), now),
        });
        self.fleet.changed.notify_waiters();
    }
}

fn broke_off() -> Problem {
    Problem::new(&code::INTERNAL, "the task that ran an instance broke off")
}

fn ended<S: Start>(fleet: &Inner<S>, how: &str) -> Problem {
    Problem::new(
        &code::GUEST_EXITED,
        format!("an instance of `{}` ended by itself: it {how}", fleet.function),
    )
    .hint(format!("`coracle logs {}` shows what it printed", fleet.function))
}

fn unhealthy<S: Start>(fleet: &Inner<S>, times: u32) -> Problem {
    Problem::new(
        &code::GUEST_EXITED,
        format!("an instance of `{}` failed its health check {times} times in a row", fleet.function),
    )
    .hint("the path that `health` of the function names must answer 2xx within 5 s")
}
