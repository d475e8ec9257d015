//! The contract of a component: `wasi:http/incoming-handler`, one request in, one response out.
//! Called by `instance`; the 0.3 handler takes its place beside this file.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use coracle_model::{Body, Limits, Problem, Reply, code};
use http::{Method, Response};
use http_body::Body as _;
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::bodies::request::{RequestBody, Seen};
use crate::bodies::response::{Progress, Streamed, promised_by};
use crate::fault::{self, broken, too_large};
use crate::wasm::engine::{Ticking, found_no_room, take_turns};
use crate::wasm::guest::{Guest, Plan};
use crate::wasm::instance::{Answer, Ended, Instance, Kind, Left, Running, Work, before};
use crate::wasm::pump::{Exit, Guesting, Remains, pump};
use crate::wasm::trap::{self, Circumstances, Served};
use crate::wasm::written::{Written, take_written};

/// An instantiated component.
pub(super) struct Component {
    store: Store<Guest>,
    proxy: Proxy,
}

impl Component {
    pub(super) async fn start(
        plan: &Arc<Plan>,
        pre: &ProxyPre<Guest>,
        id: u64,
    ) -> Result<Self, Box<Problem>> {
        let mut store = Store::new(pre.engine(), Guest::new(plan, id));
        store.limiter(|guest| &mut guest.limiter);
        store.set_epoch_deadline(1);
        take_turns(&mut store);
        match pre.instantiate_async(&mut store).await {
            Ok(proxy) => Ok(Self { store, proxy }),
            Err(error) => Err(Box::new(start_failed(plan, &store, &error))),
        }
    }

    /// Whether its calls left little behind.
    pub(super) fn is_tidy(&mut self) -> bool {
        self.store.data_mut().is_tidy()
    }
}

/// Why an instance could not be started: the guest's own start, its memory, or our pool.
fn start_failed(plan: &Plan, store: &Store<Guest>, error: &wasmtime::Error) -> Problem {
    let guest = store.data();
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        return Problem::new(&code::SERVER_BUSY, "the server runs as many instances as it may")
            .hint("start it with a greater `--instances`")
            .retry_after(1);
    }
    // Not the guest's memory, which is bounded before it is asked for.
    if found_no_room(error) {
        return Problem::new(
            &code::SERVER_BUSY,
            "the system gives the server no more memory, or no more mappings",
        )
        .hint("raise `sysctl vm.max_map_count`, or start with a smaller `--code-cache`")
        .retry_after(1);
    }
    guest.output.flush();
    guest.output.note(format!("failed to start: {}", trap::story(error)));
    trap::problem(error, &circumstances(plan, guest))
}

fn circumstances<'a>(plan: &'a Plan, guest: &Guest) -> Circumstances<'a> {
    Circumstances {
        function: &plan.revision.function,
        out_of_memory: guest.limiter.was_refused(),
        memory_bytes_max: plan.revision.settings.limits.memory_bytes,
        last_stderr: guest.output.last_stderr(),
    }
}

/// What the guest gave for its response, once it did.
type Slot = Arc<Mutex<Option<Result<Response<HyperOutgoingBody>, ErrorCode>>>>;

/// Runs one call as far as the head of its response, and hands over the rest of it if the guest still runs.
///
/// The request is handed over before there is a future: futures are moved, and requests are large.
pub(super) fn serve(instance: Instance, work: Work, ticking: Ticking) -> impl Future<Output = Answer> + Send {
    let begun = Begun::with(instance, work, ticking);
    async move {
        match begun {
            Ok(begun) => begun.answer().await,
            Err(error) => {
                let what = format!("the request cannot be passed on: {error}");
                refused(Problem::new(&code::BAD_REQUEST, what), 0, 0)
            }
        }
    }
}

/// A guest that has its request, and was not polled yet.
struct Begun {
    plan: Arc<Plan>,
    served: Served,
    method: Method,
    deadline: Instant,
    guest: Guesting,
    seen: Option<Arc<Seen>>,
    slot: Slot,
    ticking: Ticking,
}

