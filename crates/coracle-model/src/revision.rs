//! What a function is at one moment: its code and its settings, numbered, never changed.
//! The catalog keeps revisions, the runtime runs them.

use std::fmt;

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
}

impl Code {
    /// The artifact that the code is.
    pub fn artifact(&self) -> Digest {
        match self {
            Self::Wasm(digest) => *digest,
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
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Component => "component",
            Self::Stdio => "stdio",
        })
    }
}
