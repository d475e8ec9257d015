//! What a group of batches makes of the log, decided in memory: from what was read, to what is to be written.
//! Filled and carried out by `messages.rs`; asked batch by batch by `group.rs`. It does no I/O.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use crate::arrivals::{Waits, sooner, wait};
use crate::batch::Step;
use crate::loss;
use crate::{
    Append, Appended, Batch, Begin, CommitError, Committed, Due, Group, Holder, Lease, MessageState,
    Position, Take, Taken, Topic,
};

/// The state of a message, as it stands in its row.
pub(super) const WAITING: i16 = 0;
pub(super) const BEHIND: i16 = 1;
pub(super) const HELD: i16 = 2;
pub(super) const KEPT: i16 = 3;

/// The log as a group of batches finds it, and then as it leaves it.
#[derive(Debug, Default)]
pub(super) struct Plan<'b> {
    /// In microseconds since 1970, by the clock of the database.
    pub(super) now: i64,
    /// Positions that nobody else has.
    pub(super) positions: std::vec::IntoIter<i64>,
    /// The messages that the group is about, by where they stand now.
    pub(super) messages: HashMap<i64, Stored<'b>>,
    /// The rows to remove.
    pub(super) ended: Vec<i64>,
    /// The rows with which their holders have begun.
    pub(super) begun: Vec<i64>,
    /// Until when the holders live that the group names; `None` if they are not known.
    pub(super) holders: HashMap<Holder, Option<i64>>,
    /// The holders to write down, with what they say of themselves.
    pub(super) kept: HashMap<Holder, Bytes>,
    /// The holders to forget.
    pub(super) left: HashSet<Holder>,
    /// Messages of holders whose time was over when they were read.
    pub(super) abandoned: Vec<i64>,
    /// Whether holders are to be forgotten whose time is over.
    pub(super) reclaims: bool,
    /// The first messages of the topics that are trimmed.
    pub(super) oldest: HashMap<Topic, Vec<i64>>,
    /// Groups in which something is not over.
    pub(super) led: HashSet<(Topic, Group)>,
    /// Groups in which somebody may have to lead on.
    pub(super) moved: BTreeSet<(Topic, Group)>,
    /// By how much topics grow: waiting, held, kept.
    pub(super) counts: HashMap<Topic, [i64; 3]>,
    /// Where something has begun to wait, and for how long.
    pub(super) arrived: Waits,
    /// What is leased when all else was written: for which batch, as the how-manieth of it.
    pub(super) takes: Vec<(usize, usize, &'b Take)>,
}

/// A message as it stands now.
#[derive(Debug)]
pub(super) struct Stored<'b> {
    pub(super) origin: Origin<'b>,
    pub(super) topic: Topic,
    pub(super) group: Option<Group>,
    pub(super) appended: i64,
    pub(super) due: i64,
    pub(super) attempt: i32,
    pub(super) state: i16,
    pub(super) holder: Option<Holder>,
    /// When its holder began with it.
    pub(super) begun: Option<i64>,
    /// A story that is not yet in the row.
    pub(super) story: Option<Bytes>,
    /// A loss that is not yet in the row, as a line of text.
    pub(super) loss: Option<String>,
    pub(super) changed: bool,
}

/// Where a message comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'b> {
    /// The row with this position.
    Row(i64),
    /// A batch of the group.
    Batch(&'b Append),
}

/// How a leased message comes to wait again.
#[derive(Debug, Clone, Copy)]
enum Back {
    /// As after an attempt, from then on.
    Tried(i64),
    /// As if it had not been leased.
    Untried,
    /// At once, as its holder is gone.
    Lost,
}

impl Stored<'_> {
    /// The state as which it is counted: what is leased ahead waits.
    fn counted(&self) -> i16 {
        if self.state == HELD && self.begun.is_none() { WAITING } else { self.state }
    }
}

impl<'b> Plan<'b> {
    /// Why the steps of a batch cannot happen. All are looked at before one is made, so that a batch that is refused
    /// leaves nothing behind.
    pub(super) fn refusal(&self, batch: &Batch) -> Option<CommitError> {
        let mut kept: Vec<&Holder> = Vec::new();
        batch.steps().iter().find_map(|step| {
            if let Step::Keep { holder, .. } = step {
                kept.push(holder);
            }
            match step.needs_holder() {
                Some(holder) if !kept.contains(&holder) && !self.is_alive(holder) => {
                    Some(CommitError::Lapsed { holder: holder.clone() })
                }
                _ => self.lost(step).map(|position| CommitError::Lost { position }),
            }
        })
    }

