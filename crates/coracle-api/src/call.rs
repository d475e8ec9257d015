//! The last calls, as the API shows them: how long each part took, and how each ended.
//! `coracle show` and the dashboard read them.

use coracle_model::{FunctionName, FunctionRef, NamespaceName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One call that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallView {
    /// Its identity, as in logs and in `X-Call-Id`.
    pub id: String,
    /// What was called.
    #[schema(value_type = String, example = "resize.default")]
    #[serde(with = "as_text")]
    pub function: FunctionRef,
    /// The revision that ran.
    pub revision: u32,
    /// The method of the request.
    pub method: String,
    /// The path that the function saw.
    pub path: String,
    /// The status that the client saw.
    pub status: u16,
    /// When it came in.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// Microseconds it waited to be admitted.
    pub waited_us: u64,
    /// Microseconds until an instance was ready.
    pub start_us: u64,
    /// Microseconds the function ran.
    pub run_us: u64,
    /// Microseconds from coming in to the end of the body.
    pub total_us: u64,
    /// Whether it had to wait for code to be mapped or an instance to start.
    pub cold: bool,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// The most memory that the instance used, in bytes.
    pub memory_bytes: u64,
    /// How it ended: `ok`, or the code of a problem.
    #[schema(example = "ok")]
    pub outcome: String,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Which calls to list, newest first, or to follow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CallQuery {
    /// Those of one namespace; absent is all that the token reaches, or `default` if a function is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// Those of one function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub function: Option<FunctionName>,
    /// How many at most: 1 to 1000, 100 if absent; with `follow`, how many to begin with, none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only those that failed, or were answered with 500 or more by their function.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[param(required = false)]
    pub failed: bool,
    /// Whether to go on with calls as they end, until the client goes: then they come oldest first, one JSON object a line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[param(required = false)]
    pub follow: bool,
    /// Whether to leave out calls of other nodes of the cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[param(required = false)]
    pub here: bool,
}

/// What comes next while calls are followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum FollowedCall {
    /// A call that ended.
    Call(Box<CallView>),
    /// Calls that ended here and do not come, because the client was too slow.
    Missed {
        /// How many.
        missed: u64,
    },
}

/// A function as `NAME.NAMESPACE`.
pub(crate) mod as_text {
    use coracle_model::FunctionRef;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(function: &FunctionRef, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(function)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(text: D) -> Result<FunctionRef, D::Error> {
        FunctionRef::parse(&String::deserialize(text)?).map_err(D::Error::custom)
    }
}
