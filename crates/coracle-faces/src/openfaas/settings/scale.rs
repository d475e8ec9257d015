//! How many instances a function has, as its labels say.
//! `settings.rs` calls it for a deploy, `alert.rs` asks for the factor of a step.
//!
//! Sources: docs:architecture/autoscaling.md, docs:openfaas-pro/scale-to-zero.md, faas:gateway/scaling/function_scaler.go.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use coracle_model::{Limits, Problem, Scale, Span};

use super::super::document::{bad, shown, truth};
use super::super::quantity;

const MIN: &str = "com.openfaas.scale.min";
const MAX: &str = "com.openfaas.scale.max";
const FACTOR: &str = "com.openfaas.scale.factor";
const TYPE: &str = "com.openfaas.scale.type";
const TARGET: &str = "com.openfaas.scale.target";
const PROPORTION: &str = "com.openfaas.scale.target-proportion";
const ZERO: &str = "com.openfaas.scale.zero";
const ZERO_DURATION: &str = "com.openfaas.scale.zero-duration";

/// Calls in flight for each instance as the measure of scaling; other measures are kept and said back.
const CAPACITY: &str = "capacity";
/// The variable of a watchdog that says how many calls it takes at once.
const MAX_INFLIGHT: &str = "max_inflight";

const MIN_DEFAULT: u32 = 1;
const MAX_DEFAULT: u32 = 20;
const FACTOR_DEFAULT: u32 = 20;
const TARGET_DEFAULT: f64 = 50.0;
/// Calls in flight for each instance where something else is the measure: a crowd that wakes a function starts one, as there.
const TARGET_ELSE: u32 = 50;
const PROPORTION_DEFAULT: f64 = 0.9;
const ZERO_DURATION_DEFAULT: Duration = Duration::from_secs(15 * 60);

type Texts = BTreeMap<String, String>;

/// The scale that labels and environment ask for.
pub(in super::super) fn of(labels: &Texts, env: &Texts) -> Result<Scale, Problem> {
    check_factor(labels)?;
    let instances = format!("a whole number from 0 to {}", Scale::INSTANCES_MAX);
    let min = number(labels, MIN, 0, &instances, "1")?.unwrap_or(MIN_DEFAULT);
    let instances = format!("a whole number from 1 to {}", Scale::INSTANCES_MAX);
    let max = number(labels, MAX, 1, &instances, "20")?.unwrap_or(MAX_DEFAULT);
    if min > max {
        let default = if labels.contains_key(MAX) { "" } else { ", as it is where the label is absent" };
        return Err(bad(format!("label `{MIN}` is {min}, which is more than `{MAX}` of {max}{default}"))
            .hint(format!("write for example `{MIN}: \"1\"` and `{MAX}: \"{min}\"`")));
    }
    let in_flight = max_inflight(env);
    let is_capacity = labels.get(TYPE).is_some_and(|kind| kind == CAPACITY);
    let to_zero = flag(labels, ZERO)?;
    let zero_duration = zero_duration(labels)?;
    let usual = Scale::default();
    let target = target(labels)?.filter(|_| is_capacity).unwrap_or(TARGET_ELSE);
    Ok(Scale {
        min: if to_zero { 0 } else { min },
        max,
        // A watchdog with a bound never takes more than that.
        target: match in_flight {
            Some(most) if is_capacity => target.min(most),
            Some(most) => most,
            None => target,
        },
        grows: in_flight.is_none() || is_capacity,
        idle: if to_zero { zero_duration } else { usual.idle },
    })
}

/// How far an alert moves the number of instances, in hundredths of the most there may be.
///
/// A function that was deployed elsewise may have anything under the label; then it is the usual.
pub(in super::super) fn factor(labels: &Texts) -> u32 {
    labels
        .get(FACTOR)
        .and_then(|text| text.parse().ok())
        .filter(|factor| *factor <= 100)
        .unwrap_or(FACTOR_DEFAULT)
}

fn check_factor(labels: &Texts) -> Result<(), Problem> {
    let wanted = "a whole number from 0 to 100, in hundredths of the most instances; 0 switches steps off";
    parsed(labels, FACTOR, |factor: &u32| *factor <= 100, wanted, "20").map(drop)
}

/// Calls in flight for each instance, if scaling by capacity asks for so many.
fn target(labels: &Texts) -> Result<Option<u32>, Problem> {
    let most = f64::from(Limits::CALLS_MAX);
    let is_target = |target: &f64| *target > 0.0 && *target <= most;
    let target = parsed(labels, TARGET, is_target, &format!("a number above 0 and up to {most}"), "50")?;
    let is_part = |part: &f64| *part > 0.0 && *part <= 1.0;
    let part = parsed(labels, PROPORTION, is_part, "a number above 0 and up to 1", "0.9")?;
    let wanted = target.unwrap_or(TARGET_DEFAULT) * part.unwrap_or(PROPORTION_DEFAULT);
    // Nine tenths of ten are nine, although no binary number is nine tenths.
    let wanted = (wanted * 1e6).round() / 1e6;
    Ok(Some((wanted.ceil() as u32).max(1)))
}

