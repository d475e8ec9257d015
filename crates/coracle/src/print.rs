//! Standard output: what a command was asked for, and nothing else.
//! The verbs print with it; colours fall away when nobody would see them.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use crate::busy;
use crate::stop::{Done, Stop};

/// A line.
pub(crate) fn line(text: impl std::fmt::Display) -> Done {
    busy::above(|| writeln!(anstream::stdout(), "{text}")).map_err(|error| Stop::of_output(&error))
}

/// A value as JSON, over several lines.
pub(crate) fn json(value: &impl Serialize) -> Done {
    line(encoded(serde_json::to_string_pretty(value))?)
}

/// A value as JSON, on one line: for values that come one after the other.
pub(crate) fn json_line(value: &impl Serialize) -> Done {
    line(encoded(serde_json::to_string(value))?)
}

/// Bytes as they are, at once: whoever follows a stream sees each piece when it comes.
pub(crate) fn bytes(bytes: &[u8]) -> Done {
    // Not through anstream: a function may answer with any bytes, escape sequences too.
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Stop::of_output(&error))
}

/// How many columns there are, if somebody looks at them.
pub(crate) fn columns() -> Option<usize> {
    let out = std::io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn encoded(text: serde_json::Result<String>) -> Done<String> {
    text.map_err(|error| Stop::of_output(&error.into()))
}
