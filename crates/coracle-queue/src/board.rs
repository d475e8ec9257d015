//! What this server has leased: a lane for each topic, with what waits in it to be started, and what runs.
//! The worker fills it and starts from it; `put.rs` asks for a place, `cancel.rs` looks for a call.
//!
//! A lane holds a page of what it is about to run, and never the whole backlog.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_model::NamespaceName;
use coracle_store::{Lease, MESSAGES_MAX, Message, Position, Taken, Topic};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::fair::{Fair, cost_of};
use crate::topics::Room;

/// The most messages of one lane that are leased ahead of their start.
const AHEAD_MAX: u32 = 128;
/// How long the calls take that a lane leases ahead: enough to hide a commit, and little to lose if the server ends.
const AHEAD_TIME: Duration = Duration::from_millis(20);
/// Bytes that one lane leases at once, as far as its messages were of the usual size.
const PAGE_BYTES: usize = 4 << 20;
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
    position: Option<Position>,
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
        state.running -= 1;
        if let Some(position) = self.position.take() {
            state.jobs.remove(&position);
        }
        if let Some(lane) = state.lanes.get_mut(&self.topic) {
            lane.running -= 1;
        }
        state.refresh(&self.topic);
        if state.running == 0 {
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
    places: u32,
    running: u32,
    stopping: bool,
    lanes: HashMap<Topic, Lane>,
    /// The lanes that may start something.
    fair: Fair<NamespaceName, Topic>,
    /// The lanes that should lease more.
    hungry: VecDeque<Topic>,
    /// When lanes have something due that is not due yet.
    later: BTreeSet<(Timestamp, Topic)>,
    /// What runs, or is about to be.
    jobs: HashMap<Position, Arc<Stop>>,
    /// Calls that are to be cancelled wherever they are.
    cancelled: HashSet<Position>,
}

#[derive(Debug)]
struct Lane {
    namespace: NamespaceName,
    page: VecDeque<Leased>,
    running: u32,
    /// Calls that may run at once.
    limit: u32,
    trust: Trust,
    /// How long its calls take, as an average that forgets.
    took_us: f64,
    /// How large its messages are, likewise.
    bytes: f64,
    more: More,
    /// Whether a take is on its way to the database.
    is_taking: bool,
    /// Whether something arrived while it was.
    has_news: bool,
    is_hungry: bool,
}

/// What the database has for a lane, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    /// Something that is due.
    Due,
    /// Nothing before this time.
    Later(Timestamp),
    /// Nothing.
    Nothing,
}

/// How much a lane may lease at once.
///
/// A call that brings the server down takes the attempts of all that was leased with it; so where attempts were lost,
/// a lane begins with one call and leases one more with each that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Nothing is known yet: one call is looked at first.
    Unknown,
    /// Attempts were lost: at most so many.
    Careful(u32),
    /// As much as it can run, and a page ahead.
    Full,
}

impl Lane {
    fn new(namespace: NamespaceName) -> Self {
        Self {
            namespace,
            page: VecDeque::new(),
            running: 0,
            limit: DELIVERIES_MAX,
            trust: Trust::Unknown,
            took_us: 10_000.0,
            bytes: 1_000.0,
            more: More::Nothing,
            is_taking: false,
            has_news: false,
            is_hungry: false,
        }
    }

    fn ended(&mut self, took: Duration) {
        self.took_us = self.took_us * 0.9 + took.as_secs_f64() * 1e6 * 0.1;
        if let Trust::Careful(most) = self.trust {
            self.trust = if most >= self.limit { Trust::Full } else { Trust::Careful(most + 1) };
        }
    }

