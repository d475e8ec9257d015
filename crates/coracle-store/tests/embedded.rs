//! The embedded database against the conformance suite, and what it promises beyond it.
//! Each test has a directory of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::Clock as _;
use coracle_observe::clock::Simulated;
use coracle_store::{
    Append, Batch, Begin, CommitError, Condition, Database, Due, Embedded, Holder, Key, Loss, MessageState,
    OpenError, Read, ReadError, ReadFrom, Take, Topic, conformance, read_all,
};
use rusqlite::Connection;
use tempfile::{TempDir, tempdir};

fn fresh() -> (TempDir, Arc<Embedded>) {
    let dir = tempdir().expect("a temporary directory");
    let database = Embedded::open(&dir.path().join("coracle.db"), Arc::new(coracle_observe::clock::System))
        .expect("a new database");
    (dir, Arc::new(database))
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a key of the test")
}

#[tokio::test]
async fn a_batch_happens_under_its_conditions_alone() {
    conformance::conditions(&fresh().1).await;
}

#[tokio::test]
async fn a_batch_happens_wholly_or_not_at_all() {
    conformance::atomicity(&fresh().1).await;
}

#[tokio::test]
async fn what_breaks_a_bound_is_refused() {
    conformance::bounds(&fresh().1).await;
}

#[tokio::test]
async fn scans_are_in_order_and_pages_join() {
    conformance::scans(&fresh().1).await;
}

