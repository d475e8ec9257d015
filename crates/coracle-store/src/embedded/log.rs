//! Writing the log: what each step of a batch does to the tables of messages, topics and holders.
//! Called by the writer, within its transaction.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{CachedStatement, OptionalExtension, Row, Transaction};

use super::schema::losses_and_this;
use crate::arrivals::{Waits, sooner, wait};
use crate::batch::Step;
use crate::loss;
use crate::{
    Append, Appended, Batch, Begin, CommitError, Committed, Due, Group, Holder, Lease, MESSAGES_BYTES_MAX,
    Message, MessageState, Position, TRIM_MAX, Take, Taken, Topic,
};

/// The state of a message, as it stands in its row.
pub(super) const WAITING: i64 = 0;
pub(super) const BEHIND: i64 = 1;
pub(super) const HELD: i64 = 2;
pub(super) const KEPT: i64 = 3;

/// Topics whose numbers are remembered; beyond that they are looked up anew.
const NUMBERS_MAX: usize = 100_000;

/// The numbers of topics, as the last transaction left them; thrown away with a transaction that failed.
pub(super) type Numbers = HashMap<Topic, i64>;

/// The log within one transaction.
pub(super) struct Log<'t> {
    transaction: &'t Transaction<'t>,
    numbers: &'t mut Numbers,
    /// In microseconds since 1970; never before that of the transaction before.
    now: i64,
    /// Holders up to this number are gone, whatever their time.
    gone: i64,
    position: i64,
    counts: HashMap<i64, Counts>,
    holders: HashMap<Holder, Option<Held>>,
    touched: bool,
}

/// By how much a topic grew.
#[derive(Debug, Clone, Copy, Default)]
struct Counts([i64; 3]);

/// A holder as it stands in its row.
#[derive(Debug, Clone, Copy)]
struct Held {
    number: i64,
    until: i64,
}

/// How a leased message comes to wait again.
#[derive(Debug, Clone, Copy)]
enum Back {
    /// As after an attempt, from then on.
    Tried(Due),
    /// As if it had not been leased.
    Untried,
    /// At once, as its holder is gone.
    Lost,
}

/// What ending or moving a message must know of it.
struct Found {
    topic: i64,
    group: Option<String>,
    state: i64,
    is_begun: bool,
}

impl Found {
    /// The state as which it is counted: what is leased ahead waits.
    fn counted(&self) -> i64 {
        if self.state == HELD && !self.is_begun { WAITING } else { self.state }
    }
}

impl<'t> Log<'t> {
    pub(super) fn begin(
        transaction: &'t Transaction<'t>,
        numbers: &'t mut Numbers,
        now: Timestamp,
        gone: i64,
    ) -> rusqlite::Result<Self> {
        let (position, moment) = transaction
            .prepare_cached("SELECT position, moment FROM head")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if numbers.len() > NUMBERS_MAX {
            numbers.clear();
        }
        let now = now.as_microsecond().max(moment);
        let (counts, holders) = (HashMap::new(), HashMap::new());
        Ok(Self { transaction, numbers, now, gone, position, counts, holders, touched: false })
    }

    /// Why the steps of a batch cannot happen. All are looked at before one is made: see `conflict` of the writer.
    pub(super) fn refusal(&mut self, batch: &Batch) -> rusqlite::Result<Option<CommitError>> {
        let mut kept: Vec<&Holder> = Vec::new();
        for step in batch.steps() {
            if let Step::Keep { holder, .. } = step {
                kept.push(holder);
            }
            if let Some(holder) = step.needs_holder()
                && !kept.contains(&holder)
                && self.holder(holder)?.is_none_or(|held| held.until <= self.now)
            {
                return Ok(Some(CommitError::Lapsed { holder: holder.clone() }));
            }
            let lost = match step {
                Step::Begin(lease)
                | Step::Ack(lease)
                | Step::Release(lease)
                | Step::Retry { lease, .. }
                | Step::Bury { lease, .. } => (!self.is_ours(lease)?).then_some(lease.position),
                Step::Remove(position) | Step::Shift { position, .. } => {
                    let found = self.found(*position)?;
                    found.is_none_or(|found| found.state == HELD).then_some(*position)
                }
                _ => None,
            };
            if let Some(position) = lost {
                return Ok(Some(CommitError::Lost { position }));
            }
        }
        Ok(None)
    }

