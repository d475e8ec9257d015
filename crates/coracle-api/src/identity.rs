//! Who the server thinks is asking.
//! `coracle status` shows it, and scripts check a token with it.

use coracle_model::{FunctionName, NamespaceName, Principal, Reach, Scope, TokenId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who asks, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct IdentityView {
    /// The token that came; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub token: Option<TokenId>,
    /// What it may do: `call`, `deploy` or `admin`; absent without a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scope: Option<Scope>,
    /// The only namespace it reaches; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// The only function it reaches; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub function: Option<FunctionName>,
}

impl From<&Principal> for IdentityView {
    fn from(principal: &Principal) -> Self {
        let Principal::Token { id, scope, reach } = principal else {
            return Self::default();
        };
        let (namespace, function) = match reach {
            Reach::All => (None, None),
            Reach::Namespace(namespace) => (Some(namespace.clone()), None),
            Reach::Function(function) => (Some(function.namespace.clone()), Some(function.name.clone())),
        };
        Self { token: Some(id.clone()), scope: Some(*scope), namespace, function }
    }
}