fn zero_duration(labels: &Texts) -> Result<Duration, Problem> {
    let Some(text) = labels.get(ZERO_DURATION) else { return Ok(ZERO_DURATION_DEFAULT) };
    let most = Scale::IDLE_MAX;
    quantity::span(text).filter(|span| !span.is_zero() && *span <= most).ok_or_else(|| {
        unlike(ZERO_DURATION, text, &format!("a span of time above 0 and up to {}", Span(most)), "15m")
    })
}

fn flag(labels: &Texts, label: &str) -> Result<bool, Problem> {
    let Some(text) = labels.get(label) else { return Ok(false) };
    truth(text).ok_or_else(|| unlike(label, text, "`true` or `false`", "true"))
}

fn number(
    labels: &Texts,
    label: &str,
    least: u32,
    wanted: &str,
    example: &str,
) -> Result<Option<u32>, Problem> {
    parsed(labels, label, |number| (least..=Scale::INSTANCES_MAX).contains(number), wanted, example)
}

fn parsed<T: FromStr>(
    labels: &Texts,
    label: &str,
    is_right: impl Fn(&T) -> bool,
    wanted: &str,
    example: &str,
) -> Result<Option<T>, Problem> {
    let Some(text) = labels.get(label) else { return Ok(None) };
    match text.trim().parse().ok().filter(is_right) {
        Some(value) => Ok(Some(value)),
        None => Err(unlike(label, text, wanted, example)),
    }
}

fn unlike(label: &str, text: &str, wanted: &str, example: &str) -> Problem {
    bad(format!("label `{label}` is `{}`, and must be {wanted}", shown(text)))
        .hint(format!("write for example `{label}: \"{example}\"`"))
}

