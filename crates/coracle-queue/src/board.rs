//! What this server has leased: a lane for each topic, with what waits in it to be started, and what runs.
//! The worker fills it and starts from it; `put.rs` asks for a place, `cancel.rs` looks for a call.
//!
//! A lane holds a page of what it is about to run, and never the whole backlog.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_model::NamespaceName;
use coracle_store::{Holder, Lease, Message, MessageState, Position, Taken, Topic};
use jiff::Timestamp;
use tokio::sync::Notify;

use self::lane::{Lane, More, Trust};
use crate::fair::Fair;
use crate::topics::Room;

/// How long a call that was leased ahead runs before it is written down that it has begun: most have ended by then.
const TELL_AFTER: Duration = Duration::from_millis(20);
/// Deliveries of one function's results that run at once.
pub(crate) const DELIVERIES_MAX: u32 = 10;

/// A leased message.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) lease: Lease,
    pub(crate) message: Message,
}

/// A leased message that has a place.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) leased: Leased,
    pub(crate) place: Place,
    /// Told when the call is to end before its end.
    pub(crate) stop: Arc<Stop>,
}

/// How a running call is told to stop.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    told: Notify,
    why: std::sync::OnceLock<Why>,
}

/// Why a running call is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody cancelled it.
    Cancelled,
    /// The server ends, and its time is over: others run it again.
    Abandoned,
}

impl Stop {
    pub(crate) async fn told(&self) -> Why {
        loop {
            if let Some(why) = self.why.get() {
                return *why;
            }
            self.told.notified().await;
        }
    }

    fn tell(&self, why: Why) {
        // Whoever came first was right.
        let _ = self.why.set(why);
        self.told.notify_one();
    }
}

/// A place among the calls that run; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    board: Board,
    topic: Topic,
    lease: Option<Lease>,
}

impl Place {
    /// Says how long the call took, so that the lane knows how far ahead to lease.
    pub(crate) fn took(&self, took: Duration) {
        let mut state = self.board.lock();
        if let Some(lane) = state.lanes.get_mut(&self.topic) {
            lane.ended(took);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.board.lock();
        state.places(&self.topic).running -= 1;
        if let Some(lease) = self.lease.take()
            // It may have come to run a second time, if its first lease was lost.
            && state.has(&lease)
        {
            state.jobs.remove(&lease.position);
        }
        if let Some(lane) = state.lanes.get_mut(&self.topic) {
            lane.running -= 1;
        }
        state.refresh(&self.topic);
        if state.running() == 0 {
            self.board.0.idle.notify_waiters();
        }
    }
}

/// What this server has leased; a clone is the same board.
#[derive(Debug, Clone)]
pub(crate) struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // Std mutex: held for a few map lookups, never over an await.
    state: Mutex<State>,
    /// Told when nothing runs any more.
    idle: Notify,
    /// Told when the worker has something to look at.
    nudge: Notify,
}

#[derive(Debug)]
struct State {
    calls: Places,
    /// Apart, so that receivers that say nothing hold up nobody's call.
    deliveries: Places,
    stopping: bool,
    lanes: HashMap<Topic, Lane>,
    /// The lanes that should lease more.
    hungry: VecDeque<Topic>,
    /// When lanes have something due that is not due yet.
    later: BTreeSet<(Timestamp, Topic)>,
    /// What runs, or is about to be.
    jobs: HashMap<Position, Running>,
    /// What has begun and was leased ahead, and when: the first one first.
    untold: VecDeque<(Timestamp, Lease)>,
    /// Calls that are to be cancelled wherever they are.
    cancelled: HashSet<Position>,
}

/// How many may run at once, and whose turn it is.
#[derive(Debug)]
struct Places {
    all: u32,
    running: u32,
    /// The lanes that have something to start.
    fair: Fair<NamespaceName, Topic>,
}

impl Places {
    fn new(all: u32) -> Self {
        Self { all: all.max(1), running: 0, fair: Fair::new() }
    }

    fn free(&self) -> u32 {
        self.all.saturating_sub(self.running)
    }
}

/// A call that runs.
#[derive(Debug)]
struct Running {
    lease: Lease,
    stop: Arc<Stop>,
    topic: Topic,
    /// Whether the database knows that it has begun.
    is_told: bool,
}

/// What is to be leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) topic: Topic,
    /// At most so many messages.
    pub(crate) limit: usize,
    /// With so many of them it begins at once.
    pub(crate) begins: usize,
}

