//! What every [`Database`] must do, as checks that panic with the claim that does not hold.
//! Run by the tests of each implementation, each check against an empty database; they need a Tokio runtime.

pub mod log;

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{
    Batch, Change, CommitError, Condition, Database, Entry, Fault, Faulty, Key, OPERATIONS_MAX, ReadError,
    SCAN_BYTES_MAX, SCAN_ENTRIES_MAX, Scan, VALUE_BYTES_MAX, WATCH_QUEUE_MAX, Watch, read_all,
};

/// A put, delete or requirement happens under its condition alone, and a refusal names what was found.
pub async fn conditions(database: &dyn Database) {
    let name = key("conditions/one");
    let put =
        |value: &'static str, condition| database.commit(Batch::new().put(name.clone(), value, condition));
    let delete = |condition| database.commit(Batch::new().delete(name.clone(), condition));

    assert_eq!(conflict(put("x", Condition::Revision(1)).await), (name.clone(), None));
    let first = put("first", Condition::Absent).await.expect("absent holds of an absent key").revision;
    assert_eq!(conflict(put("x", Condition::Absent).await), (name.clone(), Some(first)));
    let second = put("second", Condition::Revision(first)).await.expect("the revision holds").revision;
    assert!(second > first, "a later commit has a greater revision");
    assert_eq!(conflict(put("x", Condition::Revision(first)).await), (name.clone(), Some(second)));
    assert_eq!(conflict(delete(Condition::Revision(first)).await), (name.clone(), Some(second)));
    assert_eq!(get(database, &name).await, Some(Entry { value: "second".into(), revision: second }));

    let third = put("third", Condition::Any).await.expect("any holds").revision;
    let other = key("conditions/other");
    let beside = |revision| {
        let batch = Batch::new().require(name.clone(), Condition::Revision(revision));
        database.commit(batch.put(other.clone(), "beside", Condition::Any))
    };
    assert_eq!(conflict(beside(second).await), (name.clone(), Some(third)));
    assert_eq!(get(database, &other).await, None, "an unmet requirement stops the batch");
    beside(third).await.expect("the requirement holds");
    assert_eq!(
        get(database, &name).await.map(|entry| entry.revision),
        Some(third),
        "requiring changes nothing"
    );

    delete(Condition::Revision(third)).await.expect("the revision holds");
    assert_eq!(get(database, &name).await, None);
    delete(Condition::Any).await.expect("removing an absent key is no error");
    let last = put("again", Condition::Absent).await.expect("it is absent again").revision;
    assert!(last > third, "no revision is given twice, removed or not");
}

/// A batch happens wholly or not at all, at one revision.
pub async fn atomicity(database: &dyn Database) {
    let (one, two) = (key("atomicity/one"), key("atomicity/two"));
    let both = |value: &'static str, condition| {
        let batch = Batch::new().put(one.clone(), value, Condition::Any);
        database.commit(batch.put(two.clone(), value, condition))
    };
    let revision = both("first", Condition::Absent).await.expect("both are absent").revision;
    for name in [&one, &two] {
        assert_eq!(get(database, name).await, Some(Entry { value: "first".into(), revision }), "{name}");
    }
    // Committed together, so that they may share a transaction: the one that conflicts takes nothing along.
    let neighbour = database.commit(Batch::new().put(key("atomicity/three"), "neighbour", Condition::Any));
    let (refused, accepted) = futures_util::future::join(both("second", Condition::Absent), neighbour).await;
    assert_eq!(conflict(refused), (two.clone(), Some(revision)));
    accepted.expect("a neighbour's conflict is not ours");
    assert_eq!(get(database, &one).await, Some(Entry { value: "first".into(), revision }));
}

/// What breaks a bound is refused with the reason, and what just fits is taken.
pub async fn bounds(database: &dyn Database) {
    let name = |number: usize| key(&format!("bounds/{number}"));
    let many = |count| (0..count).fold(Batch::new(), |batch, n| batch.put(name(n), "", Condition::Any));
    let value = |bytes| Batch::new().put(name(0), vec![7; bytes], Condition::Any);
    let total =
        (0..16).fold(Batch::new(), |batch, n| batch.put(name(n), vec![7; VALUE_BYTES_MAX], Condition::Any));
    let twice = Batch::new().put(name(0), "", Condition::Any).delete(name(0), Condition::Any);
    for (batch, said) in [
        (many(OPERATIONS_MAX + 1), "operations"),
        (value(VALUE_BYTES_MAX + 1), "value of `bounds/0`"),
        (total, "bytes"),
        (twice, "names `bounds/0` twice"),
    ] {
        let refused = database.commit(batch).await.expect_err(said);
        assert!(matches!(&refused, CommitError::Invalid { reason } if reason.contains(said)), "{refused}");
    }
    assert_eq!(read_all(database, "bounds/").await.expect("readable"), []);
    database.commit(many(OPERATIONS_MAX)).await.expect("as many operations as allowed");
    database.commit(value(VALUE_BYTES_MAX)).await.expect("as many bytes as allowed");
    database.commit(Batch::new()).await.expect("an empty batch is nothing wrong");
    for limit in [0, SCAN_ENTRIES_MAX + 1] {
        let refused = database.scan(Scan { prefix: String::new(), after: None, limit }).await;
        assert!(matches!(refused, Err(ReadError::Invalid { .. })), "a limit of {limit} is refused");
    }
}