    /// The message of a step that cannot happen to it.
    fn lost(&self, step: &Step) -> Option<Position> {
        match step {
            Step::Begin(lease)
            | Step::Ack(lease)
            | Step::Release(lease)
            | Step::Retry { lease, .. }
            | Step::Bury { lease, .. } => (!self.is_ours(lease)).then_some(lease.position),
            Step::Remove(position) | Step::Shift { position, .. } => {
                let found = self.messages.get(&number(*position));
                found.is_none_or(|found| found.state == HELD).then_some(*position)
            }
            _ => None,
        }
    }

    /// Makes the steps of a batch; its takes are remembered, and happen at the end.
    pub(super) fn apply(&mut self, index: usize, batch: &'b Batch, committed: &mut Committed) {
        for step in batch.steps() {
            match step {
                Step::Append(append) => committed.appended.push(self.append(append)),
                Step::Take(take) => {
                    self.takes.push((index, committed.taken.len(), take));
                    let topic = take.topic.clone();
                    committed.taken.push(Taken { topic, messages: Vec::new(), next_in: None });
                }
                Step::Begin(lease) => self.begin(number(lease.position)),
                Step::Ack(lease) => self.remove(number(lease.position)),
                Step::Release(lease) => self.give_back(number(lease.position), Back::Untried),
                Step::Retry { lease, due, story } => {
                    self.tell(lease.position, story);
                    self.give_back(number(lease.position), Back::Tried(self.due(*due)));
                }
                Step::Bury { lease, topic, story } => {
                    self.tell(lease.position, story);
                    committed.appended.push(self.shift(lease.position, topic, None));
                }
                Step::Remove(position) => self.remove(number(*position)),
                Step::Shift { position, topic, due } => {
                    let due = self.due(*due);
                    committed.appended.push(self.shift(*position, topic, Some(due)));
                }
                Step::Keep { holder, info, time } => {
                    self.holders.insert(holder.clone(), Some(self.due(Due::In(*time))));
                    self.kept.insert(holder.clone(), info.clone());
                    self.left.remove(holder);
                }
                Step::Leave(holder) => self.leave(holder),
                Step::Reclaim => committed.reclaimed += self.reclaim(),
                Step::Trim { topic, before } => {
                    committed.trimmed += self.trim(topic, before.as_microsecond());
                }
            }
        }
    }

    fn append(&mut self, append: &'b Append) -> Appended {
        let position = self.next_position();
        let topic = &append.topic;
        // One of a group waits behind until it is known who leads; only who is to be held has to be known to lead now.
        let grouped = append.group.as_ref().filter(|_| append.begin != Begin::Kept);
        let leads = match grouped {
            Some(group) => {
                self.moved.insert((topic.clone(), group.clone()));
                self.led.insert((topic.clone(), group.clone()))
            }
            None => true,
        };
        let (state, due, holder) = match &append.begin {
            Begin::Kept => (KEPT, self.now, None),
            Begin::Held(holder) if leads => (HELD, self.now, Some(holder.clone())),
            Begin::Held(_) => (BEHIND, self.now, None),
            Begin::Waiting(due) => (if grouped.is_some() { BEHIND } else { WAITING }, self.due(*due), None),
        };
        self.count(topic, state, 1);
        if state == WAITING {
            sooner(&mut self.arrived, topic, wait(due, self.now));
        }
        let place = Position(position.cast_unsigned());
        let lease = holder.clone().map(|holder| Lease { position: place, holder, attempt: 1 });
        let stored = Stored {
            origin: Origin::Batch(append),
            topic: topic.clone(),
            group: append.group.clone(),
            appended: self.now,
            due,
            attempt: i32::from(holder.is_some()),
            state,
            holder,
            begun: (state == HELD).then_some(self.now),
            story: None,
            loss: None,
            changed: true,
        };
        self.messages.insert(position, stored);
        Appended { position: place, lease }
    }

    /// Makes an attempt of what was leased ahead.
    fn begin(&mut self, position: i64) {
        let Some(stored) = self.messages.get_mut(&position) else { return };
        if stored.begun.replace(self.now).is_none() {
            if let Origin::Row(row) = stored.origin {
                self.begun.push(row);
            }
            let topic = stored.topic.clone();
            self.count(&topic, WAITING, -1);
            self.count(&topic, HELD, 1);
        }
    }

    fn tell(&mut self, position: Position, story: &Bytes) {
        if let Some(stored) = self.messages.get_mut(&number(position)) {
            stored.story = Some(story.clone());
            stored.changed = true;
        }
    }

    /// Lets a leased message wait again.
    fn give_back(&mut self, position: i64, back: Back) {
        let Some(stored) = self.messages.get_mut(&position) else { return };
        match back {
            Back::Tried(due) => stored.due = due,
            Back::Untried => stored.attempt -= 1,
            Back::Lost => match (stored.begun, &stored.holder) {
                (Some(begun), Some(holder)) => {
                    stored.due = self.now;
                    stored.loss = Some(loss::line(stored.attempt, begun, holder));
                }
                _ => stored.attempt -= 1,
            },
        }
        let was = stored.counted();
        stored.state = WAITING;
        (stored.holder, stored.changed) = (None, true);
        let (topic, due) = (stored.topic.clone(), stored.due);
        self.count(&topic, was, -1);
        self.count(&topic, WAITING, 1);
        sooner(&mut self.arrived, &topic, wait(due, self.now));
    }

