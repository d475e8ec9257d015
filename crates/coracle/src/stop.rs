//! Why a verb ends before its end.
//! Every verb returns one; `main.rs` makes an exit code of it, and shows it if nobody did yet.

use std::io;

use coracle_api::{ClientError, ProblemView};
use coracle_model::{Problem, code};

/// What a verb returns.
pub(crate) type Done<T = ()> = Result<T, Stop>;

/// Why a verb ends before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something went wrong, and must be shown: exit code 1.
    Problem(Box<ProblemView>),
    /// Something went wrong, and was shown already: exit code 1.
    Shown,
    /// Flags that do not go together: exit code 2.
    Usage(Box<clap::Error>),
    /// Somebody pressed Ctrl-C: exit code 130, as shells have it.
    Interrupted,
    /// Whoever read our output has seen enough, as in `coracle logs | head`: exit code 0.
    ReaderGone,
}

impl Stop {
    /// Output that cannot be written.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Problem::new(&code::INTERNAL, format!("cannot write the output: {error}")).into(),
        }
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(ProblemView::new(&problem, None)))
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Problem(problem) => Self::Problem(problem),
            ClientError::Unreachable { source, .. } => {
                Problem::new(&code::SERVER_UNREACHABLE, format!("{message}: {source}"))
                    .hint("start one with `coracle up`, or name another with `--url`")
                    .into()
            }
            ClientError::Protocol { .. } => Problem::new(&code::SERVER_UNREACHABLE, message).into(),
            ClientError::Url(_) => Problem::new(&code::BAD_REQUEST, message).into(),
            ClientError::File { source, .. } => {
                Problem::new(&code::BAD_REQUEST, format!("{message}: {source}")).into()
            }
        }
    }
}
