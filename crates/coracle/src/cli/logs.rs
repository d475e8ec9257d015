//! `coracle logs`: what functions printed, oldest first, and what they print from now on.
//! With `--json` one object a line, so that a program can follow too.

use std::collections::HashMap;

use anstyle::{AnsiColor, Style};
use coracle_api::{CallQuery, Client, KnownCall, LogLine, LogQuery, LogStream, PAGE_ITEMS_MAX, Since};
use coracle_model::FunctionName;

use super::calls;
use crate::options::{Common, Named};
use crate::stop::Done;
use crate::talk::{DIM, NEXT, styled};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle logs -f                      of all functions, as they come
  coracle logs hello --since 5m
  coracle logs hello --call 0f3a…      what one call printed

Of a namespace with more than 1000 functions, older lines come from the 1000 that wrote last.";

/// Read what functions printed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The function, as NAME or NAME.NS [default: all of the namespace]
    name: Option<Named>,
    /// Go on as lines are written
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many lines [default: 100, without --since]
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Only since a time, or a span before now: 2026-01-31T12:00:00Z, 5m
    #[arg(long, value_name = "TIME|SPAN")]
    since: Option<Since>,
    /// Only those of one call
    #[arg(long, value_name = "ID")]
    call: Option<String>,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let function = args.name.as_ref().map(|name| common.function(name));
    let is_one = function.is_some();
    let (namespace, name) = match function.clone() {
        Some(function) => (Some(function.namespace), Some(function.name)),
        None => (common.namespace.clone(), None),
    };
    let client = common.client()?;
    let call = match args.call {
        Some(id) => {
            let calls = CallQuery {
                namespace: namespace.clone(),
                function: name.clone(),
                limit: Some(PAGE_ITEMS_MAX),
                ..CallQuery::default()
            };
            Some(calls::whole(&client, calls, id).await?)
        }
        None => None,
    };
    let query = LogQuery {
        namespace,
        function: name,
        call,
        stream: None,
        tail: args.tail,
        since: args.since,
        follow: args.follow,
        here: false,
    };
    let mut lines = client.logs(&query).await?;
    say_skipped(lines.functions_skipped());
    let mut names = (!is_one).then(Names::default);
    let mut none = true;
    while let Some(line) = lines.next().await? {
        none = false;
        if common.json {
            print::json_line(&line)?;
        } else {
            print::line(render(&line, names.as_mut()))?;
        }
    }
    if none {
        if let Some(function) = &function {
            // A function that was removed has no lines either.
            client.function(function).await?;
        }
        match &query.call {
            Some(call) => say_none_of(&client, call).await?,
            None => talk::say("no lines"),
        }
    }
    Ok(())
}

/// That a call printed nothing; that nobody knows it is an error.
async fn say_none_of(client: &Client, id: &str) -> Done {
    let known = client.known_call(id).await?;
    talk::say(format_args!("no lines of the call {id}"));
    if let KnownCall::Queued(call) = known {
        talk::hint(format_args!("it was queued, and is {}: coracle queue show {id}", call.state.as_str()));
    }
    Ok(())
}

fn say_skipped(functions: usize) {
    if functions > 0 {
        talk::say(format_args!("older lines of {functions} functions are left out: many others wrote later"));
        talk::hint("name the function, or ask for less with `--since`");
    }
}

/// A line for people; with the name of its function, where several speak.
pub(super) fn render(line: &LogLine, names: Option<&mut Names>) -> String {
    let LogLine { time, function, revision, instance, stream, text, .. } = line;
    // In UTC, as the server keeps it: two people who look at one line see one time.
    let time = time.strftime("%Y-%m-%d %H:%M:%S%.3f");
    let name = names.map(|names| names.shown(&function.name)).unwrap_or_default();
    let who = styled(DIM, format_args!("{revision}/{instance}"));
    let style = match stream {
        LogStream::Stdout => Style::new(),
        LogStream::Stderr => AnsiColor::Yellow.on_default(),
        LogStream::Platform => NEXT,
    };
    format!("{} {name}{who} {}", styled(DIM, time), styled(style, visible(text)))
}

/// The colours that functions get in turn; yellow and red are for what is wrong.
const COLOURS: [AnsiColor; 8] = [
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Cyan,
    AnsiColor::BrightGreen,
    AnsiColor::BrightMagenta,
    AnsiColor::BrightBlue,
    AnsiColor::BrightCyan,
];
/// Names longer than this push their own line out, and no other.
const NAME_COLUMNS_MAX: usize = 24;

/// How functions are told apart: a colour for each, in the order in which they speak, below each other.
#[derive(Debug, Default)]
pub(super) struct Names {
    styles: HashMap<FunctionName, Style>,
    columns: usize,
}

impl Names {
    /// The name as it stands before a line, with the space behind it.
    pub(super) fn shown(&mut self, name: &FunctionName) -> String {
        let next = COLOURS[self.styles.len() % COLOURS.len()].on_default();
        let style = *self.styles.entry(name.clone()).or_insert(next);
        let columns = name.as_str().len();
        self.columns = self.columns.max(columns.min(NAME_COLUMNS_MAX));
        let gap = self.columns.saturating_sub(columns) + 1;
        format!("{}{:gap$}", styled(style, name), "")
    }
}

/// Characters that turn the direction of what follows, and so may hide it: Unicode's explicit bidirectional formatting.
const TURNS: [char; 9] = [
    '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}',
    '\u{2069}',
];

/// What a guest prints must not steer the terminal of whoever reads it.
pub(super) fn visible(text: &str) -> String {
    let steers = |c: char| (c.is_control() && c != '\t') || TURNS.contains(&c);
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_steer_the_terminal() {
        assert_eq!(visible("a\tb\u{1b}]0;title\u{7}c"), "a\tb\u{fffd}]0;title\u{fffd}c");
        assert_eq!(visible("a\u{202e}b"), "a\u{fffd}b");
    }

    #[test]
    fn a_line_names_its_function_where_several_speak() {
        let line = LogLine {
            time: "2026-01-31T12:00:00.25Z".parse().unwrap(),
            function: coracle_model::FunctionRef::parse("hello").unwrap(),
            revision: 3,
            instance: 7,
            call: None,
            stream: LogStream::Stdout,
            text: "greeting Ada".into(),
        };
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain(render(&line, None)), "2026-01-31 12:00:00.250 3/7 greeting Ada");
        let named = render(&line, Some(&mut Names::default()));
        assert_eq!(plain(named), "2026-01-31 12:00:00.250 hello 3/7 greeting Ada");
    }

    #[test]
    fn functions_have_colours_of_their_own_and_stand_below_each_other() {
        let mut names = Names::default();
        let mut shown = |name: &str| names.shown(&name.parse().unwrap());
        let (first, longer, again) = (shown("hello"), shown("thumbnail"), shown("hello"));
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        assert_eq!(
            (plain(&first).as_str(), plain(&longer).as_str(), plain(&again).as_str()),
            ("hello ", "thumbnail ", "hello     ")
        );
        assert_eq!(first.trim_end(), again.trim_end(), "one function keeps its colour");
        assert_ne!(first.replace("hello", ""), longer.replace("thumbnail", ""));
    }
}