impl Begun {
    fn with(mut instance: Instance, work: Work, ticking: Ticking) -> wasmtime::Result<Self> {
        let Work { id, request, deadline } = work;
        let plan = Arc::clone(&instance.plan);
        let served = Served { instance: instance.id, call: id.clone() };
        let method = request.method().clone();
        let slot = Slot::default();
        let limits = &plan.revision.settings.limits;
        let Handed { handles: (request, out), seen } = hand_over(&mut instance, id, *request, limits, &slot)?;
        let guest = Box::pin(async move {
            let Kind::Component(component) = &mut instance.kind else {
                unreachable!("only components are served here")
            };
            let Component { store, proxy } = &mut **component;
            store.set_epoch_deadline(1);
            let result = proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out).await;
            exit_of(instance, result)
        });
        Ok(Self { plan, served, method, deadline, guest, seen, slot, ticking })
    }

    /// Drives the guest in the connection's own task until the head is known: most guests are done by then.
    async fn answer(self) -> Answer {
        let Self { plan, served, method, deadline, mut guest, seen, slot, ticking } = self;
        let taken = || slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let head = std::future::poll_fn(|cx| match guest.as_mut().poll(cx) {
            Poll::Ready(exit) => Poll::Ready(Step::Over(exit)),
            Poll::Pending => taken().map_or(Poll::Pending, |response| Poll::Ready(Step::Head(response))),
        });
        let step = before(deadline, head).await;
        if let Some(problem) = fault::cut_off(&plan.revision, seen.as_deref()) {
            return refused(problem, read(seen.as_deref()), 0);
        }
        match step {
            None => {
                drop(guest);
                let problem = fault::late(&plan.revision, seen.as_deref());
                trap::note(&plan, &served, &problem);
                refused(problem, read(seen.as_deref()), 0)
            }
            Some(Step::Over(exit)) => over(&plan, &served, exit, taken(), seen.as_deref(), &method),
            Some(Step::Head(Err(error))) => {
                drop(guest);
                let problem = fault::invalid_response(&plan.revision.function, &error.to_string());
                trap::note(&plan, &served, &problem);
                refused(problem, read(seen.as_deref()), 0)
            }
            Some(Step::Head(Ok(response))) => stream(&plan, served, guest, response, seen, ticking),
        }
    }
}

enum Step {
    Over(Exit),
    Head(Result<Response<HyperOutgoingBody>, ErrorCode>),
}

/// The handles of a request in the guest's table.
struct Handed {
    handles: (
        wasmtime::component::Resource<wasmtime_wasi_http::p2::types::HostIncomingRequest>,
        wasmtime::component::Resource<wasmtime_wasi_http::p2::types::HostResponseOutparam>,
    ),
    seen: Option<Arc<Seen>>,
}

fn hand_over(
    instance: &mut Instance,
    id: coracle_model::CallId,
    request: http::Request<Body>,
    limits: &Limits,
    slot: &Slot,
) -> wasmtime::Result<Handed> {
    let Kind::Component(component) = &mut instance.kind else {
        unreachable!("only components are served here")
    };
    let guest = component.store.data_mut();
    guest.output.serve(id);
    let mut http = guest.http();
    let scheme =
        if request.uri().scheme() == Some(&http::uri::Scheme::HTTPS) { Scheme::Https } else { Scheme::Http };
    let (head, body) = request.into_parts();
    let (request, seen) = if body.is_end_stream() {
        let request = http::Request::from_parts(head, http_body_util::Empty::<Bytes>::new());
        (http.new_incoming_request(scheme, request)?, None)
    } else {
        let (body, seen) = RequestBody::new(body, limits.request_body_bytes, limits.stream_timeout);
        (http.new_incoming_request(scheme, http::Request::from_parts(head, body))?, Some(seen))
    };
    let slot = Arc::clone(slot);
    let out = http.new_response_outparam_from_callback(move |response| {
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
    })?;
    Ok(Handed { handles: (request, out), seen })
}

/// A call whose guest is done already.
fn over(
    plan: &Plan,
    served: &Served,
    exit: Exit,
    response: Option<Result<Response<HyperOutgoingBody>, ErrorCode>>,
    seen: Option<&Seen>,
    method: &Method,
) -> Answer {
    let Exit { problem, memory_bytes, remains } = exit;
    let function = &plan.revision.function;
    let mut left = remains.left(problem.is_none());
    let answered = match (problem, response) {
        (Some(problem), _) => Err(fault::blame(problem, &plan.revision, seen)),
        (None, None) => Err(fault::blame(fault::no_response(function), &plan.revision, seen)),
        (None, Some(Err(error))) => {
            Err(fault::blame(fault::invalid_response(function, &error.to_string()), &plan.revision, seen))
        }
        (None, Some(Ok(response))) => {
            let (head, body) = response.into_parts();
            match take_written(body) {
                Written::Whole(bytes) => Ok((head, bytes)),
                Written::Broken => Err(broken()),
                Written::Rest(body) => {
                    // The guest left an end open that only its own end closes.
                    drop(std::mem::take(&mut left));
                    match take_written(body) {
                        Written::Whole(bytes) => Ok((head, bytes)),
                        Written::Rest(body) => {
                            return trailing(plan, Response::from_parts(head, body), seen, memory_bytes);
                        }
                        Written::Broken => Err(broken()),
                    }
                }
            }
        }
    };
    let answered = answered.and_then(|(head, bytes)| whole(plan, head, bytes, method));
    let bytes_out = answered.as_ref().map_or(0, |(_, bytes)| *bytes);
    match answered {
        Ok((reply, _)) => {
            let ended = Ended { problem: None, left, memory_bytes, bytes_in: read(seen), bytes_out };
            Answer { reply: Ok(reply), running: Running::Over(ended) }
        }
        Err(problem) => {
            trap::note(plan, served, &problem);
            refused(problem, read(seen), memory_bytes)
        }
    }
}

