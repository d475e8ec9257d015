//! A JSON object as a client sent it, taken apart member by member.
//! Every parser of a body in this dialect begins here; what is wrong is named by its path, and no text of it repeated, as it may be a secret.

use std::collections::BTreeMap;

use coracle_model::{Problem, code};
use serde_json::{Map, Value};

/// An object whose members are taken out by name; `null` is absent, as Go's decoder has it.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Where it stands in what was sent, with a dot at its end; empty for all of it.
    path: String,
    members: Map<String, Value>,
}

impl Document {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self { path: String::new(), members }),
            Ok(other) => Err(bad(format!("the body is {}, and must be an object", kind_of(&other)))
                .hint("send JSON such as `{\"name\": …}`")),
            Err(error) => Err(bad(format!("the body is no JSON: {error}"))
                .hint("send a JSON object, with `Content-Type: application/json`")),
        }
    }

    /// A member that is a text.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Problem> {
        let path = self.path_of(key);
        self.taken(key).map(|value| text_of(&path, value)).transpose()
    }

    /// A member that must be there, and a text that is not empty.
    pub(super) fn needed_text(&mut self, key: &str, example: &str) -> Result<String, Problem> {
        match self.text(key)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(bad(format!("`{}` is missing", self.path_of(key)))
                .hint(format!("add it, as in `\"{key}\": \"{example}\"`"))),
        }
    }

    /// A member that is a list of texts.
    pub(super) fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>, Problem> {
        let path = self.path_of(key);
        match self.taken(key) {
            None => Ok(None),
            Some(Value::Array(values)) => {
                let place = |(index, value)| text_of(&format!("{path}[{index}]"), value);
                values.into_iter().enumerate().map(place).collect::<Result<_, _>>().map(Some)
            }
            Some(other) => Err(wrong(&path, &other, "a list of texts", "[\"a\", \"b\"]")),
        }
    }

    /// A member that is an object of texts.
    pub(super) fn pairs(&mut self, key: &str) -> Result<Option<BTreeMap<String, String>>, Problem> {
        let Some(pairs) = self.object(key)? else { return Ok(None) };
        let named = |(name, value)| {
            let text = text_of(&format!("{}{name}", pairs.path), value)?;
            Ok((name, text))
        };
        pairs.members.into_iter().map(named).collect::<Result<_, _>>().map(Some)
    }

    /// A member that is an object.
    pub(super) fn object(&mut self, key: &str) -> Result<Option<Self>, Problem> {
        let path = self.path_of(key);
        match self.taken(key) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Self { path: path + ".", members })),
            Some(other) => Err(wrong(&path, &other, "an object of texts", "{\"a\": \"b\"}")),
        }
    }

    /// A member that is a list of objects, as those of an alert are.
    pub(super) fn objects(&mut self, key: &str) -> Result<Option<Vec<Self>>, Problem> {
        let path = self.path_of(key);
        let Some(value) = self.taken(key) else { return Ok(None) };
        let Value::Array(values) = value else {
            return Err(wrong(&path, &value, "a list of objects", "[{\"a\": \"b\"}]"));
        };
        let object = |(index, value)| match value {
            Value::Object(members) => Ok(Self { path: format!("{path}[{index}]."), members }),
            other => Err(wrong(&format!("{path}[{index}]"), &other, "an object", "{\"a\": \"b\"}")),
        };
        values.into_iter().enumerate().map(object).collect::<Result<_, _>>().map(Some)
    }

    /// A member that is true or false.
    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, Problem> {
        match self.taken(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(&self.path_of(key), &other, "`true` or `false`", "true")),
        }
    }

    /// A member that is a whole number from 0.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<u32>, Problem> {
        let Some(value) = self.taken(key) else { return Ok(None) };
        match value.as_u64().map(u32::try_from) {
            Some(Ok(number)) => Ok(Some(number)),
            _ if value.is_number() => {
                Err(bad(format!("`{}` is {value}, and must be a whole number from 0", self.path_of(key)))
                    .hint("write for example `1`"))
            }
            _ => Err(wrong(&self.path_of(key), &value, "a whole number from 0", "1")),
        }
    }

    /// Takes a member that nobody is to see.
    pub(super) fn forget(&mut self, key: &str) {
        self.members.remove(key);
    }

    /// What was not taken.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.members
    }

    fn path_of(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    fn taken(&mut self, key: &str) -> Option<Value> {
        self.members.remove(key).filter(|value| !value.is_null())
    }
}

/// The words that Go reads as true or false.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A request that could not be understood.
pub(super) fn bad(message: impl Into<String>) -> Problem {
    Problem::new(&code::BAD_REQUEST, message)
}

/// The start of a text that may be anything, fit for a message.
pub(super) fn shown(text: &str) -> String {
    /// The characters that are repeated.
    const SHOWN_MAX: usize = 60;
    let mut shown: String =
        text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn text_of(path: &str, value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(path, &other, "a text", "\"1\"")),
    }
}

/// A value is told by its kind: it may be a secret.
fn wrong(path: &str, value: &Value, wanted: &str, example: &str) -> Problem {
    bad(format!("`{}` is {}, and must be {wanted}", shown(path), kind_of(value)))
        .hint(format!("write for example `{example}`"))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
