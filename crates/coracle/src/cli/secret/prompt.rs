//! A question at the terminal whose answer is not shown while it is typed.
//! `coracle secret set` asks for a value with it, `coracle image login` for a password.

use std::io::{self, BufRead as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

/// What Ctrl-C types, while it does not interrupt.
const CTRL_C: u8 = 3;

/// Asks, and reads a line.
pub(in crate::cli) fn hidden(question: &str) -> io::Result<Vec<u8>> {
    let quiet = Quiet::begin()?;
    let mut err = io::stderr();
    write!(err, "{question}")?;
    err.flush()?;
    let mut line = Vec::new();
    // A terminal hands over a line at a time, and a line ends with Ctrl-C too.
    let read = io::stdin().lock().fill_buf().map(|typed| line.extend_from_slice(typed));
    drop(quiet);
    let _ = writeln!(err); // The line break that was typed was not shown either.
    read?;
    if line.contains(&CTRL_C) {
        return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
    }
    Ok(line)
}

/// The terminal, quiet until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        // Ctrl-C must end the line, not the process: a killed process would leave the terminal without an echo.
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0); // The terminal may be gone.
    }
}
