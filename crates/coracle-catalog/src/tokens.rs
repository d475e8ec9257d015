//! Tokens: who may do what. Only a hash of each is kept.
//! The gateway authenticates with them on every call that brings one; the admin API mints and revokes them.

use std::fmt;

use coracle_model::{NamespaceName, Principal, Problem, Reach, Scope, TokenId, code};
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use crate::Catalog;
use crate::key::{hex, random};
use crate::namespaces::{check_namespace, reaches_only};
use crate::records::{Place, TokenRecord};
use crate::state::State;
use crate::turn::Draft;

/// The most tokens of a server.
pub const TOKENS_MAX: usize = 10_000;
/// The most tokens that hold in one namespace only; they are removed together with it, in one batch.
pub const TOKENS_PER_NAMESPACE_MAX: usize = 500;
/// The longest label of a token, in bytes.
const LABEL_BYTES_MAX: usize = 256;
/// The label of the token in the data directory's `admin.token`; nobody else's.
const ADMIN_LABEL: &str = "admin.token";
/// What a token starts with, so that people and secret scanners know one when they see it.
const PREFIX: &str = "cor_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// What may be known of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// Its public half.
    pub id: TokenId,
    /// What it is for, in its maker's words.
    pub label: String,
    /// What it may do.
    pub scope: Scope,
    /// Where it may do it.
    pub reach: Reach,
    /// When it was minted.
    pub created: Timestamp,
    /// From when on it opens nothing.
    pub expires: Option<Timestamp>,
}

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthFailure {
    /// It is not one of ours, or was revoked.
    #[error("the token is not known")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// A token as memory holds it.
pub(crate) struct Token {
    pub(crate) info: TokenInfo,
    hash: blake3::Hash,
}

/// The text of a new token, registered nowhere yet: write it to `admin.token`, then
/// [`ensure_admin_token`](Catalog::ensure_admin_token). In this order a crash leaves no token that nobody has.
///
/// # Errors
/// `INTERNAL` if the system gives no random bytes.
pub fn new_token_text() -> Result<String, Problem> {
    Ok(text_of(&random::<ID_BYTES>()?, &random()?))
}

/// The text of a token, of as many bytes of its name as one has, and of its secret.
pub(crate) fn text_of(id: &[u8], secret: &[u8; SECRET_BYTES]) -> String {
    format!("{PREFIX}{}_{}", hex(&id[..ID_BYTES]), hex(secret))
}

impl Catalog {
    /// Makes a token. Its text is returned this once; only a hash of it is kept.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND` if it would hold in a namespace that is not there, `INVALID_SETTINGS`, `LIMIT_REACHED`, and
    /// those of the database.
    pub async fn mint(
        &self,
        label: &str,
        scope: Scope,
        reach: Reach,
        expires: Option<Timestamp>,
    ) -> Result<(TokenInfo, String), Problem> {
        let created = self.0.clock.now();
        check(label, created, expires)?;
        let text = new_token_text()?;
        let (id, hash) =
            parse(&text).ok_or_else(|| Problem::new(&code::INTERNAL, "a new token does not parse"))?;
        let info = TokenInfo { id, label: label.to_owned(), scope, reach, created, expires };
        self.in_turn(|state| {
            check_room(state, &info.reach)?;
            let mut draft = Draft::default();
            draft.put(&Place::Token(info.id.clone()), &info.record(hash));
            Ok((draft, ()))
        })
        .await?;
        Ok((info, text))
    }

    /// Who the holder of this token is. From memory, in a time that says nothing about a secret.
    ///
    /// # Errors
    /// [`AuthFailure`].
    pub fn authenticate(&self, text: &str) -> Result<Principal, AuthFailure> {
        let (id, hash) = parse(text).ok_or(AuthFailure::Unknown)?;
        let state = self.0.state();
        let token = state.tokens.get(&id).ok_or(AuthFailure::Unknown)?;
        if !bool::from(token.hash.as_bytes().ct_eq(hash.as_bytes())) {
            return Err(AuthFailure::Unknown);
        }
        if token.info.expires.is_some_and(|expires| expires <= self.0.clock.now()) {
            return Err(AuthFailure::Expired);
        }
        Ok(Principal::Token { id, scope: token.info.scope, reach: token.info.reach.clone() })
    }

    /// All tokens, expired ones included, oldest first.
    pub fn tokens(&self) -> Vec<TokenInfo> {
        let mut tokens: Vec<_> = self.0.state().tokens.values().map(|token| token.info.clone()).collect();
        tokens.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        tokens
    }

    /// Makes a token open nothing any more, from the next call on.
    ///
    /// # Errors
    /// `TOKEN_NOT_FOUND`, and those of the database.
    pub async fn revoke(&self, id: &TokenId) -> Result<(), Problem> {
        self.in_turn(|state| {
            let Some(token) = state.tokens.get(id) else {
                return Err(Problem::new(&code::TOKEN_NOT_FOUND, "there is no token of this id")
                    .hint("coracle token list"));
            };
            let mut draft = Draft::default();
            draft.delete(&Place::Token(token.info.id.clone()));
            Ok((draft, ()))
        })
        .await
    }

    /// Registers the token that stands in the data directory's `admin.token`: an admin everywhere, without expiry.
    ///
    /// The one that stood there before is revoked, so that replacing the file replaces the token.
    ///
    /// # Errors
    /// `DATA_UNUSABLE` if this is not the text of a token, and those of the database.
    pub async fn ensure_admin_token(&self, text: &str) -> Result<TokenInfo, Problem> {
        let (id, hash) = parse(text).ok_or_else(|| {
            Problem::new(&code::DATA_UNUSABLE, "the file admin.token holds no token")
                .hint("remove the file: the server makes a new token at its next start")
        })?;
        let created = self.0.clock.now();
        let wanted = TokenInfo {
            id,
            label: ADMIN_LABEL.into(),
            scope: Scope::Admin,
            reach: Reach::All,
            created,
            expires: None,
        };
        self.in_turn(|state| {
            let mut draft = Draft::default();
            for token in state
                .tokens
                .values()
                .filter(|token| token.info.label == ADMIN_LABEL && token.info.id != wanted.id)
            {
                draft.delete(&Place::Token(token.info.id.clone()));
            }
            match state.tokens.get(&wanted.id) {
                Some(known) if known.hash == hash && known.info.label == ADMIN_LABEL => {
                    Ok((draft, known.info.clone()))
                }
                _ => {
                    draft.put(&Place::Token(wanted.id.clone()), &wanted.record(hash));
                    Ok((draft, wanted.clone()))
                }
            }
        })
        .await
    }
}

impl TokenInfo {
    fn record(&self, hash: blake3::Hash) -> TokenRecord {
        TokenRecord {
            label: self.label.clone(),
            scope: self.scope,
            reach: self.reach.clone(),
            created: self.created,
            expires: self.expires,
            hash: hash.to_hex().to_string(),
        }
    }
}

impl Token {
    pub(crate) fn read(id: TokenId, record: TokenRecord) -> Result<Self, String> {
        let hash = blake3::Hash::from_hex(&record.hash).map_err(|_| "its hash is not one")?;
        let TokenRecord { label, scope, reach, created, expires, .. } = record;
        Ok(Self { info: TokenInfo { id, label, scope, reach, created, expires }, hash })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

/// The public half of a token, and the hash of its secret half.
///
/// 256 random bits need no slow hash: nobody guesses them.
fn parse(text: &str) -> Option<(TokenId, blake3::Hash)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str, bytes: usize| {
        text.len() == 2 * bytes && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
    };
    (is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES))
        .then(|| (TokenId(id.to_owned()), blake3::hash(secret.as_bytes())))
}

fn check(label: &str, now: Timestamp, expires: Option<Timestamp>) -> Result<(), Problem> {
    let reason = if label.len() > LABEL_BYTES_MAX {
        format!("the label of a token has at most {LABEL_BYTES_MAX} bytes")
    } else if label.chars().any(char::is_control) {
        "the label of a token has no control characters".to_owned()
    } else if label == ADMIN_LABEL {
        format!("the label `{ADMIN_LABEL}` is that of the token in the data directory")
    } else if expires.is_some_and(|expires| expires <= now) {
        "the token would have expired already".to_owned()
    } else {
        return Ok(());
    };
    Err(Problem::new(&code::INVALID_SETTINGS, reason))
}

fn check_room(state: &State, reach: &Reach) -> Result<(), Problem> {
    let full = |most, of: String| {
        Err(Problem::new(&code::LIMIT_REACHED, format!("there are {most} tokens {of} already"))
            .hint("revoke those that have expired: coracle token list"))
    };
    if let Some(namespace) = namespace_of(reach) {
        check_namespace(state, namespace)?;
        let beside = state.tokens.values().filter(|token| reaches_only(&token.info.reach, namespace)).count();
        if beside >= TOKENS_PER_NAMESPACE_MAX {
            return full(TOKENS_PER_NAMESPACE_MAX, format!("for namespace `{namespace}`"));
        }
    }
    if state.tokens.len() >= TOKENS_MAX { full(TOKENS_MAX, "on this server".to_owned()) } else { Ok(()) }
}

fn namespace_of(reach: &Reach) -> Option<&NamespaceName> {
    match reach {
        Reach::All => None,
        Reach::Namespace(namespace) => Some(namespace),
        Reach::Function(function) => Some(&function.namespace),
    }
}
