//! How calls that wait in the queue are run and tried again, and where their outcome goes.
//! A part of a function's settings: manifests and the API fill it in, the queue obeys it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{FunctionName, InvalidName, TopicName};

/// How the queued calls of a function are run, and what follows their end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queueing {
    /// Queued calls that run at once on one server.
    pub concurrency: u32,
    /// When a call that failed is tried again.
    pub retry: RetryPolicy,
    /// Where the outcome of a call that succeeded goes.
    pub on_success: Option<Target>,
    /// Where the outcome of a call that failed, and is not tried again, goes.
    pub on_failure: Option<Target>,
}

impl Queueing {
    /// The most queued calls of a function that may run at once on one server.
    pub const CONCURRENCY_MAX: u32 = 10_000;
}

impl Default for Queueing {
    fn default() -> Self {
        Self { concurrency: 10, retry: RetryPolicy::default(), on_success: None, on_failure: None }
    }
}

/// When a queued call that failed is tried again.
///
/// Faults of the platform are always tried again; an answer of the function if its status is among `statuses`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    /// The longest wait before the second attempt; it doubles with every further one.
    pub first_wait: Duration,
    /// The longest wait before any attempt.
    pub longest_wait: Duration,
    /// How old a call may become, from when it was due, before it is given up.
    pub age: Duration,
    /// Statuses that are tried again.
    pub statuses: Vec<Statuses>,
}

impl RetryPolicy {
    /// The most attempts: the story of all of them is kept with the call.
    pub const ATTEMPTS_MAX: u32 = 100;
    /// The longest wait between two attempts.
    pub const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
    /// The longest age.
    pub const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(2 * 60),
            age: Duration::from_secs(6 * 60 * 60),
            statuses: vec![Statuses::One(429), Statuses::Hundred(5)],
        }
    }
}

/// One HTTP status, or a hundred of them: written `429` or `5xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Statuses {
    /// Just this one.
    One(u16),
    /// All that begin with this digit.
    Hundred(u8),
}

impl Statuses {
    /// Whether a status is among them.
    pub fn has(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Hundred(digit) => u16::from(digit) == status / 100,
        }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(status) => write!(f, "{status}"),
            Self::Hundred(digit) => write!(f, "{digit}xx"),
        }
    }
}

/// A text that is neither a status nor a hundred of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a status that a call may fail with: write `429`, `4xx` or `5xx`")]
pub struct InvalidStatuses(String);

impl FromStr for Statuses {
    type Err = InvalidStatuses;

    fn from_str(text: &str) -> Result<Self, InvalidStatuses> {
        let invalid = || InvalidStatuses(text.chars().take(40).collect());
        if let Some(digit) = text.strip_suffix("xx") {
            let digit = digit.parse().ok().filter(|digit| matches!(digit, 4 | 5));
            return digit.map(Self::Hundred).ok_or_else(invalid);
        }
        let is_number = text.len() == 3 && text.bytes().all(|c| c.is_ascii_digit());
        let status = text.parse().ok().filter(|status| is_number && (400..600).contains(status));
        status.map(Self::One).ok_or_else(invalid)
    }
}

impl TryFrom<String> for Statuses {
    type Error = InvalidStatuses;

    fn try_from(text: String) -> Result<Self, InvalidStatuses> {
        text.parse()
    }
}

impl From<Statuses> for String {
    fn from(statuses: Statuses) -> Self {
        statuses.to_string()
    }
}

/// Where the outcome of a call goes: written `function:NAME`, `topic:NAME`, or as a URL.
///
/// Functions and topics are those of the namespace: who deploys into one can so call nothing in another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Target {
    /// It becomes a queued call of this function.
    Function(FunctionName),
    /// It is appended to this topic of the namespace.
    Topic(TopicName),
    /// It is posted here, `http` or `https`.
    Url(Arc<str>),
}

impl Target {
    /// The longest URL.
    pub const URL_BYTES_MAX: usize = 2_048;
}

/// A text that names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// It is written in none of the three ways.
    #[error("`{0}` is not a target: write `function:NAME`, `topic:NAME` or `https://HOST/PATH`")]
    Unknown(String),
    /// It has a name that is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Its URL cannot be posted to.
    #[error("a target's URL {0}")]
    Url(&'static str),
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        if let Some(function) = text.strip_prefix("function:") {
            return Ok(Self::Function(FunctionName::parse(function)?));
        }
        if let Some(topic) = text.strip_prefix("topic:") {
            return Ok(Self::Topic(TopicName::parse(topic)?));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            check_url(text).map_err(InvalidTarget::Url)?;
            return Ok(Self::Url(text.into()));
        }
        Err(InvalidTarget::Unknown(text.chars().take(80).collect()))
    }
}

/// That something can be posted to a URL; else what is wrong with it, to be put behind "the URL".
pub fn check_url(text: &str) -> Result<http::Uri, &'static str> {
    if text.len() > Target::URL_BYTES_MAX {
        return Err("is longer than 2048 bytes");
    }
    let uri: http::Uri = text.parse().map_err(|_| "is not valid")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("begins with neither `http://` nor `https://`");
    }
    let authority = uri.authority().ok_or("names no host")?;
    if authority.as_str().contains('@') {
        return Err("holds a user or a password, which would be kept in the open");
    }
    if authority.host().is_empty() {
        return Err("names no host");
    }
    Ok(uri)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(function) => write!(f, "function:{function}"),
            Self::Topic(topic) => write!(f, "topic:{topic}"),
            Self::Url(url) => f.write_str(url),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = InvalidTarget;

    fn try_from(text: String) -> Result<Self, InvalidTarget> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_as_people_write_them() {
        for (text, inside, outside) in [("429", 429, 428), ("5xx", 503, 499), ("4xx", 404, 500)] {
            let statuses: Statuses = text.parse().unwrap();
            assert!(statuses.has(inside) && !statuses.has(outside), "{text}");
            assert_eq!(statuses.to_string(), text);
        }
        for bad in ["", "x", "200", "2xx", "600", "5x", "+42", "0429", "xx"] {
            assert!(bad.parse::<Statuses>().is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_are_read_as_people_write_them() {
        for text in ["function:resize", "topic:failed", "https://hooks.example.com/x?y=1"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for (bad, why) in [
            ("resize", "is not a target"),
            ("function:resize.shop", "not a name of a function"),
            ("topic:", "not a name of a topic"),
            ("ftp://a", "is not a target"),
            ("https://user:pass@host/", "a user or a password"),
            ("https://", "is not valid"),
        ] {
            let error = bad.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
