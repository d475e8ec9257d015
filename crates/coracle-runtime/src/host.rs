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
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps a value, so that it is not shown by accident.
    pub fn new(value: Vec<u8>) -> Self {
        Self(value)
    }

    /// The value itself, for the guest it was granted to.
    pub(crate) fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The value as a variable of the guest's environment; `None` if it is no text.
    pub(crate) fn text(&self) -> Option<&str> {
        text_of(&self.0)
    }
}

/// What can be a variable: no environment holds other bytes, or a NUL.
pub(crate) fn text_of(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| !text.contains('\0'))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
