//! Namespaces and apps, as the API shows them.
//! `coracle namespace` and `coracle list` print them.

use coracle_model::{AppName, FunctionName, NamespaceName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A tenant's room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespaceView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: NamespaceName,
    /// How many functions live in it.
    pub functions: usize,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
}

/// Functions that are deployed, shown and removed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: AppName,
    /// The namespace it lives in.
    #[schema(value_type = String)]
    pub namespace: NamespaceName,
    /// Its functions.
    #[schema(value_type = Vec<String>)]
    pub functions: Vec<FunctionName>,
}
