//! The log as rows: what is read before a group of batches is decided, and how what was decided is written.
//! Called by `group.rs` on the writer's session, within its transaction.

mod columns;
mod statements;

use futures_util::future::{join, join3, join4, join5, try_join_all};
use tokio_postgres::{Error, Row};

use self::columns::{Inserts, Updates};
pub(super) use self::statements::STATEMENTS;
use self::statements::{
    ABANDONED, BEGIN, COUNT, DELETE, FLOOR, FORGET, HELD_BY, HOLDERS, KEEP, LEAVE, LED, LOCK_GROUPS, NAMED,
    NEXT_DUE, NOW, OLDEST, POSITIONS, PROMOTE, TAKE,
};
use super::plan::{self, BEHIND, HELD, KEPT, Origin, Plan, Stored, number};
use super::schema::{LOCK_CLASS_FLOORS, LOCK_CLASS_GROUPS};
use super::session::Session;
use crate::arrivals::wait;
use crate::batch::Step;
use crate::loss;
use crate::{
    Append, Batch, Begin, Group, Holder, Lease, MESSAGES_BYTES_MAX, Message, MessageId, MessageState,
    Position, TRIM_MAX, Take, Taken, Topic,
};

/// What the steps of some batches name.
#[derive(Debug, Default)]
struct Names<'b> {
    positions: Vec<i64>,
    new_positions: usize,
    groups: Vec<&'b str>,
    held_topics: Vec<&'b str>,
    held_groups: Vec<&'b str>,
    holders: Vec<&'b str>,
    leaving: Vec<&'b str>,
    trimmed: Vec<&'b str>,
    reclaims: bool,
}

/// Reads what the steps of these batches are about, and locks it. Nothing is asked if they have none.
pub(super) async fn load<'b>(session: &Session, batches: &[&'b Batch]) -> Result<Plan<'b>, Error> {
    if batches.iter().all(|batch| batch.steps().is_empty()) {
        return Ok(Plan::default());
    }
    let names = Names::of(batches);
    let lock = async {
        let parameters = (&names.positions, &names.groups, &names.trimmed, limit(TRIM_MAX));
        if names.positions.is_empty() && names.groups.is_empty() && names.trimmed.is_empty() {
            return Ok(());
        }
        let (positions, groups, trimmed, first) = parameters;
        session.query(LOCK_GROUPS, &[&LOCK_CLASS_GROUPS, positions, groups, trimmed, &first]).await.map(drop)
    };
    let new_positions = async {
        if names.new_positions == 0 {
            return Ok(Vec::new());
        }
        let count = i32::try_from(names.new_positions).unwrap_or(i32::MAX);
        let (floor, positions) =
            join(session.query(FLOOR, &[&LOCK_CLASS_FLOORS]), session.query(POSITIONS, &[&count])).await;
        floor.and(positions)
    };
    // Sent in this order: what is locked first is read as it is when the lock was got.
    let (locked, (now, new_positions), named, rest, (holders, led)) = join5(
        lock,
        join(session.query(NOW, &[]), new_positions),
        some(session, NAMED, &names.positions),
        rest(session, &names),
        join(some_of(session, HOLDERS, &names.holders), led(session, &names)),
    )
    .await;
    locked?;
    let mut positions: Vec<i64> = new_positions?.iter().map(|row| row.get(0)).collect();
    positions.sort_unstable();
    let mut plan = Plan {
        now: now?.first().map_or(0, |row| row.get(0)),
        positions: positions.into_iter(),
        holders: holders?.iter().filter_map(|row| Some((holder(row, 0)?, Some(row.get(1))))).collect(),
        led: led?.iter().filter_map(|row| Some((topic(row, 0), group(row, 1)?))).collect(),
        ..Plan::default()
    };
    let Rest { held, abandoned, oldest } = rest?;
    plan.abandoned = abandoned.iter().map(|row| row.get(0)).collect();
    for row in &oldest {
        plan.oldest.entry(topic(row, 1)).or_default().push(row.get(0));
    }
    for row in named?.iter().chain(&held).chain(&abandoned).chain(&oldest) {
        plan.messages.entry(row.get(0)).or_insert_with(|| stored(row));
    }
    Ok(plan)
}

