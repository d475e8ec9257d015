//! Accepting a call: it is checked, read to its end, and durable when this returns.
//! Where a place is free and nothing waits before it, it is leased in the commit that appends it, and begins at once.

use std::sync::Arc;

use coracle_model::{Call, CallId, FunctionRef, Problem, code};
use coracle_runtime::Courier;
use coracle_store::{
    Append, Appended, Batch, Begin, CommitError, Committed, Condition, Due, Key, Lease, Message,
    MessageState, ReadError,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::ask::{Delay, OnceKey, Submission};
use crate::board::{Leased, Place};
use crate::bodies;
use crate::engine::Engine;
use crate::heartbeat;
use crate::payload::{Kept, KeptBody, KeptCall, Work};
use crate::queue::Accepted;
use crate::settle::message_id;
use crate::topics::{Room, body_key, once_key};

/// How long an idempotency key is remembered.
pub(crate) const ONCE_KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
/// How often a key that somebody else just wrote is looked at again.
const ONCE_TRIES: usize = 4;
/// After how many seconds asking again may help, when the queue is full or the database is down.
pub(crate) const RETRY_AFTER_S: u32 = 5;

/// What an idempotency key stands for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OnceRecord {
    id: String,
    due: Timestamp,
    pub(crate) until: Timestamp,
    /// What the call was, so that another one under the same key is found out.
    call: String,
}

/// A call that is ready to be appended.
struct Ready {
    function: FunctionRef,
    id: CallId,
    due: Timestamp,
    append: Append,
    /// What is put beside it.
    batch: Batch,
    once: Option<(Key, OnceRecord)>,
    limit: u32,
}

/// Accepts a call.
pub(crate) async fn put(engine: &Arc<Engine>, submission: Submission) -> Result<Accepted, Problem> {
    let ready = ready(engine, submission).await?;
    if engine.options.forgets {
        return Ok(ready.accepted());
    }
    let begins_now = matches!(ready.append.begin, Begin::Waiting(Due::Now)) && ready.append.group.is_none();
    if begins_now && let Some(place) = engine.board.reserve(&ready.append.topic, ready.limit) {
        return begin_at_once(engine, ready, place).await;
    }
    let namespace = &ready.function.namespace;
    if !engine.depths.admit(engine, namespace).await.map_err(unread)? {
        return Err(full(engine, &ready.function));
    }
    let mut once = Once::new(&ready);
    loop {
        let batch = once.with(ready.batch.clone().append(ready.append.clone()));
        match engine.database.commit(batch).await {
            Ok(_) => return Ok(ready.accepted()),
            Err(error) => {
                if let Some(accepted) = once.again(engine, error).await? {
                    return Ok(accepted);
                }
            }
        }
    }
}

/// Appends a call that has a place, and runs it in the task that has appended it.
///
/// The task goes on when whoever asked went away: what it appended is leased, and nobody else would run it.
async fn begin_at_once(engine: &Arc<Engine>, ready: Ready, place: Place) -> Result<Accepted, Problem> {
    let (answer, answered) = oneshot::channel();
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        let mut once = Once::new(&ready);
        let (result, job) = loop {
            let holder = engine.sessions.begin();
            let was_ours = engine.is_ours(&holder);
            let append = Append { begin: Begin::Held(holder.clone()), ..ready.append.clone() };
            let committed = engine.database.commit(once.with(ready.batch.clone().append(append))).await;
            match committed {
                Ok(committed) => match held(&ready, committed) {
                    Some(leased) => {
                        let job = engine.board.begin(place, leased);
                        break (Ok(ready.accepted()), Some(job));
                    }
                    None => {
                        engine.sessions.over(&holder);
                        break (Ok(ready.accepted()), None);
                    }
                },
                Err(error) => {
                    engine.sessions.over(&holder);
                    let is_unknown = matches!(error, CommitError::Unavailable(_));
                    let has_lapsed = matches!(error, CommitError::Lapsed { .. });
                    if is_unknown || has_lapsed && was_ours {
                        engine.sessions.renew(&holder);
                    }
                    if is_unknown || has_lapsed {
                        // If it does not get through, neither does what comes next.
                        let beat = heartbeat::beat(&engine).await;
                        if has_lapsed && beat.is_ok() {
                            continue;
                        }
                    }
                    match once.again(&engine, error).await {
                        Ok(None) => {}
                        Ok(Some(accepted)) => break (Ok(accepted), None),
                        Err(problem) => break (Err(problem), None),
                    }
                }
            }
        };
        // Whoever asked may have gone away; the call is accepted all the same.
        let _ = answer.send(result);
        match job {
            Some(job) => engine.work(job).await,
            None => engine.board.nudge(),
        }
    });
    let gone = |_| Problem::new(&code::SERVER_STOPPING, "the server is about to stop").retry_after(1);
    answered.await.map_err(gone)?
}

