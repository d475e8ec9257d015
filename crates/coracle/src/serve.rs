//! The server: the one file that knows all parts, opens them from the bottom up, and closes them in turn.
//! `coracle up` calls it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_catalog::{Catalog, SecretKey};
use coracle_gateway::{Admin, Authenticator, CONNECTIONS_MAX, Front, Nodes};
use coracle_invoke::Invoke;
use coracle_model::{Code, FunctionRef, NamespaceName, Problem, SecretName, code};
use coracle_observe::Observe;
use coracle_observe::logs::{Limits, Line, Stream};
use coracle_queue::{Parts, Queue};
use coracle_runtime::{Bounds, Host, ImageBounds, Images, Printed, Programs, Runtime, Secret};
use coracle_store::{DataDir, RestoreError};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{oneshot, watch};

use crate::basic_auth;
use crate::clear_up::clear_up;
use crate::keepers;
use crate::storage::{Storage, StoreUrl};

/// Instances that wait for a call, of all functions together: made ahead of demand, or kept for reuse.
const IDLE_MAX: u32 = Bounds::DEFAULT.idle;

/// Connections that the kernel holds until they are accepted: with the usual 128, some of a burst wait a second.
const BACKLOG: u32 = 4_096;

/// Descriptors that are not connections: files, pipes, outgoing requests.
const DESCRIPTORS_BESIDE: u64 = 4_096;

/// How long calls in flight may take once the server is to stop, if nobody says otherwise; as are the next.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);
/// Calls that run at once.
pub(crate) const INSTANCES: u32 = Bounds::DEFAULT.instances;
/// Queued calls that run at once.
pub(crate) const QUEUE_CONCURRENCY: u32 = coracle_queue::Options::CONCURRENCY;
/// Calls that may wait in the queue of one namespace.
pub(crate) const QUEUE_DEPTH: u64 = coracle_queue::Options::DEPTH_MAX;
/// How long whoever is told of the result of a queued call may take, if nobody says otherwise.
pub(crate) const DELIVERY_TIMEOUT: Duration = coracle_queue::Options::DELIVERY_TIMEOUT;
/// Mapped machine code, in bytes.
pub(crate) const CODE_BYTES: u64 = Bounds::DEFAULT.code_bytes;
/// Memory of one compile, in bytes.
pub(crate) const COMPILE_BYTES: u64 = Bounds::DEFAULT.compile_memory_bytes;
/// Time of one compile.
pub(crate) const COMPILE_TIMEOUT: Duration = Bounds::DEFAULT.compile_timeout;

/// How to serve.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// Where to listen; port 0 picks one.
    pub(crate) listen: SocketAddr,
    /// Where `/metrics` answers without a token.
    pub(crate) metrics_listen: MetricsListen,
    /// How long calls in flight may take once the server is to stop.
    pub(crate) drain: Duration,
    /// How long a connection may take for the head of its next request.
    pub(crate) head_timeout: Duration,
    /// Calls that run at once.
    pub(crate) instances: u32,
    /// Queued calls that run at once.
    pub(crate) queue_concurrency: u32,
    /// Calls that may wait in the queue of one namespace.
    pub(crate) queue_depth: u64,
    /// How long whoever is told of the result of a queued call may take.
    pub(crate) delivery_timeout: Duration,
    /// Mapped machine code, in bytes.
    pub(crate) code_bytes: u64,
    /// Memory of one compile, in bytes.
    pub(crate) compile_bytes: u64,
    /// Time of one compile.
    pub(crate) compile_timeout: Duration,
    /// Whether parts of compiled code are kept for the next revision.
    pub(crate) incremental: bool,
    /// The largest upload, in bytes.
    pub(crate) upload_bytes: u64,
    /// The file of the key that secrets are sealed with, if it is not in the data directory.
    pub(crate) key_file: Option<PathBuf>,
    /// The folder with the files of a user and a password who may do everything.
    pub(crate) basic_auth: Option<PathBuf>,
    /// The folder of compiled code, if it is not in the data directory.
    pub(crate) cache: Option<PathBuf>,
    /// A backup to begin from.
    pub(crate) restore: Option<PathBuf>,
    /// The database that several servers share; without it, the server has its own.
    pub(crate) store: Option<StoreUrl>,
    /// Where those servers reach this one, if not where it listens.
    pub(crate) advertise: Option<String>,
    /// How much longer each commit takes than it does.
    pub(crate) commit_delay: Duration,
    /// Whether queued calls are accepted and forgotten.
    pub(crate) queue_forgets: bool,
}