/// Writes what was decided, and says where one of a group leads on by that.
pub(super) async fn write(session: &Session, plan: &Plan<'_>) -> Result<Vec<Topic>, Error> {
    let (inserts, updates) = (Inserts::of(plan), Updates::of(plan));
    let (topics, groups): (Vec<&str>, Vec<&str>) =
        plan.moved.iter().map(|(topic, group)| (topic.as_str(), group.as_str())).unzip();
    let promote = async {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        session.query(PROMOTE, &[&topics, &groups]).await
    };
    // Those that end or move go before those that come, and who leads is looked at last.
    let begin = async {
        if plan.begun.is_empty() {
            return Ok(());
        }
        session.query(BEGIN, &[&plan.begun, &plan.now]).await.map(drop)
    };
    let ((begun, ended), updated, inserted, (held, promoted)) = join4(
        join(begin, some(session, DELETE, &plan.ended)),
        updates.write(session),
        inserts.write(session),
        join(write_holders(session, plan), promote),
    )
    .await;
    begun.and(ended.map(drop)).and(updated).and(inserted).and(held)?;
    Ok(promoted?.iter().map(|row| topic(row, 0)).collect())
}

/// Leases what is taken: for which batch, and as the how-manieth of it. Asked behind [`write`].
pub(super) async fn take(session: &Session, plan: &Plan<'_>) -> Result<Vec<(usize, usize, Taken)>, Error> {
    try_join_all(plan.takes.iter().map(async |(index, number, take)| {
        take_some(session, take, plan.now).await.map(|taken| (*index, *number, taken))
    }))
    .await
}

/// Writes down by how much the topics have grown.
pub(super) async fn count(session: &Session, slot: i32, plan: &Plan<'_>) -> Result<(), Error> {
    let grown = plan.counts.iter().filter(|(_, by)| **by != [0; 3]);
    // In one order on all nodes, although each has rows of its own.
    let mut grown: Vec<(&str, [i64; 3])> = grown.map(|(topic, by)| (topic.as_str(), *by)).collect();
    if grown.is_empty() {
        return Ok(());
    }
    grown.sort_unstable();
    let topics: Vec<&str> = grown.iter().map(|(topic, _)| *topic).collect();
    let column = |number: usize| grown.iter().map(|(_, by)| by[number]).collect::<Vec<i64>>();
    let (waiting, held, kept) = (column(0), column(1), column(2));
    session.query(COUNT, &[&slot, &topics, &waiting, &held, &kept]).await.map(drop)
}