/// Scans are in the order of the keys' bytes, keep to their prefix, and their pages join without gap or overlap.
pub async fn scans(database: &dyn Database) {
    let sorted =
        ["scan", "scan-", "scan/A", "scan/a", "scan/a/b", "scan/a0", "scan/é", "scan/\u{10ffff}", "scan0"];
    for name in sorted.iter().rev() {
        database.commit(Batch::new().put(key(name), *name, Condition::Any)).await.expect("writable");
    }
    let page = |prefix: &str, after: Option<&str>, limit| {
        let scan = Scan { prefix: prefix.to_owned(), after: after.map(key), limit };
        async move {
            let page = database.scan(scan).await.expect("readable");
            page.into_iter().map(|(key, _)| key.as_str().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(page("scan", None, 100).await, sorted);
    assert_eq!(page("scan/", None, 100).await, sorted[2..8]);
    assert_eq!(page("scan/a", None, 100).await, sorted[3..6]);
    assert_eq!(page("scan/", None, 2).await, sorted[2..4]);
    assert_eq!(page("scan/", Some("scan/a"), 2).await, sorted[4..6]);
    assert_eq!(page("scan/", Some("scan/a/a"), 1).await, ["scan/a/b"], "the key it goes on from may be gone");
    assert_eq!(page("scan/", Some("a"), 1).await, ["scan/A"], "nor does it need the prefix");
    assert!(page("scan/", Some("scan0"), 100).await.is_empty());
    assert!(page("nothing", None, 100).await.is_empty());

    let large = SCAN_BYTES_MAX / VALUE_BYTES_MAX + 2;
    for number in 0..large {
        let batch =
            Batch::new().put(key(&format!("large/{number:02}")), vec![7; VALUE_BYTES_MAX], Condition::Any);
        database.commit(batch).await.expect("writable");
    }
    let short = page("large/", None, SCAN_ENTRIES_MAX).await.len();
    assert!((1..large).contains(&short), "a page of large values ends early");
    assert_eq!(
        read_all(database, "large/").await.expect("readable").len(),
        large,
        "and yet nothing is left out"
    );
}

/// A watch tells of every change under its prefix, in order, or says that it could not.
pub async fn watches(database: &dyn Database) {
    let (mut watch, mut slow) = (database.watch("watch/"), database.watch("watch/"));
    let name = |number: usize| key(&format!("watch/{number}"));
    let put = |name: Key| database.commit(Batch::new().put(name, "", Condition::Any));
    let first = put(name(0)).await.expect("writable").revision;
    put(key("elsewhere/0")).await.expect("writable");
    let refused = database.commit(Batch::new().put(name(0), "x", Condition::Absent)).await;
    assert_eq!(conflict(refused), (name(0), Some(first)));
    let batch = Batch::new().delete(name(0), Condition::Any).put(name(1), "", Condition::Any);
    let second = database.commit(batch.delete(name(9), Condition::Any)).await.expect("writable").revision;
    let entry = |revision| Entry { value: Bytes::new(), revision };
    for expected in [
        Change::Put { key: name(0), entry: entry(first) },
        Change::Delete { key: name(0), revision: second },
        Change::Put { key: name(1), entry: entry(second) },
    ] {
        assert_eq!(watch.next().await, Some(expected), "changes come in order, what did not happen never");
    }

    // Three wait already in `slow`; the batches below make exactly one more than may wait.
    let more = WATCH_QUEUE_MAX + 1 - 3;
    for start in (0..more).step_by(OPERATIONS_MAX) {
        let numbers = start..(start + OPERATIONS_MAX).min(more);
        let batch = numbers.fold(Batch::new(), |batch, n| batch.put(name(n), "", Condition::Any));
        database.commit(batch).await.expect("writable");
    }
    assert_eq!(slow.next().await, Some(Change::Lagged), "who is too slow is told so");
    assert_eq!(next_key(&mut slow).await, name(more - 1), "and is told everything from there on");
    assert_eq!(read_all(database, "watch/").await.expect("readable").len(), more);
    put(name(5)).await.expect("writable");
    assert_eq!(next_key(&mut slow).await, name(5));
    assert_eq!(next_key(&mut watch).await, name(0), "who kept up is told everything");
}

/// Of many who write one key on the same condition exactly one wins.
pub async fn contention(database: Arc<dyn Database>) {
    const WRITERS: usize = 16;
    const ROUNDS: usize = 20;
    let name = key("contention/one");
    let mut condition = Condition::Absent;
    for round in 0..ROUNDS {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (database, name) = (Arc::clone(&database), name.clone());
            let value = format!("{round} {writer}");
            writers.spawn(async move {
                let committed = database.commit(Batch::new().put(name, value.clone(), condition)).await;
                (value, committed)
            });
        }
        let mut winners = Vec::new();
        for (value, committed) in writers.join_all().await {
            match committed {
                Ok(committed) => winners.push(Entry { value: value.into(), revision: committed.revision }),
                Err(CommitError::Conflict { .. }) => {}
                Err(other) => panic!("round {round}: {other}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(get(&*database, &name).await.as_ref(), winners.first(), "round {round}");
        condition = Condition::Revision(winners[0].revision);
    }
}

/// Whichever write fails, and however: nothing acknowledged is lost and nothing half done is seen.
///
/// `open` opens the database of that name: empty the first time, and with what it held when every handle to it has
/// been dropped before the next.
pub async fn failed_writes(open: impl AsyncFn(&str) -> Arc<dyn Database>) {
    type Kind = (&'static str, fn(u64) -> Fault, u64);
    // The third: how many steps more than the acknowledged ones are there afterwards.
    let kinds: [Kind; 3] =
        [("before", Fault::Before, 0), ("after", Fault::After, 1), ("down", Fault::Down, 0)];
    for (kind, fault, unacknowledged) in kinds {
        for n in 1.. {
            let name = format!("{kind}-{n}");
            let faulty = Faulty::new(open(&name).await);
            faulty.set(Some(fault(n)));
            let acknowledged = Steps::run(&faulty, 0).await;
            let commits = faulty.commits();
            drop(faulty);

            let database = open(&name).await;
            if acknowledged == Steps::COUNT {
                assert_eq!((commits, n), (Steps::COUNT, Steps::COUNT + 1), "every write has had its failure");
                Steps::check(&*database, Steps::COUNT).await;
                break;
            }
            let found = acknowledged + unacknowledged;
            assert_eq!(acknowledged, n - 1, "{name}");
            Steps::check(&*database, found).await;
            assert_eq!(
                Steps::run(&*database, found).await,
                Steps::COUNT,
                "{name}: it goes on where it stopped"
            );
            Steps::check(&*database, Steps::COUNT).await;
        }
    }
}

/// A workload in steps, each of which changes several keys at once: after step i, `step/last` says i, `step/done/1` to
/// `step/done/i` are there, and `step/at/i` alone.
struct Steps;

impl Steps {
    const COUNT: u64 = 6;

    /// Makes the steps behind `done`, and returns the last one that was acknowledged.
    async fn run(database: &dyn Database, done: u64) -> u64 {
        for step in done + 1..=Self::COUNT {
            let last = key("step/last");
            let Ok(before) = database.get(&last).await else { return step - 1 };
            let unchanged = before.map_or(Condition::Absent, |entry| Condition::Revision(entry.revision));
            let batch = Batch::new()
                .put(last, step.to_string(), unchanged)
                .put(key(&format!("step/done/{step}")), "", Condition::Absent)
                .put(key(&format!("step/at/{step}")), "", Condition::Absent)
                .delete(key(&format!("step/at/{}", step - 1)), Condition::Any);
            if database.commit(batch).await.is_err() {
                return step - 1;
            }
        }
        Self::COUNT
    }

    /// Panics unless exactly the state after this step is there.
    async fn check(database: &dyn Database, step: u64) {
        let found = read_all(database, "step/").await.expect("readable");
        let found: Vec<String> = found.iter().map(|(key, _)| key.as_str().to_owned()).collect();
        let mut expected = Vec::new();
        if step > 0 {
            expected.push(format!("step/at/{step}"));
            expected.extend((1..=step).map(|step| format!("step/done/{step}")));
            expected.push("step/last".to_owned());
        }
        assert_eq!(found, expected, "after step {step}");
        let last = get(database, &key("step/last")).await;
        assert_eq!(last.map(|entry| entry.value), (step > 0).then(|| step.to_string().into()));
    }
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a key of the suite")
}

async fn get(database: &dyn Database, key: &Key) -> Option<Entry> {
    database.get(key).await.expect("readable")
}

async fn next_key(watch: &mut Watch) -> Key {
    match watch.next().await {
        Some(Change::Put { key, .. } | Change::Delete { key, .. }) => key,
        other => panic!("a change to a key was expected, not {other:?}"),
    }
}

fn conflict(committed: Result<impl std::fmt::Debug, CommitError>) -> (Key, Option<u64>) {
    match committed {
        Err(CommitError::Conflict { key, found }) => (key, found),
        other => panic!("a conflict was expected, not {other:?}"),
    }
}
