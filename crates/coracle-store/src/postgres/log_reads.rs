//! Reading the log: pages of a topic, messages by their identity, counts, and who is alive.
//! Called by [`Postgres`](super::Postgres), on a reader's session.

use futures_util::future::join;
use jiff::Timestamp;
use tokio_postgres::{Error, Row};

use super::entries::{behind, bytes};
use super::messages::{holder, limit, message, moment, topic};
use super::plan::number;
use super::schema::LOCK_CLASS_FLOORS;
use super::session::Session;
use crate::{Alive, FOUND_MAX, MESSAGES_BYTES_MAX, Message, MessageId, Read, ReadFrom, TopicCount, Topics};

/// The statements of a reader. They name ranges as those of the writer do, and for its reason.
pub(super) const READS: [&str; 9] = [LAST, FLOORS, PAGE, PAGE_BACK, PROBE, NEWEST, FIND, TOPICS, ALIVE];

const LAST: &str = "SELECT last_value FROM coracle.position";

/// Behind which positions there are transactions that append, without the bits that a lock has no room for; see `FLOOR`
/// of the writer.
const FLOORS: &str = "
    SELECT objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND classid::bigint = $1::int AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

const PAGE: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder, id, story, payload, losses, begun FROM (
        SELECT *, sum(bytes) OVER (ORDER BY position) - bytes AS before FROM (
            SELECT *, octet_length(payload) + octet_length(story) AS bytes FROM coracle.message
            WHERE (topic, position) > ($1, $2) AND (topic, position) <= ($1, $3) ORDER BY topic, position LIMIT $4
        ) AS page
    ) AS page WHERE before < $5 ORDER BY position";

const PAGE_BACK: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder, id, story, payload, losses, begun FROM (
        SELECT *, sum(bytes) OVER (ORDER BY position DESC) - bytes AS before FROM (
            SELECT *, octet_length(payload) + octet_length(story) AS bytes FROM coracle.message
            WHERE (topic, position) > ($1, 0) AND (topic, position) <= ($1, $2)
            ORDER BY topic DESC, position DESC LIMIT $3
        ) AS page
    ) AS page WHERE before < $4 ORDER BY position DESC";

const PROBE: &str = "
    SELECT position, appended FROM coracle.message
    WHERE (topic, position) > ($1, $2) AND (topic, position) <= ($1, 9223372036854775807)
    ORDER BY topic, position LIMIT 1";
const NEWEST: &str = "
    SELECT position FROM coracle.message
    WHERE (topic, position) > ($1, 0) AND (topic, position) <= ($1, 9223372036854775807)
    ORDER BY topic DESC, position DESC LIMIT 1";

const FIND: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder, id, story, payload, losses, begun FROM coracle.message
    WHERE id IS NOT NULL AND (id, position) > ($1, 0) AND (id, position) <= ($1, 9223372036854775807)
    ORDER BY id DESC, position DESC LIMIT $2";

const TOPICS: &str = "
    SELECT topic, waiting, held, kept, (
        SELECT due FROM coracle.message AS m WHERE m.topic = counted.topic AND m.state = 0
        ORDER BY due, position LIMIT 1
    ) FROM (
        SELECT topic, sum(waiting)::bigint AS waiting, sum(held)::bigint AS held, sum(kept)::bigint AS kept
        FROM coracle.count
        WHERE topic >= $1 AND ($2 OR topic > $1) AND topic < $3
        GROUP BY topic HAVING sum(waiting + held + kept) > 0 ORDER BY topic LIMIT $4
    ) AS counted ORDER BY topic";

const ALIVE: &str = "
    SELECT name, info, until FROM coracle.holder
    WHERE until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint ORDER BY name";

