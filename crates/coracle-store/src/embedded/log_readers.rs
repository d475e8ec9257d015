//! Reading the log: pages of a topic, messages by their identity, counts, and who is alive.
//! Called by [`Embedded`](super::Embedded), on the connections of its readers.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use super::log::{message, moment, number, topic};
use crate::{
    Alive, FOUND_MAX, Holder, MESSAGES_BYTES_MAX, Message, MessageId, Read, ReadFrom, TopicCount, Topics,
};

/// What [`message`] reads, then the holder's name, then the topic's.
const COLUMNS: &str = "m.position, m.id, m.grp, m.appended, m.due, m.attempt, m.state, p.story, p.payload,
    m.losses, m.begun, h.name, t.name FROM message m
    JOIN payload p ON p.position = m.position
    JOIN topic t ON t.number = m.topic
    LEFT JOIN holder h ON h.number = m.holder";

pub(super) fn read(connection: &Connection, read: &Read) -> rusqlite::Result<Vec<Message>> {
    let of = connection
        .prepare_cached("SELECT number FROM topic WHERE name = ?1")?
        .query_row([read.topic.as_str()], |row| row.get(0))
        .optional()?;
    let Some(of) = of else { return Ok(Vec::new()) };
    const ON: (&str, &str) = (">", "ASC");
    const BACK: (&str, &str) = ("<", "DESC");
    let ((side, order), place) = match read.from {
        ReadFrom::Start => (ON, 0),
        ReadFrom::After(position) => (ON, number(position)),
        ReadFrom::Since(since) => (ON, before(connection, of, since)?),
        ReadFrom::End => (BACK, i64::MAX),
        ReadFrom::Before(position) => (BACK, number(position)),
    };
    let sql = format!(
        "SELECT {COLUMNS} WHERE m.topic = ?1 AND m.position {side} ?2 ORDER BY m.position {order} LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((of, place, i64::try_from(read.limit).unwrap_or(i64::MAX)))?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < MESSAGES_BYTES_MAX {
        let Some(row) = rows.next()? else { break };
        let message = whole(row)?;
        bytes += message.payload.len() + message.story.len();
        page.push(message);
    }
    Ok(page)
}

/// The greatest position of a topic whose messages up to there came before this moment; moments rise with positions.
fn before(connection: &Connection, topic: i64, moment: Timestamp) -> rusqlite::Result<i64> {
    let mut probe = connection.prepare_cached(
        "SELECT position, appended FROM message WHERE topic = ?1 AND position > ?2 ORDER BY position LIMIT 1",
    )?;
    let last = connection
        .prepare_cached("SELECT max(position) FROM message WHERE topic = ?1")?
        .query_row([topic], |row| row.get::<_, Option<i64>>(0))?;
    // What is up to `low` came before, and what is behind `high` did not.
    let (mut low, mut high) = (0, last.unwrap_or(0));
    while low < high {
        let middle = low + (high - low) / 2;
        let next = probe
            .query_row((topic, middle), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        match next {
            Some((position, appended)) if appended < moment.as_microsecond() => low = position,
            _ => high = middle,
        }
    }
    Ok(low)
}

pub(super) fn find(connection: &Connection, id: &MessageId) -> rusqlite::Result<Vec<Message>> {
    let sql = format!("SELECT {COLUMNS} WHERE m.id = ?1 ORDER BY m.position DESC LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map((id.as_str(), i64::try_from(FOUND_MAX).unwrap_or(i64::MAX)), whole)?;
    found.collect()
}

pub(super) fn topics(connection: &Connection, topics: &Topics) -> rusqlite::Result<Vec<TopicCount>> {
    // As in a scan of keys, the end of the prefix is found by looking.
    let after =
        topics.after.as_ref().map(|after| after.as_str()).filter(|after| *after >= topics.prefix.as_str());
    let mut statement = connection.prepare_cached(
        "SELECT name, waiting, held, kept,
             (SELECT due FROM message m WHERE m.topic = t.number AND m.state = 0 ORDER BY due, position LIMIT 1)
         FROM topic t WHERE (name > ?1 OR (name = ?1 AND ?2)) AND waiting + held + kept > 0 ORDER BY name",
    )?;
    let mut rows = statement.query((after.unwrap_or(&topics.prefix), after.is_none()))?;
    let mut page = Vec::new();
    while page.len() < topics.limit {
        let Some(row) = rows.next()? else { break };
        let topic = topic(row, 0)?;
        if !topic.as_str().starts_with(&topics.prefix) {
            break;
        }
        let count = |column| row.get::<_, i64>(column).map(|count| count.max(0).cast_unsigned());
        page.push(TopicCount {
            topic,
            waiting: count(1)?,
            held: count(2)?,
            kept: count(3)?,
            oldest_due: row.get::<_, Option<i64>>(4)?.map(moment),
        });
    }
    Ok(page)
}

pub(super) fn alive(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Alive>> {
    let mut statement =
        connection.prepare_cached("SELECT name, info, until FROM holder WHERE until > ?1 ORDER BY name")?;
    let rows = statement.query_map([now.as_microsecond()], |row| {
        let holder = Holder::new(row.get_ref(0)?.as_str()?).ok();
        let info = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
        let until = moment(row.get(2)?);
        Ok(holder.map(|holder| Alive { holder, info, until }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

fn whole(row: &Row<'_>) -> rusqlite::Result<Message> {
    let holder =
        |row: &Row<'_>| Ok(row.get_ref(11)?.as_str_or_null()?.and_then(|name| Holder::new(name).ok()));
    message(row, topic(row, 12)?, holder)
}
