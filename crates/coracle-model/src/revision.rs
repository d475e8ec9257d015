//! What a function is at one moment: its code and its settings, numbered, never changed.
//! The catalog keeps revisions, the runtime runs them.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, FunctionRef, Settings};

/// One immutable pair of code and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Whose revision it is.
    pub function: FunctionRef,
    /// Its number: the first is 1, and none is used twice.
    pub number: u32,
    /// What is run.
    pub code: Code,
    /// How it is spoken to.
    pub contract: Contract,
    /// How it is run.
    pub settings: Settings,
    /// When it was deployed.
    pub created: Timestamp,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Code {
    /// A WebAssembly component or a core wasip1 module.
    Wasm(Digest),
    /// Files, kept as one archive: they lie at `/home/app`, and the rest of the root is the host's `/usr`.
    Bundle(Digest),
    /// An OCI image, which is its own root.
    Image {
        /// What it was asked for by, as in `docker.io/library/nginx:1`.
        reference: String,
        /// The manifest that the reference stood for when it was deployed.
        digest: Digest,
    },
}

impl Code {
    /// What names the bytes of the code: its artifact, or the manifest of its image.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Wasm(digest) | Self::Bundle(digest) | Self::Image { digest, .. } => *digest,
        }
    }

    /// The artifact that the code is; an image is none.
    pub fn artifact(&self) -> Option<Digest> {
        match self {
            Self::Wasm(digest) | Self::Bundle(digest) => Some(*digest),
            Self::Image { .. } => None,
        }
    }

    /// The kind of code in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Wasm(_) => "wasm",
            Self::Bundle(_) => "bundle",
            Self::Image { .. } => "image",
        }
    }
}

/// How code is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contract {
    /// A component with `wasi:http/incoming-handler`.
    Component,
    /// One process a call: body in on stdin, body out on stdout.
    Stdio,
    /// A program that listens on a port and speaks HTTP there.
    Http,
    /// A program behind a watchdog, as OpenFaaS has it: its environment says whether it listens or runs for each call.
    Watchdog,
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Component => "component",
            Self::Stdio => "stdio",
            Self::Http => "http",
            Self::Watchdog => "watchdog",
        })
    }
}

/// A text that is no contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a contract: write `http` for a program that listens, `stdio` for one that reads its input and prints, \
     `watchdog` for one that its `fprocess` names"
)]
pub struct InvalidContract(String);

impl FromStr for Contract {
    type Err = InvalidContract;

    fn from_str(text: &str) -> Result<Self, InvalidContract> {
        match text {
            "component" => Ok(Self::Component),
            "stdio" => Ok(Self::Stdio),
            "http" => Ok(Self::Http),
            "watchdog" => Ok(Self::Watchdog),
            _ => Err(InvalidContract(text.chars().take(40).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contract_is_read_as_it_is_shown() {
        for contract in [Contract::Component, Contract::Stdio, Contract::Http, Contract::Watchdog] {
            assert_eq!(contract.to_string().parse(), Ok(contract));
        }
        let invalid = "grpc".parse::<Contract>().unwrap_err().to_string();
        // WebAssembly says itself that it is a component.
        for offered in [Contract::Stdio, Contract::Http, Contract::Watchdog] {
            assert!(invalid.contains(&format!("`{offered}`")), "{invalid}");
        }
    }
}
