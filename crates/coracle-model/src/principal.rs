//! Who asks, and what they may do.
//! The gateway makes a principal of a token; everybody else only asks it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{FunctionRef, NamespaceName};

/// The public half of a token: it names the token in lists and logs, and opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub String);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nobody that we know; public functions answer them.
    Anonymous,
    /// The holder of a token.
    Token {
        /// Which token.
        id: TokenId,
        /// What it may do.
        scope: Scope,
        /// Where it may do it.
        reach: Reach,
    },
}

/// What a token may do; each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Call private functions.
    Call,
    /// Also deploy, read logs and set secrets.
    Deploy,
    /// Also everything else: namespaces, tokens, backups.
    Admin,
}

/// Where a token's scope holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Everywhere.
    All,
    /// In one namespace.
    Namespace(NamespaceName),
    /// For one function.
    Function(FunctionRef),
}

impl Principal {
    /// Whether they may act on the whole server, as `scope` does.
    pub fn may(&self, needed: Scope) -> bool {
        matches!(self, Self::Token { scope, reach: Reach::All, .. } if *scope >= needed)
    }

    /// Whether they may act in this namespace, as `scope` does.
    pub fn may_in(&self, needed: Scope, namespace: &NamespaceName) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Token { scope, reach, .. } => {
                *scope >= needed
                    && match reach {
                        Reach::All => true,
                        Reach::Namespace(own) => own == namespace,
                        Reach::Function(_) => false,
                    }
            }
        }
    }

    /// Whether they may act on this function, as `scope` does.
    pub fn may_on(&self, needed: Scope, function: &FunctionRef) -> bool {
        match self {
            Self::Token { scope, reach: Reach::Function(own), .. } => *scope >= needed && own == function,
            _ => self.may_in(needed, &function.namespace),
        }
    }

    /// Who it is, for a log line.
    pub fn name(&self) -> &str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Token { id, .. } => &id.0,
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everywhere"),
            Self::Namespace(namespace) => write!(f, "for the namespace `{namespace}`"),
            Self::Function(function) => write!(f, "for the function `{function}`"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "call" => Ok(Self::Call),
            "deploy" => Ok(Self::Deploy),
            "admin" => Ok(Self::Admin),
            _ => Err(format!("`{text}` is not a scope: it is `call`, `deploy` or `admin`")),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Call => "call",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_what_it_names_and_nothing_beside() {
        let here = FunctionRef::parse("resize.shop").unwrap();
        let beside = FunctionRef::parse("other.shop").unwrap();
        let elsewhere = FunctionRef::parse("resize").unwrap();
        let token = |scope, reach| Principal::Token { id: TokenId("t".into()), scope, reach };
        let (all, room, one) =
            (Reach::All, Reach::Namespace(here.namespace.clone()), Reach::Function(here.clone()));
        let table = [
            (Principal::Anonymous, [false; 5]),
            (token(Scope::Call, one.clone()), [false, true, false, false, false]),
            (token(Scope::Deploy, one), [true, true, false, false, false]),
            (token(Scope::Deploy, room), [true, true, true, false, false]),
            (token(Scope::Admin, all.clone()), [true; 5]),
            (token(Scope::Call, all), [false, true, true, true, false]),
        ];
        for (who, expected) in table {
            let may = [
                who.may_on(Scope::Deploy, &here),
                who.may_on(Scope::Call, &here),
                who.may_on(Scope::Call, &beside),
                who.may_on(Scope::Call, &elsewhere),
                who.may(Scope::Admin),
            ];
            assert_eq!(may, expected, "{who:?}");
        }
    }
}
