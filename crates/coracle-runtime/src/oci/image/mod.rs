//! OCI images, from a reference or an archive to unpacked layers on disk; and the archives of bundles.
//! Everything starts at [`Images`]; nothing of an image is kept that was not verified.

mod archive;
mod budget;
mod bundle;
mod config;
mod decode;
mod fault;
mod images;
mod layers;
mod manifest;
mod path;
mod records;
mod reference;
mod registry;
mod tree;
mod unpack;

pub use budget::ImageBounds;
pub use config::ImageConfig;
pub use images::{Image, Images, Progress, Pruned};
pub use registry::Credentials;

#[cfg(test)]
mod tests;
