//! What becomes of a call after an attempt: it is done, tried again after a while, or given up.
//! Pure: the worker says how the attempt ended, how old the call is, and where chance comes from.

use std::time::Duration;

use coracle_model::{Owner, Problem, ProblemCode, RetryPolicy, Span, code};
use jiff::Timestamp;

/// The longest wait that a `Retry-After` is obeyed for; one that asks for more gets this.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending<'a> {
    /// With an answer.
    Answered {
        /// Its status.
        status: u16,
        /// After how long its `Retry-After` wants to be asked again, if it has one.
        retry_after: Option<Duration>,
    },
    /// With a problem of the platform, or one that it found.
    Failed(&'a Problem),
}

/// What was tried so far, this attempt included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tried {
    /// How often the call was begun.
    pub(crate) attempts: u32,
    /// Those of them that do not count, because the function never heard of the call.
    pub(crate) excused: u32,
    /// How long ago it was due first.
    pub(crate) age: Duration,
}

/// What becomes of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// It succeeded.
    Succeeded,
    /// It was answered that it failed, and trying again would not help.
    Failed,
    /// It is tried again after this time.
    Again(Duration),
    /// It is given up, for this reason.
    Dead(String),
}

/// Decides what becomes of a call whose attempt ended.
pub(crate) fn decide(
    ending: Ending<'_>,
    tried: Tried,
    policy: &RetryPolicy,
    rng: &mut fastrand::Rng,
) -> Next {
    match ending {
        Ending::Answered { status, .. } if status < 400 => return Next::Succeeded,
        Ending::Answered { status, .. } if !is_listed(policy, status) => {
            return Next::Failed;
        }
        Ending::Failed(problem) if !is_tried_again(problem, policy) => {
            return Next::Dead(format!("trying again would not help: {problem}"));
        }
        _ => {}
    }
    if !is_excused(ending)
        && let Some(reason) = exhausted(tried, policy)
    {
        return Next::Dead(reason);
    }
    let wait = wait(ending, tried, policy, rng);
    if tried.age + wait > policy.age {
        return Next::Dead(format!("it would be older than {} at its next attempt", Span(policy.age)));
    }
    Next::Again(wait)
}

/// Why a call has no attempts left, if it has none.
pub(crate) fn exhausted(tried: Tried, policy: &RetryPolicy) -> Option<String> {
    let counted = tried.attempts.saturating_sub(tried.excused);
    (counted >= policy.attempts).then(|| match counted {
        1 => "its only attempt failed".to_owned(),
        counted => format!("all of its {counted} attempts failed"),
    })
}

/// Whether the function never heard of the attempt, so that it does not count.
pub(crate) fn is_excused(ending: Ending<'_>) -> bool {
    const TOO_BUSY: [&ProblemCode; 3] = [&code::FUNCTION_BUSY, &code::SERVER_BUSY, &code::SERVER_STOPPING];
    matches!(ending, Ending::Failed(problem) if TOO_BUSY.contains(&problem.code))
}

