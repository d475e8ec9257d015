//! What a fleet knows: its instances and their states, the calls that wait, and what went wrong.
//! Pure: events come in with the time of now, and [`State::settle`] says what is to be done about them.

use std::collections::VecDeque;
use std::sync::Arc;

use coracle_model::{Problem, Scale};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::fleet::InstanceCounts;
use crate::fleet::member::Berth;
use crate::fleet::trouble::{HEALTHY_AFTER, Trouble};
use crate::scale::{self, Load, Recent};

/// The longest time that the recent maximum of calls is remembered for; less where instances are kept for less.
const RECENT_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// Health checks in a row that an instance may fail.
const FAILED_CHECKS_MAX: u32 = 3;

/// A fleet at one moment. `T` is what a call that waits is sent in the end.
#[derive(Debug)]
pub(super) struct State<M, T> {
    /// Its minimum is what is to run now: that of the settings, or what was asked for, or what is held.
    pub(super) scale: Scale,
    min: u32,
    /// Whether this server keeps the minimum of the settings, and not another one.
    is_kept: bool,
    max: u32,
    /// How many instances somebody asked for; 0 until the next call.
    asked: Option<u32>,
    /// Instances that are kept for as long as somebody waits for one.
    held: u32,
    pub(super) is_checked: bool,
    /// In the order of their start: calls go to the first ones, so that the others go idle.
    pub(super) slots: Vec<Slot<M>>,
    pub(super) waiting: VecDeque<Waiting<T>>,
    pub(super) recent: Recent,
    pub(super) trouble: Trouble,
    pub(super) retired: bool,
    /// When the alarm rings; `None` when none is set.
    pub(super) alarm: Option<Instant>,
    started: u64,
}

#[derive(Debug)]
pub(super) struct Slot<M> {
    pub(super) number: u64,
    pub(super) dismissed: Arc<Notify>,
    pub(super) stage: Stage<M>,
}

#[derive(Debug)]
pub(super) enum Stage<M> {
    Starting,
    Ready(Ready<M>),
    Stopping,
}

#[derive(Debug)]
pub(super) struct Ready<M> {
    pub(super) berth: Arc<Berth<M>>,
    pub(super) in_flight: u32,
    pub(super) sleep: Sleep,
    pub(super) since: Instant,
    /// When its last call ended; of no meaning while it has one.
    pub(super) idle_since: Instant,
    pub(super) checked_at: Instant,
    pub(super) is_being_checked: bool,
    failed_checks: u32,
    /// Whether it is stopped and not frozen once it is idle.
    pub(super) is_last: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleep {
    Awake,
    Freezing,
    Frozen,
    /// A call thaws it.
    Waking,
}

impl Sleep {
    pub(super) fn is_asleep(self) -> bool {
        matches!(self, Self::Freezing | Self::Frozen)
    }
}

/// A call that waits for an instance.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) since: Instant,
    pub(super) call: oneshot::Sender<T>,
}

/// A place for a call in an instance.
#[derive(Debug)]
pub(super) struct Seat<M> {
    pub(super) berth: Arc<Berth<M>>,
    /// Whether the instance may be frozen, and must be thawed first.
    pub(super) is_asleep: bool,
    /// Whether the call had to wait for it to start.
    pub(super) is_cold: bool,
}

impl<M, T> State<M, T> {
    pub(super) fn new(scale: Scale, is_kept: bool, is_checked: bool, now: Instant) -> Self {
        Self {
            min: scale.min,
            is_kept,
            max: scale.max,
            asked: None,
            held: 0,
            recent: Recent::new(RECENT_MAX.min(scale.idle), now),
            scale,
            is_checked,
            slots: Vec::new(),
            waiting: VecDeque::new(),
            trouble: Trouble::default(),
            retired: false,
            alarm: None,
            started: 0,
        }
        .bounded()
    }

    fn bounded(mut self) -> Self {
        self.bound();
        self
    }

    pub(super) fn load(&mut self, now: Instant) -> Load {
        let mut load =
            Load { waiting: u32::try_from(self.waiting.len()).unwrap_or(u32::MAX), ..Load::default() };
        for slot in &self.slots {
            match &slot.stage {
                Stage::Starting => load.starting += 1,
                Stage::Ready(ready) => {
                    load.ready += 1;
                    load.in_flight += ready.in_flight;
                }
                Stage::Stopping => {}
            }
        }
        self.recent.note(load.calls(), now);
        load.recent = self.recent.highest(now);
        load
    }

