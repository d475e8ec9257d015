//! What the settings of queued calls may be.
//! `validate.rs` asks here for every function.

use std::time::Duration;

use coracle_model::{Queueing, RetryPolicy, Span};

use super::{Wrong, wrong};

/// The shortest wait, and the shortest age.
const SPAN_MIN: Duration = Duration::from_millis(1);
/// The most entries of `retry_on`.
const STATUSES_MAX: usize = 32;

/// Checks how queued calls are to be run.
pub(super) fn check_queueing(queue: &Queueing) -> Result<(), Wrong> {
    if !(1..=Queueing::CONCURRENCY_MAX).contains(&queue.concurrency) {
        let (is, most) = (queue.concurrency, Queueing::CONCURRENCY_MAX);
        let what = format!("queue.concurrency of {is} is not between 1 and {most}");
        return wrong(what, "set for example `queue = { concurrency = 10 }`");
    }
    check_retry(&queue.retry)
}

fn check_retry(retry: &RetryPolicy) -> Result<(), Wrong> {
    if !(1..=RetryPolicy::ATTEMPTS_MAX).contains(&retry.attempts) {
        let (is, most) = (retry.attempts, RetryPolicy::ATTEMPTS_MAX);
        let what = format!("queue.attempts of {is} is not between 1 and {most}");
        return wrong(what, "set for example `queue = { attempts = 5 }`; 1 is never to try again");
    }
    if retry.statuses.len() > STATUSES_MAX {
        let what = format!("`queue.retry_on` has {} entries, more than {STATUSES_MAX}", retry.statuses.len());
        return wrong(what, "name all that begin with one digit as in `4xx`");
    }
    let spans = [
        ("first_wait", retry.first_wait, RetryPolicy::WAIT_MAX, "1s"),
        ("longest_wait", retry.longest_wait, RetryPolicy::WAIT_MAX, "2m"),
        ("age", retry.age, RetryPolicy::AGE_MAX, "6h"),
    ];
    for (name, span, most, example) in spans {
        if !(SPAN_MIN..=most).contains(&span) {
            let (least, most) = (Span(SPAN_MIN), Span(most));
            let what = format!("queue.{name} of {span:?} is not between {least} and {most}");
            return wrong(what, format!("set for example `queue = {{ {name} = \"{example}\" }}`"));
        }
    }
    if retry.first_wait > retry.longest_wait {
        let (first, longest) = (Span(retry.first_wait), Span(retry.longest_wait));
        let what = format!("queue.first_wait of {first} is more than queue.longest_wait of {longest}");
        return wrong(what, "set for example `queue = { first_wait = \"1s\", longest_wait = \"2m\" }`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut RetryPolicy)) -> Queueing {
        let mut queue = Queueing::default();
        change(&mut queue.retry);
        queue
    }

    fn at_once(concurrency: u32) -> Queueing {
        Queueing { concurrency, ..Queueing::default() }
    }

    #[test]
    fn the_defaults_and_the_edges_are_allowed() {
        for right in [
            Queueing::default(),
            at_once(1),
            at_once(Queueing::CONCURRENCY_MAX),
            with(|retry| retry.attempts = 1),
            with(|retry| retry.attempts = RetryPolicy::ATTEMPTS_MAX),
            with(|retry| {
                (retry.first_wait, retry.longest_wait) = (RetryPolicy::WAIT_MAX, RetryPolicy::WAIT_MAX)
            }),
            with(|retry| retry.age = RetryPolicy::AGE_MAX),
            with(|retry| retry.statuses.clear()),
        ] {
            assert!(check_queueing(&right).is_ok(), "{right:?}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_named_with_the_line_that_would_be() {
        let table = [
            (at_once(0), "queue.concurrency of 0 is not between 1 and 10000"),
            (at_once(10_001), "queue.concurrency of 10001"),
            (with(|retry| retry.attempts = 0), "queue.attempts of 0 is not between 1 and 100"),
            (with(|retry| retry.attempts = 101), "queue.attempts of 101"),
            (
                with(|retry| retry.first_wait = Duration::ZERO),
                "queue.first_wait of 0ns is not between 1ms and 1d",
            ),
            (with(|retry| retry.longest_wait = Duration::MAX), "queue.longest_wait of"),
            (with(|retry| retry.age = Duration::ZERO), "queue.age of 0ns is not between 1ms and 30d"),
            (
                with(|retry| retry.first_wait = Duration::from_secs(300)),
                "queue.first_wait of 5m is more than queue.longest_wait of 2m",
            ),
            (
                with(|retry| retry.statuses = vec!["409".parse().unwrap(); 33]),
                "`queue.retry_on` has 33 entries, more than 32",
            ),
        ];
        for (queue, said) in table {
            let Err(Wrong { what, hint }) = check_queueing(&queue) else { panic!("{said}") };
            assert!(what.starts_with(said) && !hint.is_empty(), "{what}");
        }
    }
}
