//! `coracle login`: says that there is none, to whoever types it because faas-cli wants it.
//! Nothing is kept, and whatever else was typed is not looked at.

use crate::stop::Done;
use crate::talk;

/// Say that no login is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  coracle list --url https://faas.example.com --token TOKEN")]
pub(crate) struct Args {
    /// What faas-cli would take
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _flags: Vec<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "as every verb")]
pub(crate) fn run(_: &Args) -> Done {
    talk::say("no login is needed: on the machine of the server, its token is read from the data directory");
    talk::hint(
        "from elsewhere: `--url URL --token TOKEN` with any verb, or CORACLE_URL and CORACLE_TOKEN; `coracle token create` makes one",
    );
    Ok(())
}
