//! The bare embedding: hyper, the engine with our settings, a fresh instance for each request, and nothing else.
//! No routes, no bounds, no logs, no records: what our own server costs beyond it is what the platform costs.

use std::error::Error;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

type Failure = Box<dyn Error + Send + Sync>;

struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: Refusing,
}

/// Lets no guest out.
struct Refusing;

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>), HttpError>;

impl WasiHttpHooks for Refusing {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves the component whose file is the first argument.
#[tokio::main]
async fn main() -> Result<(), Failure> {
    let file = std::env::args().nth(1).ok_or("name the file of a component")?;
    let engine = engine()?;
    let mut linker = Linker::<Guest>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    let pre = ProxyPre::new(linker.instantiate_pre(&Component::from_file(&engine, file)?)?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pre = pre.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(&pre, request));
            // A client that goes away ends its own connection, and nothing else.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn engine() -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(200)
        .total_core_instances(800)
        .total_memories(200)
        .total_tables(400)
        .total_stacks(200)
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)?;
    let ticking = engine.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(5));
            ticking.increment_epoch();
        }
    });
    Ok(engine)
}

/// The whole call, in the connection's own task: the guests of the bench never stream.
async fn answer(
    pre: &ProxyPre<Guest>,
    request: Request<Incoming>,
) -> Result<Response<HyperOutgoingBody>, Failure> {
    let guest = Guest {
        wasi: WasiCtx::builder().build(),
        http: WasiHttpCtx::new(),
        table: ResourceTable::new(),
        hooks: Refusing,
    };
    let mut store = Store::new(pre.engine(), guest);
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    let proxy = pre.instantiate_async(&mut store).await?;
    let (mut head, body) = request.into_parts();
    head.uri = format!("http://localhost{}", head.uri).parse()?;
    let request = Request::from_parts(head, body.map_err(wasmtime_wasi_http::Error::from).boxed_unsync());
    let slot = Arc::new(Mutex::new(None));
    let given = Arc::clone(&slot);
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam_from_callback(move |response| {
        *given.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
    })?;
    proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await?;
    let response = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(response.ok_or("the guest gave no response")?.map_err(|error| error.to_string())?)
}
