//! Sandboxes: what runs code, and what code may touch.
//! Invoke starts instances here and runs calls in them; the gateway asks here whether an upload can run at all.

mod abi;
mod bodies;
mod capabilities;
mod cgi;
mod fault;
mod host;
mod identity;
mod oci;
mod output;
mod wasm;

pub use abi::openfaas::{Standing, contract_of};
pub use capabilities::courier::{Courier, Delivery};
pub use host::{Host, Printed, Secret, Stream};
pub use identity::{random_128, random_bits};
pub use oci::{
    Blueprint, Credentials, Image, ImageBounds, ImageConfig, Images, Launched, Process, Programs, Progress,
    Protection, Pruned, SANDBOX_SPAWNER, Used, sandbox_spawner,
};
pub use wasm::{
    Answer, Bounds, COMPILE_WORKER, Ended, Instance, Left, Plan, Prepared, Running, Runtime, Started, Status,
    Work, compile_worker,
};
