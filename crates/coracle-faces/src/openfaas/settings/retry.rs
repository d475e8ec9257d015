//! How queued calls are tried again, as annotations say.
//! `settings.rs` calls it for a deploy.
//!
//! Sources: docs:openfaas-pro/retries.md, faas-netes:chart/openfaas/values.yaml.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_model::{Problem, RetryPolicy, Span, Statuses};

use super::super::document::{bad, shown};
use super::super::quantity;

const ATTEMPTS: &str = "com.openfaas.retry.attempts";
const CODES: &str = "com.openfaas.retry.codes";
const MIN_WAIT: &str = "com.openfaas.retry.min_wait";
const MAX_WAIT: &str = "com.openfaas.retry.max_wait";

/// The most statuses that are named.
const CODES_MAX: usize = 32;
/// The shortest wait.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// How queued calls are tried again; what no annotation says is as for every function.
pub(in super::super) fn of(annotations: &BTreeMap<String, String>) -> Result<RetryPolicy, Problem> {
    let usual = RetryPolicy::default();
    let least = wait(annotations, MIN_WAIT, "1s")?;
    let most = wait(annotations, MAX_WAIT, "2m")?;
    let first_wait = least.unwrap_or_else(|| usual.first_wait.min(most.unwrap_or(usual.first_wait)));
    let longest_wait = most.unwrap_or(usual.longest_wait.max(first_wait));
    if first_wait > longest_wait {
        let what = format!(
            "annotation `{MIN_WAIT}` is {}, which is more than `{MAX_WAIT}` of {}",
            Span(first_wait),
            Span(longest_wait)
        );
        return Err(bad(what).hint(format!("write for example `{MIN_WAIT}: 1s` and `{MAX_WAIT}: 2m`")));
    }
    Ok(RetryPolicy {
        attempts: attempts(annotations)?.unwrap_or(usual.attempts),
        first_wait,
        longest_wait,
        statuses: codes(annotations)?.unwrap_or(usual.statuses),
        age: usual.age,
    })
}

fn attempts(annotations: &BTreeMap<String, String>) -> Result<Option<u32>, Problem> {
    let Some(text) = annotations.get(ATTEMPTS) else { return Ok(None) };
    let attempts = text.trim().parse().ok().filter(|n| (1..=RetryPolicy::ATTEMPTS_MAX).contains(n));
    let wanted = format!("a whole number from 1 to {}", RetryPolicy::ATTEMPTS_MAX);
    attempts.map(Some).ok_or_else(|| unlike(ATTEMPTS, text, &wanted, "5"))
}

fn codes(annotations: &BTreeMap<String, String>) -> Result<Option<Vec<Statuses>>, Problem> {
    let Some(text) = annotations.get(CODES) else { return Ok(None) };
    let codes = text.split(',').map(str::trim).filter(|code| !code.is_empty());
    let codes: Result<Vec<Statuses>, _> = codes.map(str::parse).collect();
    let wanted = format!("up to {} statuses from 400 to 599, with commas between", CODES_MAX);
    let codes = codes.ok().filter(|codes| codes.len() <= CODES_MAX);
    codes.map(Some).ok_or_else(|| unlike(CODES, text, &wanted, "429,502,503,504"))
}

fn wait(
    annotations: &BTreeMap<String, String>,
    name: &str,
    example: &str,
) -> Result<Option<Duration>, Problem> {
    let Some(text) = annotations.get(name) else { return Ok(None) };
    let bounds = WAIT_MIN..=RetryPolicy::WAIT_MAX;
    let wanted = format!("a span of time from {} to {}", Span(*bounds.start()), Span(*bounds.end()));
    let wait = quantity::span(text.trim()).filter(|span| bounds.contains(span));
    wait.map(Some).ok_or_else(|| unlike(name, text, &wanted, example))
}

fn unlike(annotation: &str, text: &str, wanted: &str, example: &str) -> Problem {
    bad(format!("annotation `{annotation}` is `{}`, and must be {wanted}", shown(text)))
        .hint(format!("write for example `{annotation}: \"{example}\"`"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn policy(pairs: &[(&str, &str)]) -> Result<RetryPolicy, Problem> {
        of(&pairs.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect())
    }

    #[test]
    fn annotations_say_how_often_after_what_and_with_which_pauses() {
        let said = [(ATTEMPTS, "3"), (CODES, "408, 500"), (MIN_WAIT, "10s"), (MAX_WAIT, "1m30s")];
        let RetryPolicy { attempts, first_wait, longest_wait, statuses, .. } = policy(&said).unwrap();
        assert_eq!(
            (attempts, first_wait.as_secs(), longest_wait.as_secs(), statuses),
            (3, 10, 90, vec!["408".parse().unwrap(), "500".parse().unwrap()])
        );
    }

    #[test]
    fn what_is_not_said_is_as_usual_and_one_wait_moves_the_other_if_it_must() {
        assert_eq!(policy(&[]).unwrap(), RetryPolicy::default());
        let waits = |pairs: &[(&str, &str)]| {
            let RetryPolicy { first_wait, longest_wait, .. } = policy(pairs).unwrap();
            (first_wait, longest_wait)
        };
        let second = Duration::from_secs(1);
        assert_eq!(waits(&[(MIN_WAIT, "5m")]), (second * 300, second * 300));
        assert_eq!(waits(&[(MAX_WAIT, "100ms")]), (second / 10, second / 10));
        assert_eq!(waits(&[(MAX_WAIT, "30s")]), (second, second * 30));
    }

    #[test]
    fn a_wrong_annotation_is_named_with_what_it_may_be() {
        let cases: [&[(&str, &str)]; 7] = [
            &[(ATTEMPTS, "0")],
            &[(ATTEMPTS, "many")],
            &[(CODES, "500;502")],
            &[(CODES, "200")],
            &[(MIN_WAIT, "soon")],
            &[(MAX_WAIT, "2d")],
            &[(MIN_WAIT, "10s"), (MAX_WAIT, "5s")],
        ];
        let mut said = String::new();
        for case in cases {
            let problem = policy(case).unwrap_err();
            said += &format!("{}\n    hint: {}\n", problem.message, problem.hint.unwrap_or_default());
        }
        expect![[r#"
            annotation `com.openfaas.retry.attempts` is `0`, and must be a whole number from 1 to 100
                hint: write for example `com.openfaas.retry.attempts: "5"`
            annotation `com.openfaas.retry.attempts` is `many`, and must be a whole number from 1 to 100
                hint: write for example `com.openfaas.retry.attempts: "5"`
            annotation `com.openfaas.retry.codes` is `500;502`, and must be up to 32 statuses from 400 to 599, with commas between
                hint: write for example `com.openfaas.retry.codes: "429,502,503,504"`
            annotation `com.openfaas.retry.codes` is `200`, and must be up to 32 statuses from 400 to 599, with commas between
                hint: write for example `com.openfaas.retry.codes: "429,502,503,504"`
            annotation `com.openfaas.retry.min_wait` is `soon`, and must be a span of time from 1ms to 1d
                hint: write for example `com.openfaas.retry.min_wait: "1s"`
            annotation `com.openfaas.retry.max_wait` is `2d`, and must be a span of time from 1ms to 1d
                hint: write for example `com.openfaas.retry.max_wait: "2m"`
            annotation `com.openfaas.retry.min_wait` is 10s, which is more than `com.openfaas.retry.max_wait` of 5s
                hint: write for example `com.openfaas.retry.min_wait: 1s` and `com.openfaas.retry.max_wait: 2m`
        "#]].assert_eq(&said);
    }
}
