//! Sandboxes: what runs code, and what code may touch.
//! Invoke starts instances here and runs calls in them; the gateway asks here whether an upload can run at all.

mod capabilities;
mod host;
mod identity;
mod oci;
mod output;
mod wasm;

pub use host::{Host, Printed, Secret, Stream};
pub use identity::random_bits;
pub use oci::{Credentials, Image, ImageBounds, ImageConfig, Images, Progress, Pruned};
pub use wasm::{
    Answer, Bounds, COMPILE_WORKER, Ended, Instance, Left, Plan, Prepared, Running, Runtime, Status, Work,
    compile_worker,
};
