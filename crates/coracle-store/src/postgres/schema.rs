//! The tables, their version, and how they come to be, also when several nodes start at once.
//! Called when the database is opened, before anything else is asked of it.

use super::session::Session;
use super::target::{ConnectError, Target};

/// The oldest PostgreSQL that will do, as its `server_version_num`.
const SERVER_VERSION_MIN: i32 = 15_00_00;
/// The version this program writes, kept in `coracle.version`.
const VERSION: i32 = 2;
/// "Cora": the first half of every advisory lock of ours.
pub(super) const LOCK_CLASS: i32 = 0x436f_7261;
/// The first half of those that are about the order within groups, and of those that are the slots of writers.
pub(super) const LOCK_CLASS_GROUPS: i32 = LOCK_CLASS + 1;
pub(super) const LOCK_CLASS_SLOTS: i32 = LOCK_CLASS + 2;
/// The first half of those that say from where on a transaction appends; the second is the last 31 bits of a position.
pub(super) const LOCK_CLASS_FLOORS: i32 = LOCK_CLASS + 3;
/// The second half, while the tables are upgraded.
const LOCK_UPGRADE: i32 = 1;
/// The second half, while entries are changed: their revisions become visible in order.
pub(super) const LOCK_ENTRIES: i32 = 2;

/// What each version adds to the one before; the first element makes version 1 from nothing.
const UPGRADES: [&str; VERSION as usize] = ["
    -- A value that is NULL says that the key was removed, for those who follow the changes; it is swept later.
    CREATE TABLE coracle.entry (
        key      text COLLATE \"C\" PRIMARY KEY,
        value    bytea,
        revision bigint NOT NULL,
        removed  timestamptz
    );
    CREATE INDEX entry_revision ON coracle.entry (revision, key);
    CREATE INDEX entry_removed ON coracle.entry (removed) WHERE value IS NULL;
    -- A sequence outlives the entries, so that no revision is given twice.
    CREATE SEQUENCE coracle.revision;
    -- Removals up to this revision may have been swept: who has not seen them has lagged.
    CREATE TABLE coracle.swept (revision bigint NOT NULL);
    INSERT INTO coracle.swept VALUES (0);

    -- Begins behind its first value, so that the last one is always before whatever is given next.
    CREATE SEQUENCE coracle.position;
    SELECT setval('coracle.position', 1);
    -- Moments are in microseconds since 1970. state: 0 waits, 1 waits behind another of its group, 2 is held, 3 is kept.
    CREATE TABLE coracle.message (
        position bigint PRIMARY KEY,
        topic    text COLLATE \"C\" NOT NULL,
        id       text COLLATE \"C\",
        grp      text COLLATE \"C\",
        appended bigint NOT NULL,
        due      bigint NOT NULL,
        attempt  int NOT NULL,
        state    smallint NOT NULL,
        holder   text COLLATE \"C\",
        story    bytea NOT NULL,
        payload  bytea NOT NULL
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
    -- Large payloads lie beside the row, so that leasing does not write them again; squeezing them costs more than it saves.
    ALTER TABLE coracle.message ALTER COLUMN payload SET STORAGE EXTERNAL;
    CREATE INDEX message_of_topic ON coracle.message (topic, position);
    CREATE INDEX message_due ON coracle.message (topic, due, position) WHERE state = 0;
    CREATE INDEX message_held ON coracle.message (holder) WHERE state = 2;
    CREATE INDEX message_id ON coracle.message (id, position) WHERE id IS NOT NULL;
    -- One of a group leads, and all that come behind it wait for their turn; this is how that is held.
    CREATE UNIQUE INDEX message_leads ON coracle.message (topic, grp) WHERE grp IS NOT NULL AND state IN (0, 2);
    CREATE INDEX message_behind ON coracle.message (topic, grp, position) WHERE grp IS NOT NULL AND state = 1;
    CREATE TABLE coracle.holder (
        name  text COLLATE \"C\" PRIMARY KEY,
        info  bytea NOT NULL,
        until bigint NOT NULL
    );
    -- How much a topic holds is the sum of its rows: each writer has one of its own, so that nobody waits for another.
    CREATE TABLE coracle.count (
        topic   text COLLATE \"C\",
        slot    int,
        waiting bigint NOT NULL,
        held    bigint NOT NULL,
        kept    bigint NOT NULL,
        PRIMARY KEY (topic, slot)
    ) WITH (fillfactor = 50);

    -- touched: when somebody last was about to need it.
    CREATE TABLE coracle.artifact (
        digest  text COLLATE \"C\" PRIMARY KEY,
        parts   int NOT NULL,
        touched bigint NOT NULL
    );
    CREATE TABLE coracle.artifact_part (
        digest text COLLATE \"C\" REFERENCES coracle.artifact ON DELETE CASCADE,
        number int,
        bytes  bytea NOT NULL,
        PRIMARY KEY (digest, number)
    );
    ALTER TABLE coracle.artifact_part ALTER COLUMN bytes SET STORAGE EXTERNAL;
", "
    -- When its holder began with it; NULL if it is only leased ahead. Without meaning if nobody holds it.
    ALTER TABLE coracle.message ADD COLUMN begun bigint;
    UPDATE coracle.message SET begun = appended WHERE state = 2;
    -- The leases since its story was written that ended with their holder: see `loss.rs`.
    ALTER TABLE coracle.message ADD COLUMN losses text COLLATE \"C\";
"];

/// Checks the server, and brings the tables to the newest version.
pub(super) async fn upgrade(session: &Session, target: &Target) -> Result<(), ConnectError> {
    let refused = |source| target.refused(source);
    let client = session.client();
    let server = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version')",
            &[],
        )
        .await
        .map_err(refused)?;
    check_server(server.get(0), server.get(1), target)?;

    // Whoever comes second waits here, and finds nothing left to do.
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK_CLASS}, {LOCK_UPGRADE})");
    session.execute(&lock).await.map_err(refused)?;
    let found = version(session).await.map_err(refused)?;
    check_version(found, target)?;
    let steps = UPGRADES.iter().skip(usize::try_from(found).unwrap_or_default());
    for step in steps {
        session.execute(step).await.map_err(refused)?;
    }
    let done = format!("UPDATE coracle.version SET version = {VERSION} WHERE version < {VERSION}; COMMIT");
    session.execute(&done).await.map_err(refused)
}

