//! What was acknowledged survives: every acknowledgement waits for a sync, and no moment is a bad one to be killed.
//! The writers run in child processes, some of them under `strace`, which counts, fails or kills at a system call.

mod child;

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use std::sync::Arc;

use coracle_store::{CommitError, Embedded, read_all};
use tempfile::tempdir;

const DATABASE: &str = "coracle.db";

fn open(dir: &Path) -> Embedded {
    Embedded::open(&dir.join(DATABASE), Arc::new(coracle_observe::clock::System))
        .expect("a database that opens")
}

/// The numbers of the records that a database holds.
fn records(dir: &Path) -> BTreeSet<u32> {
    let database = open(dir);
    let found = child::block_on(read_all(&database, "record/")).expect("readable");
    found.iter().map(|(key, _)| key.parts().next_back().expect("a part").parse().expect("a number")).collect()
}

/// The numbers that a child printed behind this word, one a line.
fn numbers(printed: &str, word: &str) -> Vec<u32> {
    let number = |line: &str| line.strip_prefix(word)?.strip_prefix(' ')?.parse().ok();
    printed.lines().filter_map(number).collect()
}

#[test]
fn every_acknowledgement_follows_a_sync_of_its_commit() {
    const COMMITS: u32 = 20;
    if let Some(dir) = child::dir() {
        let database = open(&dir);
        return child::block_on(async {
            for number in 1..=COMMITS {
                println!("sent {number}");
                child::commit(&database, number, "x").await.unwrap();
                println!("acknowledged {number}");
            }
        });
    }
    let mut acknowledged = Vec::new();
    let (mut written, mut synced) = (false, false);
    for call in trace("every_acknowledgement_follows_a_sync_of_its_commit") {
        match call {
            Traced::Printed(line) if line.starts_with("sent ") => (written, synced) = (false, false),
            Traced::Printed(line) => {
                if let [number] = numbers(&line, "acknowledged")[..] {
                    assert!(written && synced, "commit {number} was acknowledged before it was durable");
                    acknowledged.push(number);
                }
            }
            Traced::Written => (written, synced) = (true, false),
            Traced::Synced => synced = true,
        }
    }
    assert_eq!(acknowledged, (1..=COMMITS).collect::<Vec<_>>(), "the trace shows every acknowledgement");
}

#[test]
fn commits_that_wait_together_share_a_sync() {
    const COMMITS: u32 = 200;
    const SYNCS_MAX: usize = 20;
    if let Some(dir) = child::dir() {
        let database = open(&dir);
        return child::block_on(async {
            println!("begin");
            let commits = (1..=COMMITS).map(|number| child::commit(&database, number, "x"));
            for committed in futures_util::future::join_all(commits).await {
                committed.unwrap();
            }
            println!("end");
        });
    }
    let calls = trace("commits_that_wait_together_share_a_sync");
    let calls = calls.split(|call| matches!(call, Traced::Printed(line) if line == "begin" || line == "end"));
    let [_, between, _] = calls.collect::<Vec<_>>()[..] else {
        panic!("the child printed its beginning and end")
    };
    let syncs = between.iter().filter(|call| matches!(call, Traced::Synced)).count();
    assert!((1..=SYNCS_MAX).contains(&syncs), "{COMMITS} concurrent commits took {syncs} syncs");
}

#[test]
fn a_killed_writer_loses_nothing_acknowledged() {
    const ROUNDS: usize = 10;
    if let Some(dir) = child::dir() {
        let first = records(&dir).last().map_or(1, |last| last + 1);
        let database = open(&dir);
        return child::block_on(async {
            for number in first.. {
                child::commit(&database, number, number.to_string()).await.unwrap();
                println!("acknowledged {number}");
            }
        });
    }
    let dir = tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut command = child::command(&[], "a_killed_writer_loses_nothing_acknowledged", dir.path());
        let mut writer = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut printed = BufReader::new(writer.stdout.take().unwrap());
        let mut seen = String::new();
        while numbers(&seen, "acknowledged").len() < 1 + round * 7 {
            assert_ne!(printed.read_line(&mut seen).unwrap(), 0, "the writer ended by itself: {seen}");
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        // What is still in the pipe was acknowledged as well.
        printed.read_to_string(&mut seen).unwrap();
        acknowledged.extend(numbers(&seen, "acknowledged"));
        let found = records(dir.path());
        assert!(
            found.is_superset(&acknowledged),
            "round {round}: {acknowledged:?} were acknowledged, {found:?} found"
        );
        assert!(
            found.len() <= acknowledged.len() + round + 1,
            "a round leaves one unacknowledged record at most"
        );
    }
}

#[test]
fn whichever_system_call_fails_nothing_acknowledged_is_lost() {
    if let Some(dir) = child::dir() {
        return commit_a_few(&dir);
    }
    for (fault, answer) in [
        ("pwrite64:error=ENOSPC", "full"),
        ("pwrite64:error=EIO", "unknown"),
        ("fsync,fdatasync:error=EIO", "unknown"),
    ] {
        let mut failed = 0;
        for n in 1.. {
            let struck = strike(fault, n, "whichever_system_call_fails_nothing_acknowledged_is_lost");
            let Struck { printed, acknowledged, found, .. } = &struck;
            assert!(struck.came_to_its_end, "{struck:?}");
            if printed.contains("not opened") {
                continue;
            }
            let refused = numbers(printed, answer);
            assert!(refused.len() <= 1, "the commits after a failed one are sound: {struck:?}");
            assert_eq!(acknowledged.len() + refused.len(), COMMITS as usize, "{struck:?}");
            if answer == "full" {
                assert_eq!(found, acknowledged, "a full disk means that nothing was changed: {struck:?}");
            }
            failed += refused.len();
            if !struck.injected {
                break;
            }
        }
        assert!(failed >= COMMITS as usize, "{fault}: the sweep has met every commit");
    }
}

