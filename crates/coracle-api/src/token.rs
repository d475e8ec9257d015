//! Tokens on the wire: the text of a token is shown once, when it is made.
//! `coracle token` makes, lists and removes them.

use std::fmt;

use coracle_model::{FunctionName, NamespaceName, Scope, Span, TokenId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A token, without the half that opens doors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its public name.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// What it is for, in the words of whoever made it.
    pub label: String,
    /// What it may do: `call`, `deploy` or `admin`.
    #[schema(value_type = String, example = "deploy")]
    pub scope: Scope,
    /// The only namespace it reaches; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// The only function it reaches; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub function: Option<FunctionName>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it ends to open anything; absent is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
}

/// A token to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What it is for.
    #[serde(default)]
    pub label: String,
    /// What it may do: `call`, `deploy` or `admin`.
    #[schema(value_type = String, example = "deploy")]
    pub scope: Scope,
    /// The only namespace it reaches; absent is all, or `default` if a function is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// The only function it reaches; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub function: Option<FunctionName>,
    /// How long it is good for; absent is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30d")]
    pub expires_in: Option<Span>,
}

/// A token that was made just now.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token itself. It is not kept, and not shown again.
    pub token: String,
    /// What it is, as the list shows it.
    #[serde(flatten)]
    pub view: TokenView,
}

/// A token stands in no log and no error.
impl fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCreated").field("view", &self.view).finish_non_exhaustive()
    }
}
