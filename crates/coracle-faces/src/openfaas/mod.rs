//! What OpenFaaS' clients send and expect, as `parse` and `render`.

pub mod name;
