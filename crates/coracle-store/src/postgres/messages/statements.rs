//! The statements of the log: what the writer reads and locks, and what it changes.
//! Run by `messages.rs` and `columns.rs`, prepared with each session of the writer.

/// The statements of the writer.
///
/// A range of `(topic, position)` in the order of both can be read from the index of both alone. Were it `topic = $1` in
/// the order of positions, PostgreSQL might walk the primary key, past a million messages of another topic.
pub(in super::super) const STATEMENTS: [&str; 21] = [
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
    BEGIN,
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
pub(super) const LOCK_GROUPS: &str = "
    SELECT pg_advisory_xact_lock($1, bucket) FROM (
        SELECT DISTINCT hashtext(grp) & 127 AS bucket FROM (
            SELECT grp FROM coracle.message WHERE position = ANY($2)
            UNION ALL SELECT unnest($3::text[])
            UNION ALL SELECT first.grp FROM unnest($4::text[]) AS trimmed (topic) CROSS JOIN LATERAL (
                SELECT grp FROM coracle.message
                WHERE (topic, position) > (trimmed.topic, 0) AND (topic, position) <= (trimmed.topic, 9223372036854775807)
                ORDER BY topic, position LIMIT $5
            ) AS first
        ) AS concerned WHERE grp IS NOT NULL ORDER BY bucket
    ) AS buckets";

pub(super) const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Says, until the end of the transaction, that it may append behind this position: readers stop there.
pub(super) const FLOOR: &str =
    "SELECT pg_advisory_xact_lock_shared($1, (last_value & 2147483647)::int) FROM coracle.position";
pub(super) const POSITIONS: &str = "SELECT nextval('coracle.position') FROM generate_series(1, $1::int)";

pub(super) const NAMED: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder, begun FROM coracle.message
    WHERE position = ANY($1) ORDER BY position FOR UPDATE";
pub(super) const HELD_BY: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder, begun FROM coracle.message
    WHERE holder = ANY($1) AND state = 2 ORDER BY position FOR UPDATE";
/// Also those whose holder was forgotten by a node that did not see them.
pub(super) const ABANDONED: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder, begun FROM coracle.message
    WHERE state = 2 AND NOT EXISTS (
        SELECT FROM coracle.holder WHERE name = message.holder
        AND until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    ) FOR UPDATE SKIP LOCKED";
pub(super) const OLDEST: &str = "
    SELECT position, topic, grp, appended, due, attempt, state, holder, begun FROM coracle.message
    WHERE position = ANY(ARRAY(
        SELECT position FROM coracle.message
        WHERE (topic, position) > ($1, 0) AND (topic, position) <= ($1, 9223372036854775807)
        ORDER BY topic, position LIMIT $2
    )) AND state <> 2 ORDER BY position FOR UPDATE SKIP LOCKED";

pub(super) const HOLDERS: &str = "SELECT name, until FROM coracle.holder WHERE name = ANY($1)";
pub(super) const LED: &str = "
    SELECT topic, grp FROM unnest($1::text[], $2::text[]) AS asked (topic, grp) WHERE EXISTS (
        SELECT FROM coracle.message AS m WHERE m.topic = asked.topic AND m.grp = asked.grp AND m.state IN (0, 2)
    )";

pub(super) const DELETE: &str = "DELETE FROM coracle.message WHERE position = ANY($1)";
pub(super) const BEGIN: &str = "UPDATE coracle.message SET begun = $2 WHERE position = ANY($1)";
pub(super) const UPDATE: &str = "
    UPDATE coracle.message AS m SET position = new.position, topic = new.topic, appended = new.appended,
        due = new.due, attempt = new.attempt, state = new.state, holder = NULL, story = coalesce(new.story, m.story),
        losses = CASE
            WHEN new.story IS NOT NULL THEN NULL
            WHEN new.loss IS NULL OR octet_length(m.losses) > $10 THEN m.losses
            ELSE concat(m.losses, new.loss)
        END
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::int[], $7::smallint[],
        $8::bytea[], $9::text[]) AS new (row, position, topic, appended, due, attempt, state, story, loss)
    WHERE m.position = new.row";
pub(super) const INSERT: &str = "
    INSERT INTO coracle.message
        (position, topic, id, grp, appended, due, attempt, state, holder, begun, payload, losses, story)
    SELECT *, ''::bytea FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
        $7::int[], $8::smallint[], $9::text[], $10::bigint[], $11::bytea[], $12::text[])";

pub(super) const KEEP: &str = "
    INSERT INTO coracle.holder (name, info, until) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[])
    ON CONFLICT (name) DO UPDATE SET info = excluded.info, until = excluded.until";
pub(super) const LEAVE: &str = "DELETE FROM coracle.holder WHERE name = ANY($1)";
pub(super) const FORGET: &str = "
    DELETE FROM coracle.holder
    WHERE name IN (SELECT name FROM coracle.holder WHERE until <= $1 FOR UPDATE SKIP LOCKED) AND until <= $1";

/// In each of these groups the first that waits behind leads on, if nobody leads.
pub(super) const PROMOTE: &str = "
    UPDATE coracle.message AS m SET state = 0 FROM (
        SELECT (
            SELECT position FROM coracle.message AS b
            WHERE b.grp IS NOT NULL AND b.state = 1
                AND (b.topic, b.grp, b.position) > (moved.topic, moved.grp, 0)
                AND (b.topic, b.grp, b.position) <= (moved.topic, moved.grp, 9223372036854775807)
            ORDER BY b.topic, b.grp, b.position LIMIT 1
        ) AS position
        FROM unnest($1::text[], $2::text[]) AS moved (topic, grp)
        WHERE NOT EXISTS (
            SELECT FROM coracle.message AS l WHERE l.topic = moved.topic AND l.grp = moved.grp AND l.state IN (0, 2)
        )
    ) AS next WHERE m.position = next.position RETURNING m.topic";

/// The window adds up what lies before each message, so that a page of large ones is short.
pub(super) const TAKE: &str = "
    UPDATE coracle.message AS m SET state = 2, holder = $1, attempt = attempt + 1,
        begun = CASE WHEN due.number <= $6 THEN $3 END
    FROM (
        SELECT position, number FROM (
            SELECT position, row_number() OVER in_order AS number, sum(bytes) OVER in_order - bytes AS before FROM (
                SELECT position, due, octet_length(payload) + octet_length(story) AS bytes FROM coracle.message
                WHERE topic = $2 AND state = 0 AND due <= $3
                ORDER BY due, position LIMIT $4 FOR UPDATE SKIP LOCKED
            ) AS page WINDOW in_order AS (ORDER BY due, position)
        ) AS page WHERE before < $5
    ) AS due WHERE m.position = due.position
    RETURNING m.position, m.topic, m.grp, m.appended, m.due, m.attempt, m.state, m.holder, m.id, m.story, m.payload,
        m.losses, m.begun";
pub(super) const NEXT_DUE: &str = "
    SELECT due FROM coracle.message WHERE topic = $1 AND state = 0 ORDER BY due, position LIMIT 1
    FOR UPDATE SKIP LOCKED";

pub(super) const COUNT: &str = "
    INSERT INTO coracle.count (topic, slot, waiting, held, kept)
    SELECT topic, $1, waiting, held, kept
    FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS grown (topic, waiting, held, kept)
    ON CONFLICT (topic, slot) DO UPDATE SET waiting = count.waiting + excluded.waiting,
        held = count.held + excluded.held, kept = count.kept + excluded.kept";
