//! What AlertManager says of functions, and the number of instances that follows from it.
//! The gateway parses the body of `/system/alert`, and asks for the next number of each function.
//!
//! Sources: faas:gateway/requests/prometheus.go, faas:gateway/handlers/alerthandler.go.

use std::collections::BTreeMap;

use coracle_model::{FunctionRef, Problem, Scale};

use super::document::{Document, bad, shown};
use super::request::function_of;
use super::settings;

/// One alert of a message.
#[derive(Debug, Clone)]
pub struct Alert {
    /// The function it is about, or why that cannot be told: one that is wrong must not hinder the others.
    pub function: Result<FunctionRef, Problem>,
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

/// Reads a message of AlertManager.
///
/// # Errors
/// A body that is no such message.
pub fn parse(body: &[u8]) -> Result<Vec<Alert>, Problem> {
    let alerts = Document::parse(body)?.objects("alerts")?;
    let alerts = alerts.ok_or_else(|| {
        bad("`alerts` is missing").hint("send what AlertManager's webhook does, as in `{\"alerts\": [{\"status\": \"firing\", \"labels\": {\"function_name\": \"hello.openfaas-fn\"}}]}`")
    })?;
    alerts.into_iter().map(one).collect()
}

fn one(mut sent: Document) -> Result<Alert, Problem> {
    let state = match sent.needed_text("status", "firing")?.as_str() {
        "firing" => State::Firing,
        "resolved" => State::Resolved,
        other => {
            return Err(bad(format!("the status of an alert is `{}`", shown(other)))
                .hint("it is `firing` or `resolved`"));
        }
    };
    let labels = sent.object("labels")?;
    let missing = || bad("an alert has no label `function_name`").hint("group its rule by `function_name`");
    let function = labels.ok_or_else(missing).and_then(|mut labels| {
        let function = labels.text("function_name")?.ok_or_else(missing)?;
        function_of(&function, None)
    });
    Ok(Alert { function, state })
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