/// The lease of what was appended, if it is ours.
fn held(ready: &Ready, committed: Committed) -> Option<Leased> {
    let Appended { position, lease } = committed.appended.into_iter().next()?;
    let lease: Lease = lease?;
    let message = Message {
        position,
        topic: ready.append.topic.clone(),
        id: ready.append.id.clone(),
        group: ready.append.group.clone(),
        appended: ready.due,
        due: ready.due,
        attempt: lease.attempt,
        state: MessageState::Held(lease.holder.clone()),
        story: bytes::Bytes::new(),
        losses: Vec::new(),
        payload: ready.append.payload.clone(),
    };
    Some(Leased { lease, message })
}

/// Checks a call and reads it to its end.
async fn ready(engine: &Engine, submission: Submission) -> Result<Ready, Problem> {
    let Submission { call, delay, group, once, callback } = submission;
    let Call { id, function, request, principal, trace, client } = call;
    let revision = engine.catalog.resolve(&function).ok_or_else(|| Problem::no_function(&function))?;
    if let Some(callback) = &callback {
        let url = callback.url.parse().map_err(|_| {
            Problem::new(&code::INVALID_CALLBACK, format!("the callback `{}` is not a URL", callback.url))
        })?;
        Courier::check(&url, &revision.settings.outbound)?;
    }
    let (head, body) = request.into_parts();
    let body =
        bodies::keep(&engine.artifacts, &engine.reading, body, revision.settings.limits.request_body_bytes)
            .await?;
    let now = engine.now();
    let (due, begin) = match delay {
        Delay::None => (now, Due::Now),
        Delay::For(time) => (now.saturating_add(time).unwrap_or(Timestamp::MAX), Due::In(time)),
        Delay::Until(at) => (at.max(now), Due::At(at)),
    };
    let once = once.map(|key| once_of(&function, &key, &id, due, now, &head, &body));
    let mut batch = Batch::new();
    if let KeptBody::Artifact { digest, mark, .. } = &body {
        batch = batch.put(body_key(digest, mark), id.as_str().to_owned(), Condition::Any);
    }
    let work = KeptCall {
        method: head.method,
        uri: head.uri,
        headers: head.headers,
        principal,
        client,
        trace,
        callback,
        once: once.as_ref().map(|(key, _)| key.clone()),
    };
    let kept = Kept { id: id.clone(), accepted: now, due, hops: 0, work: Work::Call(Box::new(work)), body };
    let append = Append {
        topic: Room::Calls(function.clone()).topic(),
        id: message_id(&id),
        group: group.and_then(|group| coracle_store::Group::new(group.as_str()).ok()),
        begin: Begin::Waiting(begin),
        payload: kept.encode(),
    };
    let limit = revision.settings.queue.concurrency;
    Ok(Ready { function, id, due, append, batch, once, limit })
}

impl Ready {
    fn accepted(&self) -> Accepted {
        Accepted { id: self.id.clone(), due: self.due, again: false }
    }
}

/// The idempotency key of a call on its way through commits.
struct Once {
    key: Option<(Key, OnceRecord)>,
    condition: Condition,
    tries: usize,
}

impl Once {
    fn new(ready: &Ready) -> Self {
        Self { key: ready.once.clone(), condition: Condition::Absent, tries: 0 }
    }

    /// The batch, with the key if there is one.
    fn with(&self, batch: Batch) -> Batch {
        let Some((key, record)) = &self.key else { return batch };
        let value = serde_json::to_vec(record).expect("texts and times are JSON");
        batch.put(key.clone(), value, self.condition)
    }

