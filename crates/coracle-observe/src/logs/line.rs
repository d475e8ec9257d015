//! One line of a log, which lines a reader wants, and how a line stands in its file.
//! In a file, a line is a JSON object; whose it is, the file's name says.

use std::borrow::Cow;
use std::fmt;

use coracle_model::{CallId, FunctionName, FunctionRef, NamespaceName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// When it was written; later than every line before it, while the clock does not jump.
    pub at: Timestamp,
    /// Who wrote it.
    pub function: FunctionRef,
    /// With which code and settings.
    pub revision: u32,
    /// In which running copy; 0 when the platform wrote outside of any.
    pub instance: u64,
    /// During which call, where that is known.
    pub call: Option<CallId>,
    /// Through which mouth.
    pub stream: Stream,
    /// What it says, without its line end.
    pub text: String,
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The guest's standard output.
    Stdout,
    /// The guest's standard error.
    Stderr,
    /// Our own notes to the author: a request that was denied, and the manifest line that would allow it.
    Platform,
}

impl Stream {
    /// As people and files write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Platform => "platform",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which lines a reader wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Those of one namespace,
    pub namespace: NamespaceName,
    /// of one function there,
    pub function: Option<FunctionName>,
    /// of one of its instances,
    pub instance: Option<u64>,
    /// of one call,
    pub call: Option<CallId>,
    /// and of one stream.
    pub stream: Option<Stream>,
}

impl Filter {
    /// All lines of a namespace.
    pub fn namespace(namespace: NamespaceName) -> Self {
        Self { namespace, function: None, instance: None, call: None, stream: None }
    }

    /// All lines of a function.
    pub fn function(function: FunctionRef) -> Self {
        Self { function: Some(function.name), ..Self::namespace(function.namespace) }
    }

    /// Whether the reader wants this one.
    pub fn matches(&self, line: &Line) -> bool {
        let is_call = |call: &CallId| line.call.as_ref().is_some_and(|id| id.as_str() == call.as_str());
        self.namespace == line.function.namespace
            && self.function.as_ref().is_none_or(|name| *name == line.function.name)
            && self.instance.is_none_or(|instance| instance == line.instance)
            && self.stream.is_none_or(|stream| stream == line.stream)
            && self.call.as_ref().is_none_or(is_call)
    }

    /// Whose lines these are, for errors.
    pub(super) fn subject(&self) -> String {
        match &self.function {
            Some(name) => format!("{name}.{}", self.namespace),
            None => self.namespace.to_string(),
        }
    }
}

/// A line's twin on disk.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    at: Cow<'a, str>,
    revision: u32,
    instance: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    call: Option<Cow<'a, str>>,
    stream: Stream,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl Line {
    /// A note of the platform about a function as a whole.
    pub(super) fn note(at: Timestamp, function: FunctionRef, text: String) -> Self {
        Self { at, function, revision: 0, instance: 0, call: None, stream: Stream::Platform, text }
    }

    /// The line in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }

    /// Appends the line as it stands in a file, line end included.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let stored = Stored {
            at: self.at.to_string().into(),
            revision: self.revision,
            instance: self.instance,
            call: self.call.as_ref().map(|call| call.as_str().into()),
            stream: self.stream,
            text: Cow::Borrowed(&self.text),
        };
        // Strings and numbers always have a JSON, and a Vec always has room.
        let _ = serde_json::to_writer(&mut *out, &stored);
        out.push(b'\n');
    }

    /// Reads a line back; `None` for what a crash left of one.
    pub(super) fn decode(bytes: &[u8], function: &FunctionRef) -> Option<Self> {
        let stored: Stored<'_> = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            at: stored.at.parse().ok()?,
            function: function.clone(),
            revision: stored.revision,
            instance: stored.instance,
            call: stored.call.and_then(|call| CallId::parse(&call)),
            stream: stored.stream,
            text: stored.text.into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;

    fn line(text: &str) -> Line {
        Line {
            at: Timestamp::new(1_700_000_000, 5).expect("a time"),
            function: FunctionRef::parse("hello").expect("a name"),
            revision: 3,
            instance: 17,
            call: CallId::parse("order-17"),
            stream: Stream::Stderr,
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_line_stands_in_its_file_as_one_json_object() {
        let mut out = Vec::new();
        line("two\nlines, \"quoted\"").encode(&mut out);
        expect![[r#"
            {"at":"2023-11-14T22:13:20.000000005Z","revision":3,"instance":17,"call":"order-17","stream":"stderr","text":"two\nlines, \"quoted\""}
        "#]]
        .assert_eq(&String::from_utf8(out).expect("text"));
    }

    #[test]
    fn a_filter_matches_only_if_all_its_parts_do() {
        let line = line("x");
        let whole = Filter::namespace(NamespaceName::default());
        let function = Filter::function(line.function.clone());
        let check = |filter: &Filter, wanted| assert_eq!(filter.matches(&line), wanted, "{filter:?}");
        check(&whole, true);
        check(&function, true);
        check(&Filter { call: CallId::parse("order-17"), ..function.clone() }, true);
        check(&Filter { call: CallId::parse("order-18"), ..function.clone() }, false);
        check(&Filter { instance: Some(17), ..function.clone() }, true);
        check(&Filter { instance: Some(18), ..function.clone() }, false);
        check(&Filter { stream: Some(Stream::Stderr), ..whole.clone() }, true);
        check(&Filter { stream: Some(Stream::Stdout), ..whole }, false);
        check(&Filter { namespace: NamespaceName::parse("shop").expect("a name"), ..function }, false);
        check(&Filter::function(FunctionRef::parse("other").expect("a name")), false);
    }

    #[test]
    fn an_identity_of_ours_is_found_again_as_text() {
        let ours = CallId::from_bits(7);
        let theirs = CallId::parse(ours.as_str());
        let line = Line { call: Some(ours), ..line("x") };
        assert!(Filter { call: theirs, ..Filter::namespace(NamespaceName::default()) }.matches(&line));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in ".*", nanos in 0_i32..1_000_000_000) {
            let written = Line { at: Timestamp::new(5, nanos).expect("a time"), ..line(&text) };
            let mut out = Vec::new();
            written.encode(&mut out);
            prop_assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
            prop_assert_eq!(Line::decode(&out, &written.function), Some(written));
        }

        #[test]
        fn part_of_a_line_is_not_a_line(text in ".*", share in 0.0..1.0) {
            let written = line(&text);
            let mut out = Vec::new();
            written.encode(&mut out);
            let end = ((out.len() - 2) as f64 * share) as usize;
            prop_assert_eq!(Line::decode(&out[..end], &written.function), None);
        }
    }
}