#[test]
fn whichever_system_call_is_the_last_one_nothing_acknowledged_is_lost() {
    if let Some(dir) = child::dir() {
        return commit_a_few(&dir);
    }
    for fault in ["pwrite64:error=EIO:signal=KILL", "fsync,fdatasync:error=EIO:signal=KILL"] {
        let mut ends = BTreeSet::new();
        for n in 1.. {
            let struck =
                strike(fault, n, "whichever_system_call_is_the_last_one_nothing_acknowledged_is_lost");
            assert!(struck.found.len() <= struck.acknowledged.len() + 1, "{struck:?}");
            ends.insert(struck.acknowledged.len());
            if struck.came_to_its_end {
                break;
            }
        }
        assert_eq!(
            ends,
            BTreeSet::from_iter(0..=COMMITS as usize),
            "{fault}: the sweep has met every commit"
        );
    }
}

/// How many commits the writer below makes.
const COMMITS: u32 = 5;

/// The writer whose system calls are failed.
#[expect(clippy::print_stdout, reason = "this is how the child tells its parent")]
fn commit_a_few(dir: &Path) {
    let Ok(database) = Embedded::open(&dir.join(DATABASE), Arc::new(coracle_observe::clock::System)) else {
        return println!("not opened");
    };
    child::block_on(async {
        for number in 1..=COMMITS {
            match child::commit(&database, number, "x").await {
                Ok(_) => println!("acknowledged {number}"),
                Err(CommitError::Full) => println!("full {number}"),
                Err(CommitError::Unavailable(_)) => println!("unknown {number}"),
                Err(other) => panic!("{other}"),
            }
        }
    });
}

/// What became of a writer with one failing system call.
#[derive(Debug)]
#[expect(dead_code, reason = "the fault is there to be shown by a failed assertion")]
struct Struck {
    fault: String,
    printed: String,
    acknowledged: BTreeSet<u32>,
    found: BTreeSet<u32>,
    injected: bool,
    came_to_its_end: bool,
}

/// Runs a test as a child that writes, fails the n-th of certain system calls in each of its threads, and opens the
/// database again.
fn strike(fault: &str, n: usize, test: &str) -> Struck {
    let dir = tempdir().expect("a temporary directory");
    // Made here, so that the calls that are counted in the child are mostly those of the commits.
    drop(open(dir.path()));
    let log = dir.path().join("trace");
    let fault = format!("inject={fault}:when={n}");
    let calls = "trace=pwrite64,fsync,fdatasync";
    let strace = ["strace", "-f", "-o", log.to_str().expect("a path in UTF-8"), "-e", calls, "-e", &fault];
    let output = child::run(child::command(&strace, test, dir.path()));
    let injected = std::fs::read_to_string(&log).expect("a trace").contains("INJECTED");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let acknowledged = BTreeSet::from_iter(numbers(&printed, "acknowledged"));
    let found = records(dir.path());
    let came_to_its_end = output.status.success();
    let struck = Struck { fault, printed, acknowledged, found, injected, came_to_its_end };
    assert!(struck.found.is_superset(&struck.acknowledged), "{struck:?}");
    struck
}

/// A system call of a traced child that matters here, at the moment it ended.
#[derive(Debug)]
enum Traced {
    /// A line went to the standard output.
    Printed(String),
    /// Something was written to the log of the database.
    Written,
    /// The log of the database was synced.
    Synced,
}

/// Runs a test of this program as a child under `strace`, on a fresh directory.
fn trace(test: &str) -> Vec<Traced> {
    let dir = tempdir().expect("a temporary directory");
    let log = dir.path().join("trace");
    let calls = "trace=write,pwrite64,fsync,fdatasync";
    let strace = ["strace", "-f", "-y", "-o", log.to_str().expect("a path in UTF-8"), "-e", calls];
    let output = child::run(child::command(&strace, test, dir.path()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_to_string(&log).expect("a trace");
    // With threads, a call may be split: its beginning, lines of other threads, its end.
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(beginning) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(pid, beginning);
            continue;
        }
        let whole = match rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, end)) => format!("{}{end}", begun.remove(pid).unwrap_or_default()),
            None => rest.to_owned(),
        };
        calls.extend(read_call(&whole));
    }
    calls
}

fn read_call(call: &str) -> Option<Traced> {
    let (name, arguments) = call.split_once('(')?;
    let of_log = arguments.split_once('>')?.0.ends_with("-wal");
    match name {
        "write" if arguments.starts_with("1<") => {
            let line = arguments.split_once('"')?.1.split_once("\\n\"")?.0;
            Some(Traced::Printed(line.to_owned()))
        }
        "pwrite64" if of_log => Some(Traced::Written),
        "fsync" | "fdatasync" if of_log && call.ends_with("= 0") => Some(Traced::Synced),
        _ => None,
    }
}
