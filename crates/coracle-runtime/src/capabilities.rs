//! What a guest may do beyond computing; each capability is a file, and denies by default.

pub(crate) mod outbound;