pub(super) async fn read(session: &Session, read: &Read) -> Result<Vec<Message>, Error> {
    let of = read.topic.as_str();
    // In this order: whoever had been given a position up to the last has either told where its positions begin, or
    // ended, and then the page has what it wrote.
    let (last, floors) = join(session.query(LAST, &[]), session.query(FLOORS, &[&LOCK_CLASS_FLOORS])).await;
    let last: i64 = last?.first().map_or(0, |row| row.get(0));
    let certain = certain(last, floors?.iter().map(|row| row.get(0)));
    let (after, up_to) = match read.from {
        ReadFrom::Start => (Some(0), certain),
        ReadFrom::After(position) => (Some(number(position)), certain),
        ReadFrom::Since(since) => (Some(before(session, of, since).await?), certain),
        ReadFrom::End => (None, certain),
        ReadFrom::Before(position) => (None, certain.min(number(position).saturating_sub(1))),
    };
    let (messages, bytes) = (limit(read.limit), limit(MESSAGES_BYTES_MAX));
    let rows = match after {
        Some(after) => session.query(PAGE, &[&of, &after, &up_to, &messages, &bytes]).await?,
        None => session.query(PAGE_BACK, &[&of, &up_to, &messages, &bytes]).await?,
    };
    Ok(rows.iter().map(message).collect())
}

/// Up to where no position is missing that may still come: the least floor, each known by its last 31 bits.
fn certain(last: i64, floors: impl Iterator<Item = i64>) -> i64 {
    const BITS: i64 = (1 << 31) - 1;
    // A floor that seems to be very far behind is one that was told after the last position was read: it is ahead.
    let behind = floors.map(|floor| (last - floor) & BITS).filter(|behind| *behind <= BITS / 2);
    last - behind.max().unwrap_or(0)
}

/// The greatest position of a topic whose messages up to there came before this moment. Moments rise with positions,
/// but for what was appended on two nodes at once.
async fn before(session: &Session, topic: &str, moment: Timestamp) -> Result<i64, Error> {
    let newest = session.query(NEWEST, &[&topic]).await?;
    // What is up to `low` came before, and what is behind `high` did not.
    let (mut low, mut high) = (0, newest.first().map_or(0, |row| row.get(0)));
    while low < high {
        let middle = low + (high - low) / 2;
        let next = session.query(PROBE, &[&topic, &middle]).await?;
        match next.first().map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1))) {
            Some((position, appended)) if appended < moment.as_microsecond() => low = position,
            _ => high = middle,
        }
    }
    Ok(low)
}

pub(super) async fn find(session: &Session, id: &MessageId) -> Result<Vec<Message>, Error> {
    let rows = session.query(FIND, &[&id.as_str(), &limit(FOUND_MAX)]).await?;
    Ok(rows.iter().map(message).collect())
}

pub(super) async fn topics(session: &Session, topics: &Topics) -> Result<Vec<TopicCount>, Error> {
    // No topic holds such a character, and PostgreSQL does not take all of them.
    if topics.prefix.chars().any(char::is_control) {
        return Ok(Vec::new());
    }
    let after = topics.after.as_ref().map(|after| after.as_str());
    let after = after.filter(|after| *after >= topics.prefix.as_str());
    let start = after.unwrap_or(&topics.prefix);
    let end = behind(&topics.prefix);
    let rows = session.query(TOPICS, &[&start, &after.is_none(), &end, &limit(topics.limit)]).await?;
    Ok(rows.iter().map(count).collect())
}

pub(super) async fn alive(session: &Session) -> Result<Vec<Alive>, Error> {
    let rows = session.query(ALIVE, &[]).await?;
    let alive = |row: &Row| {
        let until = moment(row.get(2));
        holder(row, 0).map(|holder| Alive { holder, info: bytes(row, 1), until })
    };
    Ok(rows.iter().filter_map(alive).collect())
}

fn count(row: &Row) -> TopicCount {
    let count = |column| row.get::<_, i64>(column).max(0).cast_unsigned();
    TopicCount {
        topic: topic(row, 0),
        waiting: count(1),
        held: count(2),
        kept: count(3),
        oldest_due: row.get::<_, Option<i64>>(4).map(moment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_certain_ends_at_the_least_floor() {
        let long = 1 << 31;
        for (last, floors, expected) in [
            (10, &[][..], 10),
            (10, &[7, 9], 7),
            (10, &[12], 10),
            (3 * long + 5, &[3], 3 * long + 3),
            (3 * long + 5, &[long - 2], 3 * long - 2),
            (3 * long + 5, &[6], 3 * long + 5),
        ] {
            assert_eq!(certain(last, floors.iter().copied()), expected, "{last} {floors:?}");
        }
    }
}