/// A response in one piece, if it keeps its own promises.
fn whole(
    plan: &Plan,
    head: http::response::Parts,
    bytes: Bytes,
    method: &Method,
) -> Result<(Reply, u64), Problem> {
    let function = &plan.revision.function;
    check_head(plan, &head)?;
    let bytes_max = plan.revision.settings.limits.response_body_bytes;
    let length = bytes.len() as u64;
    if length > bytes_max {
        return Err(too_large(bytes_max));
    }
    let promised = promised_by(&head.headers);
    let may_be_bare = *method == Method::HEAD || head.status == http::StatusCode::NOT_MODIFIED;
    if promised.is_some_and(|promised| promised != length) && !(may_be_bare && length == 0) {
        return Err(fault::invalid_response(function, "its body is not as long as its content-length says"));
    }
    Ok((Response::from_parts(head, Body::once(bytes)), length))
}

fn check_head(plan: &Plan, head: &http::response::Parts) -> Result<(), Problem> {
    if head.status.is_informational() {
        let reason = format!("{} is not the status of a final response", head.status.as_u16());
        return Err(fault::invalid_response(&plan.revision.function, &reason));
    }
    Ok(())
}

/// A response with trailers, from a guest that is done: it streams out of what is buffered.
fn trailing(
    plan: &Plan,
    response: Response<HyperOutgoingBody>,
    seen: Option<&Seen>,
    memory_bytes: u64,
) -> Answer {
    let bytes_max = plan.revision.settings.limits.response_body_bytes;
    let promised = promised_by(response.headers());
    let reply = response.map(|body| Streamed::body(body, Arc::default(), bytes_max, promised));
    let ended =
        Ended { problem: None, left: Left::Nothing, memory_bytes, bytes_in: read(seen), bytes_out: 0 };
    Answer { reply: Ok(reply), running: Running::Over(ended) }
}

/// Hands the guest to a task of its own, and its body to the reader.
fn stream(
    plan: &Arc<Plan>,
    served: Served,
    guest: Guesting,
    response: Response<HyperOutgoingBody>,
    seen: Option<Arc<Seen>>,
    ticking: Ticking,
) -> Answer {
    let (head, body) = response.into_parts();
    if let Err(problem) = check_head(plan, &head) {
        trap::note(plan, &served, &problem);
        return refused(problem, read(seen.as_deref()), 0);
    }
    let limits = &plan.revision.settings.limits;
    let progress = Arc::<Progress>::default();
    let promised = promised_by(&head.headers);
    let body = Streamed::body(body, Arc::clone(&progress), limits.response_body_bytes, promised);
    let pump = pump(Arc::clone(plan), served, guest, progress, seen, ticking);
    Answer { reply: Ok(Response::from_parts(head, body)), running: Running::Still(tokio::spawn(pump)) }
}

/// What the guest's end means, and what is left of it.
fn exit_of(instance: Instance, result: wasmtime::Result<()>) -> Exit {
    let Kind::Component(component) = &instance.kind else { unreachable!("only components are served here") };
    let guest = component.store.data();
    guest.output.flush();
    let memory_bytes = guest.limiter.peak();
    let problem = result.err().map(|error| {
        guest.output.note(trap::story(&error));
        trap::problem(&error, &circumstances(&instance.plan, guest))
    });
    Exit { problem, memory_bytes, remains: Remains::Instance(instance) }
}

fn read(seen: Option<&Seen>) -> u64 {
    seen.map_or(0, Seen::bytes)
}

pub(super) fn refused(problem: Problem, bytes_in: u64, memory_bytes: u64) -> Answer {
    let problem = Box::new(problem);
    let ended =
        Ended { problem: Some(problem.clone()), left: Left::Nothing, memory_bytes, bytes_in, bytes_out: 0 };
    Answer { reply: Err(problem), running: Running::Over(ended) }
}
