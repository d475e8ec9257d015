//! The log as rows: what is read before a group of batches is decided, and how what was decided is written.
//! Called by `group.rs` on the writer's session, within its transaction.

use futures_util::future::{join, join3, join4, join5, try_join_all};
use tokio_postgres::{Error, Row};

use super::plan::{self, BEHIND, HELD, KEPT, Origin, Plan, Stored, number};
use super::schema::LOCK_CLASS_GROUPS;
use super::session::Session;
use crate::batch::Step;
use crate::{
    Append, Batch, Begin, Group, Holder, Lease, MESSAGES_BYTES_MAX, Message, MessageId, MessageState,
    Position, TRIM_MAX, Take, Taken, Topic,
};

/// The statements of the writer.
pub(super) const STATEMENTS: [&str; 20] = [
    LOCK_GROUPS,
    NOW,
    FLOOR,
    POSITIONS,
    NAMED,
    HELD_BY,
    ABANDONED,
    OLDEST,
    HOLDERS,
    LED,
    DELETE,
    UPDATE,
    INSERT,
    KEEP,
    LEAVE,
    FORGET,
    PROMOTE,
    TAKE,
    NEXT_DUE,
    COUNT,
];

/// Whoever appends to a group or ends one of it is alone with that, from before it looks who leads.
/// Few locks for many groups, as PostgreSQL has room for some thousand in all.
const LOCK_GROUPS: &str = "
    SELECT pg_advisory_xact_lock($1, bucket) FROM (
        SELECT DISTINCT hashtext(grp) & 127 AS bucket FROM (
            SELECT grp FROM coracle.message WHERE position = ANY($2)
            UNION ALL SELECT unnest($3::text[])
            UNION ALL SELECT first.grp FROM unnest($4::text[]) AS trimmed (topic) CROSS JOIN LATERAL (
                SELECT grp FROM coracle.message WHERE topic = trimmed.topic ORDER BY position LIMIT $5
            ) AS first
        ) AS concerned WHERE grp IS NOT NULL ORDER BY bucket
    ) AS buckets";

const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Says, until the end of the transaction, that it may append behind this position: readers stop there.
const FLOOR: &str = "SELECT pg_advisory_xact_lock_shared(last_value) FROM coracle.position";
const POSITIONS: &str = "SELECT nextval('coracle.position') FROM generate_series(1, $1::int)";

const NAMED: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder FROM coracle.message
    WHERE position = ANY($1) ORDER BY position FOR UPDATE";
const HELD_BY: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder FROM coracle.message
    WHERE holder = ANY($1) AND state = 2 ORDER BY position FOR UPDATE";
/// Also those whose holder was forgotten by a node that did not see them.
const ABANDONED: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder FROM coracle.message
    WHERE state = 2 AND NOT EXISTS (
        SELECT FROM coracle.holder WHERE name = message.holder
        AND until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    ) FOR UPDATE SKIP LOCKED";
const OLDEST: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder FROM coracle.message
    WHERE position = ANY(ARRAY(
        SELECT position FROM coracle.message WHERE topic = $1 ORDER BY position LIMIT $2
    )) AND state <> 2 ORDER BY position FOR UPDATE SKIP LOCKED";

const HOLDERS: &str = "SELECT name, until FROM coracle.holder WHERE name = ANY($1)";
const LED: &str = "
    SELECT topic, grp FROM unnest($1::text[], $2::text[]) AS asked (topic, grp) WHERE EXISTS (
        SELECT FROM coracle.message AS m WHERE m.topic = asked.topic AND m.grp = asked.grp AND m.state IN (0, 2)
    )";

const DELETE: &str = "DELETE FROM coracle.message WHERE position = ANY($1)";
const UPDATE: &str = "
    UPDATE coracle.message AS m SET position = new.position, topic = new.topic, appended = new.appended,
        due = new.due, attempt = new.attempt, state = new.state, holder = NULL, story = coalesce(new.story, m.story)
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::int[], $7::smallint[],
        $8::bytea[]) AS new (row, position, topic, appended, due, attempt, state, story)
    WHERE m.position = new.row";
const INSERT: &str = "
    INSERT INTO coracle.message
        (position, topic, id, grp, appended, due, attempt, state, holder, payload, story)
    SELECT *, ''::bytea FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
        $7::int[], $8::smallint[], $9::text[], $10::bytea[])";

const KEEP: &str = "
    INSERT INTO coracle.holder (name, info, until) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[])
    ON CONFLICT (name) DO UPDATE SET info = excluded.info, until = excluded.until";
const LEAVE: &str = "DELETE FROM coracle.holder WHERE name = ANY($1)";
const FORGET: &str = "
    DELETE FROM coracle.holder
    WHERE name IN (SELECT name FROM coracle.holder WHERE until <= $1 FOR UPDATE SKIP LOCKED) AND until <= $1";

/// In each of these groups the first that waits behind leads on, if nobody leads.
const PROMOTE: &str = "
    UPDATE coracle.message AS m SET state = 0 FROM (
        SELECT (
            SELECT position FROM coracle.message AS b
            WHERE b.topic = moved.topic AND b.grp = moved.grp AND b.state = 1 ORDER BY position LIMIT 1
        ) AS position
        FROM unnest($1::text[], $2::text[]) AS moved (topic, grp)
        WHERE NOT EXISTS (
            SELECT FROM coracle.message AS l WHERE l.topic = moved.topic AND l.grp = moved.grp AND l.state IN (0, 2)
        )
    ) AS next WHERE m.position = next.position RETURNING m.topic";

