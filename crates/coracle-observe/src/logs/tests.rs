//! The logs through their face, in real directories. Nothing sleeps: `tail` and `since` see every line written before them.

use super::*;
use crate::mailbox::Followed;
use coracle_model::{CallId, NamespaceName};
use std::fs;
use tempfile::TempDir;

struct Room {
    dir: TempDir,
    logs: Logs,
    metrics: Metrics,
}

fn room(limits: Limits) -> Room {
    let dir = tempfile::tempdir().expect("a directory");
    let metrics = Metrics::default();
    let logs = Logs::open(dir.path(), limits, metrics.clone()).expect("logs");
    Room { dir, logs, metrics }
}

impl Room {
    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn say(&self, function: &str, text: &str) {
        self.logs.write(line(function, 0, text));
    }

    async fn tail(&self, filter: &Filter, n: usize) -> Vec<String> {
        texts(&self.logs.tail(filter, n).await.expect("readable logs"))
    }
}

fn function(name: &str) -> FunctionRef {
    FunctionRef::parse(name).expect("a name")
}

fn of(name: &str) -> Filter {
    Filter::function(function(name))
}

fn everything() -> Filter {
    Filter::namespace(NamespaceName::default())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn line(name: &str, second: i64, text: &str) -> Line {
    Line {
        at: at(second),
        function: function(name),
        revision: 1,
        instance: 1,
        call: None,
        stream: Stream::Stdout,
        text: text.to_owned(),
    }
}

fn texts(lines: &Lines) -> Vec<String> {
    lines.lines.iter().map(|line| line.text.clone()).collect()
}

#[tokio::test]
async fn the_last_lines_of_a_function_come_oldest_first() {
    let room = room(Limits::default());
    for text in ["one", "two", "three"] {
        room.say("hello", text);
    }
    assert_eq!(room.tail(&of("hello"), 2).await, ["two", "three"]);
    assert_eq!(room.tail(&of("hello"), 0).await, Vec::<String>::new());
    assert_eq!(room.tail(&of("silent"), 5).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_lines_of_a_namespace_are_merged_by_time() {
    let room = room(Limits::default());
    for (name, text) in [("b", "1"), ("a", "2"), ("b", "3"), ("c.shop", "not ours"), ("a", "4"), ("a", "5")] {
        room.say(name, text);
    }
    assert_eq!(room.tail(&everything(), 10).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(room.tail(&everything(), 3).await, ["3", "4", "5"]);
}

#[tokio::test]
async fn the_past_of_many_functions_is_read_from_those_that_wrote_last() {
    let room = room(Limits::default());
    let functions = READ_FUNCTIONS_MAX + 3;
    for number in 0..functions {
        room.logs.write(line(&format!("f{number}"), number as i64, &number.to_string()));
    }
    room.logs.flush();
    for number in 0..functions {
        // As old as its line: the writer wrote them all just now.
        let file = fs::File::options().append(true).open(room.path(&format!("default/f{number}.log")));
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
        file.expect("a file").set_modified(time).expect("a time");
    }
    let last = (functions - 1).to_string();
    let few = room.logs.tail(&everything(), 1).await.expect("readable logs");
    assert_eq!((texts(&few), few.functions_skipped), (vec![last.clone()], 0));
    let many = room.logs.tail(&everything(), READ_LINES_MAX).await.expect("readable logs");
    assert_eq!((many.lines.len(), many.functions_skipped), (READ_FUNCTIONS_MAX, 3));
    assert_eq!((texts(&many)[0].as_str(), texts(&many).last()), ("3", Some(&last)));
    let since = room.logs.since(&everything(), at(2)).await.expect("readable logs");
    assert_eq!((since.lines.len(), since.functions_skipped), (READ_FUNCTIONS_MAX, 2));
    let recent = room.logs.since(&everything(), at(10)).await.expect("readable logs");
    assert_eq!((recent.lines.len(), recent.functions_skipped), (functions - 10, 0));
}

#[tokio::test]
async fn lines_of_one_call_or_one_stream_are_found_among_others() {
    let room = room(Limits::default());
    let call = CallId::from_bits(7);
    room.logs.write(Line { call: Some(call.clone()), ..line("hello", 0, "mine") });
    room.logs.write(Line { stream: Stream::Stderr, ..line("hello", 0, "an error") });
    room.say("hello", "another");
    assert_eq!(room.tail(&Filter { call: Some(call), ..of("hello") }, 10).await, ["mine"]);
    assert_eq!(room.tail(&Filter { stream: Some(Stream::Stderr), ..everything() }, 10).await, ["an error"]);
}

#[tokio::test]
async fn lines_since_a_time_are_paged_through_without_a_gap() {
    let room = room(Limits::default());
    let count = READ_LINES_MAX + 5;
    for number in 0..count {
        room.logs.write(line(if number % 2 == 0 { "a" } else { "b" }, number as i64, &number.to_string()));
        if number % 1_000 == 0 {
            // Whatever the machine does, this test must not overrun the queue.
            room.logs.flush();
        }
    }
    let first = room.logs.since(&everything(), at(2)).await.expect("readable logs");
    assert!(first.cut);
    assert_eq!((first.lines.len(), first.lines[0].text.as_str()), (READ_LINES_MAX, "2"));
    let last = first.lines.last().expect("a line").at;
    let next = last.checked_add(jiff::SignedDuration::from_nanos(1)).expect("a time");
    let second = room.logs.since(&everything(), next).await.expect("readable logs");
    assert_eq!((texts(&second), second.cut), (vec!["10002".into(), "10003".into(), "10004".into()], false));
}

#[tokio::test]
async fn a_function_keeps_only_so_many_files_of_only_so_many_bytes() {
    let room = room(Limits { file_bytes_max: 1_000, files_per_function_max: 3, ..Limits::default() });
    for number in 0..100 {
        room.say("hello", &number.to_string());
    }
    let kept = room.tail(&of("hello"), 100).await;
    assert_eq!(kept.last().map(String::as_str), Some("99"));
    assert!(kept.len() > 15 && kept.len() < 40, "{kept:?}");
    let first: usize = kept[0].parse().expect("a number");
    assert!(kept.iter().enumerate().all(|(i, text)| *text == (first + i).to_string()), "{kept:?}");
    let mut files: Vec<_> =
        fs::read_dir(room.path("default")).expect("a directory").map(|e| e.expect("an entry")).collect();
    files.sort_by_key(fs::DirEntry::file_name);
    let names: Vec<_> = files.iter().map(|file| file.file_name().into_string().expect("text")).collect();
    assert_eq!(names, ["hello.log", "hello.log.1", "hello.log.2"]);
    assert!(files.iter().all(|file| file.metadata().expect("a file").len() <= 1_000));
}

#[tokio::test]
async fn a_line_longer_than_a_file_is_kept_all_the_same() {
    let room = room(Limits { file_bytes_max: 10, ..Limits::default() });
    room.say("hello", "a line that is longer than ten bytes");
    room.say("hello", "another one");
    assert_eq!(room.tail(&of("hello"), 5).await, ["a line that is longer than ten bytes", "another one"]);
}

#[tokio::test]
async fn a_long_line_is_cut_and_marked() {
    let room = room(Limits::default());
    room.say("hello", &"é".repeat(LINE_BYTES_MAX));
    let kept = room.tail(&of("hello"), 1).await.remove(0);
    assert!(kept.len() <= LINE_BYTES_MAX && kept.ends_with("é…"), "{}", kept.len());
}

#[tokio::test]
async fn many_functions_need_few_open_files() {
    let room = room(Limits { open_files_max: 4, ..Limits::default() });
    for round in 0..3 {
        for number in 0..200 {
            room.say(&format!("f{number}"), &format!("{round}"));
        }
        room.logs.flush();
    }
    let ours = fs::canonicalize(room.dir.path()).expect("a directory");
    let open =
        fs::read_dir("/proc/self/fd").expect("/proc").filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    assert!(open.filter(|file| file.starts_with(&ours)).count() <= 4);
    assert_eq!(room.tail(&of("f0"), 5).await, ["0", "1", "2"]);
    assert_eq!(room.tail(&everything(), 1_000).await.len(), 600);
}

#[tokio::test]
async fn logs_outlive_the_server_and_a_line_that_a_crash_cut_is_skipped() {
    let room = room(Limits::default());
    room.say("hello", "before");
    room.logs.flush();
    let Room { dir, logs, metrics } = room;
    drop(logs);
    let path = dir.path().join("default/hello.log");
    let mut bytes = fs::read(&path).expect("a file");
    bytes.extend_from_slice(br#"{"at":"2023-11-14T22:1"#);
    fs::write(&path, bytes).expect("room");
    let logs = Logs::open(dir.path(), Limits::default(), metrics.clone()).expect("logs");
    let room = Room { dir, logs, metrics };
    assert_eq!(room.tail(&of("hello"), 5).await, ["before"]);
    room.say("hello", "after");
    assert_eq!(room.tail(&of("hello"), 5).await, ["before", "after"]);
}

#[test]
fn the_last_handle_writes_what_is_queued() {
    let Room { dir, logs, .. } = room(Limits::default());
    logs.write(line("hello", 0, "last words"));
    drop(logs);
    assert!(fs::read_to_string(dir.path().join("default/hello.log")).expect("a file").contains("last words"));
}

#[tokio::test]
async fn a_full_disk_drops_lines_counts_them_and_says_so_afterwards() {
    let room = room(Limits::default());
    let metrics = room.metrics.function(&function("hello"));
    fs::create_dir(room.path("default")).expect("room");
    std::os::unix::fs::symlink("/dev/full", room.path("default/hello.log")).expect("room");
    for text in ["lost", "lost too"] {
        room.say("hello", text);
        room.logs.flush();
    }
    room.say("neighbour", "unharmed");
    assert_eq!(room.tail(&of("neighbour"), 5).await, ["unharmed"]);
    assert_eq!(metrics.log_lines_dropped.get(), 2);

    fs::remove_file(room.path("default/hello.log")).expect("a link");
    room.say("hello", "kept");
    assert_eq!(room.tail(&of("hello"), 5).await, ["2 lines dropped: the disk did not take them", "kept"]);
    assert_eq!(metrics.log_lines_dropped.get(), 2);
}

#[tokio::test]
async fn a_forgotten_function_leaves_nothing_and_may_come_back() {
    let room = room(Limits { file_bytes_max: 200, ..Limits::default() });
    for text in ["one", "two", "three"] {
        room.say("hello", text);
    }
    room.logs.flush();
    assert!(room.path("default/hello.log.1").exists());
    room.say("hello", "queued when it is forgotten");
    room.logs.forget(&function("hello"));
    room.logs.flush();
    assert!(!room.path("default").exists());
    room.say("hello", "again");
    assert_eq!(room.tail(&of("hello"), 5).await, ["again"]);
}

#[tokio::test]
async fn a_follower_sees_what_it_asked_for_and_nothing_from_before() {
    let room = room(Limits::default());
    room.say("hello", "before");
    let mut follower = room.logs.follow(&of("hello")).expect("a follower");
    room.say("other", "not asked for");
    room.say("hello", "after");
    let Some(Followed::One(line)) = follower.next().await else { panic!("no line") };
    assert_eq!(line.text, "after");
}

#[tokio::test]
async fn a_reader_who_starts_with_the_last_lines_sees_each_line_once() {
    let room = room(Limits::default());
    let logs = room.logs.clone();
    let writer = std::thread::spawn(move || {
        for number in 0..3_000 {
            logs.write(line("hello", 0, &number.to_string()));
        }
    });
    let (lines, mut follower) = room.logs.tail_then_follow(&of("hello"), 10_000).await.expect("a follower");
    let mut seen = texts(&lines);
    writer.join().expect("the writer");
    while seen.len() < 3_000 {
        let Some(Followed::One(line)) = follower.next().await else { panic!("no line") };
        seen.push(line.text);
    }
    let expected: Vec<_> = (0..3_000).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn followers_are_bounded_and_those_who_leave_make_room() {
    let room = room(Limits::default());
    let mut followers: Vec<_> =
        (0..FOLLOWERS_MAX).map(|_| room.logs.follow(&everything()).expect("room")).collect();
    assert!(matches!(room.logs.follow(&everything()), Err(Error::FollowersFull)));
    followers.pop();
    assert!(room.logs.follow(&everything()).is_ok());
}

#[tokio::test]
async fn a_follower_ends_with_the_logs() {
    let Room { logs, dir: _dir, .. } = room(Limits::default());
    let mut follower = logs.follow(&everything()).expect("a follower");
    logs.write(line("hello", 0, "last"));
    drop(logs);
    assert!(matches!(follower.next().await, Some(Followed::One(line)) if line.text == "last"));
    assert_eq!(follower.next().await, None);
}