    /// Makes the steps of a batch, and says where something has begun to wait, and for how long.
    pub(super) fn apply(&mut self, batch: &Batch, committed: &mut Committed) -> rusqlite::Result<Waits> {
        let mut arrived = Waits::new();
        for step in batch.steps() {
            self.touched = true;
            match step {
                Step::Append(append) => committed.appended.push(self.append(append, &mut arrived)?),
                Step::Take(take) => committed.taken.push(self.take(take)?),
                Step::Begin(lease) => self.begun(lease.position)?,
                Step::Ack(lease) => self.remove(lease.position, &mut arrived)?,
                Step::Release(lease) => self.give_back(lease.position, Back::Untried, &mut arrived)?,
                Step::Retry { lease, due, story } => {
                    self.execute(
                        "UPDATE payload SET story = ?2 WHERE position = ?1",
                        (number(lease.position), &**story),
                    )?;
                    self.give_back(lease.position, Back::Tried(*due), &mut arrived)?;
                }
                Step::Bury { lease, topic, story } => {
                    self.execute(
                        "UPDATE payload SET story = ?2 WHERE position = ?1",
                        (number(lease.position), &**story),
                    )?;
                    committed.appended.push(self.shift(lease.position, topic, None, &mut arrived)?);
                }
                Step::Remove(position) => self.remove(*position, &mut arrived)?,
                Step::Shift { position, topic, due } => {
                    committed.appended.push(self.shift(*position, topic, Some(*due), &mut arrived)?);
                }
                Step::Keep { holder, info, time } => {
                    let until = self.due(Due::In(*time));
                    self.execute(
                        "INSERT INTO holder (name, info, until) VALUES (?1, ?2, ?3)
                         ON CONFLICT (name) DO UPDATE SET info = ?2, until = ?3",
                        (holder.as_str(), &**info, until),
                    )?;
                    self.holders.clear();
                }
                Step::Leave(holder) => {
                    if let Some(held) = self.holder(holder)? {
                        self.end_holder(held.number, &mut arrived)?;
                    }
                }
                Step::Reclaim => committed.reclaimed += self.reclaim(&mut arrived)?,
                Step::Trim { topic, before } => {
                    committed.trimmed += self.trim(topic, before.as_microsecond(), &mut arrived)?;
                }
            }
        }
        Ok(arrived)
    }

    /// Writes down what all batches together changed: the counts, the last position and moment.
    pub(super) fn finish(self) -> rusqlite::Result<()> {
        if !self.touched {
            return Ok(());
        }
        let mut count = self.transaction.prepare_cached(
            "UPDATE topic SET waiting = waiting + ?2, held = held + ?3, kept = kept + ?4 WHERE number = ?1",
        )?;
        for (topic, Counts([waiting, held, kept])) in self.counts {
            count.execute((topic, waiting, held, kept))?;
        }
        let mut head = self.transaction.prepare_cached("UPDATE head SET position = ?1, moment = ?2")?;
        head.execute((self.position, self.now))?;
        Ok(())
    }

