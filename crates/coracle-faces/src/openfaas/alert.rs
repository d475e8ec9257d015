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
