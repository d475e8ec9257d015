//! Between the calls that write lines and the one thread that puts them on disk.
//! Pushing takes a short lock and at most one wake-up; it never waits for the disk.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_model::FunctionRef;
use jiff::{SignedDuration, Timestamp};

use super::Line;

/// Lines that may wait for the disk. As many again may be in the writer's hands.
pub const QUEUE_LINES_MAX: usize = 16 * 1024;
/// Bytes of lines that may wait for the disk. As many again may be in the writer's hands.
pub const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long lines gather before they are written together.
///
/// Without it, every line of a busy server wakes the writer, which takes the core from the calls and pays a system call for a line.
const GATHER: Duration = Duration::from_millis(10);
/// A clock that goes back less than this only looks coarse, and lines keep their order; one that goes back further was set.
const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(1);
/// Room that a batch keeps for the next one, in lines.
const BATCH_LINES_KEPT: usize = 1024;

/// What waits for the writer, in order.
#[derive(Debug)]
pub(super) enum Entry {
    Line(Line),
    /// Remove what is there of a function. Not counted against the bounds: there is one for each function that is removed.
    Forget(FunctionRef),
}

impl Entry {
    pub(super) fn function(&self) -> &FunctionRef {
        match self {
            Self::Line(line) => &line.function,
            Self::Forget(function) => function,
        }
    }
}

/// What the writer takes at one time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// How many entries were ever accepted before the first of these.
    pub(super) begins_at: u64,
    /// Lines that found no room, by function, since the last batch.
    pub(super) dropped: HashMap<FunctionRef, u64>,
    /// The time of the last line that was accepted.
    pub(super) last_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Queue {
    lines_max: usize,
    bytes_max: usize,
    // Std mutex: held for a push or a swap, never over a system call or an await.
    state: Mutex<State>,
    arrived: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    bytes: usize,
    dropped: HashMap<FunctionRef, u64>,
    last_at: Timestamp,
    /// Entries ever accepted, and how many of them are done.
    accepted: u64,
    done: u64,
    /// Somebody waits: do not gather.
    urgent: bool,
    closing: bool,
    /// The writer is gone, whatever the reason.
    ended: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self::with_bounds(QUEUE_LINES_MAX, QUEUE_BYTES_MAX)
    }
}

impl Queue {
    pub(super) fn with_bounds(lines_max: usize, bytes_max: usize) -> Self {
        let (state, arrived, written) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self { lines_max, bytes_max, state, arrived, written }
    }

    /// Takes a line, or says that there was no room; the writer learns how many were dropped.
    pub(super) fn push(&self, mut line: Line) -> bool {
        let bytes = line.bytes();
        let mut state = self.lock();
        if state.entries.len() >= self.lines_max || state.bytes + bytes > self.bytes_max || state.ended {
            // Looked up by reference first: a flood must not clone a name for every line.
            match state.dropped.get_mut(&line.function) {
                Some(count) => *count += 1,
                None => drop(state.dropped.insert(line.function.clone(), 1)),
            }
            return false;
        }
        if line.at <= state.last_at && state.last_at.duration_since(line.at) < CLOCK_STEP {
            line.at = just_after(state.last_at);
        }
        state.last_at = line.at;
        state.bytes += bytes;
        self.accept(state, Entry::Line(line));
        true
    }

    pub(super) fn forget(&self, function: &FunctionRef) {
        self.accept(self.lock(), Entry::Forget(function.clone()));
    }

    /// How many entries were accepted so far, and when the last line was written.
    pub(super) fn position(&self) -> (u64, Timestamp) {
        let state = self.lock();
        (state.accepted, state.last_at)
    }

    /// Waits until everything accepted so far is done, or nobody is left to do it.
    pub(super) fn flush(&self) {
        let mut state = self.lock();
        let target = state.accepted;
        if state.done < target {
            state.urgent = true;
            self.arrived.notify_one();
        }
        let open = |state: &mut State| state.done < target && !state.ended;
        drop(self.written.wait_while(state, open).unwrap_or_else(PoisonError::into_inner));
    }