impl State {
    /// Brings the lists of lanes up to date with this one.
    fn refresh(&mut self, topic: &Topic) {
        let Some(lane) = self.lanes.get_mut(topic) else { return };
        let places = if lane.delivers { &mut self.deliveries } else { &mut self.calls };
        if lane.next_cost().is_some() {
            places.fair.enter(&lane.namespace, topic);
        }
        let free = places.free();
        let wants = lane.more == More::Due && !lane.is_taking && !self.stopping && lane.wants(free) > 0;
        if wants && !lane.is_hungry {
            lane.is_hungry = true;
            self.hungry.push_back(topic.clone());
        }
    }

    /// The places that a topic has a part in.
    fn places(&mut self, topic: &Topic) -> &mut Places {
        let delivers = matches!(Room::of(topic), Some(Room::Deliveries(_)));
        if delivers { &mut self.deliveries } else { &mut self.calls }
    }

    fn running(&self) -> u32 {
        self.calls.running + self.deliveries.running
    }

    /// A message runs from now on, unless it is to be cancelled; says how it is told.
    fn runs(&mut self, lease: &Lease, topic: &Topic, is_told: bool) -> Arc<Stop> {
        let stop = Arc::new(Stop::default());
        if self.cancelled.contains(&lease.position) {
            stop.tell(Why::Cancelled);
        }
        let running =
            Running { lease: lease.clone(), stop: Arc::clone(&stop), topic: topic.clone(), is_told };
        if let Some(before) = self.jobs.insert(lease.position, running) {
            // It could be leased again only because that lease was lost.
            before.stop.tell(Why::Abandoned);
        }
        stop
    }

    /// Whether a message runs by this very lease.
    fn has(&self, lease: &Lease) -> bool {
        self.jobs.get(&lease.position).is_some_and(|running| running.lease == *lease)
    }

    fn lane(&mut self, topic: &Topic) -> Option<&mut Lane> {
        if !self.lanes.contains_key(topic) {
            let room = Room::of(topic).filter(Room::is_worked_on)?;
            let (Room::Calls(function) | Room::Deliveries(function)) = &room else { return None };
            let (namespace, delivers) = (function.namespace.clone(), matches!(room, Room::Deliveries(_)));
            self.lanes.insert(topic.clone(), Lane::new(namespace, delivers));
        }
        self.lanes.get_mut(topic)
    }

    fn set_more(&mut self, topic: &Topic, more: More) {
        let Some(lane) = self.lanes.get_mut(topic) else { return };
        if let More::Later(at) = lane.more {
            self.later.remove(&(at, topic.clone()));
        }
        lane.more = more;
        if let More::Later(at) = more {
            self.later.insert((at, topic.clone()));
        }
    }
}

