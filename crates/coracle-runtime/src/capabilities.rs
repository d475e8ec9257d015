//! What a guest may do beyond computing; each capability is a file, and denies by default.

pub(crate) mod courier;
pub(crate) mod no_host;
pub(crate) mod outbound;