impl Options {
    /// The usual way.
    pub(crate) fn new(data: PathBuf, listen: SocketAddr) -> Self {
        Self {
            data,
            listen,
            metrics_listen: MetricsListen::Nowhere,
            drain: DRAIN,
            head_timeout: coracle_gateway::HEAD_TIMEOUT,
            instances: INSTANCES,
            queue_concurrency: QUEUE_CONCURRENCY,
            queue_depth: QUEUE_DEPTH,
            delivery_timeout: DELIVERY_TIMEOUT,
            code_bytes: CODE_BYTES,
            compile_bytes: COMPILE_BYTES,
            compile_timeout: COMPILE_TIMEOUT,
            incremental: false,
            upload_bytes: coracle_api::ARTIFACT_BYTES_MAX,
            key_file: None,
            basic_auth: None,
            cache: None,
            commit_delay: Duration::ZERO,
            queue_forgets: false,
            restore: None,
            store: None,
            advertise: None,
        }
    }
}

/// Where metrics answer without a token, beside the main address, where they take one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricsListen {
    /// Nowhere.
    Nowhere,
    /// At the usual address, unless another program has it: nobody asked for it.
    UsualIfFree,
    /// Here, or not at all.
    At(SocketAddr),
}

impl MetricsListen {
    /// Where Prometheus finds the metrics of such servers, if nobody says otherwise.
    pub(crate) const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);

    fn listen(self) -> Result<Option<TcpListener>, Problem> {
        match self {
            Self::Nowhere => Ok(None),
            Self::At(address) => listen(address).map(Some).map_err(|problem| {
                problem.hint("choose another address with `--metrics-listen ADDR:PORT`, or `none`")
            }),
            Self::UsualIfFree => Ok(listen(Self::USUAL)
                .inspect_err(|problem| {
                    tracing::warn!(%problem, "metrics answer only with a token; say where else with `--metrics-listen`");
                })
                .ok()),
        }
    }
}

/// What a server that is ready can be told of.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where its metrics are, without a token.
    pub(crate) metrics: Option<SocketAddr>,
    /// The token that may do everything.
    pub(crate) admin_token: String,
}

