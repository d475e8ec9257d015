//! PostgreSQL against the conformance suite, and what it promises beyond it.
//! Each test has a server of its own, and as many databases there as it needs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_store::{
    Append, Batch, Begin, Change, CommitError, Condition, ConnectError, Database, Faulty, Holder, Key, Loss,
    Postgres, Read, ReadFrom, Topic, conformance, read_all,
};
use own_postgres::OwnPostgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

/// How soon other nodes must hear of something, and how often it is tried.
const SOON: Duration = Duration::from_millis(200);
const TRIES: usize = 10;

struct Fresh {
    own: OwnPostgres,
    made: u32,
}

impl Fresh {
    fn start() -> Self {
        Self { own: unsynced(), made: 0 }
    }

    async fn database(&mut self) -> Arc<Postgres> {
        self.made += 1;
        let url = self.own.database(&format!("d{}", self.made)).expect("a new database");
        Arc::new(Postgres::open(&url).await.expect("a database that opens"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_as_every_database_keeps_them() {
    let mut fresh = Fresh::start();
    conformance::conditions(&fresh.database().await).await;
    conformance::atomicity(&fresh.database().await).await;
    conformance::bounds(&fresh.database().await).await;
    conformance::scans(&fresh.database().await).await;
    conformance::watches(&fresh.database().await).await;
    conformance::contention(fresh.database().await).await;
    conformance::contention(Arc::new(Faulty::new(fresh.database().await))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_as_every_database_keeps_them() {
    // The clock is the database's own, and nobody can turn it.
    let pass = async |time| tokio::time::sleep(time).await;
    let mut fresh = Fresh::start();
    conformance::log::leases(&fresh.database().await).await;
    conformance::log::one_fact(&fresh.database().await).await;
    conformance::log::groups(&fresh.database().await).await;
    conformance::log::time(&fresh.database().await, pass).await;
    conformance::log::ahead(&fresh.database().await).await;
    conformance::log::losses(&fresh.database().await, pass).await;
    conformance::log::reads(&fresh.database().await, pass).await;
    conformance::log::message_bounds(&fresh.database().await).await;
    conformance::log::arrivals(&fresh.database().await).await;
    conformance::log::takers(fresh.database().await).await;
    conformance::log::takers(Arc::new(Faulty::new(fresh.database().await))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_commit_fails_nothing_acknowledged_is_lost() {
    let own = unsynced();
    // A new name means that the one before is over; emptying is quicker than making a database for each.
    let last = Mutex::new(String::new());
    let open = async |name: &str| {
        if std::mem::replace(&mut *last.lock().expect("nobody panicked"), name.to_owned()) != name {
            own.sql("postgres", "DROP SCHEMA IF EXISTS coracle CASCADE").expect("nobody uses it");
        }
        Arc::new(Postgres::open(&own.url()).await.expect("a database that opens")) as Arc<dyn Database>
    };
    conformance::failed_writes(&open).await;
    conformance::log::failed_lives(&open).await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_never_shown() {
    let own = OwnPostgres::start().expect("a PostgreSQL that starts");
    own.database("d").unwrap();
    own.sql("d", "CREATE ROLE coracle LOGIN PASSWORD 'r1ghtly'; ALTER DATABASE d OWNER TO coracle").unwrap();
    let database = Postgres::open(&own.url_for("coracle", "r1ghtly", "d")).await.expect("the right password");
    assert!(!format!("{database:?}").contains("r1ghtly"));
    for (password, database) in [("wr0ngly", "d"), ("r1ghtly", "absent")] {
        let refused = Postgres::open(&own.url_for("coracle", password, database)).await.unwrap_err();
        assert_eq!(matches!(refused, ConnectError::Login { .. }), database == "d", "{refused:?}");
        let words = format!("{} {refused:?}", chain(&refused));
        assert!(words.contains("postgres://coracle@") && !words.contains(password), "{words}");
    }
    let refused = Postgres::open(&own.url_to("d").replace("postgres@", "coracle@")).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Login { .. }), "no password at all: {refused:?}");
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_both_versions() {
    let own = OwnPostgres::start().expect("a PostgreSQL that starts");
    drop(Postgres::open(&own.url()).await.unwrap());
    own.sql("postgres", "UPDATE coracle.version SET version = 7").unwrap();
    let refused = Postgres::open(&own.url()).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Newer { found: 7, known: 2, .. }), "{refused:?}");
    let said = refused.to_string();
    assert!(said.contains("version 7") && said.contains("up to 2"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_version_before_are_upgraded_and_keep_what_they_hold() {
    let own = unsynced();
    let (calls, ann) = (Topic::new("calls").unwrap(), Holder::new("ann").unwrap());
    let begin = Begin::Held(ann.clone());
    let append = Append { topic: calls.clone(), id: None, group: None, begin, payload: "call".into() };
    let before = Postgres::open(&own.url()).await.unwrap();
    let keep = Batch::new().keep(ann.clone(), "", Duration::from_secs(60));
    before.commit(keep.append(append)).await.unwrap();
    drop(before);
    // What version 2 added.
    own.sql("postgres", "ALTER TABLE coracle.message DROP COLUMN begun, DROP COLUMN losses").unwrap();
    own.sql("postgres", "UPDATE coracle.version SET version = 1").unwrap();

    let after = Postgres::open(&own.url()).await.unwrap();
    after.commit(Batch::new().leave(ann.clone())).await.unwrap();
    let read = Read { topic: calls, from: ReadFrom::Start, limit: 10 };
    let found = after.read(read).await.unwrap();
    let [message] = &found[..] else { panic!("{found:?}") };
    assert_eq!(message.payload, "call");
    assert_eq!(message.losses, [Loss { attempt: 1, holder: ann, since: message.appended }]);
}

#[tokio::test]
async fn nobody_there_is_said_with_the_place() {
    let url = "postgres://me:s3cret@/db?host=/nonexistent";
    let refused = Postgres::open(url).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Unreachable { .. }), "{refused:?}");
    let words = format!("{} {refused:?}", chain(&refused));
    assert!(words.contains("/nonexistent") && !words.contains("s3cret"), "{words}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_if_it_is_required() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        // It is asked for TLS before anything else, and says no.
        let mut asked = [0; 8];
        client.read_exact(&mut asked).await.unwrap();
        client.write_all(b"N").await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "nothing is said in the clear");
        asked
    });
    let url = format!("postgres://me:s3cret@127.0.0.1:{port}/db?sslmode=require");
    let refused = Postgres::open(&url).await.unwrap_err();
    let words = chain(&refused);
    assert!(words.contains("does not support TLS") && !words.contains("s3cret"), "{words}");
    assert_eq!(server.await.unwrap(), [0, 0, 0, 8, 4, 210, 22, 47]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_may_start_at_once() {
    let own = OwnPostgres::start().expect("a PostgreSQL that starts");
    let url = own.url();
    let nodes = futures_util::future::join_all((0..8).map(|_| Postgres::open(&url))).await;
    for (number, node) in nodes.into_iter().enumerate() {
        let node = node.expect("a node that starts");
        put(&node, &format!("node/{number}"), "").await.expect("writable");
    }
    let node = Postgres::open(&url).await.unwrap();
    assert_eq!(read_all(&node, "node/").await.unwrap().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_other_nodes_change_and_in_order() {
    const CHANGES: u64 = 50;
    let own = OwnPostgres::start().expect("a PostgreSQL that starts");
    let (here, there) =
        (Postgres::open(&own.url()).await.unwrap(), Postgres::open(&own.url()).await.unwrap());
    let mut watch = here.watch("node/");
    // Of several tries one must be quick: on a machine that is busy with other tests not each is.
    let (mut soon, mut last) = (false, 0);
    for _ in 0..TRIES {
        last = put(&there, "node/there", "first").await.unwrap().revision;
        let told = match tokio::time::timeout(SOON, watch.next()).await {
            Ok(told) => {
                soon = true;
                told
            }
            Err(_) => watch.next().await,
        };
        assert!(matches!(told, Some(Change::Put { entry, .. }) if entry.revision == last));
    }
    assert!(soon, "never within {SOON:?}");

    let (mut local, mut remote) = (0, 0);
    let writing = async {
        for number in 0..CHANGES {
            put(&here, "node/here", number.to_string()).await.unwrap();
            put(&there, "node/there", number.to_string()).await.unwrap();
        }
        there.commit(Batch::new().delete(key("node/there"), Condition::Any)).await.unwrap();
    };
    let watching = async {
        loop {
            match watch.next().await.expect("it is open") {
                Change::Put { key, entry } => {
                    assert!(entry.revision > last, "revisions are told in order");
                    last = entry.revision;
                    if key.as_str() == "node/here" { local += 1 } else { remote += 1 }
                }
                Change::Delete { key, revision } => {
                    assert!(key.as_str() == "node/there" && revision > last);
                    break;
                }
                Change::Lagged => panic!("nobody was slow"),
            }
        }
    };
    futures_util::future::join(writing, watching).await;
    assert_eq!(local, CHANGES, "what happens here is told change by change");
    assert!((1..=CHANGES).contains(&remote));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_is_swept_and_who_missed_it_is_told() {
    let own = unsynced();
    let here = Postgres::open(&own.url()).await.unwrap();
    let mut watch = here.watch("");
    put(&here, "gone", "").await.unwrap();
    here.commit(Batch::new().delete(key("gone"), Condition::Any)).await.unwrap();
    let topic = Topic::new("default/calls/f").unwrap();
    let append =
        Append { topic: topic.clone(), id: None, group: None, begin: Begin::Kept, payload: "".into() };
    let position = here.commit(Batch::new().append(append)).await.unwrap().appended[0].position;
    here.commit(Batch::new().remove(position)).await.unwrap();
    own.sql("postgres", "UPDATE coracle.entry SET removed = removed - interval '1 hour'").unwrap();
    // A node sweeps when it starts.
    let there = Postgres::open(&own.url()).await.unwrap();
    let left = "SELECT (SELECT count(*) FROM coracle.entry) + (SELECT count(*) FROM coracle.count)";
    while own.sql("postgres", left).unwrap() != "0" {}
    put(&there, "new", "").await.unwrap();
    assert!(matches!(watch.next().await, Some(Change::Put { key, .. }) if key.as_str() == "gone"));
    assert!(matches!(watch.next().await, Some(Change::Delete { key, .. }) if key.as_str() == "gone"));
    assert!(matches!(watch.next().await, Some(Change::Put { key, .. }) if key.as_str() == "new"));

    // As if it had been away while removals came and were swept.
    own.sql("postgres", "UPDATE coracle.swept SET revision = nextval('coracle.revision')").unwrap();
    put(&there, "newer", "").await.unwrap();
    assert_eq!(watch.next().await, Some(Change::Lagged));
    assert_eq!(read_all(&here, "new").await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_load_loses_nothing_acknowledged() {
    const WRITERS: u32 = 8;
    const AFTERWARDS: u32 = 50;
    let mut own = OwnPostgres::start().expect("a PostgreSQL that starts");
    let database = Arc::new(Postgres::open(&own.url()).await.unwrap());
    let mut watch = database.watch("record/");
    let (tell, mut told) = tokio::sync::watch::channel(0_u32);
    let tell = Arc::new(tell);
    let restarted = Arc::new(AtomicU32::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (database, tell, restarted) = (Arc::clone(&database), Arc::clone(&tell), Arc::clone(&restarted));
        writers.spawn(async move {
            let (mut acknowledged, mut failures, mut afterwards) = (Vec::new(), 0, 0);
            for number in 0.. {
                let name = format!("record/{writer}/{number:06}");
                match put(&*database, &name, "").await {
                    Ok(_) => {
                        acknowledged.push(name);
                        tell.send_modify(|count| *count += 1);
                        afterwards += restarted.load(Ordering::SeqCst);
                    }
                    Err(CommitError::Unavailable(_)) => failures += 1,
                    Err(other) => panic!("{other:?}"),
                }
                if afterwards >= AFTERWARDS {
                    break;
                }
            }
            (acknowledged, failures)
        });
    }
    for kill in [true, false] {
        let enough = *told.borrow() + 200;
        told.wait_for(|count| *count > enough).await.unwrap();
        if kill {
            own.kill().unwrap()
        } else {
            own.stop()
        }
        own.start_again().unwrap();
    }
    restarted.store(1, Ordering::SeqCst);
    let (mut acknowledged, mut failures) = (BTreeSet::new(), 0);
    for (names, failed) in writers.join_all().await {
        acknowledged.extend(names);
        failures += failed;
    }
    assert!(failures > 0, "it was away");
    let found = read_all(&*database, "record/").await.expect("it is back");
    let found: BTreeSet<String> = found.iter().map(|(key, _)| key.as_str().to_owned()).collect();
    assert!(found.is_superset(&acknowledged), "{:?}", acknowledged.difference(&found).next());

    // The watch goes on by itself, and has missed nothing, or says so.
    let last = put(&*database, "record/last", "").await.unwrap().revision;
    let (mut seen, mut lagged) = (BTreeSet::new(), false);
    loop {
        match watch.next().await.expect("it is open") {
            Change::Put { entry, .. } if entry.revision == last => break,
            Change::Put { key, .. } => _ = seen.insert(key.as_str().to_owned()),
            Change::Delete { .. } => panic!("nothing is removed"),
            Change::Lagged => lagged = true,
        }
    }
    assert!(lagged || seen.is_superset(&acknowledged));
}

/// A server that is quick, for what does not depend on the machine's end.
fn unsynced() -> OwnPostgres {
    OwnPostgres::start_with(&[("fsync", "off")]).expect("a PostgreSQL that starts")
}

async fn put(
    database: &dyn Database,
    name: &str,
    value: impl Into<bytes::Bytes>,
) -> Result<coracle_store::Committed, CommitError> {
    database.commit(Batch::new().put(key(name), value, Condition::Any)).await
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a key of the test")
}

/// An error and all its reasons, as they are printed.
fn chain(error: &dyn std::error::Error) -> String {
    let reasons = std::iter::successors(Some(error), |error| error.source());
    reasons.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
