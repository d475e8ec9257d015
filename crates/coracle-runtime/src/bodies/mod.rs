//! Bodies on their way into a sandbox and out of it, whatever the sandbox is.
//! They count, they hold the bounds of a function, and they remember whose fault an early end was.

pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod watch;