#[tokio::test]
async fn a_watch_tells_every_change_or_says_that_it_lags() {
    conformance::watches(&fresh().1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_on_one_condition_exactly_one_wins() {
    conformance::contention(fresh().1).await;
}

#[tokio::test]
async fn whichever_commit_fails_nothing_acknowledged_is_lost() {
    let dir = tempdir().unwrap();
    let open = async |name: &str| {
        let database = Embedded::open(&dir.path().join(name), Arc::new(coracle_observe::clock::System))
            .expect("a database that opens again");
        Arc::new(database) as Arc<dyn Database>
    };
    conformance::failed_writes(open).await;
}

/// A database whose time passes when it is told to.
fn timed() -> (TempDir, Arc<Embedded>, Arc<Simulated>) {
    let dir = tempdir().expect("a temporary directory");
    let clock = Arc::new(Simulated::default());
    let database = Embedded::open(&dir.path().join("coracle.db"), clock.clone()).expect("a new database");
    (dir, Arc::new(database), clock)
}

#[tokio::test]
async fn a_message_is_leased_to_one_holder_and_ended_once() {
    conformance::log::leases(&fresh().1).await;
}

#[tokio::test]
async fn keys_and_messages_change_together() {
    conformance::log::one_fact(&fresh().1).await;
}

#[tokio::test]
async fn a_group_goes_one_at_a_time_and_in_order() {
    conformance::log::groups(&fresh().1).await;
}

#[tokio::test]
async fn what_is_due_is_leased_and_who_is_silent_is_gone() {
    let (_dir, database, clock) = timed();
    conformance::log::time(&*database, async |time| clock.advance(time)).await;
}

#[tokio::test]
async fn what_was_lost_with_its_holder_is_told() {
    let (_dir, database, clock) = timed();
    conformance::log::losses(&*database, async |time| clock.advance(time)).await;
}

#[tokio::test]
async fn what_is_leased_ahead_is_no_attempt() {
    conformance::log::ahead(&fresh().1).await;
}

#[tokio::test]
async fn what_a_server_held_that_is_gone_is_told_by_the_next() {
    let (dir, database, clock) = timed();
    let (calls, ann) = (Topic::new("calls").unwrap(), Holder::new("ann").unwrap());
    let begin = Begin::Held(ann.clone());
    let append = Append { topic: calls.clone(), id: None, group: None, begin, payload: "".into() };
    let keep = Batch::new().keep(ann.clone(), "", Duration::from_secs(60));
    let other = Append { begin: Begin::Waiting(Due::Now), ..append.clone() };
    let ahead = Take { topic: calls.clone(), holder: ann.clone(), limit: 1, begins: 0 };
    database.commit(keep.append(append).append(other).take(ahead)).await.unwrap();
    let since = clock.now();
    clock.advance(Duration::from_secs(1));
    drop(database);
    let database = Embedded::open(&dir.path().join("coracle.db"), clock).unwrap();
    let read = Read { topic: calls, from: ReadFrom::Start, limit: 2 };
    let messages = database.read(read).await.unwrap();
    let told = messages.iter().map(|message| (&message.state, message.attempt, &message.losses[..]));
    let loss = [Loss { attempt: 1, holder: ann, since }];
    let waits = &MessageState::Waiting;
    assert_eq!(told.collect::<Vec<_>>(), [(waits, 1, &loss[..]), (waits, 0, &[])], "a lease is no attempt");
}

#[tokio::test]
async fn topics_are_counted_read_searched_and_trimmed() {
    let (_dir, database, clock) = timed();
    conformance::log::reads(&*database, async |time| clock.advance(time)).await;
}

#[tokio::test]
async fn a_message_over_its_bounds_is_refused() {
    conformance::log::message_bounds(&fresh().1).await;
}

#[tokio::test]
async fn arrivals_tell_where_something_waits() {
    conformance::log::arrivals(&fresh().1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_takers_each_message_goes_to_one() {
    conformance::log::takers(fresh().1).await;
}

#[tokio::test]
async fn whichever_commit_of_a_life_fails_the_call_is_there_or_over() {
    let dir = tempdir().unwrap();
    let open = async |name: &str| {
        let database = Embedded::open(&dir.path().join(name), Arc::new(coracle_observe::clock::System));
        Arc::new(database.expect("a database that opens again")) as Arc<dyn Database>
    };
    conformance::log::failed_lives(open).await;
}

#[tokio::test]
async fn what_was_committed_is_there_when_it_is_opened_again() {
    let (dir, database) = fresh();
    let first = database.commit(Batch::new().put(key("a"), "1", Condition::Any)).await.unwrap();
    let removed = database.commit(Batch::new().delete(key("a"), Condition::Any)).await.unwrap();
    drop(database);
    let path = dir.path().join("coracle.db");
    assert!(!dir.path().join("coracle.db-wal").exists(), "a clean close leaves one file");
    let database = Embedded::open(&path, Arc::new(coracle_observe::clock::System)).unwrap();
    assert_eq!(database.get(&key("a")).await.unwrap(), None);
    let second = database.commit(Batch::new().put(key("a"), "2", Condition::Absent)).await.unwrap();
    assert!(first.revision < removed.revision && removed.revision < second.revision, "revisions go on");
}

#[tokio::test]
async fn a_closed_database_refuses_and_its_watches_end() {
    let (_dir, database) = fresh();
    let mut watch = database.watch("");
    database.commit(Batch::new().put(key("a"), "1", Condition::Any)).await.unwrap();
    database.close();
    database.close();
    assert!(watch.next().await.is_some(), "what happened before is still told");
    assert_eq!(watch.next().await, None);
    assert_eq!(database.watch("").next().await, None);
    let refused = database.commit(Batch::new().put(key("a"), "2", Condition::Any)).await;
    assert!(matches!(refused, Err(CommitError::Unavailable(_))));
    assert!(matches!(database.get(&key("a")).await, Err(ReadError::Unavailable(_))));
}

#[tokio::test]
async fn a_commit_that_fails_inside_sqlite_fails_its_group_alone() {
    let (dir, database) = fresh();
    let other = Connection::open(dir.path().join("coracle.db")).unwrap();
    other
        .execute_batch("CREATE TRIGGER fail BEFORE INSERT ON entry WHEN NEW.key = 'bad' BEGIN SELECT RAISE(ROLLBACK, 'no'); END")
        .unwrap();
    let put = |name| database.commit(Batch::new().put(key(name), "", Condition::Any));
    assert!(matches!(put("bad").await, Err(CommitError::Unavailable(_))));
    put("good").await.expect("the connection is sound afterwards");
    let found = read_all(&*database, "").await.unwrap();
    assert_eq!(found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["good"]);
}

#[test]
fn a_newer_schema_is_refused_with_both_versions() {
    let (dir, database) = fresh();
    drop(database);
    let path = dir.path().join("coracle.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let refused = Embedded::open(&path, Arc::new(coracle_observe::clock::System)).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 7, known: 3, .. }));
    let said = refused.to_string();
    assert!(said.contains("version 7") && said.contains("up to 3"), "{said}");
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    let dir = tempdir().unwrap();
    let refused = |path: &Path| {
        let before = std::fs::read(path).unwrap();
        assert!(
            matches!(
                Embedded::open(path, Arc::new(coracle_observe::clock::System)),
                Err(OpenError::Foreign { .. })
            ),
            "{}",
            path.display()
        );
        assert_eq!(std::fs::read(path).unwrap(), before);
    };
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "not a database, whatever its name says\n".repeat(100)).unwrap();
    refused(&text);
    let other = dir.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE bookmark (url TEXT)").unwrap();
    refused(&other);
}

#[tokio::test]
async fn damage_is_noticed_after_an_unclean_end() {
    let (dir, database) = fresh();
    for number in 0..200 {
        let batch = Batch::new().put(key(&format!("a/{number}")), vec![7; 500], Condition::Any);
        database.commit(batch).await.unwrap();
    }
    drop(database);
    let path = dir.path().join("coracle.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    // A log that was left behind says that nobody closed the file.
    std::fs::write(dir.path().join("coracle.db-wal"), [0; 32]).unwrap();
    assert!(matches!(
        Embedded::open(&path, Arc::new(coracle_observe::clock::System)),
        Err(OpenError::Damaged { .. })
    ));
}

#[tokio::test]
async fn whoever_has_it_alone_learns_that_nothing_has_changed() {
    let (_dir, database) = fresh();
    let put = |text: &str| Batch::new().put(key("a/b"), text.to_owned(), Condition::Any);
    let mut edition = database.edition().expect("nobody else has it");
    for text in ["one", "two"] {
        let before = *edition.borrow_and_update();
        database.get(&key("a/b")).await.unwrap();
        assert!(!edition.has_changed().unwrap());
        database.commit(put(text)).await.unwrap();
        assert!(edition.has_changed().unwrap() && *edition.borrow() > before);
    }
}
