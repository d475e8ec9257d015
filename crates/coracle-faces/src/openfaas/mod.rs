//! What OpenFaaS' clients send and expect, as `parse` and `render`.

mod envsubst;
mod glob;
pub mod name;
pub mod stack;
