//! Artifacts on the wire: bytes go up once, and are named by their SHA-256 from then on.
//! `coracle deploy` asks for the digest first and skips the upload when the server has it.

use coracle_model::Digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The largest artifact that a server takes unless it is told otherwise, in bytes.
///
/// WebAssembly rarely has ten megabytes, but bundles bring what their language does not: the `node_modules` of a web
/// application have some 300 MB, a Python environment with numerical libraries 400. What is larger is better an image,
/// whose layers are shared. Uploads are streamed to the disk, so the bound costs no memory.
pub const ARTIFACT_BYTES_MAX: u64 = 512 << 20;

/// An artifact that the server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// The SHA-256 of its bytes, in hexadecimal digits.
    #[schema(value_type = String, example = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")]
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
}