impl<'b> Names<'b> {
    fn of(batches: &[&'b Batch]) -> Self {
        let mut names = Self::default();
        for batch in batches {
            names.new_positions += plan::positions_needed(batch);
            batch.steps().iter().for_each(|step| names.add(step));
        }
        names
    }

    fn add(&mut self, step: &'b Step) {
        self.positions.extend(step.position().map(number));
        self.holders.extend(step.needs_holder().map(Holder::as_str));
        match step {
            Step::Append(Append { topic, group: Some(group), begin, .. }) if *begin != Begin::Kept => {
                self.groups.push(group.as_str());
                if matches!(begin, Begin::Held(_)) {
                    self.held_topics.push(topic.as_str());
                    self.held_groups.push(group.as_str());
                }
            }
            Step::Leave(holder) => self.leaving.push(holder.as_str()),
            Step::Reclaim => self.reclaims = true,
            Step::Trim { topic, .. } => self.trimmed.push(topic.as_str()),
            _ => {}
        }
    }
}

/// What is seldom asked for.
struct Rest {
    held: Vec<Row>,
    abandoned: Vec<Row>,
    oldest: Vec<Row>,
}

async fn rest(session: &Session, names: &Names<'_>) -> Result<Rest, Error> {
    let abandoned =
        async { if names.reclaims { session.query(ABANDONED, &[]).await } else { Ok(Vec::new()) } };
    let oldest = try_join_all(
        names.trimmed.iter().map(async |topic| session.query(OLDEST, &[topic, &limit(TRIM_MAX)]).await),
    );
    let (held, abandoned, oldest) = join3(some_of(session, HELD_BY, &names.leaving), abandoned, oldest).await;
    Ok(Rest { held: held?, abandoned: abandoned?, oldest: oldest?.into_iter().flatten().collect() })
}

async fn led(session: &Session, names: &Names<'_>) -> Result<Vec<Row>, Error> {
    if names.held_topics.is_empty() {
        return Ok(Vec::new());
    }
    session.query(LED, &[&names.held_topics, &names.held_groups]).await
}

async fn write_holders(session: &Session, plan: &Plan<'_>) -> Result<(), Error> {
    let kept: Vec<(&str, &[u8], i64)> = plan
        .kept
        .iter()
        .filter_map(|(holder, info)| {
            Some((holder.as_str(), &**info, plan.holders.get(holder).copied().flatten()?))
        })
        .collect();
    let keep = async {
        if kept.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = kept.iter().map(|(name, ..)| *name).collect();
        let infos: Vec<&[u8]> = kept.iter().map(|(_, info, _)| *info).collect();
        let untils: Vec<i64> = kept.iter().map(|(.., until)| *until).collect();
        session.query(KEEP, &[&names, &infos, &untils]).await.map(drop)
    };
    let left: Vec<&str> = plan.left.iter().map(Holder::as_str).collect();
    let forget =
        async { if plan.reclaims { session.query(FORGET, &[&plan.now]).await.map(drop) } else { Ok(()) } };
    let (kept, left, forgotten) = join3(keep, some_of(session, LEAVE, &left), forget).await;
    kept.and(left.map(drop)).and(forgotten)
}

/// Leases what is due, and looks when the next one is.
async fn take_some(session: &Session, take: &Take, now: i64) -> Result<Taken, Error> {
    let (holder, topic) = (take.holder.as_str(), take.topic.as_str());
    let (rows, next) = join(
        session.query(
            TAKE,
            &[&holder, &topic, &now, &limit(take.limit), &limit(MESSAGES_BYTES_MAX), &limit(take.begins)],
        ),
        session.query(NEXT_DUE, &[&topic]),
    )
    .await;
    let lease = |message: Message| {
        let (holder, attempt) = (take.holder.clone(), message.attempt);
        (Lease { position: message.position, holder, attempt }, message)
    };
    let mut messages: Vec<(Lease, Message)> = rows?.iter().map(|row| lease(message(row))).collect();
    messages.sort_unstable_by_key(|(_, message)| (message.due, message.position));
    let next_in = next?.first().map(|row| wait(row.get(0), now));
    Ok(Taken { topic: take.topic.clone(), messages, next_in })
}

/// A query about some numbers, which is not made if there are none.
async fn some(session: &Session, sql: &'static str, numbers: &[i64]) -> Result<Vec<Row>, Error> {
    if numbers.is_empty() { Ok(Vec::new()) } else { session.query(sql, &[&numbers]).await }
}

/// A query about some names, which is not made if there are none.
async fn some_of(session: &Session, sql: &'static str, names: &[&str]) -> Result<Vec<Row>, Error> {
    if names.is_empty() { Ok(Vec::new()) } else { session.query(sql, &[&names]).await }
}

fn stored<'b>(row: &Row) -> Stored<'b> {
    Stored {
        origin: Origin::Row(row.get(0)),
        topic: topic(row, 1),
        group: group(row, 2),
        appended: row.get(3),
        due: row.get(4),
        attempt: row.get(5),
        state: row.get(6),
        holder: holder(row, 7),
        begun: row.get(8),
        story: None,
        loss: None,
        changed: false,
    }
}

/// A message from the columns position, topic, grp, appended, due, attempt, state, holder, id, story, payload,
/// losses, begun.
pub(super) fn message(row: &Row) -> Message {
    let state = match (row.get(6), holder(row, 7)) {
        (HELD, Some(holder)) if row.get::<_, Option<i64>>(12).is_none() => MessageState::Ahead(holder),
        (HELD, Some(holder)) => MessageState::Held(holder),
        (BEHIND, _) => MessageState::Behind,
        (KEPT, _) => MessageState::Kept,
        _ => MessageState::Waiting,
    };
    Message {
        position: Position(row.get::<_, i64>(0).cast_unsigned()),
        topic: topic(row, 1),
        id: row.get::<_, Option<&str>>(8).and_then(|id| MessageId::new(id).ok()),
        group: group(row, 2),
        appended: moment(row.get(3)),
        due: moment(row.get(4)),
        attempt: row.get::<_, i32>(5).cast_unsigned(),
        state,
        story: super::entries::bytes(row, 9),
        losses: loss::read(row.get(11)),
        payload: super::entries::bytes(row, 10),
    }
}

pub(super) fn topic(row: &Row, column: usize) -> Topic {
    Topic::new(row.get(column)).expect("a topic was checked before it was written")
}

pub(super) fn holder(row: &Row, column: usize) -> Option<Holder> {
    row.get::<_, Option<&str>>(column).and_then(|name| Holder::new(name).ok())
}

fn group(row: &Row, column: usize) -> Option<Group> {
    row.get::<_, Option<&str>>(column).and_then(|name| Group::new(name).ok())
}

/// A moment from microseconds since 1970; one that no calendar has becomes the last that it has.
pub(super) fn moment(microseconds: i64) -> jiff::Timestamp {
    let since = jiff::SignedDuration::from_micros(microseconds);
    jiff::Timestamp::UNIX_EPOCH.checked_add(since).unwrap_or(jiff::Timestamp::MAX)
}

pub(super) fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