    fn remove(&mut self, position: i64) {
        let Some(stored) = self.messages.remove(&position) else { return };
        self.leave_topic(&stored);
        if let Origin::Row(row) = stored.origin {
            self.ended.push(row);
        }
    }

    /// Moves a message to a new position in a topic: to wait there, or, without a time, only to be kept.
    fn shift(&mut self, position: Position, to: &Topic, due: Option<i64>) -> Appended {
        let moved = self.next_position();
        if let Some(stored) = self.messages.remove(&number(position)) {
            self.leave_topic(&stored);
            let state = match (due, &stored.group) {
                (None, _) => KEPT,
                (Some(_), None) => WAITING,
                (Some(_), Some(group)) => {
                    self.led.insert((to.clone(), group.clone()));
                    self.moved.insert((to.clone(), group.clone()));
                    BEHIND
                }
            };
            self.count(to, state, 1);
            let due = due.unwrap_or(self.now);
            if state == WAITING {
                sooner(&mut self.arrived, to, wait(due, self.now));
            }
            let stored = Stored {
                topic: to.clone(),
                appended: self.now,
                due,
                attempt: if state == KEPT { stored.attempt } else { 0 },
                state,
                holder: None,
                changed: true,
                ..stored
            };
            self.messages.insert(moved, stored);
        }
        Appended { position: Position(moved.cast_unsigned()), lease: None }
    }

    fn leave_topic(&mut self, stored: &Stored<'_>) {
        self.count(&stored.topic, stored.counted(), -1);
        if let Some(group) = stored.group.as_ref().filter(|_| stored.state != KEPT) {
            self.moved.insert((stored.topic.clone(), group.clone()));
        }
    }

    /// Gives back all that a holder held, and forgets it.
    fn leave(&mut self, holder: &Holder) {
        let held = |stored: &Stored<'_>| stored.state == HELD && stored.holder.as_ref() == Some(holder);
        let held: Vec<i64> =
            self.messages.iter().filter(|(_, stored)| held(stored)).map(|(position, _)| *position).collect();
        for position in held {
            self.give_back(position, Back::Lost);
        }
        self.holders.insert(holder.clone(), None);
        self.kept.remove(holder);
        self.left.insert(holder.clone());
    }

    fn reclaim(&mut self) -> u64 {
        self.reclaims = true;
        let mut reclaimed = 0;
        for position in std::mem::take(&mut self.abandoned) {
            let Some(stored) = self.messages.get(&position).filter(|stored| stored.state == HELD) else {
                continue;
            };
            // Somebody may have been kept by a batch before.
            if !stored.holder.as_ref().is_some_and(|holder| self.is_alive(holder)) {
                self.give_back(position, Back::Lost);
                reclaimed += 1;
            }
        }
        reclaimed
    }

    fn trim(&mut self, topic: &Topic, before: i64) -> u64 {
        let oldest = self.oldest.remove(topic).unwrap_or_default();
        let (old, young): (Vec<i64>, Vec<i64>) = oldest.into_iter().partition(|position| {
            let stored = self.messages.get(position);
            stored.is_some_and(|stored| {
                stored.topic == *topic && stored.state != HELD && stored.appended < before
            })
        });
        self.oldest.insert(topic.clone(), young);
        old.iter().for_each(|position| self.remove(*position));
        old.len() as u64
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        self.messages.get(&number(lease.position)).is_some_and(|stored| {
            stored.state == HELD
                && stored.holder.as_ref() == Some(&lease.holder)
                && u32::try_from(stored.attempt) == Ok(lease.attempt)
        })
    }

    fn is_alive(&self, holder: &Holder) -> bool {
        self.holders.get(holder).is_some_and(|until| until.is_some_and(|until| until > self.now))
    }

    fn next_position(&mut self) -> i64 {
        self.positions.next().expect("as many positions are fetched as the steps of the group need")
    }