/// Serves until `stop` is heard, then drains.
///
/// # Errors
/// Why it could not start, or that calls were cut off at the end.
pub(crate) async fn serve(
    options: Options,
    ready: oneshot::Sender<Ready>,
    stop: impl Future<Output = ()>,
) -> Result<(), Problem> {
    let connections = connections_possible();
    // Before anything is made or restored: a port that is taken must leave nothing behind.
    let listener = listen(options.listen)?;
    let address = listener.local_addr().map_err(|error| cannot_listen(options.listen, &error))?;
    let metrics_listener = options.metrics_listen.listen()?;
    let metrics = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let login = options.basic_auth.as_deref().map(basic_auth::login).transpose()?;
    let shared_key = shared_key(&options)?;
    let data = open_data(&options)?;
    let clock = Arc::new(coracle_observe::clock::System);
    let storage = Storage::open(options.store.as_ref(), &data, clock.clone(), options.commit_delay).await?;
    let database = storage.database();
    let artifacts = storage.artifacts(&data).map_err(|error| unusable(&data, &error))?;
    let observe = Observe::open(&data.logs(), Limits::default(), clock.clone())
        .map_err(|error| unusable(&data, &error))?;
    let key = match shared_key {
        Some(key) => key,
        None => SecretKey::load_or_create(&options.key_file.clone().unwrap_or_else(|| data.key()))?,
    };
    let shared_token = storage.is_shared().then(|| key.admin_token_text());
    let catalog = Catalog::open(Arc::clone(&database), key, clock.clone()).await?;
    let admin_token = admin_token(&data.admin_token(), shared_token.as_deref())?;
    catalog.ensure_admin_token(&admin_token).await?;

    let host = Arc::new(Platform { observe: observe.clone(), catalog: catalog.clone() });
    let bounds = Bounds {
        instances: options.instances,
        idle: IDLE_MAX,
        code_bytes: options.code_bytes,
        compile_memory_bytes: options.compile_bytes,
        compile_timeout: options.compile_timeout,
        keep_parts: options.incremental,
    };
    let program = std::env::current_exe()
        .map_err(|error| Problem::new(&code::INTERNAL, format!("find this program's own file: {error}")))?;
    let cache = options.cache.clone().unwrap_or_else(|| data.cache());
    let images = Images::open(&data.images(), ImageBounds::DEFAULT)?;
    let programs = Programs::open(images.clone(), artifacts.clone(), &data.sandboxes(), program.clone())?;
    let runtime = Runtime::open(bounds, artifacts.clone(), programs, &cache, program, host, clock.clone())?;
    let invoke = Invoke::new(catalog.clone(), runtime.clone(), observe.clone(), options.instances, IDLE_MAX);
    let own_url = options.advertise.clone().unwrap_or_else(|| url_of(address));
    if storage.is_shared() {
        invoke.keep_among(keepers::unknown(&own_url));
    }
    invoke.warm(catalog.current());
    if catalog.current().iter().any(|revision| !matches!(revision.code, Code::Wasm(_))) {
        tokio::spawn(ready_sandboxes(runtime.programs().clone()));
    }
    let parts = Parts {
        database: Arc::clone(&database),
        artifacts: artifacts.clone(),
        catalog: catalog.clone(),
        invoke: invoke.clone(),
        observe: observe.clone(),
    };
    let queue_options = coracle_queue::Options {
        // Several may run on one machine.
        node: if storage.is_shared() { format!("{}:{}", host_name(), address.port()) } else { host_name() },
        url: Some(own_url.clone()),
        concurrency: options.queue_concurrency,
        depth_max: options.queue_depth,
        delivery_timeout: options.delivery_timeout,
        forgets: options.queue_forgets,
        ..coracle_queue::Options::default()
    };
    let queue = Queue::open(parts, queue_options).await?;
    let changes = tokio::spawn(follow_changes(catalog.clone(), invoke.clone(), observe.clone()));

    let clearing =
        tokio::spawn(clear_up(catalog.clone(), queue.clone(), artifacts.clone(), runtime.clone(), clock));
    let authenticator = Authenticator::new(catalog.clone(), login);
    let nodes = match shared_token {
        Some(token) => Nodes::clustered(Arc::clone(&database), &own_url, token),
        None => Nodes::alone(Arc::clone(&database), &own_url),
    };
    let keeping = storage.is_shared().then(|| tokio::spawn(keepers::follow(nodes.clone(), invoke.clone())));
    let admin = Admin {
        catalog: catalog.clone(),
        runtime,
        invoke: invoke.clone(),
        queue: queue.clone(),
        observe: observe.clone(),
        artifacts: artifacts.clone(),
        images,
        embedded: storage.embedded(),
        nodes,
        data: Arc::new(data),
        authenticator: authenticator.clone(),
        upload_bytes_max: options.upload_bytes,
    };
    let data = Arc::clone(&admin.data);
    let (stop_listening, stopped) = watch::channel(false);
    if let Some(listener) = metrics_listener {
        tokio::spawn(coracle_gateway::serve_metrics(listener, admin.clone(), stopped.clone()));
    }
    let front = Front::new(catalog, invoke.clone(), observe.clone(), authenticator, admin.router());
    let metrics_of_all = observe.metrics.clone();
    let bounds = coracle_gateway::Bounds { connections, head_timeout: options.head_timeout };
    let serving = coracle_gateway::serve(listener, front, metrics_of_all, bounds, stopped);
    let serving = tokio::spawn(serving);
    announce(&data, address);
    // Whoever waited may have given up: then nobody needs to know.
    let _ = ready.send(Ready { address, metrics, admin_token });

    stop.await;
    tracing::info!(in_flight = invoke.in_flight(), "stopping: no new connections");
    // Nobody listens to this but the servers, which are still there.
    let _ = stop_listening.send(true);
    let _ = tokio::join!(queue.drain(options.drain), invoke.drain(options.drain));
    // Counted when both are over: queued calls that were cut off are in flight no more, and run again.
    let left = invoke.in_flight();
    if left == 0 {
        // What is left are answers on their way out; a client that does not take them is not waited for long.
        let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    }
    keeping.iter().for_each(tokio::task::JoinHandle::abort);
    changes.abort();
    clearing.abort();
    // The next server writes its own.
    let _ = fs::remove_file(server_file(data.root()));
    observe.logs.flush();
    storage.close().await;
    match left {
        0 => Ok(()),
        left => Err(Problem::new(
            &code::SERVER_STOPPING,
            format!("{left} calls were cut off after {}", coracle_model::Span(options.drain)),
        )
        .hint("give them longer with `--drain`")),
    }
}