/// The window adds up what lies before each message, so that a page of large ones is short.
const TAKE: &str = "
    UPDATE coracle.message AS m SET state = 2, holder = $1, attempt = attempt + 1 FROM (
        SELECT position FROM (
            SELECT position, sum(bytes) OVER (ORDER BY due, position) - bytes AS before FROM (
                SELECT position, due, octet_length(payload) + octet_length(story) AS bytes FROM coracle.message
                WHERE topic = $2 AND state = 0 AND due <= $3
                ORDER BY due, position LIMIT $4 FOR UPDATE SKIP LOCKED
            ) AS page
        ) AS page WHERE before < $5
    ) AS due WHERE m.position = due.position
    RETURNING m.position, m.topic, m.grp, m.appended, m.due, m.attempt, m.state, m.holder, m.id, m.story, m.payload";
const NEXT_DUE: &str = "
    SELECT due FROM coracle.message WHERE topic = $1 AND state = 0 ORDER BY due, position LIMIT 1
    FOR UPDATE SKIP LOCKED";

const COUNT: &str = "
    INSERT INTO coracle.count (topic, slot, waiting, held, kept)
    SELECT topic, $1, waiting, held, kept
    FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS grown (topic, waiting, held, kept)
    ON CONFLICT (topic, slot) DO UPDATE SET waiting = count.waiting + excluded.waiting,
        held = count.held + excluded.held, kept = count.kept + excluded.kept";

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
        let (floor, positions) = join(session.query(FLOOR, &[]), session.query(POSITIONS, &[&count])).await;
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
    let (ended, updated, inserted, (held, promoted)) = join4(
        some(session, DELETE, &plan.ended),
        updates.write(session),
        inserts.write(session),
        join(write_holders(session, plan), promote),
    )
    .await;
    ended.map(drop).and(updated).and(inserted).and(held)?;
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
        session.query(TAKE, &[&holder, &topic, &now, &limit(take.limit), &limit(MESSAGES_BYTES_MAX)]),
        session.query(NEXT_DUE, &[&topic]),
    )
    .await;
    let lease = |message: Message| {
        let (holder, attempt) = (take.holder.clone(), message.attempt);
        (Lease { position: message.position, holder, attempt }, message)
    };
    let mut messages: Vec<(Lease, Message)> = rows?.iter().map(|row| lease(message(row))).collect();
    messages.sort_unstable_by_key(|(_, message)| (message.due, message.position));
    let next_due = next?.first().map(|row| moment(row.get(0)));
    Ok(Taken { topic: take.topic.clone(), messages, next_due })
}

/// New rows, column by column.
#[derive(Debug, Default)]
struct Inserts<'p> {
    positions: Vec<i64>,
    topics: Vec<&'p str>,
    ids: Vec<Option<&'p str>>,
    groups: Vec<Option<&'p str>>,
    appended: Vec<i64>,
    due: Vec<i64>,
    attempts: Vec<i32>,
    states: Vec<i16>,
    holders: Vec<Option<&'p str>>,
    payloads: Vec<&'p [u8]>,
}

impl<'p> Inserts<'p> {
    fn of(plan: &'p Plan<'_>) -> Self {
        let mut inserts = Self::default();
        for (position, stored) in &plan.messages {
            let Origin::Batch(append) = stored.origin else { continue };
            inserts.positions.push(*position);
            inserts.topics.push(stored.topic.as_str());
            inserts.ids.push(append.id.as_ref().map(MessageId::as_str));
            inserts.groups.push(stored.group.as_ref().map(Group::as_str));
            inserts.appended.push(stored.appended);
            inserts.due.push(stored.due);
            inserts.attempts.push(stored.attempt);
            inserts.states.push(stored.state);
            inserts.holders.push(stored.holder.as_ref().map(Holder::as_str));
            inserts.payloads.push(&append.payload);
        }
        inserts
    }

    async fn write(&self, session: &Session) -> Result<(), Error> {
        if self.positions.is_empty() {
            return Ok(());
        }
        let parameters: super::session::Parameters<'_> = &[
            &self.positions,
            &self.topics,
            &self.ids,
            &self.groups,
            &self.appended,
            &self.due,
            &self.attempts,
            &self.states,
            &self.holders,
            &self.payloads,
        ];
        session.query(INSERT, parameters).await.map(drop)
    }
}

/// Rows that are changed and not held, column by column.
#[derive(Debug, Default)]
struct Updates<'p> {
    rows: Vec<i64>,
    positions: Vec<i64>,
    topics: Vec<&'p str>,
    appended: Vec<i64>,
    due: Vec<i64>,
    attempts: Vec<i32>,
    states: Vec<i16>,
    stories: Vec<Option<&'p [u8]>>,
}

impl<'p> Updates<'p> {
    fn of(plan: &'p Plan<'_>) -> Self {
        let mut updates = Self::default();
        for (position, stored) in &plan.messages {
            let (Origin::Row(row), true) = (stored.origin, stored.changed) else { continue };
            updates.rows.push(row);
            updates.positions.push(*position);
            updates.topics.push(stored.topic.as_str());
            updates.appended.push(stored.appended);
            updates.due.push(stored.due);
            updates.attempts.push(stored.attempt);
            updates.states.push(stored.state);
            updates.stories.push(stored.story.as_deref());
        }
        updates
    }

    async fn write(&self, session: &Session) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let parameters: super::session::Parameters<'_> = &[
            &self.rows,
            &self.positions,
            &self.topics,
            &self.appended,
            &self.due,
            &self.attempts,
            &self.states,
            &self.stories,
        ];
        session.query(UPDATE, parameters).await.map(drop)
    }
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
        story: None,
        changed: false,
    }
}

/// A message from the columns position, topic, grp, appended, due, attempt, state, holder, id, story, payload.
pub(super) fn message(row: &Row) -> Message {
    let state = match (row.get(6), holder(row, 7)) {
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
