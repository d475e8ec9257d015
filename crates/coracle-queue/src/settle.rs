//! What follows an attempt, as one batch: the end of the message, the record of it, and whoever is told.
//! Called by the worker when an attempt is over; `cancel.rs` ends calls here that never ran.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use coracle_faces::callback::Ended;
use coracle_model::{CallId, FunctionRef, Principal, Problem, RetryPolicy, Target, Trace};
use coracle_runtime::{random_128, random_bits};
use coracle_store::{Append, Batch, Begin, Due, Lease, Message, MessageId, MessageState, Topic};
use http::{HeaderMap, HeaderValue, Method, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::ended::encode_ended;
use crate::payload::{Kept, KeptBody, KeptCall, KeptDelivery, Work, header_texts};
use crate::retry::{self, Ending, Next, Tried};
use crate::run::Ran;
use crate::story::Story;
use crate::topics::{Room, body_key};
use crate::{Attempt, AttemptEnd, Kind, QueuedCall, State};

/// How many calls may lead to one another by their ends; the next one is dead from its beginning.
pub(crate) const HOPS_MAX: u32 = 16;

/// A message that a worker has begun to deal with.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) lease: Lease,
    pub(crate) message: Message,
    /// Whose it is.
    pub(crate) function: FunctionRef,
    pub(crate) kept: Kept,
    pub(crate) story: Story,
}

/// What a function's settings say about its ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders {
    pub(crate) retry: RetryPolicy,
    pub(crate) on_success: Option<Target>,
    pub(crate) on_failure: Option<Target>,
}

/// An attempt that is over.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) node: String,
    pub(crate) started: Timestamp,
    pub(crate) took: std::time::Duration,
    pub(crate) log: Vec<String>,
    pub(crate) ran: Ran,
}

/// What follows.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) lease: Lease,
    pub(crate) topic: Topic,
    pub(crate) id: CallId,
    /// Where the call stands once the batch is durable.
    pub(crate) state: State,
    pub(crate) batch: Batch,
}

impl Begun {
    /// How old it is, for its policy: from when it was due, or was redriven.
    fn age(&self, now: Timestamp) -> std::time::Duration {
        let since = self.kept.due.max(self.message.appended);
        std::time::Duration::try_from(now.duration_since(since)).unwrap_or_default()
    }

    pub(crate) fn tried(&self, now: Timestamp) -> Tried {
        Tried { attempts: self.message.attempt, excused: self.story.excused, age: self.age(now) }
    }

    /// Why it is not even begun: its attempts were lost, all of them.
    pub(crate) fn exhausted(&self, policy: &RetryPolicy, now: Timestamp) -> Option<String> {
        let attempts = self.message.attempt.saturating_sub(1);
        retry::exhausted(Tried { attempts, ..self.tried(now) }, policy)
    }

    /// Who is told of a call that was cancelled while nobody had leased it.
    pub(crate) fn callback_of_cancelled(
        function: &FunctionRef,
        kept: Kept,
        message: Message,
        story: Story,
    ) -> Option<Append> {
        let holder = coracle_store::Holder::new("nobody").ok()?;
        let lease = Lease { position: message.position, holder, attempt: message.attempt };
        let begun = Self { lease, message, function: function.clone(), kept, story };
        begun.callback(State::Cancelled, None, &Orders::default())
    }

