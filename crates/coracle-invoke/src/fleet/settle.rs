//! What is to be done about the state a fleet is in: seat calls, start, freeze, check and stop instances.
//! Decided under the fleet's lock after every event, and done when the lock is free again.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::Problem;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::fleet::member::Berth;
use crate::fleet::state::{Ready, Seat, Sleep, Stage, State};
use crate::scale;

/// An instance that is idle for so long is frozen.
pub(super) const FREEZE_AFTER: Duration = Duration::from_millis(100);
/// From one health check of an instance to the next, while it is awake.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How long an instance that must not be stopped yet is left alone before that is asked again.
const STOP_ASKED_EVERY: Duration = Duration::from_secs(10);

/// One thing to do.
#[derive(Debug)]
pub(super) enum Step<M, T> {
    /// Start an instance in this slot.
    Start(u64, Arc<Notify>),
    /// A call that waited has its place.
    Seat(oneshot::Sender<T>, Seat<M>),
    /// A call waits for nothing: why, or that the fleet is retired.
    Refuse(oneshot::Sender<T>, Option<Problem>),
    /// Freeze an instance, if it is idle still.
    Freeze(Arc<Berth<M>>),
    /// Ask an instance whether it is well.
    Check(Arc<Berth<M>>, Instant),
    /// Tell an instance to go.
    Dismiss(Arc<Notify>),
    /// Set an alarm, of which there is none.
    SetAlarm,
    /// Set the alarm that there is to an earlier time.
    MoveAlarm,
}

impl<M, T> State<M, T> {
    /// What is to be done now.
    ///
    /// Most calls come and go with nothing to do: a list that stays empty allocates nothing.
    pub(super) fn settle(&mut self, now: Instant, steps: &mut Vec<Step<M, T>>) {
        if self.retired {
            return self.let_all_go(steps);
        }
        self.recover(now);
        self.seat_waiting(now, steps);
        self.start_wanted(now, steps);
        self.stop_idle(now, steps);
        self.freeze_and_check(now, steps);
        self.set_alarm(now, steps);
    }

    /// Makes it so many instances until told otherwise, and lets those go that are too many, the youngest first.
    ///
    /// Those that are missing are started as any minimum is.
    pub(super) fn scale_to(&mut self, instances: u32, now: Instant, steps: &mut Vec<Step<M, T>>) -> u32 {
        self.ask_for(Some(instances));
        let instances = self.asked().unwrap_or_default();
        let load = self.load(now);
        let running = load.ready + load.starting;
        // Somebody wants to see it tried.
        self.trouble.try_again();
        let mut excess = running.saturating_sub(instances) as usize;
        // Those that never served first, then the idle ones, and the busy ones as soon as they are idle.
        let starting = self.slots.iter().rev().filter(|slot| matches!(slot.stage, Stage::Starting));
        for number in starting.map(|slot| slot.number).take(excess).collect::<Vec<_>>() {
            steps.extend(self.dismiss(number).map(Step::Dismiss));
            excess -= 1;
        }
        let mut idle = Vec::new();
        for ready in self.ready() {
            ready.is_last = false;
            if ready.in_flight == 0 {
                idle.push(ready.berth.number);
            }
        }
        for number in idle.into_iter().rev().take(excess) {
            steps.extend(self.dismiss(number).map(Step::Dismiss));
            excess -= 1;
        }
        let busy = self.ready().filter(|ready| ready.in_flight > 0).count();
        for ready in self.ready().filter(|ready| ready.in_flight > 0).skip(busy.saturating_sub(excess)) {
            ready.is_last = true;
        }
        instances
    }

    /// A slot for one more instance, to be started.
    pub(super) fn begin_start(&mut self) -> Step<M, T> {
        let (number, dismissed) = self.new_slot();
        Step::Start(number, dismissed)
    }

    fn seat_waiting(&mut self, now: Instant, steps: &mut Vec<Step<M, T>>) {
        if self.waiting.is_empty() {
            return;
        }
        // Those whose caller gave up.
        self.waiting.retain(|waiting| !waiting.call.is_closed());
        while let Some(since) = self.waiting.front().map(|first| first.since)
            && let Some(seat) = self.seat(since, now)
            && let Some(first) = self.waiting.pop_front()
        {
            steps.push(Step::Seat(first.call, seat));
        }
    }