    /// A place for one more call: in the least busy of the instances that are worth keeping, and in one that is awake rather than in one that is not.
    pub(super) fn seat(&mut self, arrived: Instant, now: Instant) -> Option<Seat<M>> {
        let mut load = self.load(now);
        load.waiting = load.waiting.max(1);
        let kept = scale::kept(&load, &self.scale) as usize;
        let target = self.scale.target.max(1);
        let (_, ready) =
            self.ready().enumerate().filter(|(_, ready)| ready.in_flight < target).min_by_key(
                |(rank, ready)| (*rank >= kept, ready.sleep.is_asleep(), ready.in_flight, *rank),
            )?;
        ready.in_flight += 1;
        let is_asleep = ready.sleep != Sleep::Awake;
        if ready.sleep.is_asleep() {
            ready.sleep = Sleep::Waking;
            ready.checked_at = now;
        }
        let seat = Seat { berth: Arc::clone(&ready.berth), is_asleep, is_cold: ready.since > arrived };
        self.load(now);
        Some(seat)
    }

    /// A call left its instance.
    pub(super) fn leave(&mut self, number: u64, now: Instant) {
        if let Some(ready) = self.ready_one(number) {
            assert!(ready.in_flight > 0, "a place is left once");
            ready.in_flight -= 1;
            ready.idle_since = now;
        }
    }

    /// Makes a slot for an instance that is to be started.
    pub(super) fn new_slot(&mut self) -> (u64, Arc<Notify>) {
        self.started += 1;
        let (number, dismissed) = (self.started, Arc::new(Notify::new()));
        self.slots.push(Slot { number, dismissed: Arc::clone(&dismissed), stage: Stage::Starting });
        (number, dismissed)
    }

