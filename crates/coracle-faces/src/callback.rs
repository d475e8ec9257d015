//! What is said beside the result of a queued call when it is posted to whoever asked for it.
//! The queue keeps which form was asked for, and asks here for its headers when the result goes out.

use std::time::Duration;

use coracle_model::{CallId, FunctionRef};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::openfaas;

/// In whose words a result is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Ours.
    #[default]
    Plain,
    /// Those of OpenFaaS.
    OpenFaas,
}

/// How a queued call ended, as its callback tells.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// Which call.
    pub id: &'a CallId,
    /// What was called.
    pub function: &'a FunctionRef,
    /// How it ended, in a word: `succeeded`, `failed`, `cancelled` or `dead`.
    pub state: &'static str,
    /// The status of its last answer.
    pub status: u16,
    /// How long its last attempt took.
    pub took: Duration,
    /// How often it was tried.
    pub attempts: u32,
    /// How often it might have been.
    pub attempts_max: u32,
}

const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");

impl Form {
    /// Its name, as it is kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::OpenFaas => "openfaas",
        }
    }

    /// The form of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::OpenFaas].into_iter().find(|form| form.as_str() == name)
    }

    /// The headers that describe an ended call; they take the place of its own of the same names.
    pub fn headers(self, ended: &Ended<'_>) -> HeaderMap {
        let mut headers = match self {
            Self::Plain => plain(ended),
            Self::OpenFaas => openfaas::callback::headers(ended),
        };
        if let Ok(id) = HeaderValue::from_str(ended.id.as_str()) {
            headers.insert(CALL_ID, id);
        }
        headers
    }
}

fn plain(ended: &Ended<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(function) = HeaderValue::from_str(&ended.function.to_string()) {
        headers.insert("x-coracle-function", function);
    }
    headers.insert("x-coracle-state", HeaderValue::from_static(ended.state));
    headers.insert("x-coracle-status", ended.status.into());
    headers.insert("x-coracle-attempts", ended.attempts.into());
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(form: Form, expected: Expect) {
        let ended = Ended {
            id: &CallId::parse("order-17").unwrap(),
            function: &FunctionRef::parse("resize.shop").unwrap(),
            state: "dead",
            status: 502,
            took: Duration::from_micros(1_250_000),
            attempts: 5,
            attempts_max: 5,
        };
        let headers = form.headers(&ended);
        let text: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
        expected.assert_eq(&text.concat());
    }

    #[test]
    fn our_words_say_how_a_call_ended() {
        check(
            Form::Plain,
            expect![[r#"
            x-coracle-function: resize.shop
            x-coracle-state: dead
            x-coracle-status: 502
            x-coracle-attempts: 5
            x-call-id: order-17
        "#]],
        );
    }

    #[test]
    fn the_words_of_openfaas_are_those_of_its_workers() {
        check(
            Form::OpenFaas,
            expect![[r#"
            x-function-name: resize.shop
            x-duration-seconds: 1.250000
            x-function-status: 502
            x-retry: 4
            x-retry-max: 4
            x-call-id: order-17
        "#]],
        );
    }

    #[test]
    fn a_form_is_found_by_its_name() {
        for form in [Form::Plain, Form::OpenFaas] {
            assert_eq!(Form::named(form.as_str()), Some(form));
        }
        assert_eq!(Form::named("other"), None);
    }
}
