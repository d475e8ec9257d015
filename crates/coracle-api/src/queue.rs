//! Calls that are queued, as the API shows them: where each stands, what was tried, and how it ended.
//! `coracle queue` and `coracle call --async` read them.

use std::collections::BTreeMap;

use coracle_model::{FunctionName, FunctionRef, NamespaceName, Span};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::call::as_text;
use crate::{CallView, ProblemView};

/// The longest time for which a request waits for the end of a call.
pub const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// A call that was accepted: it is durable, and runs when it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedView {
    /// Its identity; the first one's, when it was sent again with the same idempotency key.
    pub id: String,
    /// When it is due.
    #[schema(value_type = String, format = DateTime)]
    pub due: Timestamp,
    /// Whether it had been accepted before, by its idempotency key.
    pub again: bool,
}

/// How a call is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubmitQuery {
    /// That it is queued. There is no other way here: `/function/NAME` answers at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<bool>, allow_reserved)]
    pub r#async: Option<String>,
    /// The method that the function sees; absent is `POST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(example = "PUT")]
    pub method: Option<String>,
    /// The path and query that the function sees; absent is `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(example = "/thumb?width=64")]
    pub path: Option<String>,
}

/// How to look at one call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShowQuery {
    /// Wait for so long for a queued call to end, 60s at the most; then it is shown as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, example = "30s")]
    pub wait: Option<Span>,
    /// Whether only the node that is asked is to look among its last calls.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[param(required = false)]
    pub here: bool,
}

/// What is known under the identity of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum KnownCall {
    /// A call that was queued; it has a `state`.
    Queued(Box<QueuedCallView>),
    /// One of the last calls that somebody waited for.
    Recent(Box<CallView>),
}

/// A call that was queued, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueuedCallView {
    /// Its identity, as in logs and in `X-Call-Id`.
    pub id: String,
    /// What is called, or whose result is delivered.
    #[schema(value_type = String, example = "resize.default")]
    #[serde(with = "as_text")]
    pub function: FunctionRef,
    /// Where it stands.
    pub state: CallState,
    /// The method that the function sees; absent for a delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path that the function sees; absent for a delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where a result is delivered to; absent for a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivers_to: Option<String>,
    /// The group in whose order it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub accepted: Timestamp,
    /// When it is due, or was due last.
    #[schema(value_type = String, format = DateTime)]
    pub due: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// Who is told how it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// How often it was begun.
    pub attempts_made: u32,
    /// What was tried, the first attempt first; of very many, some in the middle are left out.
    pub attempts: Vec<AttemptView>,
    /// Why it is not tried again, when it ended without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it answered, while that is kept; a list has it without its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultView>,
    /// Deliveries of its result, wherever they stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub deliveries: Vec<QueuedCallView>,
}

/// Where a queued call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallState {
    /// It waits: for its time, for its turn, or for its next attempt.
    #[default]
    Waiting,
    /// It runs.
    Running,
    /// It was answered with a status below 400.
    Succeeded,
    /// It was answered with another status, which is not tried again.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It is not tried again, and lies where it can be looked at and redriven.
    Dead,
}

impl CallState {
    /// The state in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// Whether nothing more happens to it, unless somebody asks.
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

impl std::str::FromStr for CallState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Waiting, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Dead];
        all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            format!(
                "`{text}` is not a state: it is `waiting`, `running`, `succeeded`, `failed`, `cancelled` or `dead`"
            )
        })
    }
}

/// One attempt of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// The first one is 1.
    pub number: u32,
    /// The server that made it.
    pub node: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// Milliseconds that it took; 0 when nobody knows.
    pub took_ms: u64,
    /// The status that was answered, if the function or the receiver answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong, if there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemView>,
    /// The last lines that the function printed, if it failed and the token may read logs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// What a queued call answered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ResultView {
    /// The status.
    pub status: u16,
    /// The headers; several of one name are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// The body, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// How long the whole body was; more than is here if it was over the bound for results.
    pub body_bytes: u64,
}

/// Whose queue is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct QueueQuery {
    /// Calls of one namespace; absent is all that the token reaches, or `default` if a function is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// Calls of one function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub function: Option<FunctionName>,
}

/// Which queued calls to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct QueueListQuery {
    /// Those of one namespace; absent is all that the token reaches, or `default` if a function is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// Those of one function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub function: Option<FunctionName>,
    /// Where they stand; absent is `waiting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, example = "dead")]
    pub state: Option<CallState>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many at most: 1 to 1000, 100 if absent. A page may have fewer, and a next one all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// How full the queue is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// Of all functions that were asked for.
    pub totals: QueueCounts,
    /// Of each function that has any, by name.
    pub functions: Vec<FunctionQueueView>,
    /// How many calls may wait in one namespace.
    pub waiting_max: u64,
}

/// The queued calls of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionQueueView {
    /// The function.
    #[schema(value_type = String, example = "resize.default")]
    #[serde(with = "as_text")]
    pub function: FunctionRef,
    /// How many there are.
    #[serde(flatten)]
    pub counts: QueueCounts,
}

/// How many calls there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct QueueCounts {
    /// Calls that wait: for their time, their turn or their next attempt.
    pub waiting: u64,
    /// Calls that run.
    pub running: u64,
    /// Calls that are not tried again, and results that could not be delivered.
    pub dead: u64,
    /// Results that wait to be delivered, or are being delivered.
    pub deliveries: u64,
    /// When the oldest of the waiting calls was due, or will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest: Option<Timestamp>,
}

/// Which outcomes of a topic to read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TopicQuery {
    /// The `place` of the last one that was read; absent is from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many at most: 1 to 1000, 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// How a call ended, as a topic keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicEntryView {
    /// Where it stands: what follows is behind it.
    pub place: u64,
    /// When it came there.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How the call ended: `call`, `function`, `state`, `request`, `response` or `error`, and more.
    pub outcome: serde_json::Value,
}

/// Whose dead calls to run again; absent is all that the token reaches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveRequest {
    /// Those of one namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// Those of one function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub function: Option<FunctionName>,
}

/// Which calls to remove for good.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// Those of one namespace; absent is all that the token reaches, or `default` if a function is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// Those of one function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub function: Option<FunctionName>,
    /// Those that are `waiting`, or those that are `dead`.
    pub state: CallState,
}

/// How many calls something was done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallsCount {
    /// So many.
    pub calls: u64,
}

/// A call that is cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelledView {
    /// Which call.
    pub id: String,
    /// Where it stood: `waiting`, and then it never runs, or `running`, and then it is stopped.
    pub was: CallState,
}
