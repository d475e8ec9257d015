//! The instances of one program: started when calls come, shared by them, frozen when idle, stopped when idle for long.
//! Room has a fleet for each function whose code is a program, and calls lease places in its instances.

pub(crate) mod house;
mod life;
pub(crate) mod member;
mod settle;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod trouble;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_model::{FunctionRef, Problem, Scale, code};
use coracle_runtime::Standing;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::fleet::house::House;
use crate::fleet::member::{Berth, Start};
use crate::fleet::settle::Step;
use crate::fleet::state::{Seat, Stage, State, Waiting};

/// The instances of one revision of a program; a cheap handle.
///
/// Instances keep their fleet alive: one that is not needed any more is retired, not dropped.
pub(crate) struct Fleet<S: Start>(Arc<Inner<S>>);

struct Inner<S: Start> {
    function: FunctionRef,
    start: S,
    house: Arc<House<S>>,
    full: Option<Problem>,
    // Calls end wherever their futures are dropped, perhaps outside of the runtime.
    handle: Handle,
    // Std mutex: held for decisions over a few instances, never over an await.
    state: Mutex<State<S::Member, Granted<S>>>,
    /// The alarm was set to an earlier time.
    alarm_moved: Notify,
    /// An instance came or went.
    changed: Notify,
}

type Granted<S> = Result<Lease<S>, Refusal>;

/// How long a call looks for a place before it hears that all are full: a place is given back a moment after its caller has the answer,
/// and whoever calls again at once means that one.
const ABOUT_TO_LEAVE: Duration = Duration::from_millis(5);

/// A turn to wait for.
struct Turn<S: Start> {
    place: oneshot::Receiver<Granted<S>>,
    /// What the call is told soon, if there is no place that it could wait for.
    full: Option<Problem>,
}

/// What a fleet is run by.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) function: FunctionRef,
    pub(crate) scale: Scale,
    /// Whether this server keeps its minimum, and not another one.
    pub(crate) is_kept: bool,
    /// Whether instances are asked from time to time whether they are well.
    pub(crate) is_checked: bool,
    /// What a call is told that finds every instance full, and no more may start; `None` lets it wait.
    pub(crate) full: Option<Problem>,
}

/// Why a call gets no place in an instance.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The fleet takes no more calls: another took its place.
    Retired,
    /// There is no instance for it.
    Problem(Box<Problem>),
}

/// The instances of a function's program, by what they do.
#[derive(Debug, Clone, Default)]
pub struct InstanceCounts {
    /// Those that are to run on this server even when nobody calls.
    pub wanted: u32,
    /// Those that start.
    pub starting: u32,
    /// Those that wait for a call, awake.
    pub ready: u32,
    /// Those that serve calls.
    pub busy: u32,
    /// Those that wait for a call, frozen.
    pub frozen: u32,
    /// Those that were told to go, and are not gone.
    pub stopping: u32,
    /// What went wrong last, until an instance has lived for a minute.
    pub last_failure: Option<Problem>,
    /// How long no instance is started, because too many ended of late.
    pub backs_off_for: Option<Duration>,
    /// The revision that serves as long as the newest one is not ready, if an older one does.
    pub serves_before: Option<u32>,
}

impl InstanceCounts {
    /// All that exist.
    pub fn total(&self) -> u32 {
        self.starting + self.ready + self.busy + self.frozen + self.stopping
    }
}

/// A call's place in an instance, until this is dropped.
pub(crate) struct Lease<S: Start> {
    fleet: Arc<Inner<S>>,
    berth: Arc<Berth<S::Member>>,
    is_asleep: bool,
    /// Whether the call had to wait for the instance to start.
    pub(crate) is_cold: bool,
}

impl<S: Start> Fleet<S> {
    /// A fleet without instances; nothing is started before [`Fleet::warm`] or a call.
    pub(crate) fn new(start: S, terms: Terms, house: &Arc<House<S>>) -> Self {
        let Terms { function, scale, is_kept, is_checked, full } = terms;
        let inner = Arc::new(Inner {
            function,
            start,
            house: Arc::clone(house),
            full,
            handle: Handle::current(),
            state: Mutex::new(State::new(scale, is_kept, is_checked, Instant::now())),
            alarm_moved: Notify::new(),
            changed: Notify::new(),
        });
        house.register(&inner);
        Self(inner)
    }