    /// What follows an attempt.
    pub(crate) fn settle(
        mut self,
        attempted: Attempted,
        orders: &Orders,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Settled {
        let ending = match &attempted.ran {
            Ran::Answered(result) => {
                let after = result.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                let retry_after = after.and_then(|after| retry::retry_after(after, now));
                Ending::Answered { status: result.status, retry_after }
            }
            Ran::Failed(problem) => Ending::Failed(problem),
        };
        let next = retry::decide(ending, self.tried(now), &orders.retry, rng);
        self.story.excused += u32::from(retry::is_excused(ending));
        self.story.add(self.attempt(&attempted));
        match next {
            Next::Again(wait) => {
                let story = self.story.encode();
                let batch = Batch::new().retry(self.lease.clone(), Due::In(wait), story);
                self.settled(State::Waiting, batch)
            }
            Next::Succeeded => self.end(State::Succeeded, Some(attempted), orders, now),
            Next::Failed => self.end(State::Failed, Some(attempted), orders, now),
            Next::Dead(reason) => {
                self.story.reason = Some(reason);
                self.end(State::Dead, Some(attempted), orders, now)
            }
        }
    }

    /// Ends it without an attempt: it was cancelled, or cannot be tried.
    pub(crate) fn end_untried(
        mut self,
        state: State,
        reason: String,
        orders: &Orders,
        now: Timestamp,
    ) -> Settled {
        self.story.reason = Some(reason);
        // The lease that it ends with was no attempt.
        self.message.attempt = self.message.attempt.saturating_sub(1);
        self.end(state, None, orders, now)
    }

    fn end(self, state: State, last: Option<Attempted>, orders: &Orders, now: Timestamp) -> Settled {
        let mut batch = match state {
            State::Dead => {
                let dead = Room::Dead(self.function.clone()).topic();
                Batch::new().bury(self.lease.clone(), dead, self.story.encode())
            }
            _ => Batch::new().ack(self.lease.clone()).append(self.record(state, last.as_ref(), now)),
        };
        if state != State::Dead
            && let KeptBody::Artifact { digest, mark, .. } = &self.kept.body
        {
            // A dead one may be redriven, and needs its body then.
            batch = batch.delete(body_key(digest, mark), coracle_store::Condition::Any);
        }
        if let Some(delivery) = self.callback(state, last.as_ref(), orders) {
            batch = batch.append(delivery);
        }
        let target = if state == State::Succeeded { &orders.on_success } else { &orders.on_failure };
        if let (Work::Call(head), Some(target)) = (&self.kept.work, target)
            && state != State::Cancelled
        {
            batch = batch.append(self.onward(head, target, state, last.as_ref(), now));
        }
        self.settled(state, batch)
    }

    fn settled(self, state: State, batch: Batch) -> Settled {
        let Self { lease, message, kept, .. } = self;
        Settled { lease, topic: message.topic, id: kept.id, state, batch }
    }

    fn attempt(&self, Attempted { node, started, took, log, ran }: &Attempted) -> Attempt {
        let end = match ran {
            Ran::Answered(result) => AttemptEnd::Answered(result.status),
            Ran::Failed(problem) => {
                AttemptEnd::Failed { code: problem.code.name.to_owned(), message: problem.message.clone() }
            }
        };
        let number = self.story.before + self.message.attempt;
        Attempt { number, node: node.clone(), started: *started, took: *took, end, log: log.clone() }
    }

    /// How it ended, to be kept for a while.
    fn record(&self, state: State, last: Option<&Attempted>, now: Timestamp) -> Append {
        let mut call = describe(&self.message, &self.function, &self.kept, &self.story, state);
        call.ended = Some(now);
        if let Some(Attempted { ran: Ran::Answered(result), .. }) = last {
            call.result = Some(result.clone());
        }
        let ended = Room::Ended(self.function.namespace.clone()).topic();
        kept_only(ended, &self.kept.id, encode_ended(&call))
    }

    /// The result for whoever asked to be told of it.
    fn callback(&self, state: State, last: Option<&Attempted>, orders: &Orders) -> Option<Append> {
        let Work::Call(head) = &self.kept.work else { return None };
        let callback = head.callback.as_ref()?;
        let (mut headers, body, status) = match last.map(|last| &last.ran) {
            Some(Ran::Answered(result)) => (result.headers.clone(), result.body.clone(), result.status),
            Some(Ran::Failed(problem)) => problem_parts(problem),
            None => problem_parts(&self.untried(state)),
        };
        headers.extend(callback.form.headers(&Ended {
            id: &self.kept.id,
            function: &self.function,
            state: state.as_str(),
            status,
            took: last.map(|last| last.took).unwrap_or_default(),
            attempts: self.message.attempt,
            attempts_max: orders.retry.attempts,
        }));
        Some(self.delivery(Arc::clone(&callback.url), headers, body))
    }

    /// The problem of a call that was not tried.
    fn untried(&self, state: State) -> Problem {
        use coracle_model::code;
        let reason = self.story.reason.clone().unwrap_or_default();
        let code = if state == State::Cancelled { &code::CALL_CANCELLED } else { &code::ATTEMPT_LOST };
        Problem::new(code, reason)
    }

    /// The outcome for whoever the function's settings name.
    fn onward(
        &self,
        head: &KeptCall,
        target: &Target,
        state: State,
        last: Option<&Attempted>,
        now: Timestamp,
    ) -> Append {
        let outcome = self.outcome(head, state, last, now).to_string();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let namespace = &self.function.namespace;
        match target {
            Target::Topic(name) => {
                kept_only(Room::Named(namespace.clone(), name.clone()).topic(), &self.kept.id, outcome.into())
            }
            Target::Url(url) => {
                if let Ok(id) = HeaderValue::from_str(self.kept.id.as_str()) {
                    headers.insert("x-call-id", id);
                }
                self.delivery(Arc::clone(url), headers, outcome.into())
            }
            Target::Function(name) => {
                let function = FunctionRef { namespace: namespace.clone(), name: name.clone() };
                self.call_of(function, head, headers, outcome.into(), now)
            }
        }
    }

    fn call_of(
        &self,
        function: FunctionRef,
        head: &KeptCall,
        mut headers: HeaderMap,
        body: Bytes,
        now: Timestamp,
    ) -> Append {
        let id = CallId::from_bits(random_128());
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            headers.insert("x-call-id", value);
        }
        let call = KeptCall {
            method: Method::POST,
            uri: http::Uri::from_static("http://localhost/"),
            headers,
            principal: Principal::Anonymous,
            client: None,
            trace: Trace { span: random_bits().max(1), parent: None, ..head.trace },
            callback: None,
            once: None,
        };
        let hops = self.kept.hops + 1;
        let kept = Kept {
            id: id.clone(),
            accepted: now,
            due: now,
            hops,
            work: Work::Call(Box::new(call)),
            body: KeptBody::Here(body),
        };
        let payload = kept.encode();
        if hops > HOPS_MAX {
            return kept_only(Room::Dead(function).topic(), &id, payload);
        }
        let topic = Room::Calls(function).topic();
        Append { topic, id: message_id(&id), group: None, begin: Begin::Waiting(Due::Now), payload }
    }