    fn append(&mut self, append: &Append, arrived: &mut Waits) -> rusqlite::Result<Appended> {
        let topic = self.number(&append.topic)?;
        let position = self.next_position();
        let behind = match &append.group {
            Some(group) if append.begin != Begin::Kept => self.is_led(topic, group.as_str(), position)?,
            _ => false,
        };
        let (state, due, holder) = match &append.begin {
            Begin::Kept => (KEPT, self.now, None),
            Begin::Held(holder) if !behind => (HELD, self.now, Some(holder)),
            Begin::Held(_) => (BEHIND, self.now, None),
            Begin::Waiting(due) => (if behind { BEHIND } else { WAITING }, self.due(*due), None),
        };
        let number = match holder {
            Some(holder) => self.holder(holder)?.map(|held| held.number),
            None => None,
        };
        let (id, group) = (append.id.as_ref(), append.group.as_ref());
        self.execute(
            "INSERT INTO message (position, topic, id, grp, appended, due, attempt, state, holder, begun)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            (
                position,
                topic,
                id.map(|id| id.as_str()),
                group.map(Group::as_str),
                self.now,
                due,
                i64::from(holder.is_some()),
                state,
                number,
                number.map(|_| self.now),
            ),
        )?;
        self.execute(
            "INSERT INTO payload (position, story, payload) VALUES (?1, x'', ?2)",
            (position, &*append.payload),
        )?;
        self.count(topic, state, 1);
        if state == WAITING {
            sooner(arrived, &append.topic, self.wait(due));
        }
        let position = Position(position.cast_unsigned());
        let lease = holder.map(|holder| Lease { position, holder: holder.clone(), attempt: 1 });
        Ok(Appended { position, lease })
    }

    fn take(&mut self, take: &Take) -> rusqlite::Result<Taken> {
        let topic = self.number(&take.topic)?;
        let holder = self.holder(&take.holder)?.map(|held| held.number);
        let mut messages = self.due_messages(topic, take)?;
        let mut hold = self.transaction.prepare_cached(
            "UPDATE message SET state = 2, holder = ?2, attempt = ?3, begun = ?4 WHERE position = ?1",
        )?;
        for (index, (lease, message)) in messages.iter_mut().enumerate() {
            let begins = index < take.begins;
            lease.attempt += 1;
            message.attempt = lease.attempt;
            message.state =
                if begins { MessageState::Held } else { MessageState::Ahead }(take.holder.clone());
            hold.execute((number(lease.position), holder, lease.attempt, begins.then_some(self.now)))?;
        }
        drop(hold);
        let begun = i64::try_from(messages.len().min(take.begins)).unwrap_or(i64::MAX);
        self.count(topic, WAITING, -begun);
        self.count(topic, HELD, begun);
        let next_due: Option<i64> = self
            .cached("SELECT due FROM message WHERE topic = ?1 AND state = 0 ORDER BY due, position LIMIT 1")?
            .query_row([topic], |row| row.get(0))
            .optional()?;
        Ok(Taken { topic: take.topic.clone(), messages, next_in: next_due.map(|due| self.wait(due)) })
    }

    /// The first messages that are due, as they stand before they are leased.
    fn due_messages(&self, topic: i64, take: &Take) -> rusqlite::Result<Vec<(Lease, Message)>> {
        let mut statement = self.cached(
            "SELECT m.position, m.id, m.grp, m.appended, m.due, m.attempt, m.state, p.story, p.payload, m.losses, m.begun
             FROM message m JOIN payload p ON p.position = m.position
             WHERE m.topic = ?1 AND m.state = 0 AND m.due <= ?2 ORDER BY m.due, m.position LIMIT ?3",
        )?;
        let mut rows = statement.query((topic, self.now, i64::try_from(take.limit).unwrap_or(i64::MAX)))?;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while bytes < MESSAGES_BYTES_MAX {
            let Some(row) = rows.next()? else { break };
            let message = message(row, take.topic.clone(), |_| Ok(None))?;
            bytes += message.payload.len() + message.story.len();
            let lease =
                Lease { position: message.position, holder: take.holder.clone(), attempt: message.attempt };
            messages.push((lease, message));
        }
        Ok(messages)
    }

    /// Makes an attempt of what was leased ahead.
    fn begun(&mut self, position: Position) -> rusqlite::Result<()> {
        let Some(found) = self.found(position)?.filter(|found| !found.is_begun) else { return Ok(()) };
        self.execute("UPDATE message SET begun = ?2 WHERE position = ?1", (number(position), self.now))?;
        self.count(found.topic, WAITING, -1);
        self.count(found.topic, HELD, 1);
        Ok(())
    }

    /// Lets a leased message wait again.
    fn give_back(&mut self, position: Position, back: Back, arrived: &mut Waits) -> rusqlite::Result<()> {
        let Some(found) = self.found(position)? else { return Ok(()) };
        let due = match back {
            Back::Lost if !found.is_begun => return self.give_back(position, Back::Untried, arrived),
            Back::Tried(due) => {
                let due = self.due(due);
                self.execute(
                    "UPDATE message SET state = 0, holder = NULL, due = ?2, losses = NULL WHERE position = ?1",
                    (number(position), due),
                )?;
                due
            }
            Back::Lost => {
                let losses = losses_and_this();
                self.execute(
                    &format!(
                        "UPDATE message SET state = 0, holder = NULL, due = ?2, losses = {losses} WHERE position = ?1"
                    ),
                    (number(position), self.now),
                )?;
                self.now
            }
            Back::Untried => {
                self.execute(
                    "UPDATE message SET state = 0, holder = NULL, attempt = attempt - 1 WHERE position = ?1",
                    [number(position)],
                )?;
                self.now
            }
        };
        self.count(found.topic, found.counted(), -1);
        self.count(found.topic, WAITING, 1);
        sooner(arrived, &self.name(found.topic)?, self.wait(due));
        Ok(())
    }

    fn remove(&mut self, position: Position, arrived: &mut Waits) -> rusqlite::Result<()> {
        let Some(found) = self.found(position)? else { return Ok(()) };
        self.execute("DELETE FROM message WHERE position = ?1", [number(position)])?;
        self.execute("DELETE FROM payload WHERE position = ?1", [number(position)])?;
        self.count(found.topic, found.counted(), -1);
        self.lead_on(&found, arrived)
    }

    /// Moves a message to a new position in a topic: to wait there, or, without a time, only to be kept.
    fn shift(
        &mut self,
        position: Position,
        to: &Topic,
        due: Option<Due>,
        arrived: &mut Waits,
    ) -> rusqlite::Result<Appended> {
        let moved = self.next_position();
        let appended = Appended { position: Position(moved.cast_unsigned()), lease: None };
        let Some(found) = self.found(position)? else { return Ok(appended) };
        let topic = self.number(to)?;
        let behind = match (&found.group, due) {
            // It itself may still stand in this very group, and leads nobody any more.
            (Some(group), Some(_)) => self.is_led_by_other(topic, group, number(position))?,
            _ => false,
        };
        let (state, when) = match due {
            None => (KEPT, self.now),
            Some(due) => (if behind { BEHIND } else { WAITING }, self.due(due)),
        };
        self.execute(
            "UPDATE message SET position = ?2, topic = ?3, appended = ?4, due = ?5, state = ?6, holder = NULL,
                 attempt = CASE ?6 WHEN 3 THEN attempt ELSE 0 END, losses = CASE ?6 WHEN 3 THEN NULL ELSE losses END
             WHERE position = ?1",
            (number(position), moved, topic, self.now, when, state),
        )?;
        self.execute("UPDATE payload SET position = ?2 WHERE position = ?1", (number(position), moved))?;
        self.count(found.topic, found.counted(), -1);
        self.count(topic, state, 1);
        if state == WAITING {
            sooner(arrived, to, self.wait(when));
        }
        self.lead_on(&found, arrived)?;
        Ok(appended)
    }

    /// Lets the next of a group wait for its lease, now that one of it is gone.
    fn lead_on(&mut self, gone: &Found, arrived: &mut Waits) -> rusqlite::Result<()> {
        let Some(group) = gone.group.as_ref().filter(|_| gone.state != KEPT) else { return Ok(()) };
        let next = self
            .cached(
                "SELECT position, state, due FROM message WHERE topic = ?1 AND grp = ?2 AND state < 3
                 ORDER BY position LIMIT 1",
            )?
            .query_row((gone.topic, group), |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            })
            .optional()?;
        if let Some((position, BEHIND, due)) = next {
            self.execute("UPDATE message SET state = 0 WHERE position = ?1", [position])?;
            sooner(arrived, &self.name(gone.topic)?, self.wait(due));
        }
        Ok(())
    }

    fn reclaim(&mut self, arrived: &mut Waits) -> rusqlite::Result<u64> {
        let mut statement = self.cached("SELECT number FROM holder WHERE until <= ?1 OR number <= ?2")?;
        let gone: Vec<i64> =
            statement.query_map([self.now, self.gone], |row| row.get(0))?.collect::<Result<_, _>>()?;
        drop(statement);
        let mut reclaimed = 0;
        for holder in gone {
            reclaimed += self.end_holder(holder, arrived)?;
        }
        Ok(reclaimed)
    }

    /// Gives back all that a holder held, and forgets it.
    fn end_holder(&mut self, holder: i64, arrived: &mut Waits) -> rusqlite::Result<u64> {
        let mut statement = self.cached("SELECT position FROM message WHERE holder = ?1")?;
        let held: Vec<i64> = statement.query_map([holder], |row| row.get(0))?.collect::<Result<_, _>>()?;
        drop(statement);
        for position in &held {
            self.give_back(Position(position.cast_unsigned()), Back::Lost, arrived)?;
        }
        self.execute("DELETE FROM holder WHERE number = ?1", [holder])?;
        self.holders.clear();
        Ok(held.len() as u64)
    }

    fn trim(&mut self, topic: &Topic, before: i64, arrived: &mut Waits) -> rusqlite::Result<u64> {
        let topic = self.number(topic)?;
        let mut statement = self.cached(
            "SELECT position, appended, state FROM message WHERE topic = ?1 ORDER BY position LIMIT ?2",
        )?;
        let mut rows = statement.query((topic, i64::try_from(TRIM_MAX).unwrap_or(i64::MAX)))?;
        let mut old = Vec::new();
        // Moments rise with positions, so the first that is young enough ends the search.
        while let Some(row) = rows.next()?.filter(|row| row.get::<_, i64>(1).is_ok_and(|at| at < before)) {
            if row.get::<_, i64>(2)? != HELD {
                old.push(row.get::<_, i64>(0)?);
            }
        }
        drop(rows);
        drop(statement);
        for position in &old {
            self.remove(Position(position.cast_unsigned()), arrived)?;
        }
        Ok(old.len() as u64)
    }

    fn is_ours(&mut self, lease: &Lease) -> rusqlite::Result<bool> {
        let Some(held) = self.holder(&lease.holder)? else { return Ok(false) };
        self.cached("SELECT 1 FROM message WHERE position = ?1 AND holder = ?2 AND attempt = ?3")?.exists((
            number(lease.position),
            held.number,
            lease.attempt,
        ))
    }

    /// Whether one of this group that is not over stands before this position.
    fn is_led(&self, topic: i64, group: &str, position: i64) -> rusqlite::Result<bool> {
        self.cached("SELECT 1 FROM message WHERE topic = ?1 AND grp = ?2 AND state < 3 AND position < ?3")?
            .exists((topic, group, position))
    }

    /// Whether any of this group that is not over is there beside this one.
    fn is_led_by_other(&self, topic: i64, group: &str, position: i64) -> rusqlite::Result<bool> {
        self.cached("SELECT 1 FROM message WHERE topic = ?1 AND grp = ?2 AND state < 3 AND position <> ?3")?
            .exists((topic, group, position))
    }

    fn found(&self, position: Position) -> rusqlite::Result<Option<Found>> {
        self.cached("SELECT topic, grp, state, begun IS NOT NULL FROM message WHERE position = ?1")?
            .query_row([number(position)], |row| {
                Ok(Found {
                    topic: row.get(0)?,
                    group: row.get(1)?,
                    state: row.get(2)?,
                    is_begun: row.get(3)?,
                })
            })
            .optional()
    }

    fn holder(&mut self, holder: &Holder) -> rusqlite::Result<Option<Held>> {
        if let Some(known) = self.holders.get(holder) {
            return Ok(*known);
        }
        let found = self
            .cached("SELECT number, until FROM holder WHERE name = ?1")?
            .query_row([holder.as_str()], |row| Ok(Held { number: row.get(0)?, until: row.get(1)? }))
            .optional()?;
        self.holders.insert(holder.clone(), found);
        Ok(found)
    }

    /// The number of a topic, which is given one if it has none.
    fn number(&mut self, topic: &Topic) -> rusqlite::Result<i64> {
        if let Some(number) = self.numbers.get(topic) {
            return Ok(*number);
        }
        let found = self
            .cached("SELECT number FROM topic WHERE name = ?1")?
            .query_row([topic.as_str()], |row| row.get(0))
            .optional()?;
        let number = match found {
            Some(number) => number,
            None => self
                .cached("INSERT INTO topic (name) VALUES (?1) RETURNING number")?
                .query_row([topic.as_str()], |row| row.get(0))?,
        };
        self.numbers.insert(topic.clone(), number);
        Ok(number)
    }

    fn name(&self, number: i64) -> rusqlite::Result<Topic> {
        self.cached("SELECT name FROM topic WHERE number = ?1")?.query_row([number], |row| topic(row, 0))
    }

    fn next_position(&mut self) -> i64 {
        self.position += 1;
        self.position
    }

    fn due(&self, due: Due) -> i64 {
        match due {
            Due::Now => self.now,
            Due::In(time) => self.now.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)),
            Due::At(at) => at.as_microsecond(),
        }
    }

    /// How long it is until that moment.
    fn wait(&self, due: i64) -> Duration {
        wait(due, self.now)
    }

    fn count(&mut self, topic: i64, state: i64, by: i64) {
        let Counts([waiting, held, kept]) = self.counts.entry(topic).or_default();
        *match state {
            HELD => held,
            KEPT => kept,
            _ => waiting,
        } += by;
    }

    fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> rusqlite::Result<()> {
        self.cached(sql)?.execute(parameters).map(drop)
    }

    fn cached(&self, sql: &str) -> rusqlite::Result<CachedStatement<'t>> {
        self.transaction.prepare_cached(sql)
    }
}