/// The name of this machine.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The file in which a server says where it listens, for the command line on the same machine.
pub(crate) fn server_file(data: &Path) -> PathBuf {
    data.join("server.json")
}

/// The key of a database that several servers share, if a file of it was named: one made here would be another.
fn shared_key(options: &Options) -> Result<Option<SecretKey>, Problem> {
    match (&options.store, &options.key_file) {
        (Some(_), Some(file)) => SecretKey::load(file).map(Some),
        _ => Ok(None),
    }
}

fn open_data(options: &Options) -> Result<DataDir, Problem> {
    match &options.restore {
        Some(backup) => DataDir::restore(backup, &options.data).map_err(|error| {
            let why = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            let what = format!("restore {} into {}: {why}", backup.display(), options.data.display());
            let problem = Problem::new(&code::DATA_UNUSABLE, what);
            match error {
                RestoreError::NotEmpty { .. } => problem.hint(
                    "name a folder that is empty or does not exist yet; one that was restored already starts without `--restore`",
                ),
                _ => problem,
            }
        }),
        None => DataDir::open(&options.data).map_err(|error| match error {
            coracle_store::DataDirError::Locked { .. } => Problem::new(&code::DATA_LOCKED, error.to_string())
                .hint("stop that server, or give this one a folder of its own with `--data`"),
            coracle_store::DataDirError::File { ref source, .. }
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                Problem::new(&code::DISK_FULL, format!("{error}: the disk is full"))
                    .hint("make room, or name a folder on another disk with `--data`")
            }
            _ => Problem::new(&code::DATA_UNUSABLE, error.to_string())
                .hint("name another folder with `--data`"),
        }),
    }
}

/// The admin token: the one that all nodes of a cluster have, or one that is made at the first start. It lies in a file
/// with mode 0600, where the command line on the same machine finds it.
fn admin_token(path: &Path, shared: Option<&str>) -> Result<String, Problem> {
    use std::io::Write;
    let unusable = |error: std::io::Error| {
        Problem::new(&code::DATA_UNUSABLE, format!("keep the admin token in {}: {error}", path.display()))
    };
    match fs::read_to_string(path) {
        Ok(token) if shared.map_or(!token.trim().is_empty(), |shared| shared == token.trim()) => {
            return Ok(token.trim().to_owned());
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
    }
    let token = match shared {
        Some(shared) => shared.to_owned(),
        None => coracle_catalog::new_token_text()?,
    };
    let draft = path.with_extension("tmp");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(unusable)?;
    writeln!(file, "{token}").and_then(|()| file.sync_all()).map_err(unusable)?;
    fs::rename(&draft, path).map_err(unusable)?;
    Ok(token)
}

/// Says where the server listens, for the command line on the same machine; without it, it serves none the less.
fn announce(data: &DataDir, address: SocketAddr) {
    let path = server_file(data.root());
    let text = serde_json::json!({ "url": url_of(address), "pid": std::process::id() }).to_string();
    if let Err(error) = fs::write(&path, text) {
        tracing::warn!(%error, file = %path.display(), "cannot be written: the command line needs `--url` to find this server");
        let _ = fs::remove_file(&path); // Half of it would only mislead.
    }
}

/// The URL by which this machine reaches an address that is listened on.
pub(crate) fn url_of(address: SocketAddr) -> String {
    // "Every address" is none that can be asked.
    let reachable = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(reachable, address.port()))
}

