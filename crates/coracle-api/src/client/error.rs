//! What can go wrong for a client: four things that its user can act on.
//! The CLI makes an exit code and a hint of each.

use std::path::PathBuf;

use crate::ProblemView;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with a problem.
    #[error("{0}")]
    Problem(Box<ProblemView>),
    /// No server answers there.
    #[error("no server answers at {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// What answers does not speak as a Coracle server does, or stopped to in the middle.
    #[error("the answer from {url} cannot be used: {reason}")]
    Protocol {
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The URL or the token cannot be used.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// A file to upload cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A URL that no server can be asked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use `{url}`: {reason}")]
pub struct InvalidUrl {
    url: String,
    reason: &'static str,
}

impl InvalidUrl {
    pub(super) fn new(url: &str, reason: &'static str) -> Self {
        Self { url: url.to_owned(), reason }
    }
}