impl Board {
    /// An empty board with so many places for calls, and as many for deliveries.
    pub(crate) fn new(places: u32) -> Self {
        let state = State {
            calls: Places::new(places),
            deliveries: Places::new(places),
            stopping: false,
            lanes: HashMap::new(),
            hungry: VecDeque::new(),
            later: BTreeSet::new(),
            jobs: HashMap::new(),
            untold: VecDeque::new(),
            cancelled: HashSet::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), idle: Notify::new(), nudge: Notify::new() }))
    }

    /// Something has begun to wait in a topic, or may have, and is due after this long.
    pub(crate) fn arrived(&self, topic: &Topic, wait: Duration, now: Timestamp) {
        let mut state = self.lock();
        let Some(lane) = state.lane(topic) else { return };
        let arrived = More::after(wait, now);
        if lane.is_taking {
            lane.news = lane.news.min(arrived);
            return;
        }
        let more = lane.more.min(arrived);
        state.set_more(topic, more);
        state.refresh(topic);
    }

    /// What is to be leased now.
    pub(crate) fn wishes(&self, now: Timestamp, topics_max: usize) -> Vec<Wish> {
        let mut state = self.lock();
        while let Some((at, topic)) = state.later.first().cloned()
            && at <= now
        {
            state.set_more(&topic, More::Due);
            state.refresh(&topic);
        }
        let mut wishes = Vec::new();
        while wishes.len() < topics_max
            && let Some(topic) = state.hungry.pop_front()
        {
            let (free, stopping) = (state.places(&topic).free(), state.stopping);
            let Some(lane) = state.lanes.get_mut(&topic) else { continue };
            lane.is_hungry = false;
            let (limit, begins) = (lane.wants(free), lane.begins(free));
            if limit > 0 && !lane.is_taking && !stopping {
                lane.is_taking = true;
                lane.news = More::Nothing;
                wishes.push(Wish { topic, limit, begins });
            }
        }
        wishes
    }

    /// When the next message is due that is not due yet.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.lock().later.first().map(|(at, _)| *at)
    }

    /// A take came back; `limit` is how many calls of the lane may run at once now.
    ///
    /// Returns what came too late, because nothing is started any more.
    #[must_use]
    pub(crate) fn taken(&self, taken: Taken, wanted: usize, limit: u32, now: Timestamp) -> Vec<Leased> {
        let mut state = self.lock();
        let Taken { topic, messages, next_in } = taken;
        let leased = |(lease, message)| Leased { lease, message };
        if state.stopping {
            return messages.into_iter().map(leased).collect();
        }
        let Some(lane) = state.lane(&topic) else { return Vec::new() };
        lane.is_taking = false;
        lane.limit = limit.max(1);
        let is_full = messages.len() >= wanted;
        if let Some(losses) = messages.iter().map(|(_, message)| message.losses.len()).max() {
            lane.came(losses);
        }
        for leased in messages.into_iter().map(leased) {
            lane.bytes = lane.bytes * 0.9 + leased.message.payload.len() as f64 * 0.1;
            lane.page.push_back(leased);
        }
        let more = match next_in {
            _ if is_full => More::Due,
            Some(wait) => More::after(wait, now),
            None => More::Nothing,
        };
        let more = more.min(lane.news);
        state.set_more(&topic, more);
        state.refresh(&topic);
        Vec::new()
    }

    /// A take did not happen; it is tried again.
    pub(crate) fn not_taken(&self, topic: &Topic) {
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(topic) {
            lane.is_taking = false;
        }
        state.set_more(topic, More::Due);
        state.refresh(topic);
    }

    /// The next call to run, if there is a place for one.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Job> {
        let mut state = self.lock();
        let State { lanes, calls, deliveries, stopping, .. } = &mut *state;
        let turn = |places: &mut Places| {
            let is_free = places.free() > 0 && !*stopping;
            let topic =
                is_free.then(|| places.fair.next(|topic| lanes.get(topic).and_then(Lane::next_cost)))??;
            places.running += 1;
            Some(topic)
        };
        let topic = turn(calls).or_else(|| turn(deliveries))?;
        let lane = lanes.get_mut(&topic)?;
        let leased = lane.page.pop_front()?;
        lane.running += 1;
        let lease = leased.lease.clone();
        let is_told = !matches!(leased.message.state, MessageState::Ahead(_));
        if !is_told {
            state.untold.push_back((now, lease.clone()));
        }
        let stop = state.runs(&lease, &topic, is_told);
        state.refresh(&topic);
        let place = Place { board: self.clone(), topic, lease: Some(lease) };
        Some(Job { leased, place, stop })
    }

    /// A place for a call that is about to be appended, if one is free and nothing waits before it.
    pub(crate) fn reserve(&self, topic: &Topic, limit: u32) -> Option<Place> {
        let mut state = self.lock();
        if state.stopping || state.places(topic).free() == 0 {
            return None;
        }
        let lane = state.lane(topic)?;
        lane.limit = limit.max(1);
        let is_free = lane.page.is_empty()
            && !lane.is_taking
            && !matches!(lane.more, More::Due)
            && lane.running < lane.limit;
        if !is_free {
            return None;
        }
        if lane.trust == Trust::Unknown {
            lane.trust = Trust::Watchful(0);
        }
        lane.running += 1;
        state.places(topic).running += 1;
        Some(Place { board: self.clone(), topic: topic.clone(), lease: None })
    }

    /// The job of a call that was appended into a place of ours.
    pub(crate) fn begin(&self, mut place: Place, leased: Leased) -> Job {
        place.lease = Some(leased.lease.clone());
        let stop = self.lock().runs(&leased.lease, &place.topic, true);
        Job { leased, place, stop }
    }

    /// Stops a call that is here; one that has not begun is taken out of its page and returned.
    pub(crate) fn cancel(&self, position: Position) -> Here {
        let mut state = self.lock();
        if let Some(running) = state.jobs.get(&position) {
            running.stop.tell(Why::Cancelled);
            return Here::Running;
        }
        for lane in state.lanes.values_mut() {
            if let Some(at) = lane.page.iter().position(|leased| leased.lease.position == position)
                && let Some(leased) = lane.page.remove(at)
            {
                return Here::Waiting(Box::new(leased));
            }
        }
        Here::No
    }

    /// Stops a call that is here, or as soon as it is.
    pub(crate) fn cancel_wherever(&self, position: Position) -> Here {
        self.lock().cancelled.insert(position);
        self.cancel(position)
    }

    /// A call that was to be cancelled has ended.
    pub(crate) fn forget_cancelled(&self, position: Position) {
        self.lock().cancelled.remove(&position);
    }

    /// Takes out what was leased under other names than this and has not begun: whose it is by now is not sure.
    pub(crate) fn take_unsure(&self, current: &Holder) -> Vec<Leased> {
        let mut state = self.lock();
        let (mut unsure, mut topics) = (Vec::new(), Vec::new());
        for (topic, lane) in &mut state.lanes {
            let (ours, others): (Vec<_>, Vec<_>) =
                lane.page.drain(..).partition(|leased| leased.lease.holder == *current);
            lane.page = ours.into();
            if !others.is_empty() {
                unsure.extend(others);
                topics.push(topic.clone());
            }
        }
        topics.iter().for_each(|topic| state.refresh(topic));
        unsure
    }

    /// Starts nothing more, and returns what has not begun.
    pub(crate) fn stop(&self) -> Vec<Leased> {
        let mut state = self.lock();
        state.stopping = true;
        state.lanes.values_mut().flat_map(|lane| lane.page.drain(..)).collect()
    }

    /// Stops all that runs: others may run it again.
    pub(crate) fn abandon(&self) {
        self.lock().jobs.values().for_each(|running| running.stop.tell(Why::Abandoned));
    }

    /// What runs for so long that the database is to know that it has begun.
    pub(crate) fn to_tell(&self, now: Timestamp, most: usize) -> Vec<Lease> {
        let mut state = self.lock();
        let mut leases = Vec::new();
        while leases.len() < most
            && let Some((_, lease)) = state.untold.pop_front_if(|(begun, _)| tell_at(*begun) <= now)
        {
            if state.has(&lease) {
                leases.push(lease);
            }
        }
        leases
    }

    /// The database knows that these have begun.
    pub(crate) fn told(&self, leases: &[Lease]) {
        let mut state = self.lock();
        for lease in leases {
            if state.has(lease)
                && let Some(running) = state.jobs.get_mut(&lease.position)
            {
                running.is_told = true;
            }
        }
    }

    /// The database could not be told that these have begun: it is told again.
    pub(crate) fn not_told(&self, leases: Vec<Lease>, now: Timestamp) {
        self.lock().untold.extend(leases.into_iter().map(|lease| (now, lease)));
    }

    /// When the next one is to be told.
    pub(crate) fn next_told(&self) -> Option<Timestamp> {
        self.lock().untold.front().map(|(begun, _)| tell_at(*begun))
    }

    /// How many calls of a topic run here of which the database does not know that they have begun.
    pub(crate) fn untold_in(&self, topic: &Topic) -> u64 {
        let state = self.lock();
        state.jobs.values().filter(|running| !running.is_told && running.topic == *topic).count() as u64
    }

    /// Whether a message runs here.
    pub(crate) fn is_running(&self, position: Position) -> bool {
        self.lock().jobs.contains_key(&position)
    }

    /// Leases nothing ahead for a while: another server was lost, and what it ran comes here.
    pub(crate) fn watch(&self) {
        for lane in self.lock().lanes.values_mut() {
            if matches!(lane.trust, Trust::Full | Trust::Watchful(_)) {
                lane.trust = Trust::Watchful(0);
            }
        }
    }

    /// Whether a message is leased by us and has not begun.
    pub(crate) fn is_ahead(&self, topic: &Topic, position: Position) -> bool {
        let state = self.lock();
        let lane = state.lanes.get(topic);
        lane.is_some_and(|lane| lane.page.iter().any(|leased| leased.lease.position == position))
    }

    /// How many calls run.
    pub(crate) fn running(&self) -> u64 {
        self.lock().running().into()
    }

    /// Waits until nothing runs.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.lock().running() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Has the worker look.
    pub(crate) fn nudge(&self) {
        self.0.nudge.notify_one();
    }

    /// Waits until somebody has the worker look.
    pub(crate) async fn nudged(&self) {
        self.0.nudge.notified().await;
    }

    /// Forgets lanes that have nothing, so that functions that are gone leave none.
    pub(crate) fn tidy(&self) {
        self.lock().lanes.retain(|_, lane| !lane.is_idle());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Board {
    /// How many messages of a topic are leased by us and have not begun.
    pub(crate) fn ahead_in(&self, topic: &Topic) -> u64 {
        self.lock().lanes.get(topic).map_or(0, |lane| lane.page.len() as u64)
    }

    /// Leases ahead from now on, as if many calls had ended well.
    pub(crate) fn trust(&self) {
        self.lock().lanes.values_mut().for_each(|lane| lane.trust = Trust::Full);
    }
}

fn tell_at(begun: Timestamp) -> Timestamp {
    begun.saturating_add(TELL_AFTER).unwrap_or(Timestamp::MAX)
}

/// Where a call is that was to be cancelled.
#[derive(Debug)]
pub(crate) enum Here {
    /// It runs here, and was told to stop.
    Running,
    /// It was leased by us and had not begun; now it never does.
    Waiting(Box<Leased>),
    /// Not here.
    No,
}
