//! What a running guest may ask of the platform.
//! Declared here and implemented in the binary's `serve.rs`: the only edge that points back up, and visible.

use std::fmt;

use coracle_model::{CallId, FunctionRef, NamespaceName, SecretName};

/// The platform, as a guest sees it.
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// Keeps a line that a guest printed; never blocks.
    fn log(&self, line: Printed);

    /// Counts a connection that was refused to a function.
    fn denied(&self, function: &FunctionRef);

    /// The value of a secret, if there is one of this name.
    fn secret(&self, namespace: &NamespaceName, name: &SecretName) -> Option<Secret>;
}

/// A line that a guest printed, or that we say about it.
#[derive(Debug, Clone)]
pub struct Printed {
    /// Whose line it is.
    pub function: FunctionRef,
    /// The revision that ran.
    pub revision: u32,
    /// The instance that printed it.
    pub instance: u64,
    /// The call that the instance was serving.
    pub call: Option<CallId>,
    /// Where it was printed.
    pub stream: Stream,
    /// The line, without its end.
    pub text: String,
}

/// Where a line was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The guest's standard output.
    Stdout,
    /// The guest's standard error.
    Stderr,
    /// Our own words about the guest.
    Platform,
}

/// The value of a secret; it is never shown.
pub struct Secret(String);

impl Secret {
    /// Wraps a value, so that it is not shown by accident.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the guest it was granted to.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
