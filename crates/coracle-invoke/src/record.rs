//! What is kept of a call: its numbers, and one record of how it went.
//! A record is written once, however the call ends; one that is dropped was left by its client.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_model::{CallId, Owner, Problem, Revision, code};
use coracle_observe::Observe;
use coracle_observe::calls::{CallRecord, End};
use coracle_observe::metrics::{Class, FunctionMetrics};
use jiff::Timestamp;

/// A call on its way, as it will be recorded.
#[derive(Debug)]
pub(crate) struct Recorder {
    observe: Arc<Observe>,
    metrics: Arc<FunctionMetrics>,
    begun: Instant,
    /// `None` once it is written.
    record: Option<CallRecord>,
}

impl Recorder {
    pub(crate) fn begin(
        observe: &Arc<Observe>,
        metrics: &Arc<FunctionMetrics>,
        begun: Instant,
        id: CallId,
        revision: &Revision,
        request: &http::Request<coracle_model::Body>,
    ) -> Self {
        metrics.started.increment();
        // The time of day of the start is worked out at the end: one clock is read here, not two.
        let record = CallRecord {
            id,
            // The revision's own name, which all its records share.
            function: revision.function.clone(),
            revision: revision.number,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            status: 0,
            started: Timestamp::UNIX_EPOCH,
            waited_us: 0,
            started_us: 0,
            run_us: 0,
            total_us: 0,
            cold: false,
            bytes_in: 0,
            bytes_out: 0,
            memory_peak_bytes: 0,
            end: End::Ok,
        };
        Self { observe: Arc::clone(observe), metrics: Arc::clone(metrics), begun, record: Some(record) }
    }

    /// The call was admitted.
    pub(crate) fn admitted(&mut self) {
        let now = self.elapsed_us();
        if let Some(record) = &mut self.record {
            record.waited_us = now;
        }
    }

    /// It is served by this revision, which was current a moment before or is now.
    pub(crate) fn serves(&mut self, revision: u32) {
        if let Some(record) = &mut self.record {
            record.revision = revision;
        }
    }

    /// An instance is ready for it.
    pub(crate) fn started(&mut self, cold: bool) {
        let now = self.elapsed_us();
        if let Some(record) = &mut self.record {
            record.started_us = now.saturating_sub(record.waited_us);
            record.cold = cold;
        }
        if cold {
            self.metrics.cold_starts.increment();
        }
    }

    /// The head of its response went out.
    pub(crate) fn answered(&mut self, status: u16) {
        if let Some(record) = &mut self.record {
            record.status = status;
        }
    }

    /// Ends the record, and gives the moment that it names as the end.
    pub(crate) fn end(mut self, problem: Option<&Problem>, usage: Usage) -> Instant {
        let ended = self.observe.clock.instant();
        self.write(problem, usage, ended);
        ended
    }

    fn write(&mut self, problem: Option<&Problem>, usage: Usage, ended: Instant) {
        let Some(mut record) = self.record.take() else { return };
        let took = ended.saturating_duration_since(self.begun);
        let now = self.observe.clock.now();
        if usage.memory_bytes > 0 {
            self.metrics.memory_bytes.set(usage.memory_bytes);
        }
        record.total_us = us(took);
        record.run_us = record.total_us.saturating_sub(record.waited_us + record.started_us);
        record.started = now.checked_sub(took).unwrap_or(Timestamp::UNIX_EPOCH);
        record.bytes_in = usage.bytes_in;
        record.bytes_out = usage.bytes_out;
        record.memory_peak_bytes = usage.memory_bytes;
        if let Some(problem) = problem {
            if record.status == 0 {
                record.status = problem.status();
            }
            record.end =
                End::Failed { code: Cow::Borrowed(problem.code.name), message: problem.message.clone() };
        }
        self.metrics.ended(class_of(problem, record.status), took, now);
        self.metrics.answers.count(record.status, took);
        self.observe.calls.record(record);
    }

    fn elapsed_us(&self) -> u32 {
        us(self.observe.clock.instant().saturating_duration_since(self.begun))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.record.is_some() {
            let gone = Problem::new(&code::CLIENT_GONE, "the client went away");
            self.write(Some(&gone), Usage::default(), self.observe.clock.instant());
        }
    }
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) memory_bytes: u64,
}

/// A function that answers 5xx says itself that it failed.
fn class_of(problem: Option<&Problem>, status: u16) -> Class {
    match problem.map(|problem| (problem.code.owner, problem.code)) {
        None if status >= 500 => Class::Guest,
        None => Class::Ok,
        Some((_, kind)) if *kind == code::CLIENT_GONE => Class::ClientGone,
        Some((Owner::Guest, _)) => Class::Guest,
        Some((Owner::Host, _)) => Class::Host,
        Some((Owner::Caller, _)) => Class::Refused,
    }
}

fn us(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}