    /// How many more messages it should lease, given how many places are free.
    fn wants(&self, places_free: u32) -> usize {
        let here = self.page.len() + self.running as usize;
        let places = self.limit.saturating_sub(self.running).min(places_free.max(1));
        match self.trust {
            Trust::Unknown => 1usize.saturating_sub(here),
            Trust::Careful(most) => (most as usize).saturating_sub(here),
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

    /// What its next call costs, if it may start one.
    fn next_cost(&self) -> Option<u32> {
        let next = self.page.front()?;
        (self.running < self.limit).then(|| cost_of(next.message.payload.len()))
    }

    fn is_idle(&self) -> bool {
        self.page.is_empty() && self.running == 0 && !self.is_taking && self.more == More::Nothing
    }
}

impl State {
    /// Brings the lists of lanes up to date with this one.
    fn refresh(&mut self, topic: &Topic) {
        let free = self.places.saturating_sub(self.running);
        let Some(lane) = self.lanes.get_mut(topic) else { return };
        if lane.next_cost().is_some() {
            self.fair.enter(&lane.namespace, topic);
        }
        let wants = lane.more == More::Due && !lane.is_taking && !self.stopping && lane.wants(free) > 0;
        if wants && !lane.is_hungry {
            lane.is_hungry = true;
            self.hungry.push_back(topic.clone());
        }
    }

    /// A message runs from now on, unless it is to be cancelled.
    fn runs(&mut self, position: Position, stop: &Arc<Stop>) {
        if self.cancelled.contains(&position) {
            stop.tell(Why::Cancelled);
        }
        self.jobs.insert(position, Arc::clone(stop));
    }

    fn lane(&mut self, topic: &Topic) -> Option<&mut Lane> {
        if !self.lanes.contains_key(topic) {
            let room = Room::of(topic).filter(Room::is_worked_on)?;
            let (Room::Calls(function) | Room::Deliveries(function)) = &room else { return None };
            let namespace = function.namespace.clone();
            self.lanes.insert(topic.clone(), Lane::new(namespace));
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
    /// An empty board with so many places.
    pub(crate) fn new(places: u32) -> Self {
        let state = State {
            places: places.max(1),
            running: 0,
            stopping: false,
            lanes: HashMap::new(),
            fair: Fair::new(),
            hungry: VecDeque::new(),
            later: BTreeSet::new(),
            jobs: HashMap::new(),
            cancelled: HashSet::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), idle: Notify::new(), nudge: Notify::new() }))
    }

    /// Something has begun to wait in a topic, or may have.
    pub(crate) fn arrived(&self, topic: &Topic) {
        let mut state = self.lock();
        let Some(lane) = state.lane(topic) else { return };
        if lane.is_taking {
            lane.has_news = true;
            return;
        }
        state.set_more(topic, More::Due);
        state.refresh(topic);
    }

    /// Something waits in a topic until then.
    pub(crate) fn due_later(&self, topic: &Topic, at: Timestamp) {
        let mut state = self.lock();
        if state.lane(topic).is_some_and(|lane| lane.more == More::Nothing && !lane.is_taking) {
            state.set_more(topic, More::Later(at));
        }
    }

    /// What is to be leased now: topics, and how many messages of each.
    pub(crate) fn wishes(&self, now: Timestamp, topics_max: usize) -> Vec<(Topic, usize)> {
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
            let free = state.places.saturating_sub(state.running);
            let stopping = state.stopping;
            let Some(lane) = state.lanes.get_mut(&topic) else { continue };
            lane.is_hungry = false;
            let wanted = lane.wants(free);
            if wanted > 0 && !lane.is_taking && !stopping {
                lane.is_taking = true;
                lane.has_news = false;
                wishes.push((topic, wanted));
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
    pub(crate) fn taken(
        &self,
        taken: Taken,
        wanted: usize,
        limit: u32,
        was_lost: impl Fn(&Message) -> bool,
    ) -> Vec<Leased> {
        let mut state = self.lock();
        let Taken { topic, messages, next_due } = taken;
        let leased = |(lease, message)| Leased { lease, message };
        if state.stopping {
            return messages.into_iter().map(leased).collect();
        }
        let Some(lane) = state.lane(&topic) else { return Vec::new() };
        lane.is_taking = false;
        lane.limit = limit.max(1);
        let is_full = messages.len() >= wanted;
        if messages.iter().any(|(_, message)| was_lost(message)) {
            lane.trust = Trust::Careful(1);
        } else if lane.trust == Trust::Unknown && !messages.is_empty() {
            lane.trust = Trust::Full;
        }
        for leased in messages.into_iter().map(leased) {
            lane.bytes = lane.bytes * 0.9 + leased.message.payload.len() as f64 * 0.1;
            lane.page.push_back(leased);
        }
        let more = match next_due {
            _ if is_full || lane.has_news => More::Due,
            Some(at) => More::Later(at),
            None => More::Nothing,
        };
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
    pub(crate) fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        let State { lanes, fair, places, running, stopping, .. } = &mut *state;
        if *running >= *places || *stopping {
            return None;
        }
        let topic = fair.next(|topic| lanes.get(topic).and_then(Lane::next_cost))?;
        let lane = lanes.get_mut(&topic)?;
        let leased = lane.page.pop_front()?;
        lane.running += 1;
        *running += 1;
        let position = leased.lease.position;
        let stop = Arc::new(Stop::default());
        state.runs(position, &stop);
        state.refresh(&topic);
        let place = Place { board: self.clone(), topic, position: Some(position) };
        Some(Job { leased, place, stop })
    }

    /// A place for a call that is about to be appended, if one is free and nothing waits before it.
    pub(crate) fn reserve(&self, topic: &Topic, limit: u32) -> Option<Place> {
        let mut state = self.lock();
        if state.stopping || state.running >= state.places {
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
            lane.trust = Trust::Full;
        }
        lane.running += 1;
        state.running += 1;
        Some(Place { board: self.clone(), topic: topic.clone(), position: None })
    }

    /// The job of a call that was appended into a place of ours.
    pub(crate) fn begin(&self, mut place: Place, leased: Leased) -> Job {
        let stop = Arc::new(Stop::default());
        let position = leased.lease.position;
        place.position = Some(position);
        self.lock().runs(position, &stop);
        Job { leased, place, stop }
    }

    /// Stops a call that is here; one that has not begun is taken out of its page and returned.
    pub(crate) fn cancel(&self, position: Position) -> Here {
        let mut state = self.lock();
        if let Some(stop) = state.jobs.get(&position) {
            stop.tell(Why::Cancelled);
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

    /// Starts nothing more, and returns what has not begun.
    pub(crate) fn stop(&self) -> Vec<Leased> {
        let mut state = self.lock();
        state.stopping = true;
        state.lanes.values_mut().flat_map(|lane| lane.page.drain(..)).collect()
    }

    /// Stops all that runs: others may run it again.
    pub(crate) fn abandon(&self) {
        self.lock().jobs.values().for_each(|stop| stop.tell(Why::Abandoned));
    }

    /// Whether a message is leased by us and has not begun.
    pub(crate) fn is_ahead(&self, topic: &Topic, position: Position) -> bool {
        let state = self.lock();
        let lane = state.lanes.get(topic);
        lane.is_some_and(|lane| lane.page.iter().any(|leased| leased.lease.position == position))
    }

    /// How many messages of a topic are leased by us and have not begun.
    pub(crate) fn ahead_in(&self, topic: &Topic) -> u64 {
        self.lock().lanes.get(topic).map_or(0, |lane| lane.page.len() as u64)
    }

    /// How many calls run.
    pub(crate) fn running(&self) -> u64 {
        self.lock().running.into()
    }

    /// Waits until nothing runs.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.lock().running == 0 {
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