/// A message from the columns position, id, grp, appended, due, attempt, state, story, payload, losses, begun.
pub(super) fn message(
    row: &Row<'_>,
    topic: Topic,
    holder: impl FnOnce(&Row<'_>) -> rusqlite::Result<Option<Holder>>,
) -> rusqlite::Result<Message> {
    let position = Position(row.get::<_, i64>(0)?.cast_unsigned());
    let state = match (row.get(6)?, holder(row)?) {
        (HELD, Some(holder)) if row.get::<_, Option<i64>>(10)?.is_none() => MessageState::Ahead(holder),
        (HELD, Some(holder)) => MessageState::Held(holder),
        (BEHIND, _) => MessageState::Behind,
        (KEPT, _) => MessageState::Kept,
        _ => MessageState::Waiting,
    };
    Ok(Message {
        position,
        topic,
        id: row.get_ref(1)?.as_str_or_null()?.and_then(|id| crate::MessageId::new(id).ok()),
        group: row.get_ref(2)?.as_str_or_null()?.and_then(|group| Group::new(group).ok()),
        appended: moment(row.get(3)?),
        due: moment(row.get(4)?),
        attempt: row.get(5)?,
        state,
        story: Bytes::copy_from_slice(row.get_ref(7)?.as_blob()?),
        losses: loss::read(row.get_ref(9)?.as_str_or_null()?),
        payload: Bytes::copy_from_slice(row.get_ref(8)?.as_blob()?),
    })
}

/// A topic from its column.
pub(super) fn topic(row: &Row<'_>, column: usize) -> rusqlite::Result<Topic> {
    use rusqlite::types::Type;
    Topic::new(row.get_ref(column)?.as_str()?)
        .map_err(|invalid| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(invalid)))
}

/// A moment from microseconds since 1970; one that no calendar has becomes the last that it has.
pub(super) fn moment(microseconds: i64) -> Timestamp {
    let since = SignedDuration::from_micros(microseconds);
    Timestamp::UNIX_EPOCH.checked_add(since).unwrap_or(Timestamp::MAX)
}

pub(super) fn number(position: Position) -> i64 {
    position.0.cast_signed()
}
