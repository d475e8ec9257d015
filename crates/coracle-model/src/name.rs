//! Names, parsed once at the rim: inside, a name is already right.
//! Every crate uses them; what is not allowed says why.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::{Problem, code};

/// The longest name of anything, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// A name that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a name of {noun}: a name is 1 to {NAME_BYTES_MAX} of the characters {allowed}", shown(.text))]
pub struct InvalidName {
    noun: &'static str,
    allowed: &'static str,
    text: String,
}

/// What of a wrong name is repeated in its error: enough to know it again, without control characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(40).map(|c| if c.is_control() { '?' } else { c }).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $allowed:literal, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text and makes it a name.
            ///
            /// # Errors
            /// [`InvalidName`] when it is empty, too long, or has a character that is not allowed.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let allowed: fn(u8) -> bool = $is_allowed;
                if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { noun: $noun, allowed: $allowed, text: text.to_owned() })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// The name of a function, within its namespace.
    FunctionName, "a function", "A-Z a-z 0-9 _ -", |c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-'
}
name! {
    /// The name of a namespace; it may stand in a host name, so it is lower case.
    NamespaceName, "a namespace", "a-z 0-9 -", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'
}
name! {
    /// The name of an app, within its namespace.
    AppName, "an app", "A-Z a-z 0-9 _ -", |c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-'
}
name! {
    /// The name of a topic, within its namespace.
    TopicName, "a topic", "A-Z a-z 0-9 _ - .", |c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.')
}
name! {
    /// The name of a secret, within its namespace.
    SecretName, "a secret", "A-Z a-z 0-9 _ - .", |c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.')
}

impl SecretName {
    /// That a secret may be made under this name: a program has each as a file of its name, and these two are folders.
    ///
    /// They are names all the same, as one of them may be in the data of an earlier server.
    ///
    /// # Errors
    /// `invalid-name`, with the reason.
    pub fn check_new(&self) -> Result<(), Problem> {
        if !matches!(self.as_str(), "." | "..") {
            return Ok(());
        }
        let message = format!("`{self}` cannot name a secret: programs read each as a file of its name");
        Err(Problem::new(&code::INVALID_NAME, message).hint("choose another name, as in `api-key`"))
    }
}

impl NamespaceName {
    /// The name of the first namespace.
    pub const DEFAULT: &'static str = "default";

    /// The flag that names it in a command line, to be put behind a verb: ` -n NAME`, and nothing for the first one.
    pub fn flag(&self) -> String {
        if self.as_str() == Self::DEFAULT { String::new() } else { format!(" -n {self}") }
    }
}

impl Default for NamespaceName {
    fn default() -> Self {
        // Shared: every call of a function without a namespace asks for it.
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| NamespaceName::DEFAULT.into());
        Self(Arc::clone(&NAME))
    }
}

/// A function: its name and its namespace, shown as `NAME.NAMESPACE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FunctionRef {
    /// The room it lives in.
    pub namespace: NamespaceName,
    /// Its name there.
    pub name: FunctionName,
}

impl FunctionRef {
    /// Reads `NAME` (in the default namespace) or `NAME.NAMESPACE`.
    ///
    /// # Errors
    /// [`InvalidName`] of the part that is not allowed.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let (name, namespace) = match text.rsplit_once('.') {
            Some((name, namespace)) => (name, NamespaceName::parse(namespace)?),
            None => (text, NamespaceName::default()),
        };
        Ok(Self { namespace, name: FunctionName::parse(name)? })
    }
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_names_hold_only_what_is_safe_in_a_path() {
        let long = "a".repeat(NAME_BYTES_MAX);
        for good in ["a", "Resize_2-x", &long] {
            assert_eq!(FunctionName::parse(good).map(|name| name.to_string()).as_deref(), Ok(good));
        }
        let too_long = "a".repeat(300);
        for bad in ["", "a/b", "..", "a.b", "a b", "é", "a\n", "a%2f", too_long.as_str()] {
            assert!(FunctionName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_repeats_only_the_start_of_a_long_name() {
        let error = FunctionName::parse(&"x/".repeat(150)).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
        assert!(error.contains("A-Z a-z 0-9 _ -"), "{error}");
    }

    #[test]
    fn no_secret_is_made_that_could_not_be_a_file() {
        let said =
            |name: &str| SecretName::parse(name).unwrap().check_new().map_err(|problem| problem.code.name);
        for (name, expected) in
            [(".", Err("invalid-name")), ("..", Err("invalid-name")), ("...", Ok(())), (".a", Ok(()))]
        {
            assert_eq!(said(name), expected, "{name}");
        }
    }

    #[test]
    fn a_function_is_named_with_or_without_its_namespace() {
        let parse = |text: &str| FunctionRef::parse(text).map(|function| function.to_string());
        assert_eq!(parse("hello").as_deref(), Ok("hello.default"));
        assert_eq!(parse("hello.shop").as_deref(), Ok("hello.shop"));
        assert!(parse("a.b.c").is_err());
        assert!(parse(".shop").is_err());
    }
}