/// The version of the tables, 0 if there are none. Makes the place where it is kept.
async fn version(session: &Session) -> Result<i32, tokio_postgres::Error> {
    let known = "SELECT to_regclass('coracle.version') IS NOT NULL";
    if !session.client().query_one(known, &[]).await?.get::<_, bool>(0) {
        // An operator may have made the schema, for a user who may not.
        let make = "
            DO $$ BEGIN
                IF to_regnamespace('coracle') IS NULL THEN CREATE SCHEMA coracle; END IF;
            END $$;
            CREATE TABLE coracle.version (version int NOT NULL);
            INSERT INTO coracle.version VALUES (0);
        ";
        session.execute(make).await?;
    }
    Ok(session.client().query_one("SELECT version FROM coracle.version", &[]).await?.get(0))
}

fn check_server(number: i32, found: &str, target: &Target) -> Result<(), ConnectError> {
    if number >= SERVER_VERSION_MIN {
        return Ok(());
    }
    let (target, found) = (target.to_string(), found.to_owned());
    Err(ConnectError::TooOld { target, found, needed: SERVER_VERSION_MIN / 10_000 })
}

fn check_version(found: i32, target: &Target) -> Result<(), ConnectError> {
    if found <= VERSION {
        return Ok(());
    }
    Err(ConnectError::Newer { target: target.to_string(), found, known: VERSION })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused_with_its_version() {
        let target = Target::read("postgres://me:s3cret@host/db").unwrap();
        let refused = check_server(14_00_22, "14.22 (Debian 14.22-1)", &target).unwrap_err().to_string();
        let expected =
            "postgres://me@host:5432/db is PostgreSQL 14.22 (Debian 14.22-1), this program needs 15 or newer";
        assert_eq!(refused, expected);
        for number in [15_00_00, 15_00_19, 19_00_01] {
            check_server(number, "newer", &target).unwrap();
        }
    }
}