    /// No more will come: the writer finishes and ends.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_one();
    }

    /// For the writer: waits for entries, lets more gather, and swaps them for the empty batch; `false` when all is done.
    pub(super) fn take(&self, batch: &mut Batch) -> bool {
        let idle = |state: &mut State| state.entries.is_empty() && !state.closing;
        let state = self.arrived.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let calm = |state: &mut State| !state.urgent && !state.closing && !self.is_half_full(state);
        let gathered = self.arrived.wait_timeout_while(state, GATHER, calm);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);

        batch.entries.clear();
        batch.entries.shrink_to(BATCH_LINES_KEPT);
        std::mem::swap(&mut batch.entries, &mut state.entries);
        batch.begins_at = state.accepted - batch.entries.len() as u64;
        batch.dropped = std::mem::take(&mut state.dropped);
        batch.last_at = state.last_at;
        state.bytes = 0;
        state.urgent = false;
        !batch.entries.is_empty()
    }

    /// For the writer: the first `upto` entries ever accepted are done.
    pub(super) fn done(&self, upto: u64) {
        self.lock().done = upto;
        self.written.notify_all();
    }

    /// For the writer: it is gone, and nobody shall wait for it.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.written.notify_all();
    }

    fn accept(&self, mut state: MutexGuard<'_, State>, entry: Entry) {
        let calm = !self.is_half_full(&state);
        state.entries.push(entry);
        state.accepted += 1;
        // The writer sleeps in one of two ways: for the first entry, and for the time that entries gather.
        let wake = state.entries.len() == 1 || (calm && self.is_half_full(&state));
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
    }

    fn is_half_full(&self, state: &State) -> bool {
        state.entries.len() >= self.lines_max / 2 || state.bytes >= self.bytes_max / 2
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn just_after(at: Timestamp) -> Timestamp {
    at.checked_add(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: i64, text: &str) -> Line {
        let at = Timestamp::from_second(second).expect("a time");
        Line::note(at, FunctionRef::parse("hello").expect("a name"), text.to_owned())
    }

    fn take(queue: &Queue) -> Batch {
        let mut batch = Batch::default();
        queue.lock().urgent = true;
        assert!(queue.take(&mut batch));
        batch
    }

    #[test]
    fn a_line_too_many_is_dropped_and_counted() {
        let queue = Queue::with_bounds(2, usize::MAX);
        let accepted: Vec<_> = (0..5).map(|second| queue.push(line(second, "x"))).collect();
        assert_eq!(accepted, [true, true, false, false, false]);
        let batch = take(&queue);
        assert_eq!(batch.entries.len(), 2);
        assert_eq!(batch.dropped.into_values().collect::<Vec<_>>(), [3]);
        assert!(queue.push(line(9, "room again")));
    }

    #[test]
    fn a_byte_too_many_is_dropped_and_counted() {
        let bytes = line(0, "12345").bytes();
        let queue = Queue::with_bounds(usize::MAX, bytes);
        assert!(!queue.push(line(0, "123456")));
        assert!(queue.push(line(0, "12345")));
        assert!(!queue.push(line(0, "")));
    }

    #[test]
    fn forgetting_needs_no_room() {
        let queue = Queue::with_bounds(1, usize::MAX);
        assert!(queue.push(line(0, "x")));
        queue.forget(&FunctionRef::parse("hello").expect("a name"));
        assert_eq!(take(&queue).entries.len(), 2);
    }

    #[test]
    fn lines_get_later_even_when_the_clock_stands_still_or_trembles() {
        let queue = Queue::default();
        let early = line(10, "x").at.checked_sub(SignedDuration::from_millis(999)).expect("a time");
        for line in [line(10, "a"), line(10, "b"), Line { at: early, ..line(0, "c") }, line(11, "d")] {
            assert!(queue.push(line));
        }
        let times: Vec<_> = take(&queue).entries.iter().map(at).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        assert_eq!(times[2].duration_since(times[0]), SignedDuration::from_nanos(2));
    }

    #[test]
    fn a_clock_that_was_set_back_is_believed() {
        let queue = Queue::default();
        assert!(queue.push(line(1_000, "a")));
        assert!(queue.push(line(10, "b")));
        assert_eq!(at(&take(&queue).entries[1]), line(10, "").at);
    }

    #[test]
    fn nobody_waits_for_a_writer_that_is_gone() {
        let queue = Queue::default();
        assert!(queue.push(line(0, "x")));
        queue.end();
        queue.flush();
        assert!(!queue.push(line(0, "y")));
    }

    #[test]
    fn a_closed_queue_is_emptied_and_then_ends() {
        let queue = Queue::default();
        assert!(queue.push(line(0, "x")));
        queue.close();
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        assert!(!queue.take(&mut batch));
    }

    fn at(entry: &Entry) -> Timestamp {
        match entry {
            Entry::Line(line) => line.at,
            Entry::Forget(function) => panic!("{function} is forgotten"),
        }
    }
}
