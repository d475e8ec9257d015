//! The headers of a callback, as the workers of OpenFaaS' queue send them.
//! Asked by `callback.rs` for calls that came in by its paths.

use http::{HeaderMap, HeaderValue};

use crate::callback::Ended;

/// What the receiver of a callback reads of the call.
pub(crate) fn headers(ended: &Ended<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let texts = [
        ("x-function-name", ended.function.to_string()),
        ("x-duration-seconds", format!("{:.6}", ended.took.as_secs_f64())),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    headers.insert("x-function-status", ended.status.into());
    // The first attempt is no retry.
    headers.insert("x-retry", ended.attempts.saturating_sub(1).into());
    headers.insert("x-retry-max", ended.attempts_max.saturating_sub(1).into());
    headers
}