    fn due(&self, due: Due) -> i64 {
        match due {
            Due::Now => self.now,
            Due::In(time) => self.now.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)),
            Due::At(at) => at.as_microsecond(),
        }
    }

    /// Whether all that is to be counted and told is known before anything is written.
    pub(super) fn is_settled(&self) -> bool {
        self.takes.is_empty() && self.moved.is_empty()
    }

    /// Takes in what was found out while it was written: where one of a group leads on, and what was leased.
    pub(super) fn settle<'t>(&mut self, leading: Vec<Topic>, taken: impl Iterator<Item = &'t Taken>) {
        // Whether they are due, their lease says.
        leading.iter().for_each(|topic| sooner(&mut self.arrived, topic, Duration::ZERO));
        for taken in taken {
            let begun =
                taken.messages.iter().filter(|(_, message)| matches!(message.state, MessageState::Held(_)));
            let many = i64::try_from(begun.count()).unwrap_or(i64::MAX);
            self.count(&taken.topic, WAITING, -many);
            self.count(&taken.topic, HELD, many);
        }
    }

    fn count(&mut self, topic: &Topic, state: i16, by: i64) {
        if !self.counts.contains_key(topic) {
            self.counts.insert(topic.clone(), [0; 3]);
        }
        let Some([waiting, held, kept]) = self.counts.get_mut(topic) else { return };
        *match state {
            HELD => held,
            KEPT => kept,
            _ => waiting,
        } += by;
    }
}

/// How many new positions the steps of a batch need.
pub(super) fn positions_needed(batch: &Batch) -> usize {
    let needs = |step: &&Step| matches!(step, Step::Append(_) | Step::Bury { .. } | Step::Shift { .. });
    batch.steps().iter().filter(needs).count()
}

pub(super) fn number(position: Position) -> i64 {
    position.0.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Topic {
        Topic::new(text).unwrap()
    }

    fn holder(text: &str) -> Holder {
        Holder::new(text).unwrap()
    }

    /// A log in which ann and bob, whose time is over, hold a message each, at 1 and 2.
    fn held_by_two<'b>() -> Plan<'b> {
        let held = |row, holder| Stored {
            origin: Origin::Row(row),
            topic: topic("calls"),
            group: Some(Group::new("group").unwrap()),
            appended: 0,
            due: 0,
            attempt: 1,
            state: HELD,
            holder: Some(holder),
            begun: Some(5),
            story: None,
            loss: None,
            changed: false,
        };
        Plan {
            now: 1000,
            positions: vec![11, 12, 13].into_iter(),
            messages: HashMap::from([(1, held(1, holder("ann"))), (2, held(2, holder("bob")))]),
            abandoned: vec![1, 2],
            ..Plan::default()
        }
    }

    fn lease(position: u64, name: &str) -> Lease {
        Lease { position: Position(position), holder: holder(name), attempt: 1 }
    }

    #[test]
    fn of_two_batches_of_a_group_the_first_has_the_message() {
        let mut plan = held_by_two();
        let (first, second) =
            (Batch::new().ack(lease(1, "ann")), Batch::new().retry(lease(1, "ann"), Due::Now, "again"));
        for batch in [&first, &second] {
            assert!(plan.refusal(batch).is_none(), "neither has happened");
        }
        plan.apply(0, &first, &mut Committed::default());
        assert!(matches!(plan.refusal(&second), Some(CommitError::Lost { position: Position(1) })));
        assert_eq!((plan.ended, plan.counts), (vec![1], HashMap::from([(topic("calls"), [0, -1, 0])])));
        assert_eq!(plan.moved.len(), 1, "the next of its group may lead on");
    }

    #[test]
    fn who_is_kept_in_the_same_group_of_batches_loses_nothing() {
        let mut plan = held_by_two();
        let (keep, reclaim) =
            (Batch::new().keep(holder("ann"), "", Duration::from_secs(1)), Batch::new().reclaim());
        let mut committed = Committed::default();
        plan.apply(0, &keep, &mut Committed::default());
        plan.apply(1, &reclaim, &mut committed);
        assert_eq!(committed.reclaimed, 1);
        let state = |position| (plan.messages[&position].state, plan.messages[&position].changed);
        assert_eq!((state(1), state(2)), ((HELD, false), (WAITING, true)));
        assert_eq!(plan.messages[&2].loss.as_deref(), Some("1 5 bob\n"), "who had it is told");
        assert_eq!(plan.arrived, Waits::from([(topic("calls"), Duration::ZERO)]));
    }

    #[test]
    fn what_moves_is_the_same_row_at_a_new_position() {
        let mut plan = held_by_two();
        let batch = Batch::new().bury(lease(2, "bob"), topic("dead"), "why");
        let mut committed = Committed::default();
        plan.apply(0, &batch, &mut committed);
        assert_eq!(committed.appended, [Appended { position: Position(11), lease: None }]);
        let moved = &plan.messages[&11];
        assert!(matches!(moved.origin, Origin::Row(2)) && !plan.messages.contains_key(&2));
        assert_eq!((moved.state, moved.appended, moved.attempt), (KEPT, 1000, 1));
        assert_eq!(moved.story.as_deref(), Some(&b"why"[..]));
        assert_eq!(plan.counts[&topic("dead")], [0, 0, 1]);
    }
}
