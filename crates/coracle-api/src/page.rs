//! Lists on the wire: some items, and where to go on.
//! Every list of the API has this shape, also those that are never long.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Items of a page when the client does not say.
pub const PAGE_ITEMS_DEFAULT: usize = 100;
/// The most items of a page.
pub const PAGE_ITEMS_MAX: usize = 1_000;

/// Some items of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// What to send as `after` to get the items that follow; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is whole.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

impl<T> FromIterator<T> for Page<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::whole(items.into_iter().collect())
    }
}