/// Opens a socket; must be called within a Tokio runtime.
fn listen(address: SocketAddr) -> Result<TcpListener, Problem> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // So that a server can follow another on the same port at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Problem {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Problem::new(&code::ADDRESS_IN_USE, format!("another program listens on {address}"))
                .hint("choose another port with `--listen 127.0.0.1:PORT`; port 0 picks a free one")
        }
        _ => Problem::new(&code::ADDRESS_IN_USE, format!("listen on {address}: {error}"))
            .hint("choose an address of this machine with `--listen ADDR:PORT`"),
    }
}

fn unusable(data: &DataDir, error: &dyn std::fmt::Display) -> Problem {
    Problem::new(&code::DATA_UNUSABLE, format!("use the data directory {}: {error}", data.root().display()))
}

/// Lets as many connections in as we bound ourselves to, if the machine allows it.
fn connections_possible() -> u32 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = u64::from(CONNECTIONS_MAX) + DESCRIPTORS_BESIDE;
    let now = getrlimit(Resource::Nofile);
    let possible = now.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if now.current.is_some_and(|current| current < possible) {
        // Refused is as before: then fewer connections fit.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum: now.maximum });
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    let connections = descriptors.saturating_sub(DESCRIPTORS_BESIDE).max(descriptors / 2);
    u32::try_from(connections).unwrap_or(u32::MAX).min(CONNECTIONS_MAX)
}

/// Has the process that makes sandboxes started before the first call needs it; what an earlier one left is swept then.
async fn ready_sandboxes(programs: Programs) {
    if let Err(problem) = programs.protections().await {
        tracing::warn!(%problem, "programs cannot run");
    }
}

/// Lets go of what belongs to revisions and functions that are not there any more.
async fn follow_changes(catalog: Catalog, invoke: Invoke, observe: Observe) {
    use tokio::sync::broadcast::error::RecvError;
    let mut changes = catalog.changes();
    loop {
        match changes.recv().await {
            Ok(function) => {
                invoke.changed(&function);
                if catalog.resolve(&function).is_none() {
                    observe.forget(&function);
                }
            }
            // What was missed is noticed at the next call, which compares revisions.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// What guests may ask of us.
#[derive(Debug)]
struct Platform {
    observe: Observe,
    catalog: Catalog,
}

impl Host for Platform {
    fn log(&self, line: Printed) {
        let Printed { function, revision, instance, call, stream, text } = line;
        let stream = match stream {
            coracle_runtime::Stream::Stdout => Stream::Stdout,
            coracle_runtime::Stream::Stderr => Stream::Stderr,
            coracle_runtime::Stream::Platform => Stream::Platform,
        };
        let at = self.observe.clock.now();
        self.observe.logs.write(Line { at, function, revision, instance, call, stream, text });
    }

    fn denied(&self, function: &FunctionRef) {
        self.observe.metrics.function(function).outbound_denied.increment();
    }

    fn secret(&self, namespace: &NamespaceName, name: &SecretName) -> Option<Secret> {
        let secret = self.catalog.reveal(namespace, name)?;
        Some(Secret::new(secret.expose().to_vec()))
    }
}