    /// An instance is ready; `false` when it is not wanted any more.
    pub(super) fn started(&mut self, berth: &Arc<Berth<M>>, now: Instant) -> bool {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == berth.number) else { return false };
        if matches!(slot.stage, Stage::Stopping) {
            return false;
        }
        slot.stage = Stage::Ready(Ready {
            berth: Arc::clone(berth),
            in_flight: 0,
            sleep: Sleep::Awake,
            since: now,
            idle_since: now,
            checked_at: now,
            is_being_checked: false,
            failed_checks: 0,
            is_last: false,
        });
        true
    }

    /// An instance did not start.
    pub(super) fn start_failed(&mut self, number: u64, problem: Problem, now: Instant) {
        self.remove(number);
        self.recover(now);
        self.trouble.start_failed(problem, now);
    }

    /// An instance ended by itself. Says whether another must take its place before a call waits for it.
    pub(super) fn crashed(&mut self, number: u64, problem: Problem, now: Instant) -> bool {
        self.recover(now);
        let Some(slot) = self.remove(number) else { return false };
        let Stage::Ready(ready) = slot.stage else { return false };
        self.trouble.crashed(problem, now);
        self.is_replaced(ready.in_flight, now)
    }

    /// An instance was asked whether it is well. Says, when it was not for too often, who is to be told to go, and whether another takes its place.
    pub(super) fn checked(
        &mut self,
        number: u64,
        begun: Instant,
        is_healthy: bool,
        problem: impl FnOnce(u32) -> Problem,
        now: Instant,
    ) -> Option<(Arc<Notify>, bool)> {
        let ready = self.ready_one(number)?;
        ready.is_being_checked = false;
        // Frozen in the meantime, it could not answer.
        if ready.sleep.is_asleep() || ready.checked_at != begun {
            return None;
        }
        ready.checked_at = now;
        ready.failed_checks = if is_healthy { 0 } else { ready.failed_checks + 1 };
        if ready.failed_checks < FAILED_CHECKS_MAX {
            return None;
        }
        let in_flight = ready.in_flight;
        let dismissed = self.dismiss(number)?;
        self.trouble.crashed(problem(FAILED_CHECKS_MAX), now);
        Some((dismissed, self.is_replaced(in_flight, now)))
    }

    /// Tells an instance to go: it takes no more calls.
    pub(super) fn dismiss(&mut self, number: u64) -> Option<Arc<Notify>> {
        let slot = self.slots.iter_mut().find(|slot| slot.number == number)?;
        slot.stage = Stage::Stopping;
        Some(Arc::clone(&slot.dismissed))
    }

    /// Nothing is left of an instance.
    pub(super) fn remove(&mut self, number: u64) -> Option<Slot<M>> {
        let index = self.slots.iter().position(|slot| slot.number == number)?;
        Some(self.slots.remove(index))
    }

    /// Keeps so many instances running, beside the minimum.
    pub(super) fn hold(&mut self, instances: u32) {
        self.held = instances;
        self.bound();
    }

    /// Keeps so many instances running in place of the minimum, or none until the next call.
    pub(super) fn ask_for(&mut self, instances: Option<u32>) {
        self.asked = instances.map(|instances| instances.min(self.max));
        self.bound();
    }

    /// How many instances were asked for.
    pub(super) fn asked(&self) -> Option<u32> {
        self.asked
    }

    /// Keeps the minimum of the settings here, or leaves it to another server.
    pub(super) fn keep(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
        self.bound();
    }

    /// A call has come: it ends that none is to run.
    pub(super) fn called(&mut self) {
        if self.asked == Some(0) {
            self.ask_for(None);
            self.ready().for_each(|ready| ready.is_last = false);
        }
    }

    /// Whether a call that comes now finds no place, and none that it could wait for.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        let calls = self.load(now).calls();
        calls >= self.scale.max.saturating_mul(self.scale.target.max(1))
    }

    fn bound(&mut self) {
        let floor = |min| scale::floor(min, self.asked, self.held).min(self.max);
        let (here, anywhere) = (floor(self.min_here()), floor(self.min));
        self.scale.min = here;
        // Calls that come here find as many instances as elsewhere, whoever keeps them when there are none.
        self.scale.max = if self.scale.grows { self.max } else { anywhere.max(1) };
    }

    fn min_here(&self) -> u32 {
        if self.is_kept { self.min } else { 0 }
    }

    /// An instance that has lived for long enough since something went wrong shows that it is over.
    pub(super) fn recover(&mut self, now: Instant) {
        if let Some(quiet_since) = self.trouble.quiet_since()
            && self.ready().any(|ready| now >= ready.since.max(quiet_since) + HEALTHY_AFTER)
        {
            self.trouble.over();
        }
    }

    /// Since when the instance is idle that was longest so, among those over the minimum.
    pub(super) fn longest_idle(&mut self) -> Option<(Instant, u64)> {
        if self.ready().count() <= self.scale.min as usize {
            return None;
        }
        let idle = self.ready().filter(|ready| ready.in_flight == 0);
        idle.map(|ready| (ready.idle_since, ready.berth.number)).min()
    }

    pub(super) fn counts(&mut self, now: Instant) -> InstanceCounts {
        self.recover(now);
        let mut counts = InstanceCounts {
            wanted: self.asked.unwrap_or(self.min_here()),
            last_failure: self.trouble.last().cloned(),
            backs_off_for: self.trouble.until(now).map(|until| until - now),
            ..InstanceCounts::default()
        };
        for slot in &self.slots {
            *match &slot.stage {
                Stage::Starting => &mut counts.starting,
                Stage::Stopping => &mut counts.stopping,
                Stage::Ready(ready) if ready.in_flight > 0 => &mut counts.busy,
                Stage::Ready(ready) if ready.sleep.is_asleep() => &mut counts.frozen,
                Stage::Ready(_) => &mut counts.ready,
            } += 1;
        }
        counts
    }

    pub(super) fn ready(&mut self) -> impl Iterator<Item = &mut Ready<M>> {
        self.slots.iter_mut().filter_map(|slot| match &mut slot.stage {
            Stage::Ready(ready) => Some(ready),
            Stage::Starting | Stage::Stopping => None,
        })
    }

    pub(super) fn ready_one(&mut self, number: u64) -> Option<&mut Ready<M>> {
        self.ready().find(|ready| ready.berth.number == number)
    }

    fn is_replaced(&mut self, in_flight: u32, now: Instant) -> bool {
        let load = self.load(now);
        let is_needed = in_flight > 0 || load.calls() > 0;
        is_needed && self.trouble.until(now).is_none() && scale::replaces(&load, &self.scale)
    }
}
