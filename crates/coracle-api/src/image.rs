//! Images on the wire: what is pulled, loaded and listed, and who we are to registries.
//! `coracle image` speaks in these types.

use std::fmt;

use coracle_model::{Digest, NamespaceName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::ProblemView;

/// The largest archive of images that a server takes, in bytes.
pub const IMAGE_BYTES_MAX: u64 = 8 << 30;

/// An image that the server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    /// Its whole name.
    #[schema(example = "docker.io/library/nginx:latest")]
    pub reference: String,
    /// Whether that name still stands for it; one that was removed, or is another's now, is kept while a function runs it.
    pub named: bool,
    /// The SHA-256 of its manifest, in hexadecimal digits.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The bytes of its layers as they came, mostly compressed.
    pub size: u64,
    /// How many layers it has.
    pub layers: usize,
    /// When it was built, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created: Option<Timestamp>,
    /// What is run first.
    pub entrypoint: Vec<String>,
    /// What is run, or the arguments of the entrypoint where there is one.
    pub command: Vec<String>,
    /// Who it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The folder it starts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The lowest TCP port that it exposes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether a revision that is kept runs it.
    pub in_use: bool,
}

/// Which image to pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// Its name, as Docker reads it: `nginx` is `docker.io/library/nginx:latest`.
    #[schema(example = "ghcr.io/team/app:2")]
    pub reference: String,
    /// The namespace whose password for the registry is used.
    #[serde(default)]
    #[schema(value_type = String, default = "default")]
    pub namespace: NamespaceName,
    /// Whether an image that is there is as good, and its registry is not asked what the name stands for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub if_missing: bool,
}

/// A line of a pull: how far it is, again and again, and then how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullEvent {
    /// How far it is.
    Progress(PullProgress),
    /// It is there; nothing follows.
    Image(ImageView),
    /// It failed; nothing follows.
    Problem(ProblemView),
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullProgress {
    /// How many layers the image has.
    pub layers: usize,
    /// How many of them are there.
    pub layers_done: usize,
    /// How many bytes came, or were there already.
    pub bytes: u64,
    /// How many bytes its layers have.
    pub bytes_total: u64,
}

/// What an uploaded image is to be called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LoadQuery {
    /// Its name; without it the archive says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// Which image is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImageQuery {
    /// Its name.
    #[param(example = "nginx")]
    pub reference: String,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedView {
    /// Images.
    pub images: u64,
    /// Layers that no image needs any more.
    pub layers: u64,
}

/// A registry that a namespace has a password for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegistryView {
    /// Its host, and its port if need be.
    #[schema(example = "ghcr.io")]
    pub registry: String,
    /// When the password was set.
    #[schema(value_type = String, format = DateTime)]
    pub updated: Timestamp,
}

/// Who we are to a registry, on its way in: it never comes back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryLogin {
    /// The name of a user.
    pub username: String,
    /// Their password, or an access token.
    pub password: String,
}

/// A password stands in no log and no error.
impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryLogin(…)")
    }
}