    fn delivery(&self, url: Arc<str>, headers: HeaderMap, body: Bytes) -> Append {
        let kept = Kept {
            work: Work::Delivery(Box::new(KeptDelivery { url, headers })),
            body: KeptBody::Here(body),
            due: self.kept.accepted,
            ..self.kept.clone()
        };
        Append {
            topic: Room::Deliveries(self.function.clone()).topic(),
            id: message_id(&self.kept.id),
            group: None,
            begin: Begin::Waiting(Due::Now),
            payload: kept.encode(),
        }
    }

    /// The outcome as JSON.
    fn outcome(&self, head: &KeptCall, state: State, last: Option<&Attempted>, now: Timestamp) -> Value {
        let mut outcome = json!({
            "call": self.kept.id.as_str(),
            "function": self.function.to_string(),
            "state": state.as_str(),
            "accepted": self.kept.accepted,
            "ended": now,
            "attempts": self.message.attempt,
            "request": { "method": head.method.as_str(), "path": path_of(head) },
        });
        if let Some(reason) = &self.story.reason {
            outcome["reason"] = json!(reason);
        }
        match last.map(|last| &last.ran) {
            Some(Ran::Answered(result)) => {
                let mut response = json!({
                    "status": result.status,
                    "headers": header_texts(&result.headers),
                });
                match std::str::from_utf8(&result.body) {
                    Ok(text) => response["body"] = json!(text),
                    Err(_) => {
                        let text = base64::engine::general_purpose::STANDARD.encode(&result.body);
                        response["body_base64"] = json!(text);
                    }
                }
                if result.body_bytes > result.body.len() as u64 {
                    response["body_cut_from"] = json!(result.body_bytes);
                }
                outcome["response"] = response;
            }
            Some(Ran::Failed(problem)) => outcome["error"] = problem_json(problem),
            None => {}
        }
        outcome
    }
}

/// What is known of a message that a worker or a reader looks at.
pub(crate) fn describe(
    message: &Message,
    function: &FunctionRef,
    kept: &Kept,
    story: &Story,
    state: State,
) -> QueuedCall {
    let (kind, callback) = match &kept.work {
        Work::Call(head) => (
            Kind::Call { method: head.method.clone(), path: path_of(head) },
            head.callback.as_ref().map(|callback| callback.url.to_string()),
        ),
        Work::Delivery(head) => (Kind::Delivery { url: head.url.to_string() }, None),
    };
    let too_many_hops = || {
        (kept.hops > HOPS_MAX)
            .then(|| format!("{HOPS_MAX} calls led to it, each by the end of the one before"))
    };
    let made = match (state, &message.state) {
        // The lease in which a call was found to be given up was no attempt.
        (State::Dead, _) => story.told(),
        // Nor is one that is leased and has not begun.
        (State::Waiting, MessageState::Held(_) | MessageState::Ahead(_)) => {
            story.before + message.attempt - 1
        }
        _ => story.before + message.attempt,
    };
    QueuedCall {
        id: kept.id.clone(),
        function: function.clone(),
        kind,
        state,
        group: message.group.as_ref().map(|group| group.as_str().to_owned()),
        accepted: kept.accepted,
        due: kept.due,
        ended: None,
        callback,
        body_bytes: kept.body.len(),
        attempts_made: made,
        attempts: story.attempts.clone(),
        reason: story.reason.clone().or_else(too_many_hops),
        result: None,
    }
}

/// A message that is only kept.
pub(crate) fn kept_only(topic: Topic, id: &CallId, payload: Bytes) -> Append {
    Append { topic, id: message_id(id), group: None, begin: Begin::Kept, payload }
}

/// By what a call is found again.
pub(crate) fn message_id(id: &CallId) -> Option<MessageId> {
    MessageId::new(id.as_str()).ok()
}

fn path_of(head: &KeptCall) -> String {
    head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}

fn problem_parts(problem: &Problem) -> (HeaderMap, Bytes, u16) {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (headers, problem_json(problem).to_string().into(), problem.status())
}

fn problem_json(problem: &Problem) -> Value {
    json!({ "code": problem.code.name, "message": problem.message, "hint": problem.hint })
}
