//! The names of the log: topics, positions in them, and the identities, groups and holders of messages.
//! Built by whoever appends; checked once, here, so that a database never meets a bad one.

use std::fmt;
use std::sync::Arc;

use crate::{InvalidKey, Key};

/// The longest identity, group and holder, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 256;

/// A named sequence of messages, such as `default/calls/resize`; its first part is the namespace it belongs to.
///
/// A topic needs no making: it is there while it has messages.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Key);

impl Topic {
    /// Joins parts into a topic, under the rules of [`Key::from_parts`].
    ///
    /// # Errors
    /// [`InvalidKey`] if a part is empty or holds a `/` or a control character, or if all of it is too long.
    pub fn from_parts(parts: &[&str]) -> Result<Self, InvalidKey> {
        Key::from_parts(parts).map(Self)
    }

    /// Reads a whole topic, its parts divided by `/`.
    ///
    /// # Errors
    /// As for [`Key::new`].
    pub fn new(text: &str) -> Result<Self, InvalidKey> {
        Key::new(text).map(Self)
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The parts, in order.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.parts()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Where a message stands: unique in the database, and greater than that of every message appended before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no identity, group or holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name in the log has 1 to {NAME_BYTES_MAX} bytes and no control character")]
pub struct InvalidName;

/// The names that messages carry are the same kind of text under different nouns.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text: 1 to [`NAME_BYTES_MAX`] bytes without control characters.
            ///
            /// # Errors
            /// [`InvalidName`] for any other.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
                (fits && !text.chars().any(char::is_control)).then(|| Self(text.into())).ok_or(InvalidName)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// By what a message is found again, whatever topic it has come to. Several messages may share one.
    MessageId
}
name! {
    /// Messages of one topic and group are leased one at a time, in the order in which they were appended.
    Group
}
name! {
    /// Who holds leases: one run of one server. A server that starts anew is another holder.
    Holder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_bounded_text_on_one_line() {
        let longest = "x".repeat(NAME_BYTES_MAX);
        for good in ["a", "order 17", "é", longest.as_str()] {
            assert_eq!(Group::new(good).map(|group| group.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", "a\nb", "\u{0}", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(Group::new(bad), Err(InvalidName), "{bad:?}");
        }
    }
}
