//! Programs that are not WebAssembly: the images and bundles they come in.
//! `serve.rs` opens the images; the gateway pulls, loads and lists them.

mod image;

pub use image::{Credentials, Image, ImageBounds, ImageConfig, Images, Progress, Pruned};