    /// A place in an instance that is awake; waits its turn while there is none, until the deadline.
    ///
    /// Dropping the future gives the place back, or the turn.
    pub(crate) async fn lease(&self, deadline: Instant) -> Result<Lease<S>, Refusal> {
        let mut lease = match self.ask() {
            Ok(granted) => granted?,
            Err(Turn { place, full }) => {
                let until = match &full {
                    Some(_) => deadline.min(Instant::now() + ABOUT_TO_LEAVE),
                    None => deadline,
                };
                match tokio::time::timeout_at(until, place).await {
                    Ok(Ok(granted)) => granted?,
                    Ok(Err(_)) => return Err(Refusal::Retired),
                    Err(_) => {
                        let problem = full.unwrap_or_else(|| self.too_late());
                        return Err(Refusal::Problem(Box::new(problem)));
                    }
                }
            }
        };
        if lease.is_asleep {
            if tokio::time::timeout_at(deadline, lease.berth.thaw()).await.is_err() {
                return Err(Refusal::Problem(Box::new(self.too_late())));
            }
            lease.is_asleep = false;
            lease.fleet.thawed(lease.berth.number);
        }
        Ok(lease)
    }

    /// What starts its instances.
    pub(crate) fn start(&self) -> &S {
        &self.0.start
    }

    /// Starts as many instances as always run.
    pub(crate) fn warm(&self) {
        self.0.act(|_, _| ());
    }

    /// Keeps so many instances running beside the minimum, until told otherwise.
    pub(crate) fn hold(&self, instances: u32) {
        self.0.act(|state, _| state.hold(instances));
    }

    /// Keeps its minimum here, or leaves it to another server: then what nobody calls goes when it was idle for long.
    pub(crate) fn keep(&self, is_kept: bool) {
        self.0.act(|state, _| state.keep(is_kept));
    }

    /// Makes it so many instances until told otherwise, up to the maximum; those that are busy finish their calls.
    ///
    /// None is none until the next call, with which the minimum comes back.
    pub(crate) fn scale(&self, instances: u32) -> u32 {
        self.0.act_with(|state, now, steps| state.scale_to(instances, now, steps))
    }

    /// How many instances somebody asked for.
    pub(crate) fn asked(&self) -> Option<u32> {
        self.0.lock().asked()
    }

    /// Takes over what was asked for of the fleet before.
    pub(crate) fn ask_for(&self, instances: Option<u32>) {
        self.0.act(|state, _| state.ask_for(instances));
    }

    /// Takes no more calls, and stops every instance when its calls are over.
    pub(crate) fn retire(&self) {
        self.0.act(|state, _| state.retired = true);
        self.0.changed.notify_waiters();
    }

    /// Until an instance takes calls, or the fleet is retired.
    pub(crate) async fn until_ready(&self) {
        self.until(|state| state.retired || state.ready().next().is_some()).await;
    }

    /// Until something went wrong with an instance, or the fleet is retired.
    pub(crate) async fn until_failed(&self) {
        self.until(|state| state.retired || state.trouble.last().is_some()).await;
    }

    /// Until no instance runs or starts, nor is about to.
    pub(crate) async fn until_empty(&self) {
        self.until(|state| state.slots.iter().all(|slot| matches!(slot.stage, Stage::Stopping))).await;
    }

    /// Until nothing is left of any instance.
    pub(crate) async fn until_gone(&self) {
        self.until(|state| state.slots.is_empty()).await;
    }

    /// Whether an instance runs or starts.
    pub(crate) fn is_running(&self) -> bool {
        self.0.lock().slots.iter().any(|slot| !matches!(slot.stage, Stage::Stopping))
    }