/// After how long a `Retry-After` wants to be asked again: it holds seconds, or the time of day.
pub(crate) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit()) {
        // More digits than a number has are a very long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

fn is_tried_again(problem: &Problem, policy: &RetryPolicy) -> bool {
    let status = problem.code.status;
    match problem.code.owner {
        Owner::Host => *problem.code != code::CALL_UNREADABLE,
        Owner::Guest => is_listed(policy, status),
        // A body that was slow, a function that was busy, a receiver that was not there.
        Owner::Caller => matches!(status, 408 | 429) || *problem.code == code::DELIVERY_FAILED,
    }
}

fn is_listed(policy: &RetryPolicy, status: u16) -> bool {
    policy.statuses.iter().any(|some| some.has(status))
}

/// Exponential with full jitter: anything up to a bound that doubles, so that what failed together does not come back together.
fn wait(ending: Ending<'_>, tried: Tried, policy: &RetryPolicy, rng: &mut fastrand::Rng) -> Duration {
    let doublings = tried.attempts.saturating_sub(1).min(31);
    let bound = policy.first_wait.saturating_mul(1 << doublings).min(policy.longest_wait);
    let jittered = bound.mul_f64(rng.f64());
    let asked = match ending {
        Ending::Answered { retry_after, .. } => retry_after.unwrap_or_default(),
        Ending::Failed(problem) => Duration::from_secs(problem.retry_after_s.unwrap_or_default().into()),
    };
    jittered.max(asked.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT_FIRST: Tried = Tried { attempts: 1, excused: 0, age: Duration::ZERO };

    fn answered(status: u16) -> Ending<'static> {
        Ending::Answered { status, retry_after: None }
    }

    fn policy(statuses: &[&str]) -> RetryPolicy {
        let statuses = statuses.iter().map(|text| text.parse().unwrap()).collect();
        RetryPolicy { statuses, ..RetryPolicy::default() }
    }

    fn shown(next: &Next) -> &'static str {
        match next {
            Next::Succeeded => "succeeded",
            Next::Failed => "failed",
            Next::Again(_) => "again",
            Next::Dead(_) => "dead",
        }
    }

    #[test]
    fn an_answer_is_tried_again_by_its_status() {
        let usual = RetryPolicy::default();
        let table = [
            (200, &usual, "succeeded"),
            (204, &usual, "succeeded"),
            (302, &usual, "succeeded"),
            (400, &usual, "failed"),
            (404, &usual, "failed"),
            // Only the platform's own 408 is: a function that answers it was not slow itself.
            (408, &usual, "failed"),
            (429, &usual, "again"),
            (500, &usual, "again"),
            (599, &usual, "again"),
            (404, &policy(&["404"]), "again"),
            (500, &policy(&["404"]), "failed"),
            (500, &policy(&[]), "failed"),
        ];
        for (status, policy, expected) in table {
            let next = decide(answered(status), AT_FIRST, policy, &mut fastrand::Rng::with_seed(1));
            assert_eq!(shown(&next), expected, "{status} by {:?}", policy.statuses);
        }
    }

    #[test]
    fn a_problem_is_tried_again_by_its_owner() {
        let usual = RetryPolicy::default();
        let table = [
            (&code::GUEST_TRAPPED, &usual, "again"),
            (&code::GUEST_TIMEOUT, &usual, "again"),
            (&code::GUEST_TIMEOUT, &policy(&["429"]), "dead"),
            (&code::OUTBOUND_DENIED, &usual, "dead"),
            (&code::INTERNAL, &usual, "again"),
            (&code::SANDBOX_FAILED, &policy(&[]), "again"),
            (&code::ATTEMPT_LOST, &policy(&[]), "again"),
            (&code::FUNCTION_BUSY, &policy(&[]), "again"),
            (&code::REQUEST_TIMEOUT, &policy(&[]), "again"),
            (&code::FUNCTION_NOT_FOUND, &usual, "dead"),
            (&code::REQUEST_TOO_LARGE, &usual, "dead"),
            (&code::CALL_UNREADABLE, &usual, "dead"),
            (&code::DELIVERY_FAILED, &usual, "again"),
            (&code::CALLBACK_DENIED, &usual, "dead"),
        ];
        for (code, policy, expected) in table {
            let problem = Problem::new(code, "as it went");
            let next = decide(Ending::Failed(&problem), AT_FIRST, policy, &mut fastrand::Rng::with_seed(1));
            assert_eq!(shown(&next), expected, "{} by {:?}", code.name, policy.statuses);
        }
    }

    #[test]
    fn a_call_is_given_up_after_its_attempts() {
        let decide = |attempts, excused| {
            let tried = Tried { attempts, excused, age: Duration::ZERO };
            decide(answered(503), tried, &RetryPolicy::default(), &mut fastrand::Rng::with_seed(1))
        };
        assert_eq!(shown(&decide(4, 0)), "again");
        assert_eq!(decide(5, 0), Next::Dead("all of its 5 attempts failed".into()));
        assert_eq!(
            shown(&decide(5, 1)),
            "again",
            "an attempt that the function never heard of does not count"
        );
        assert_eq!(decide(6, 1), Next::Dead("all of its 5 attempts failed".into()));
    }

    #[test]
    fn a_function_that_is_busy_uses_up_no_attempts_but_time() {
        let busy = Problem::new(&code::FUNCTION_BUSY, "busy").retry_after(1);
        let decide = |age_s| {
            let tried = Tried { attempts: 900, excused: 899, age: Duration::from_secs(age_s) };
            let policy = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
            decide(Ending::Failed(&busy), tried, &policy, &mut fastrand::Rng::with_seed(1))
        };
        assert_eq!(shown(&decide(60)), "again");
        assert_eq!(decide(6 * 60 * 60), Next::Dead("it would be older than 6h at its next attempt".into()));
    }

    #[test]
    fn retry_after_is_a_floor_within_bounds() {
        let wait = |seconds| {
            let ending = Ending::Answered { status: 503, retry_after: Some(Duration::from_secs(seconds)) };
            match decide(ending, AT_FIRST, &RetryPolicy::default(), &mut fastrand::Rng::with_seed(7)) {
                Next::Again(wait) => wait,
                other => panic!("{other:?}"),
            }
        };
        assert!(wait(0) < Duration::from_secs(1));
        assert_eq!(wait(17), Duration::from_secs(17));
        assert_eq!(wait(u64::MAX), RETRY_AFTER_MAX);
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        let table = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 99 Nov 1994 08:00:00 GMT", None),
        ];
        for (text, seconds) in table {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_wait_is_within_its_bounds_and_a_call_never_outlives_its_age(
            seed: u64, attempts in 1u32..200, excused in 0u32..200, age_s in 0u64..40_000,
            first_ms in 0u64..100_000, longest_ms in 0u64..1_000_000, asked_s in proptest::option::of(0u64..10_000),
        ) {
            let policy = RetryPolicy {
                first_wait: Duration::from_millis(first_ms),
                longest_wait: Duration::from_millis(longest_ms),
                ..RetryPolicy::default()
            };
            let tried = Tried { attempts, excused, age: Duration::from_secs(age_s) };
            let asked = asked_s.map(Duration::from_secs);
            let ending = Ending::Answered { status: 503, retry_after: asked };
            let next = decide(ending, tried, &policy, &mut fastrand::Rng::with_seed(seed));
            match next {
                Next::Again(wait) => {
                    prop_assert!(attempts.saturating_sub(excused) < policy.attempts);
                    prop_assert!(tried.age + wait <= policy.age);
                    let asked = asked.unwrap_or_default().min(RETRY_AFTER_MAX);
                    prop_assert!(wait >= asked);
                    prop_assert!(wait <= policy.longest_wait.max(asked));
                    let doubled = policy.first_wait.saturating_mul(1 << (attempts - 1).min(31));
                    prop_assert!(wait <= doubled.max(asked));
                }
                Next::Dead(_) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn any_retry_after_is_read_without_a_panic(text: String) {
            let _ = retry_after(&text, Timestamp::UNIX_EPOCH);
        }
    }
}
