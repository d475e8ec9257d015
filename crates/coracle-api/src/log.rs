//! Logs on the wire: one JSON object per line, also while following.
//! `coracle logs` reads them; `since` is a time or a span before now.

use std::fmt;
use std::str::FromStr;

use coracle_model::{FunctionName, FunctionRef, NamespaceName, Span};
use http::HeaderName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The header that says of how many functions older lines were left out, because so many others wrote later.
pub const FUNCTIONS_SKIPPED: HeaderName = HeaderName::from_static("x-coracle-functions-skipped");

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Who wrote it.
    #[serde(with = "crate::call::as_text")]
    #[schema(value_type = String, example = "resize.default")]
    pub function: FunctionRef,
    /// With which code and settings; 0 when the line is about the function as a whole.
    pub revision: u32,
    /// In which running copy; 0 when outside of any.
    pub instance: u64,
    /// During which call, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Through which mouth.
    pub stream: LogStream,
    /// What it says, without its line end.
    pub text: String,
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// The function's standard output.
    Stdout,
    /// The function's standard error.
    Stderr,
    /// A note of the platform to the author.
    Platform,
}

/// Which lines to read, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Of this namespace; absent is `default`, or what the token is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// Of one function there; absent is all, of which the past is read from the 1000 that wrote last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub function: Option<FunctionName>,
    /// Of one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Of one stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    /// Only the last so many; 100 if neither this nor `since` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<usize>,
    /// Only those since a time, as RFC 3339, or since a span before now, as in `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub since: Option<Since>,
    /// Whether to go on with lines as they are written, until the client goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[param(required = false)]
    pub follow: bool,
    /// Whether to leave out what other nodes of the cluster wrote.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[param(required = false)]
    pub here: bool,
}

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Since {
    /// From this time on.
    At(Timestamp),
    /// From so long before now, by the server's clock.
    Ago(Span),
}

impl Since {
    /// The time that is meant; the earliest there is when the span reaches before it.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => now.checked_sub(span.0).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        text.parse()
            .map(Self::Ago)
            .map_err(|_| format!("`{text}` is neither a time as `2026-01-31T12:00:00Z` nor a span as `5m`"))
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => fmt::Display::fmt(time, f),
            Self::Ago(span) => fmt::Display::fmt(span, f),
        }
    }
}

impl From<Since> for String {
    fn from(since: Since) -> Self {
        since.to_string()
    }
}

impl TryFrom<String> for Since {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_a_span_before_now() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse().map(|since: Since| since.at(now).to_string());
        assert_eq!(at("5m").as_deref(), Ok("2026-01-31T11:55:00Z"));
        assert_eq!(at("2026-01-30T00:00:00Z").as_deref(), Ok("2026-01-30T00:00:00Z"));
        assert_eq!(at("99999999d").as_deref(), Ok(Timestamp::MIN.to_string().as_str()));
        assert!(at("yesterday").unwrap_err().contains("neither"));
    }
}
