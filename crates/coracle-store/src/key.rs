//! The name of an entry: text in parts divided by `/`, such as `function/default/resize`.
//! Built by whoever keeps state; checked once, here, so that a database never meets a bad one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 1024;

/// The name of an entry: one or more parts divided by `/`, none of them empty, without control characters,
/// at most [`KEY_BYTES_MAX`] bytes.
///
/// Keys are ordered by their bytes. A clone shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Reads a whole key, its parts divided by `/`.
    ///
    /// # Errors
    /// [`InvalidKey`] if it is empty, too long, has an empty part or a control character.
    pub fn new(text: &str) -> Result<Self, InvalidKey> {
        let fault = |reason| Err(InvalidKey { text: abbreviated(text), reason });
        if text.is_empty() {
            return fault("it is empty");
        }
        if text.len() > KEY_BYTES_MAX {
            return fault("it is longer than 1024 bytes");
        }
        if text.split('/').any(str::is_empty) {
            return fault("it has an empty part");
        }
        if text.chars().any(char::is_control) {
            return fault("it has a control character");
        }
        Ok(Self(text.into()))
    }

    /// Joins parts into a key; a part that itself holds a `/` is refused, so that a name from outside cannot
    /// reach into a neighbour's room.
    ///
    /// # Errors
    /// [`InvalidKey`] as for [`Key::new`], and if a part holds a `/`.
    pub fn from_parts(parts: &[&str]) -> Result<Self, InvalidKey> {
        if let Some(part) = parts.iter().find(|part| part.contains('/')) {
            return Err(InvalidKey { text: abbreviated(part), reason: "a part holds a `/`" });
        }
        Self::new(&parts.join("/"))
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts, in order.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::new(text)
    }
}

/// A text that cannot be a [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be a key: {reason}")]
pub struct InvalidKey {
    text: String,
    reason: &'static str,
}

/// The start of a text that may be anything, short enough for an error message.
fn abbreviated(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_refused_with_the_reason() {
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        for (text, reason) in [
            ("", "it is empty"),
            ("/a", "it has an empty part"),
            ("a//b", "it has an empty part"),
            ("a/", "it has an empty part"),
            ("a\0b", "it has a control character"),
            (&long, "it is longer than 1024 bytes"),
        ] {
            let refused = Key::new(text).expect_err(text);
            assert_eq!(refused.reason, reason, "{text}");
            assert!(refused.to_string().len() < 400, "the message stays short");
        }
        assert!(Key::new(&long[1..]).is_ok());
    }

    #[test]
    fn a_part_cannot_smuggle_another_part() {
        assert!(Key::from_parts(&["secret", "default", "../other/api-key"]).is_err());
        let key = Key::from_parts(&["secret", "default", "api-key"]).unwrap();
        assert_eq!(key.as_str(), "secret/default/api-key");
        assert_eq!(key.parts().next_back(), Some("api-key"));
    }
}
