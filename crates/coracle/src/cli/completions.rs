//! `coracle completions SHELL`: a script for the shell, made of the same table as the help.
//! Packages and people's shell profiles call it.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::options::Options;
use crate::print;
use crate::stop::Done;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  coracle completions bash > ~/.local/share/bash-completion/completions/coracle"
)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Options::command(), "coracle", &mut script);
    print::bytes(&script)
}