    fn let_all_go(&mut self, steps: &mut Vec<Step<M, T>>) {
        steps.extend(self.waiting.drain(..).map(|waiting| Step::Refuse(waiting.call, None)));
        for slot in &mut self.slots {
            let is_free = match &slot.stage {
                Stage::Starting => true,
                Stage::Ready(ready) => ready.in_flight == 0,
                Stage::Stopping => false,
            };
            if is_free {
                slot.stage = Stage::Stopping;
                steps.push(Step::Dismiss(Arc::clone(&slot.dismissed)));
            }
        }
    }

    fn start_wanted(&mut self, now: Instant, steps: &mut Vec<Step<M, T>>) {
        let load = self.load(now);
        if self.trouble.until(now).is_none() {
            for _ in 0..scale::to_start(&load, &self.scale) {
                steps.push(self.begin_start());
            }
        } else if load.ready == 0
            && load.starting == 0
            && let Some(refusal) = self.trouble.refusal(now)
        {
            let refused = self.waiting.drain(..);
            steps.extend(refused.map(|waiting| Step::Refuse(waiting.call, Some(refusal.clone()))));
        }
    }

    fn stop_idle(&mut self, now: Instant, steps: &mut Vec<Step<M, T>>) {
        let mut load = self.load(now);
        let idle = self.scale.idle;
        let over: Vec<(u64, bool)> = self
            .ready()
            .filter(|ready| ready.in_flight == 0)
            .filter(|ready| now >= ready.stops_at(idle))
            .map(|ready| (ready.berth.number, ready.is_last))
            .collect();
        // The youngest go first: calls prefer the oldest.
        for (number, is_last) in over.into_iter().rev() {
            if (is_last || scale::may_stop(&load, &self.scale))
                && let Some(dismissed) = self.dismiss(number)
            {
                load.ready -= 1;
                if self.trouble.until(now).is_none() {
                    self.trouble.over();
                }
                steps.push(Step::Dismiss(dismissed));
            }
        }
    }

    fn freeze_and_check(&mut self, now: Instant, steps: &mut Vec<Step<M, T>>) {
        let is_checked = self.is_checked;
        for ready in self.ready() {
            if ready.in_flight == 0 && !ready.sleep.is_asleep() && now >= ready.idle_since + FREEZE_AFTER {
                ready.sleep = Sleep::Freezing;
                steps.push(Step::Freeze(Arc::clone(&ready.berth)));
            } else if is_checked && ready.wants_check() && now >= ready.checked_at + CHECK_EVERY {
                ready.is_being_checked = true;
                ready.checked_at = now;
                steps.push(Step::Check(Arc::clone(&ready.berth), now));
            }
        }
    }

    fn set_alarm(&mut self, now: Instant, steps: &mut Vec<Step<M, T>>) {
        let Some(due) = self.due(now) else { return };
        match self.alarm {
            None => steps.push(Step::SetAlarm),
            Some(alarm) if due < alarm => steps.push(Step::MoveAlarm),
            // It rings early, and is set anew then: cheaper than to move it with every call.
            Some(_) => return,
        }
        self.alarm = Some(due);
    }

    /// When there is something to do that no event will tell.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let load = self.load(now);
        let retry = match scale::to_start(&load, &self.scale) {
            0 => None,
            _ => self.trouble.until(now),
        };
        let (idle, is_checked) = (self.scale.idle, self.is_checked);
        let may_stop_some = load.ready > self.scale.min;
        let of_instances = self.ready().flat_map(|ready| {
            let is_idle = ready.in_flight == 0;
            let freeze = (is_idle && !ready.sleep.is_asleep()).then(|| ready.idle_since + FREEZE_AFTER);
            let stop_at = ready.stops_at(idle);
            let stop = (is_idle && may_stop_some).then(|| {
                if stop_at > now { stop_at } else { now + STOP_ASKED_EVERY.min(idle.max(FREEZE_AFTER)) }
            });
            let check = (is_checked && ready.wants_check()).then(|| ready.checked_at + CHECK_EVERY);
            [freeze, stop, check].into_iter().flatten()
        });
        of_instances.chain(retry).min()
    }
}

impl<M> Ready<M> {
    /// When it has been idle for long enough to go.
    fn stops_at(&self, idle: Duration) -> Instant {
        self.idle_since + if self.is_last { FREEZE_AFTER } else { idle }
    }

    fn wants_check(&self) -> bool {
        !self.sleep.is_asleep() && !self.is_being_checked
    }
}