    /// What is said when the commit failed: the call that came before under the same key, or nothing if it is to be tried again.
    async fn again(&mut self, engine: &Engine, error: CommitError) -> Result<Option<Accepted>, Problem> {
        let (CommitError::Conflict { .. }, Some((key, record))) = (&error, &self.key) else {
            return Err(uncommitted(error));
        };
        self.tries += 1;
        if self.tries > ONCE_TRIES {
            return Err(uncommitted(error));
        }
        let Some(entry) = engine.database.get(key).await.map_err(unread)? else {
            self.condition = Condition::Absent;
            return Ok(None);
        };
        let found: Option<OnceRecord> = serde_json::from_slice(&entry.value).ok();
        match found.filter(|found| found.until > engine.now()) {
            Some(found) if found.call == record.call => {
                let id = CallId::parse(&found.id).unwrap_or_else(|| CallId::from_bits(0));
                Ok(Some(Accepted { id, due: found.due, again: true }))
            }
            Some(_) => Err(Problem::new(
                &code::IDEMPOTENCY_KEY_REUSED,
                "another call came with this idempotency key before",
            )
            .hint("send each call with a key of its own, and the same key only with the same call")),
            // It is over, or nobody can read it: this call takes its place.
            None => {
                self.condition = Condition::Revision(entry.revision);
                Ok(None)
            }
        }
    }
}

fn once_of(
    function: &FunctionRef,
    key: &OnceKey,
    id: &CallId,
    due: Timestamp,
    now: Timestamp,
    head: &http::request::Parts,
    body: &KeptBody,
) -> (Key, OnceRecord) {
    let mut hash = blake3::Hasher::new();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    for part in [head.method.as_str().as_bytes(), path.as_bytes()] {
        hash.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    match body {
        KeptBody::Here(bytes) => hash.update(bytes),
        KeptBody::Artifact { digest, .. } => hash.update(digest.to_string().as_bytes()),
    };
    let until = now.saturating_add(ONCE_KEPT).unwrap_or(Timestamp::MAX);
    let call = hash.finalize().to_hex().to_string();
    (once_key(function, key.as_str()), OnceRecord { id: id.as_str().to_owned(), due, until, call })
}

fn full(engine: &Engine, function: &FunctionRef) -> Problem {
    let (namespace, max) = (&function.namespace, engine.options.depth_max);
    Problem::new(
        &code::QUEUE_FULL,
        format!("{max} calls wait in the namespace `{namespace}`, and no more may"),
    )
    .hint(format!(
        "see what waits with `coracle queue status{}`, or allow more with `--queue-depth`",
        namespace.flag()
    ))
    .retry_after(RETRY_AFTER_S)
}

/// What a commit that failed is called.
pub(crate) fn uncommitted(error: CommitError) -> Problem {
    match error {
        CommitError::Full => Problem::new(&code::STORE_UNAVAILABLE, "the disk of the database is full")
            .hint("make room on the disk of the data directory, and send the call again")
            .retry_after(RETRY_AFTER_S),
        CommitError::Invalid { reason } => {
            Problem::new(&code::INTERNAL, format!("the call cannot be kept: {reason}"))
        }
        CommitError::Conflict { .. } => {
            Problem::new(&code::CONFLICT, "others changed the same at the same time, several times over")
                .hint("try again")
                .retry_after(1)
        }
        CommitError::Lost { .. } => {
            Problem::new(&code::CONFLICT, "the call began, ended or was changed at the same time")
                .hint("look at it again with `coracle queue show ID`")
        }
        error @ (CommitError::Lapsed { .. } | CommitError::Unavailable(_)) => {
            Problem::new(&code::STORE_UNAVAILABLE, format!("the queue cannot write: {error}"))
                .hint("try again in a moment")
                .retry_after(RETRY_AFTER_S)
        }
    }
}

/// What a read that failed is called.
pub(crate) fn unread(error: ReadError) -> Problem {
    match error {
        ReadError::Invalid { reason } => Problem::new(&code::INTERNAL, format!("read the queue: {reason}")),
        ReadError::Unavailable(_) => {
            Problem::new(&code::STORE_UNAVAILABLE, format!("the queue cannot be read: {error}"))
                .hint("try again in a moment")
                .retry_after(RETRY_AFTER_S)
        }
    }
}