    /// Whether an instance takes calls.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.lock().ready().next().is_some()
    }

    /// How its instances stand.
    pub(crate) fn standing(&self) -> Standing {
        let mut state = self.0.lock();
        if state.ready().next().is_none() {
            return Standing::Down;
        }
        let is_full = self.0.full.is_some() && state.is_full(Instant::now());
        if is_full { Standing::Full } else { Standing::Up }
    }

    /// Whether both are the same fleet.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The instances by what they do.
    pub(crate) fn counts(&self) -> InstanceCounts {
        self.0.lock().counts(Instant::now())
    }

    /// Those of its instances that take calls.
    pub(crate) fn berths(&self) -> Vec<Arc<Berth<S::Member>>> {
        self.0.lock().ready().map(|ready| Arc::clone(&ready.berth)).collect()
    }

    /// A place at once, or a turn to wait for.
    fn ask(&self) -> Result<Granted<S>, Turn<S>> {
        let fleet = &self.0;
        let asked = fleet.act(|state, now| {
            if state.retired {
                return Ok(Err(Refusal::Retired));
            }
            state.called();
            let seat = if state.waiting.is_empty() { state.seat(now, now) } else { None };
            match seat {
                Some(seat) => Ok(Ok(Seat { is_cold: false, ..seat })),
                None => {
                    let full = fleet.full.clone().filter(|_| state.is_full(now));
                    // The gate of the function bounds how many get here.
                    let (call, place) = oneshot::channel();
                    state.waiting.push_back(Waiting { since: now, call });
                    Err(Turn { place, full })
                }
            }
        });
        asked.map(|seat| seat.map(|seat| Lease::new(fleet, seat)))
    }

    fn too_late(&self) -> Problem {
        let function = &self.0.function;
        if self.counts().starting > 0 {
            Problem::new(
                &code::GUEST_TIMEOUT,
                format!("no instance of `{function}` was ready within the time of the call"),
            )
            .hint("raise `timeout` of the function, or keep an instance running with `scale = { min = 1 }`")
        } else {
            Problem::new(
                &code::FUNCTION_BUSY,
                format!("every instance of `{function}` has as many calls as it takes"),
            )
            .hint("try again later, or raise `max` or `target` of the function's `scale`")
            .retry_after(1)
        }
    }

    async fn until(&self, holds: impl Fn(&mut State<S::Member, Granted<S>>) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(&mut self.0.lock()) {
                return;
            }
            changed.await;
        }
    }
}

impl<S: Start> Inner<S> {
    /// Tells the state of an event, and does what follows.
    fn act<R>(self: &Arc<Self>, event: impl FnOnce(&mut State<S::Member, Granted<S>>, Instant) -> R) -> R {
        self.act_with(|state, now, _| event(state, now))
    }

    /// The same for an event that asks for things to do by itself.
    fn act_with<R>(
        self: &Arc<Self>,
        event: impl FnOnce(&mut State<S::Member, Granted<S>>, Instant, &mut Vec<Step<S::Member, Granted<S>>>) -> R,
    ) -> R {
        let now = Instant::now();
        let mut steps = Vec::new();
        let result = {
            let mut state = self.lock();
            let result = event(&mut state, now, &mut steps);
            state.settle(now, &mut steps);
            result
        };
        // Not under the lock: a lease that nobody takes asks for it, and so may a task that is dropped.
        steps.into_iter().for_each(|step| self.perform(step));
        result
    }

    fn perform(self: &Arc<Self>, step: Step<S::Member, Granted<S>>) {
        let fleet = Arc::clone(self);
        match step {
            Step::Start(number, dismissed) => {
                self.changed.notify_waiters();
                drop(self.handle.spawn(life::live(fleet, number, dismissed)));
            }
            // A call that gave up drops its lease here, and the next one gets the place.
            Step::Seat(call, seat) => drop(call.send(Ok(Lease::new(self, seat)))),
            Step::Refuse(call, problem) => {
                let refusal = problem.map_or(Refusal::Retired, |problem| Refusal::Problem(Box::new(problem)));
                drop(call.send(Err(refusal)));
            }
            Step::Freeze(berth) => drop(self.handle.spawn(life::freeze(fleet, berth))),
            Step::Check(berth, begun) => drop(self.handle.spawn(life::check(fleet, berth, begun))),
            Step::Dismiss(dismissed) => {
                self.changed.notify_waiters();
                dismissed.notify_one();
            }
            Step::SetAlarm => drop(self.handle.spawn(life::alarm(fleet))),
            Step::MoveAlarm => self.alarm_moved.notify_one(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<S::Member, Granted<S>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Start> Lease<S> {
    fn new(fleet: &Arc<Inner<S>>, seat: Seat<S::Member>) -> Self {
        fleet.house.one_more_lease();
        let Seat { berth, is_asleep, is_cold } = seat;
        Self { fleet: Arc::clone(fleet), berth, is_asleep, is_cold }
    }

    /// Until the fleet knows of an instance that it has ended, and gives it to no call any more.
    pub(crate) async fn until_gone(&self) {
        let fleet = Fleet(Arc::clone(&self.fleet));
        fleet.until(|state| state.ready_one(self.berth.number).is_none()).await;
    }

    /// The instance.
    pub(crate) fn member(&self) -> &S::Member {
        &self.berth.member
    }
}

impl<S: Start> Drop for Lease<S> {
    fn drop(&mut self) {
        self.fleet.house.one_lease_less();
        self.fleet.act(|state, now| state.leave(self.berth.number, now));
    }
}

impl<S: Start> Clone for Fleet<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Start> fmt::Debug for Fleet<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("function", &self.0.function)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl<S: Start> fmt::Debug for Lease<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("instance", &self.berth.number).finish_non_exhaustive()
    }
}
