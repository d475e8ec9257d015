//! What a guest prints, cut into lines and bounded.
//! The two standard streams of an instance share one `Output`; whole lines go to the platform's log.

use std::sync::{Arc, Mutex, PoisonError};

use coracle_model::{CallId, Clock, FunctionRef, Revision};
use coracle_observe::log_rate::{RateLimit, Verdict};

use crate::capabilities::no_host;
use crate::fault::logs_of;
use crate::host::{Host, Printed, Stream};

/// The longest line, in bytes; a longer one is kept as several.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Who prints: what all instances of a revision share.
#[derive(Debug)]
pub(crate) struct Printer {
    host: Arc<dyn Host>,
    bucket: LogBucket,
    function: FunctionRef,
    revision: u32,
    /// Whether its guests have a network of their own, and so reach nothing but what they were granted.
    is_closed: bool,
}

impl Printer {
    pub(crate) fn new(
        revision: &Revision,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
        is_closed: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            host,
            bucket: LogBucket::new(revision.settings.limits.log_bytes_per_second, clock),
            function: revision.function.clone(),
            revision: revision.number,
            is_closed,
        })
    }
}

/// The output of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    printer: Arc<Printer>,
    instance: u64,
    // Std mutex: held to append a few bytes, never over an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    call: Option<CallId>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    heard: Heard,
}

/// What of the lines is remembered.
#[derive(Debug, Default)]
struct Heard {
    /// The end of what was printed on standard error, for the message of a failure.
    last: LastWords,
    /// Whether the guest spoke of a host that it did not reach.
    missed_host: bool,
}

/// The line that tells best why a program ended: its last one, or one a little before that speaks of an error.
#[derive(Debug, Default)]
struct LastWords {
    line: String,
    /// Lines after which it tells nothing any more.
    tells_for: u32,
}

/// Lines that may follow the one with the error: a trace of the stack, and the version of the interpreter.
const LINES_AFTER_ERROR_MAX: u32 = 40;

impl LastWords {
    fn hear(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let lower = line.to_ascii_lowercase();
        let is_error = ["error", "panic", "fatal", "exception"].iter().any(|word| lower.contains(word));
        self.tells_for = if is_error { LINES_AFTER_ERROR_MAX } else { self.tells_for.saturating_sub(1) };
        if is_error || self.tells_for == 0 {
            line.clone_into(&mut self.line);
        }
    }
}

impl Output {
    pub(crate) fn new(printer: &Arc<Printer>, instance: u64) -> Self {
        Self(Arc::new(Shared { printer: Arc::clone(printer), instance, state: Mutex::default() }))
    }

    /// What to do about a guest that ended badly: look at its output, or grant the host that it did not find.
    pub(crate) fn hint(&self) -> String {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.heard.missed_host { no_host::HINT.to_owned() } else { logs_of(&self.0.printer.function) }
    }

    /// Names the call that is served from now on.
    pub(crate) fn serve(&self, call: CallId) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.call = Some(call);
        state.heard = Heard::default();
    }

    /// Says something about the guest, beside what it prints itself.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        let call = self.0.state.lock().unwrap_or_else(PoisonError::into_inner).call.clone();
        for line in text.as_ref().lines().filter(|line| !line.trim().is_empty()) {
            self.0.log(Stream::Platform, call.clone(), line.to_owned());
        }
    }

    /// Says something about a call, where an instance serves several at once.
    pub(crate) fn note_on(&self, call: &CallId, text: impl AsRef<str>) {
        for line in text.as_ref().lines().filter(|line| !line.trim().is_empty()) {
            self.0.log(Stream::Platform, Some(call.clone()), line.to_owned());
        }
    }

    /// Counts a connection that was refused.
    pub(crate) fn denied(&self) {
        let Printer { host, function, .. } = &*self.0.printer;
        host.denied(function);
    }

    /// Sends on what stands in the buffers without the end of a line: the call is over.
    pub(crate) fn flush(&self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        for (stream, rest) in [(Stream::Stdout, &mut state.stdout), (Stream::Stderr, &mut state.stderr)] {
            if !rest.is_empty() {
                self.0.line(stream, state.call.as_ref(), rest, &mut state.heard);
                rest.clear();
            }
        }
    }

    /// The line of standard error that tells best how it came to the end, if there was one.
    pub(crate) fn last_stderr(&self) -> Option<String> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        (!state.heard.last.line.is_empty()).then(|| state.heard.last.line.clone())
    }

    /// Keeps what the guest printed, whole lines at once.
    pub(crate) fn write(&self, stream: Stream, bytes: &[u8]) {
        self.0.write(stream, bytes);
    }
}

