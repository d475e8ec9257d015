//! What AlertManager says of functions, and the number of instances that follows from it.
//! The gateway parses the body of `/system/alert`, and asks for the next number of each function.
//!
//! Sources: faas:gateway/requests/prometheus.go, faas:gateway/handlers/alerthandler.go.

use std::collections::BTreeMap;

use coracle_model::{FunctionRef, Problem, Scale};

use super::document::{Document, bad, shown};
use super::request::function_of;
use super::settings;

/// What is sent, for whoever tries it by hand.
const EXAMPLE: &str = "what AlertManager's webhook does, as in `{\"alerts\": [{\"status\": \"firing\", \"labels\": {\"function_name\": \"hello.openfaas-fn\"}}]}`";

/// One alert of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The function it is about, which need not exist.
    pub function: FunctionRef,
    /// Whether it began or ended.
    pub state: State,
}

/// Whether what an alert is about began or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It began, or goes on.
    Firing,
    /// It ended.
    Resolved,
}

/// Reads a message of AlertManager: its alerts one by one, as a wrong one must not hinder the others.
///
/// # Errors
/// A body that is no such message.
pub fn parse(body: &[u8]) -> Result<Vec<Result<Alert, Problem>>, Problem> {
    let alerts = Document::parse(body)?.objects("alerts")?;
    let alerts = alerts.ok_or_else(|| bad("`alerts` is missing").hint(format!("send {EXAMPLE}")))?;
    Ok(alerts.into_iter().map(one).collect())
}

fn one(mut sent: Document) -> Result<Alert, Problem> {
    let mut labels = sent.object("labels")?.unwrap_or_default();
    let function = function_of(&labels.needed_text("function_name", "hello.openfaas-fn")?, None)?;
    match sent.needed_text("status", "firing")?.as_str() {
        "firing" => Ok(Alert { function, state: State::Firing }),
        "resolved" => Ok(Alert { function, state: State::Resolved }),
        other => {
            let what = format!("the status of an alert of `{function}` is `{}`", shown(other));
            Err(bad(what).hint("it is `firing` or `resolved`"))
        }
    }
}

/// The step of a function, in hundredths of its most instances, as its labels say.
pub fn factor(labels: &BTreeMap<String, String>) -> u32 {
    settings::factor(labels)
}

/// The number of instances that follows from an alert.
///
/// A firing one adds a step, up to the most there may be; one that ended leads back to the least, but starts nothing that sleeps.
/// With a factor of 0 nothing moves.
pub fn replicas_after(state: State, current: u32, scale: &Scale, factor: u32) -> u32 {
    if factor == 0 {
        return current;
    }
    match state {
        State::Firing => {
            let step = (u64::from(scale.max) * u64::from(factor)).div_ceil(100);
            u64::from(current).saturating_add(step).min(u64::from(scale.max)) as u32
        }
        State::Resolved if current == 0 => 0,
        State::Resolved => scale.min.max(1).min(scale.max),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(body: &str) -> Result<Vec<String>, String> {
        let one = |alert: Result<Alert, Problem>| match alert {
            Ok(Alert { function, state }) => format!("{function} {state:?}"),
            Err(problem) => problem.message,
        };
        parse(body.as_bytes())
            .map(|alerts| alerts.into_iter().map(one).collect())
            .map_err(|problem| problem.message)
    }

    #[test]
    fn each_alert_is_read_and_a_wrong_one_hinders_none() {
        let body = r#"{"receiver":"scale-up","status":"firing","version":"4","groupKey":"{}:{alertname=\"APIHighInvocationRate\"}","alerts":[
            {"status":"firing","labels":{"alertname":"APIHighInvocationRate","function_name":"nodeinfo.openfaas-fn","severity":"major"},
             "annotations":{"summary":"x"},"startsAt":"2018-10-10T06:18:05Z","generatorURL":"http://x"},
            {"status":"resolved","labels":{"function_name":"f.shop"}},
            {"status":"suppressed","labels":{"function_name":"f"}},
            {"status":"firing","labels":{"function_name":"a/b"}},
            {"status":"firing","labels":{}},
            {"status":"firing"},
            {"labels":{"function_name":"f"}}]}"#;
        let expected = [
            "nodeinfo.default Firing",
            "f.shop Resolved",
            "the status of an alert of `f.default` is `suppressed`",
            "`a/b` is not a name of a function: a name is 1 to 64 of the characters A-Z a-z 0-9 _ -",
            "`alerts[4].labels.function_name` is missing",
            "`function_name` is missing",
            "`alerts[6].status` is missing",
        ];
        assert_eq!(said(body).unwrap(), expected);
        assert_eq!(said(r#"{"alerts":[]}"#).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (body, expected) in [
            ("bad", "the body is no JSON: expected value at line 1 column 1"),
            ("{}", "`alerts` is missing"),
            (r#"{"alerts":{}}"#, "`alerts` is an object, and must be a list of objects"),
            (r#"{"alerts":[1]}"#, "`alerts[0]` is a number, and must be an object"),
        ] {
            assert_eq!(said(body).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_firing_alert_climbs_and_one_that_ended_leads_back() {
        let (firing, resolved) = (State::Firing, State::Resolved);
        let table = [
            (firing, 1, (1, 20), 20, 5),
            (firing, 5, (1, 20), 20, 9),
            (firing, 19, (1, 20), 20, 20),
            (firing, 20, (1, 20), 20, 20),
            (firing, 1, (1, 5), 10, 2),
            (firing, 1, (1, 3), 50, 3),
            (firing, 0, (0, 20), 20, 4),
            (firing, 7, (1, 20), 0, 7),
            (firing, 2, (2, 2), 20, 2),
            (firing, 30, (1, 20), 20, 20),
            (firing, 1, (1, 20), 100, 20),
            (resolved, 20, (2, 20), 20, 2),
            (resolved, 3, (0, 20), 20, 1),
            (resolved, 0, (1, 20), 20, 0),
            (resolved, 7, (1, 20), 0, 7),
        ];
        for (state, current, (min, max), factor, expected) in table {
            let scale = Scale { min, max, ..Scale::default() };
            let after = replicas_after(state, current, &scale, factor);
            assert_eq!(after, expected, "{state:?} {current} of {min} to {max} by {factor}");
        }
    }

    proptest! {
        #[test]
        fn an_alert_never_leads_out_of_the_bounds(
            is_firing in any::<bool>(), min in 0u32..=1_000, more in 0u32..=1_000, current in 0u32..=2_000, factor in 1u32..=100
        ) {
            let scale = Scale { min, max: (min + more).max(1), ..Scale::default() };
            let current = current.min(scale.max);
            let after = replicas_after(if is_firing { State::Firing } else { State::Resolved }, current, &scale, factor);
            prop_assert!(after <= scale.max);
            if is_firing {
                prop_assert!(after > current || after == scale.max);
            } else {
                prop_assert!(after == scale.min.max(1) || (after, current) == (0, 0));
            }
        }
    }
}
