//! Standard error: what a command has to say about its work, and every error.
//! The verbs talk with it, `main.rs` shows problems with it; what cannot be said is lost, because there is nobody to tell.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use coracle_api::ProblemView;
use coracle_model::NamespaceName;

use crate::busy;

/// What stands out.
pub(crate) const BOLD: Style = Style::new().bold();
/// What stands back.
pub(crate) const DIM: Style = Style::new().dimmed();
/// What went wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What to do next.
pub(crate) const NEXT: Style = AnsiColor::Cyan.on_default();

/// A text in a style.
pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A line to whoever sits there.
pub(crate) fn say(text: impl Display) {
    let _ = busy::above(|| writeln!(anstream::stderr(), "{text}"));
}

/// What to do next.
pub(crate) fn hint(text: impl Display) {
    say(format_args!("{NEXT}hint:{NEXT:#} {text}"));
}

/// Whether somebody sits there, and may be shown what moves.
pub(crate) fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// An error: for people in lines, for programs as one JSON object.
pub(crate) fn problem(problem: &ProblemView, json: bool) {
    if json {
        // A struct of texts always has an encoding.
        say(serde_json::to_string(problem).unwrap_or_default());
        return;
    }
    let ProblemView { code, message, .. } = problem;
    say(format_args!("{BAD}error[{code}]:{BAD:#} {message}"));
    if let Some(text) = &problem.hint {
        hint(text);
    }
    say(format_args!("{DIM}see: coracle explain {code}{DIM:#}"));
}

/// The flag that names a namespace, where it is not the first one.
pub(crate) fn namespace_flag(namespace: &NamespaceName) -> String {
    namespace.flag()
}

/// The namespace, where it is not the first one.
pub(crate) fn in_namespace(namespace: &NamespaceName) -> String {
    if namespace.as_str() == NamespaceName::DEFAULT { String::new() } else { format!(" in {namespace}") }
}
