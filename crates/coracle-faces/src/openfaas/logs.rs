//! Logs: what a query asks for, and lines as they are said.
//! The gateway parses the query of `/system/logs` and streams the lines.
//!
//! Source: faas-provider:logs/handler.go.

use coracle_model::{FunctionRef, Problem};
use jiff::Timestamp;
use serde::Serialize;

use super::document::{bad, shown, truth};
use super::name;
use super::request::function_of;

/// What of a function's log is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// The function.
    pub function: FunctionRef,
    /// One of its instances alone.
    pub instance: Option<String>,
    /// So many of its last lines; `None` is all that are kept.
    pub tail: Option<u32>,
    /// Whether what is logged from now on is wanted too.
    pub follow: bool,
    /// Only what is not older.
    pub since: Option<Timestamp>,
}

impl LogQuery {
    /// Reads a query, decoded into names and values; of two of one name the last counts, and an empty value is none.
    ///
    /// # Errors
    /// The value that could not be understood; [`refusal::status`](super::refusal::status) has the status.
    pub fn parse<'a>(query: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Problem> {
        let (mut name, mut namespace, mut instance) = (None, None, None);
        let (mut tail, mut follow, mut since) = (None, None, None);
        for (key, value) in query.into_iter().filter(|(_, value)| !value.is_empty()) {
            let place = match key {
                "name" => &mut name,
                "namespace" => &mut namespace,
                "instance" => &mut instance,
                "tail" => &mut tail,
                "follow" => &mut follow,
                "since" => &mut since,
                _ => continue,
            };
            *place = Some(value);
        }
        let name =
            name.ok_or_else(|| bad("`name` is missing").hint("name a function, as in `?name=hello`"))?;
        Ok(Self {
            function: function_of(name, namespace)?,
            instance: instance.map(str::to_owned),
            tail: tail.map_or(Ok(None), parse_tail)?,
            follow: follow.map_or(Ok(false), parse_follow)?,
            since: since.map(parse_since).transpose()?,
        })
    }
}

/// Writes one line of a log, with the newline that ends it.
pub fn render_line(
    function: &FunctionRef,
    instance: &str,
    timestamp: Timestamp,
    text: &str,
    out: &mut String,
) {
    #[derive(Serialize)]
    struct View<'a> {
        name: &'a str,
        namespace: &'a str,
        instance: &'a str,
        timestamp: Timestamp,
        text: &'a str,
    }
    let namespace = name::of_namespace(&function.namespace);
    let view = View { name: function.name.as_str(), namespace, instance, timestamp, text };
    out.push_str(&serde_json::to_string(&view).expect("texts have no way to fail"));
    out.push('\n');
}

/// A number of lines; those of the command line say -1 for all.
fn parse_tail(text: &str) -> Result<Option<u32>, Problem> {
    let lines: i64 = text.parse().map_err(|_| {
        bad(format!("`tail` is `{}`, and must be a whole number", shown(text)))
            .hint("write for example `tail=100`; -1 is all that are kept")
    })?;
    Ok((lines > 0).then(|| u32::try_from(lines).unwrap_or(u32::MAX)))
}

fn parse_follow(text: &str) -> Result<bool, Problem> {
    truth(text).ok_or_else(|| {
        bad(format!("`follow` is `{}`, and must be true or false", shown(text))).hint("write `follow=true`")
    })
}

fn parse_since(text: &str) -> Result<Timestamp, Problem> {
    // A plus that was not encoded is a space once it is decoded; no moment has a space before its offset.
    text.parse().or_else(|_| text.replace(' ', "+").parse()).map_err(|_| {
        bad(format!("`since` is `{}`, which is no moment in RFC 3339", shown(text)))
            .hint("write for example `since=2026-01-31T12:00:00Z`")
    })
}

#[cfg(test)]
mod tests {
    use super::super::refusal::{Verb, status};
    use super::*;

    fn query(pairs: &[(&'static str, &'static str)]) -> Result<LogQuery, Problem> {
        LogQuery::parse(pairs.iter().copied())
    }

    #[test]
    fn what_the_command_line_asks_is_understood() {
        let asked = query(&[
            ("follow", "1"),
            ("instance", "f-1"),
            ("name", "f"),
            ("namespace", "other"),
            ("namespace", "shop"),
            ("since", "2026-01-31T13:00:00+01:00"),
            ("tail", "5"),
            ("trace", "x"),
        ]);
        let since = Some("2026-01-31T12:00:00Z".parse().unwrap());
        let function = FunctionRef::parse("f.shop").unwrap();
        let expected =
            LogQuery { function, instance: Some("f-1".into()), tail: Some(5), follow: true, since };
        assert_eq!(asked.unwrap(), expected);
        let plain =
            query(&[("name", "f.openfaas-fn"), ("tail", "-1"), ("since", ""), ("follow", "false")]).unwrap();
        let function = FunctionRef::parse("f").unwrap();
        assert_eq!(plain, LogQuery { function, instance: None, tail: None, follow: false, since: None });
    }

    #[test]
    fn an_offset_whose_plus_was_not_encoded_is_one() {
        let asked = query(&[("name", "f"), ("since", "2026-01-31T13:00:00 01:00")]).unwrap();
        assert_eq!(asked.since, Some("2026-01-31T12:00:00Z".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let table: [(&[(&str, &str)], &str); 7] = [
            (&[], "`name` is missing"),
            (&[("name", "")], "`name` is missing"),
            (&[("name", "f"), ("tail", "all")], "`tail` is `all`, and must be a whole number"),
            (&[("name", "f"), ("follow", "yes")], "`follow` is `yes`, and must be true or false"),
            (&[("name", "f"), ("since", "5m")], "`since` is `5m`, which is no moment in RFC 3339"),
            (
                &[("name", "f"), ("since", "2026-01-31")],
                "`since` is `2026-01-31`, which is no moment in RFC 3339",
            ),
            (
                &[("name", "f"), ("tail", "99999999999999999999")],
                "`tail` is `99999999999999999999`, and must be a whole number",
            ),
        ];
        for (pairs, expected) in table {
            let problem = LogQuery::parse(pairs.iter().copied()).unwrap_err();
            assert_eq!(problem.message, expected);
            assert_eq!(status(Verb::Logs, &problem), 422);
        }
    }

    #[test]
    fn a_line_is_one_line_whatever_it_says() {
        let mut out = String::new();
        let function = FunctionRef::parse("f").unwrap();
        render_line(&function, "f-1", Timestamp::UNIX_EPOCH, "a \"b\"\n\u{1b}[0m é", &mut out);
        assert_eq!(
            out,
            "{\"name\":\"f\",\"namespace\":\"openfaas-fn\",\"instance\":\"f-1\",\"timestamp\":\"1970-01-01T00:00:00Z\",\"text\":\"a \\\"b\\\"\\n\\u001b[0m é\"}\n"
        );
    }
}
