//! One attempt: a kept call becomes a call of invoke again, a kept result is posted, and what comes back is read within bounds.
//! The worker runs it in a task that holds a place.

use std::time::Duration;

use bytes::BytesMut;
use coracle_invoke::{Afterwards, Invoke};
use coracle_model::{Body, BodyError, Call, FunctionRef, Outcome, Problem, Reply, Revision, Trace, code};
use coracle_observe::Observe;
use coracle_observe::logs;
use coracle_runtime::{Courier, Delivery, random_bits};
use coracle_store::Artifacts;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::CallResult;
use crate::payload::{Kept, KeptBody, KeptCall, KeptDelivery, Work};
use crate::story::cut;

/// The most of a result's body that is kept, in bytes.
pub(crate) const RESULT_BYTES_MAX: usize = 1 << 20;
/// The most of a result's headers that are kept, in bytes.
const RESULT_HEADERS_BYTES_MAX: usize = 64 << 10;
/// Lines of its log that are kept of an attempt that failed, and the bytes of each.
const LOG_LINES_MAX: usize = 10;
const LOG_LINE_BYTES_MAX: usize = 200;
/// How long is looked for them.
const LOG_TIMEOUT: Duration = Duration::from_secs(2);
/// Logs that are read at once: each is a look at the disk.
static LOGS_READ: Semaphore = Semaphore::const_new(2);

/// What runs calls.
#[derive(Debug, Clone)]
pub(crate) enum Executor {
    /// Functions.
    Invoke(Invoke),
    /// What a test says.
    #[cfg(test)]
    Scripted(crate::tests::Script),
}

impl Executor {
    async fn call(&self, call: Call, revision: std::sync::Arc<Revision>, after: &Afterwards) -> Outcome {
        match self {
            Self::Invoke(invoke) => invoke.call(call, revision, Some(after)).await,
            #[cfg(test)]
            Self::Scripted(script) => {
                let _ = (revision, after);
                script.call(call).await
            }
        }
    }
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) enum Ran {
    /// An answer, whole.
    Answered(CallResult),
    /// A problem.
    Failed(Box<Problem>),
}

/// Runs a kept call of a revision, to the end of its answer.
pub(crate) async fn call(
    executor: &Executor,
    artifacts: &Artifacts,
    function: &FunctionRef,
    revision: std::sync::Arc<Revision>,
    kept: &Kept,
    head: &KeptCall,
    after: &Afterwards,
) -> Ran {
    let body = match body_of(artifacts, &kept.body).await {
        Ok(body) => body,
        Err(problem) => return Ran::Failed(problem.into()),
    };
    let mut request = Box::new(Request::new(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    let call = Call {
        id: kept.id.clone(),
        function: function.clone(),
        request,
        principal: head.principal.clone(),
        trace: Trace { span: random_bits().max(1), parent: Some(head.trace.span), ..head.trace },
        client: head.client,
    };
    match executor.call(call, revision, after).await {
        Ok(reply) => read(reply).await,
        Err(problem) => Ran::Failed(problem),
    }
}

/// Posts a kept result.
pub(crate) async fn deliver(
    courier: &Courier,
    revision: Option<&Revision>,
    kept: &Kept,
    head: &KeptDelivery,
) -> Ran {
    let KeptBody::Here(body) = &kept.body else {
        // Results are bounded so that they stand in their message.
        let problem = Problem::new(&code::CALL_UNREADABLE, "the result that is to be delivered is not there");
        return Ran::Failed(problem.into());
    };
    let Ok(url) = head.url.parse() else {
        let problem = Problem::new(&code::INVALID_CALLBACK, format!("`{}` is not a URL", head.url));
        return Ran::Failed(problem.into());
    };
    let delivery = Delivery { url, headers: head.headers.clone(), body: body.clone() };
    // What a function that is gone was allowed is allowed no more.
    let grants = revision.map_or(&[][..], |revision| &revision.settings.outbound);
    match courier.deliver(delivery, grants).await {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            let body_bytes = body.len() as u64;
            Ran::Answered(CallResult {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
                body_bytes,
            })
        }
        Err(problem) => Ran::Failed(problem.into()),
    }
}

/// The last lines that a function printed in an attempt.
pub(crate) async fn log_excerpt(
    observe: &Observe,
    function: &FunctionRef,
    kept: &Kept,
    started: Timestamp,
) -> Vec<String> {
    if !matches!(kept.work, Work::Call(_)) {
        return Vec::new();
    }
    let filter = logs::Filter { call: Some(kept.id.clone()), ..logs::Filter::function(function.clone()) };
    let read = async {
        let _permit = LOGS_READ.acquire().await.ok()?;
        observe.logs.since(&filter, started).await.ok()
    };
    // A story without its last lines is better than none.
    let Ok(Some(found)) = tokio::time::timeout(LOG_TIMEOUT, read).await else { return Vec::new() };
    let last = found.lines.len().saturating_sub(LOG_LINES_MAX);
    let lines = found.lines.into_iter().skip(last);
    lines
        .map(|line| {
            let mut text = line.text;
            cut(&mut text, LOG_LINE_BYTES_MAX);
            text
        })
        .collect()
}

/// The body of a kept call, wherever it is.
async fn body_of(artifacts: &Artifacts, body: &KeptBody) -> Result<Body, Problem> {
    match body {
        KeptBody::Here(bytes) => Ok(Body::once(bytes.clone())),
        KeptBody::Artifact { digest, .. } => crate::bodies::open(artifacts, digest).await,
    }
}

/// Reads an answer to its end, and keeps of it what may be kept.
async fn read(reply: Reply) -> Ran {
    let (head, mut body) = reply.into_parts();
    let (mut read, mut body_bytes) = (BytesMut::new(), 0u64);
    let mut whole = None;
    loop {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                body_bytes += data.len() as u64;
                let room = RESULT_BYTES_MAX - read.len().min(RESULT_BYTES_MAX);
                // Most answers come in one piece, which needs no copy.
                if read.is_empty() && whole.is_none() && data.len() <= room {
                    whole = Some(data);
                    continue;
                }
                if let Some(first) = whole.take() {
                    read.extend_from_slice(&first);
                }
                let room = RESULT_BYTES_MAX - read.len().min(RESULT_BYTES_MAX);
                read.extend_from_slice(&data[..data.len().min(room)]);
            }
            Some(Err(BodyError::Problem(problem))) => return Ran::Failed(problem),
            Some(Err(broken @ BodyError::Broken(_))) => {
                let message = format!("the body of the answer broke off: {broken}");
                return Ran::Failed(Problem::new(&code::GUEST_INVALID_RESPONSE, message).into());
            }
        }
    }
    let body = whole.unwrap_or_else(|| read.freeze());
    Ran::Answered(CallResult {
        status: head.status.as_u16(),
        headers: kept_headers(head.headers),
        body,
        body_bytes,
    })
}

/// As many of the headers as are kept.
fn kept_headers(headers: HeaderMap) -> HeaderMap {
    let bytes_of = |headers: &HeaderMap| -> usize {
        headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
    };
    if bytes_of(&headers) <= RESULT_HEADERS_BYTES_MAX {
        return headers;
    }
    let mut left = RESULT_HEADERS_BYTES_MAX;
    let fits = |name: &http::HeaderName, value: &http::HeaderValue, left: &mut usize| {
        let bytes = name.as_str().len() + value.len();
        let fits = bytes <= *left;
        *left -= if fits { bytes } else { 0 };
        fits
    };
    let mut kept = HeaderMap::new();
    for (name, value) in &headers {
        if fits(name, value, &mut left) {
            kept.append(name, value.clone());
        }
    }
    kept
}