impl Shared {
    fn write(&self, stream: Stream, mut bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { call, stdout, stderr, heard } = &mut *state;
        let pending = if stream == Stream::Stdout { stdout } else { stderr };
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line = &bytes[..end];
            bytes = &bytes[end + 1..];
            if pending.is_empty() {
                self.line(stream, call.as_ref(), line, heard);
            } else {
                pending.extend_from_slice(line);
                self.line(stream, call.as_ref(), pending, heard);
                pending.clear();
            }
        }
        for part in bytes.chunks(LINE_BYTES_MAX) {
            if pending.len() + part.len() > LINE_BYTES_MAX {
                self.line(stream, call.as_ref(), pending, heard);
                pending.clear();
            }
            pending.extend_from_slice(part);
        }
    }

    fn line(&self, stream: Stream, call: Option<&CallId>, line: &[u8], heard: &mut Heard) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for part in line.chunks(LINE_BYTES_MAX).chain(line.is_empty().then_some(line)) {
            match self.printer.bucket.take(part.len() + 1) {
                Ok(()) => {
                    let text = String::from_utf8_lossy(part).into_owned();
                    if stream == Stream::Stderr {
                        heard.last.hear(&text);
                    }
                    let misses_host =
                        self.printer.is_closed && !heard.missed_host && no_host::is_told_by(&text);
                    self.log(stream, call.cloned(), text);
                    if misses_host {
                        heard.missed_host = true;
                        self.log(Stream::Platform, call.cloned(), no_host::HINT.to_owned());
                    }
                }
                Err(note) => {
                    if let Some(note) = note {
                        self.log(Stream::Platform, call.cloned(), note);
                    }
                }
            }
        }
    }

    fn log(&self, stream: Stream, call: Option<CallId>, text: String) {
        let Printer { host, function, revision, .. } = &*self.printer;
        host.log(Printed {
            function: function.clone(),
            revision: *revision,
            instance: self.instance,
            call,
            stream,
            text,
        });
    }
}

/// What a revision may print, over all its instances.
#[derive(Debug)]
struct LogBucket {
    clock: Arc<dyn Clock>,
    bytes_per_second: u64,
    // Std mutex: held for a few additions, never over an await.
    rate: Mutex<RateLimit>,
}

impl LogBucket {
    fn new(bytes_per_second: u64, clock: Arc<dyn Clock>) -> Self {
        // A second's worth may come at once: a stack trace is a burst.
        let rate = Mutex::new(RateLimit::new(bytes_per_second, bytes_per_second));
        Self { clock, bytes_per_second, rate }
    }

    /// Takes the room for a line; without it, the first line that is dropped comes with a note to log.
    fn take(&self, bytes: usize) -> Result<(), Option<String>> {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        match rate.take(bytes as u64, self.clock.instant()) {
            Verdict::Pass => Ok(()),
            Verdict::Drop { first: false } => Err(None),
            Verdict::Drop { first: true } => Err(Some(format!(
                "more than {} bytes a second were printed: lines are dropped until it is less; set `log_rate` to keep more",
                self.bytes_per_second
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_those_that_tell_why() {
        let table = [
            ("starting\nlistening", "listening"),
            (
                "Traceback\n  File x\nZeroDivisionError: division by zero\n\n",
                "ZeroDivisionError: division by zero",
            ),
            (
                "throw err\nError: Cannot find module 'pg'\n  at load\n  at run\nNode.js v20",
                "Error: Cannot find module 'pg'",
            ),
            ("error: one\nerror: two", "error: two"),
        ];
        for (printed, expected) in table {
            let mut last = LastWords::default();
            printed.lines().for_each(|line| last.hear(line));
            assert_eq!(last.line, expected, "{printed}");
        }
        let mut last = LastWords::default();
        last.hear("error: long ago");
        (0..=LINES_AFTER_ERROR_MAX).for_each(|_| last.hear("served"));
        assert_eq!(last.line, "served");
    }
}
