//! The one thread that takes lines from the queue: to those who follow, then to the files.
//! `Logs::open` starts it; it ends when the last `Logs` is gone and the queue is empty.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_model::FunctionRef;
use jiff::Timestamp;

use super::Line;
use super::files::{Burst, Files, Lost};
use super::follow::Followers;
use super::queue::{Batch, Entry, Queue};
use crate::metrics::Metrics;

#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    followers: Arc<Followers>,
    files: Files,
    metrics: Metrics,
    /// Lines that the disk did not take, by function, until their logs can say so. As many as functions that write.
    lost: HashMap<FunctionRef, u64>,
    /// Whether the last write failed: the operator is told once, not for each line.
    failing: bool,
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, followers: Arc<Followers>, files: Files, metrics: Metrics) -> Self {
        Self { queue, followers, files, metrics, lost: HashMap::new(), failing: false }
    }

    pub(super) fn run(mut self) {
        let _end = End { queue: Arc::clone(&self.queue), followers: Arc::clone(&self.followers) };
        let mut batch = Batch::default();
        while self.queue.take(&mut batch) {
            let upto = batch.begins_at + batch.entries.len() as u64;
            self.write(&mut batch);
            self.queue.done(upto);
        }
    }

    fn write(&mut self, batch: &mut Batch) {
        for (function, lines) in batch.dropped.drain() {
            self.count_dropped(&function, lines);
            let text = format!("{} dropped: they came faster than they could be written", lines_of(lines));
            batch.entries.push(Entry::Line(Line::note(batch.last_at, function, text)));
        }
        // Followers first: a slow or full disk takes nothing from them.
        self.followers.publish(batch.begins_at, &batch.entries);
        // A stable sort: the lines of a function, and its forgetting, keep their order.
        batch.entries.sort_by(|a, b| a.function().cmp(b.function()));
        for entries in batch.entries.chunk_by(|a, b| a.function() == b.function()) {
            self.write_function(entries[0].function(), entries);
        }
    }

    fn write_function(&mut self, function: &FunctionRef, entries: &[Entry]) {
        let mut burst = Burst::default();
        let mut restated = 0;
        for entry in entries {
            match entry {
                Entry::Line(line) => {
                    if burst.ends.is_empty() {
                        restated = self.say_what_was_lost(function, line.at, &mut burst);
                    }
                    burst.push(line);
                }
                Entry::Forget(function) => {
                    burst = Burst::default();
                    self.forget(function);
                }
            }
        }
        match self.files.append(function, &burst) {
            Ok(()) => self.failing = false,
            Err(lost) => self.lose(function, lost, burst.ends.len(), restated),
        }
    }

    /// Begins a burst with a note about the lines that the disk did not take, and returns how many it speaks of.
    fn say_what_was_lost(&mut self, function: &FunctionRef, at: Timestamp, burst: &mut Burst) -> u64 {
        let Some(lines) = self.lost.remove(function) else { return 0 };
        let text = format!("{} dropped: the disk did not take them", lines_of(lines));
        burst.push(&Line::note(at, function.clone(), text));
        lines
    }

    fn lose(&mut self, function: &FunctionRef, lost: Lost, of: usize, restated: u64) {
        let Lost { mut lines, error } = lost;
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(%function, %error, "logs cannot be written: lines are dropped until they can");
        }
        let note_lost = restated > 0 && lines == of as u64;
        if note_lost {
            // The note is not a line of theirs, and what it spoke of is still to be said.
            lines -= 1;
        }
        self.count_dropped(function, lines);
        *self.lost.entry(function.clone()).or_default() += lines + if note_lost { restated } else { 0 };
    }

    fn count_dropped(&self, function: &FunctionRef, lines: u64) {
        if let Some(metrics) = self.metrics.known(function) {
            metrics.log_lines_dropped.add(lines);
        }
    }

    fn forget(&mut self, function: &FunctionRef) {
        self.lost.remove(function);
        if let Err(error) = self.files.remove(function) {
            tracing::warn!(%function, %error, "the logs of a removed function stay on disk");
        }
    }
}

/// Tells those who wait for the writer that it is gone, even when it panicked.
struct End {
    queue: Arc<Queue>,
    followers: Arc<Followers>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.queue.end();
        self.followers.end();
    }
}

fn lines_of(count: u64) -> String {
    format!("{count} {}", if count == 1 { "line" } else { "lines" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::files::Directory;
    use crate::logs::{Filter, Limits};
    use crate::mailbox::Followed;

    #[tokio::test]
    async fn a_full_queue_drops_lines_counts_them_and_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let hello = FunctionRef::parse("hello").expect("a name");
        let (queue, followers) =
            (Arc::new(Queue::with_bounds(2, usize::MAX)), Arc::new(Followers::default()));
        let (mut follower, _) = followers.add(&Filter::function(hello.clone()), &queue).expect("a follower");
        for text in ["one", "two", "three", "four", "five"] {
            queue.push(Line::note(Timestamp::UNIX_EPOCH, hello.clone(), text.to_owned()));
        }
        queue.close();
        let metrics = Metrics::default();
        let counted = metrics.function(&hello);
        let files = Files::new(Arc::new(Directory::new(dir.path(), Limits::default())));
        Writer::new(queue, followers, files, metrics).run();

        let expected = ["one", "two", "3 lines dropped: they came faster than they could be written"];
        let mut followed = Vec::new();
        while let Some(Followed::One(line)) = follower.next().await {
            followed.push(line.text);
        }
        assert_eq!(followed, expected);
        let kept = std::fs::read_to_string(dir.path().join("default/hello.log")).expect("a file");
        assert_eq!(kept.lines().count(), expected.len());
        assert!(kept.lines().zip(expected).all(|(line, text)| line.contains(text)), "{kept}");
        assert_eq!(counted.log_lines_dropped.get(), 3);
    }
}
