//! Calls that are to be queued, and answered elsewhere or not at all.
//! Nothing queues them yet, and whoever asks is told so: a call that is taken must not be lost.

use axum::extract::Request;
use coracle_model::{Problem, code};

use crate::admin::artifacts::linger;
use crate::admin::rim::Failure;

/// How much is read of a call that is refused.
const LINGER_BYTES_MAX: u64 = 4 << 20;

pub(super) async fn call(request: Request) -> Failure {
    let mut body = request.into_body();
    linger(&mut body, LINGER_BYTES_MAX).await;
    Problem::new(&code::NOT_IMPLEMENTED, "calls are not queued yet: the durable queue is still to come")
        .hint("call the function at `/function/NAME`, and wait for its answer")
        .into()
}