/// The calls that a watchdog takes at once; 0, or what is no number, is no bound, as the watchdog has it.
fn max_inflight(env: &Texts) -> Option<u32> {
    let most = env.get(MAX_INFLIGHT)?.parse().ok()?;
    (1..=Limits::CALLS_MAX).contains(&most).then_some(most)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect()
    }

    fn scale(labels: &[(&str, &str)]) -> Scale {
        of(&texts(labels), &Texts::new()).unwrap()
    }

    fn refused(cases: &[&[(&str, &str)]], expected: Expect) {
        let mut said = String::new();
        for labels in cases {
            let problem = of(&texts(labels), &Texts::new()).unwrap_err();
            said += &format!("{}\n    hint: {}\n", problem.message, problem.hint.unwrap_or_default());
        }
        expected.assert_eq(&said);
    }

    #[test]
    fn labels_bound_the_number_of_instances() {
        let bounds = |labels: &[(&str, &str)]| (scale(labels).min, scale(labels).max);
        assert_eq!(bounds(&[]), (1, 20));
        assert_eq!(bounds(&[(MIN, "2"), (MAX, "2")]), (2, 2));
        assert_eq!(bounds(&[(MAX, "1000"), (MIN, " 5 ")]), (5, 1_000));
        assert_eq!(bounds(&[(MIN, "0")]), (0, 20));
    }

    #[test]
    fn a_function_that_may_sleep_has_no_minimum() {
        let Scale { min, idle, .. } = scale(&[(ZERO, "true"), (MIN, "2")]);
        assert_eq!((min, idle), (0, ZERO_DURATION_DEFAULT));
        assert_eq!(scale(&[(ZERO, "true"), (ZERO_DURATION, "1m30s")]).idle, Duration::from_secs(90));
        let stays = scale(&[(ZERO, "false"), (ZERO_DURATION, "1m")]);
        assert_eq!((stays.min, stays.idle), (1, Scale::default().idle));
    }

    #[test]
    fn only_capacity_is_a_target_of_ours() {
        let table: [(&[(&str, &str)], u32); 7] = [
            (&[], TARGET_ELSE),
            (&[(TYPE, CAPACITY), (TARGET, "10")], 9),
            (&[(TYPE, CAPACITY), (TARGET, "10"), (PROPORTION, "0.25")], 3),
            (&[(TYPE, CAPACITY), (TARGET, "1")], 1),
            (&[(TYPE, CAPACITY)], 45),
            (&[(TYPE, "rps"), (TARGET, "100")], TARGET_ELSE),
            (&[(TYPE, "cpu"), (TARGET, "500")], TARGET_ELSE),
        ];
        for (labels, target) in table {
            assert_eq!(scale(labels).target, target, "{labels:?}");
        }
    }

    #[test]
    fn a_bound_on_calls_refuses_unless_capacity_makes_it_grow() {
        let with = |labels: &[(&str, &str)], most: &str| {
            let Scale { target, grows, .. } = of(&texts(labels), &texts(&[(MAX_INFLIGHT, most)])).unwrap();
            (target, grows)
        };
        assert_eq!(with(&[], "3"), (3, false));
        assert_eq!(with(&[(TYPE, "rps")], "30"), (30, false));
        assert_eq!(with(&[(TYPE, CAPACITY)], "3"), (3, true));
        assert_eq!(with(&[(TYPE, CAPACITY), (TARGET, "10")], "30"), (9, true));
        for none in ["0", "", "many", "-1"] {
            assert_eq!(with(&[], none), (TARGET_ELSE, true), "{none}");
        }
    }

    #[test]
    fn a_wrong_label_is_named_with_what_it_may_be() {
        refused(
            &[
                &[(MIN, "two")],
                &[(MAX, "0")],
                &[(MAX, "1001")],
                &[(MIN, "5"), (MAX, "3")],
                &[(MIN, "30")],
                &[(FACTOR, "500")],
                &[(FACTOR, "-1")],
                &[(TARGET, "NaN")],
                &[(PROPORTION, "1.5")],
                &[(ZERO, "yes")],
                &[(ZERO_DURATION, "never")],
                &[(ZERO_DURATION, "0s")],
            ],
            expect![[r#"
                label `com.openfaas.scale.min` is `two`, and must be a whole number from 0 to 1000
                    hint: write for example `com.openfaas.scale.min: "1"`
                label `com.openfaas.scale.max` is `0`, and must be a whole number from 1 to 1000
                    hint: write for example `com.openfaas.scale.max: "20"`
                label `com.openfaas.scale.max` is `1001`, and must be a whole number from 1 to 1000
                    hint: write for example `com.openfaas.scale.max: "20"`
                label `com.openfaas.scale.min` is 5, which is more than `com.openfaas.scale.max` of 3
                    hint: write for example `com.openfaas.scale.min: "1"` and `com.openfaas.scale.max: "5"`
                label `com.openfaas.scale.min` is 30, which is more than `com.openfaas.scale.max` of 20, as it is where the label is absent
                    hint: write for example `com.openfaas.scale.min: "1"` and `com.openfaas.scale.max: "30"`
                label `com.openfaas.scale.factor` is `500`, and must be a whole number from 0 to 100, in hundredths of the most instances; 0 switches steps off
                    hint: write for example `com.openfaas.scale.factor: "20"`
                label `com.openfaas.scale.factor` is `-1`, and must be a whole number from 0 to 100, in hundredths of the most instances; 0 switches steps off
                    hint: write for example `com.openfaas.scale.factor: "20"`
                label `com.openfaas.scale.target` is `NaN`, and must be a number above 0 and up to 100000
                    hint: write for example `com.openfaas.scale.target: "50"`
                label `com.openfaas.scale.target-proportion` is `1.5`, and must be a number above 0 and up to 1
                    hint: write for example `com.openfaas.scale.target-proportion: "0.9"`
                label `com.openfaas.scale.zero` is `yes`, and must be `true` or `false`
                    hint: write for example `com.openfaas.scale.zero: "true"`
                label `com.openfaas.scale.zero-duration` is `never`, and must be a span of time above 0 and up to 1d
                    hint: write for example `com.openfaas.scale.zero-duration: "15m"`
                label `com.openfaas.scale.zero-duration` is `0s`, and must be a span of time above 0 and up to 1d
                    hint: write for example `com.openfaas.scale.zero-duration: "15m"`
            "#]],
        );
    }

    #[test]
    fn the_step_of_an_alert_is_a_label_or_the_usual() {
        for (text, expected) in [("0", 0), ("35", 35), ("100", 100), ("101", 20), ("x", 20)] {
            assert_eq!(factor(&texts(&[(FACTOR, text)])), expected, "{text}");
        }
        assert_eq!(factor(&Texts::new()), FACTOR_DEFAULT);
    }

    proptest! {
        #[test]
        fn what_is_taken_keeps_the_bounds_of_a_scale(
            labels in prop::collection::btree_map(
                prop::sample::select(vec![MIN, MAX, FACTOR, TYPE, TARGET, PROPORTION, ZERO, ZERO_DURATION]).prop_map(String::from),
                "[0-9]{0,4}|0\\.[0-9]{1,3}|true|false|capacity|rps|[0-9]{1,2}m|\\PC{0,6}",
                0..8,
            ),
            in_flight in "[0-9]{0,6}",
        ) {
            if let Ok(scale) = of(&labels, &texts(&[(MAX_INFLIGHT, &in_flight)])) {
                prop_assert!(scale.min <= scale.max && (1..=Scale::INSTANCES_MAX).contains(&scale.max));
                prop_assert!((1..=Limits::CALLS_MAX).contains(&scale.target));
                prop_assert!(!scale.idle.is_zero() && scale.idle <= Scale::IDLE_MAX);
            }
        }
    }
}
