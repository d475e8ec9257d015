//! The server itself: how it does, who asks, a backup, its metrics, and its API as a document.
//! `coracle status` and `backup`, load balancers and scrapers ask here.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::BytesMut;
use coracle_api::{CodeCacheView, IdentityView, ProtectionView, SandboxesView, StatusDetails, StatusView};
use coracle_model::{BodyError, Clock, Principal, Problem, Reach, Scope, code};
use coracle_runtime::Protection;
use coracle_store::BackupError;
use futures_util::stream;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http_body_util::StreamBody;
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

use super::namespaces::reached;
use super::rim::{Answer, Who};
use super::{Admin, Shared};
use crate::openfaas;

/// Read at once of a backup on its way out.
const BACKUP_PIECE_BYTES: usize = 64 << 10;
/// The name of a backup in the data directory, from when it is complete until it is opened for its client.
const BACKUP_FILE: &str = "backup.outgoing";
/// One backup at a time: each needs room for another copy of all there is.
static BACKUP_TURN: Mutex<()> = Mutex::const_new(());

/// When the server started, on both faces of its clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    at: Timestamp,
    instant: Instant,
}

impl Started {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self { at: clock.now(), instant: clock.instant() }
    }

    pub(super) fn uptime(self, clock: &dyn Clock) -> Duration {
        clock.instant().saturating_duration_since(self.instant)
    }
}

pub(super) async fn status(
    State(admin): State<Shared>,
    Who(who): Who,
    started: Started,
) -> Answer<Json<StatusView>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Call)?;
    let functions = match &who {
        Principal::Token { reach: Reach::Namespace(own), .. } => admin.catalog.count_in(own),
        Principal::Token { reach: Reach::Function(own), .. } => {
            usize::from(admin.catalog.resolve(own).is_some())
        }
        _ => admin.catalog.count(),
    };
    Ok(Json(StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: started.at,
        uptime_s: started.uptime(&*admin.observe.clock).as_secs(),
        namespaces: reached(&admin, &who).count(),
        functions,
        details: if who.may(Scope::Admin) { Some(details(&admin).await) } else { None },
    }))
}

pub(super) async fn whoami(State(admin): State<Shared>, Who(who): Who) -> Answer<Json<IdentityView>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Call)?;
    Ok(Json(IdentityView::from(&who)))
}

pub(super) async fn openapi() -> ([(HeaderName, &'static str); 1], &'static str) {
    static DOCUMENT: LazyLock<String> = LazyLock::new(coracle_api::openapi);
    ([(CONTENT_TYPE, "application/json")], &DOCUMENT)
}

pub(super) async fn healthz() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CACHE_CONTROL, "no-store")], "ok\n")
}

pub(super) async fn metrics(State(admin): State<Shared>) -> ([(HeaderName, &'static str); 1], Body) {
    mirror(&admin);
    let pieces = stream::unfold(
        admin.observe.metrics.text().chain(openfaas::metrics::text(&admin)),
        async |mut text| {
            // Calls that wait for this thread go first: with many functions there are hundreds of pieces.
            tokio::task::yield_now().await;
            Some((Ok::<_, BodyError>(text.next()?), text))
        },
    );
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], Body::from_stream(pieces))
}

/// They name every function: whoever may call all of them may read it, so that a scraper needs no stronger token.
pub(super) async fn metrics_with_token(
    State(admin): State<Shared>,
    Who(who): Who,
) -> Answer<([(HeaderName, &'static str); 1], Body)> {
    admin.authenticator.require(who, Scope::Call)?;
    Ok(metrics(State(admin)).await)
}

pub(super) async fn backup(State(admin): State<Shared>, Who(who): Who) -> Answer<Response> {
    admin.authenticator.require(who, Scope::Admin)?;
    let Some(embedded) = admin.embedded.clone() else { return Err(kept_elsewhere().into()) };
    let turn = BACKUP_TURN.lock().await;
    let writing = tokio::task::spawn_blocking(move || {
        let path = admin.data.root().join(BACKUP_FILE);
        admin.data.backup(&embedded, &admin.artifacts, &path).map_err(|error| problem_of(&error))?;
        // Without its name the file is gone as soon as the client has it, or went away.
        let opened = std::fs::File::open(&path).and_then(|file| std::fs::remove_file(&path).map(|()| file));
        let opened = opened.and_then(|file| Ok((file.metadata()?.len(), file)));
        opened.map_err(|error| {
            Problem::new(&code::INTERNAL, format!("open the backup {}: {error}", path.display()))
        })
    });
    let (length, file) = writing
        .await
        .map_err(|error| Problem::new(&code::INTERNAL, format!("write the backup: {error}")))??;
    drop(turn);
    let pieces = stream::try_unfold(tokio::fs::File::from_std(file), async |mut file| {
        let mut piece = BytesMut::with_capacity(BACKUP_PIECE_BYTES);
        let read = file.read_buf(&mut piece).await.map_err(BodyError::broken)?;
        Ok::<_, BodyError>((read > 0).then(|| (Frame::data(piece.freeze()), file)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(pieces)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Brings the numbers of the server up to date with those that the runtime keeps for itself.
pub(super) fn mirror(admin: &Admin) -> coracle_runtime::Status {
    let (metrics, runtime) = (admin.observe.metrics.server(), admin.runtime.status());
    let idle = admin.invoke.idle_instances() as u64;
    metrics.instances.set(admin.invoke.instances());
    admin.invoke.mirror();
    metrics.instances_idle.set(idle);
    metrics.code_bytes.set(runtime.mapped_bytes);
    metrics.code_hits.set(runtime.hits);
    metrics.code_misses.set(runtime.misses);
    metrics.code_evictions.set(runtime.evictions);
    metrics.compiled_so_far(runtime.compiles, runtime.compile_time);
    runtime
}

async fn details(admin: &Admin) -> StatusDetails {
    let sandboxes = sandboxes(admin).await;
    let (metrics, runtime) = (admin.observe.metrics.server(), mirror(admin));
    StatusDetails {
        in_flight: admin.invoke.in_flight(),
        instances: metrics.instances.get(),
        instances_idle: admin.invoke.idle_instances(),
        instances_max: runtime.instances_max,
        instances_waiting: metrics.instances_waiting.get(),
        connections: metrics.connections.get(),
        code_cache: CodeCacheView {
            entries: runtime.mapped,
            bytes: runtime.mapped_bytes,
            bytes_max: runtime.mapped_bytes_max,
            hits: runtime.hits,
            misses: runtime.misses,
            evictions: runtime.evictions,
            compiles: runtime.compiles,
            compile_ms: u64::try_from(runtime.compile_time.as_millis()).unwrap_or(u64::MAX),
            rebuilt: runtime.rebuilt,
        },
        pagemap_scan: runtime.pagemap_scan,
        sandboxes,
        nodes: admin.nodes.all().await,
    }
}

async fn sandboxes(admin: &Admin) -> SandboxesView {
    match admin.runtime.programs().protections().await {
        Err(problem) => SandboxesView { unavailable: Some(problem.message), protections: Vec::new() },
        Ok(protections) => {
            let view = |Protection { name, how, active }| ProtectionView { name, active, how };
            SandboxesView { unavailable: None, protections: protections.into_iter().map(view).collect() }
        }
    }
}

fn kept_elsewhere() -> Problem {
    Problem::new(
        &code::BAD_REQUEST,
        "this server shares its database with others, and has no copy of its own to give",
    )
    .hint("back up the PostgreSQL: pg_dump --schema=coracle; and keep the key file with it")
}

fn problem_of(error: &BackupError) -> Problem {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    let message = format!("{error}{source}");
    match error {
        BackupError::Full => Problem::new(&code::DISK_FULL, message)
            .hint("a backup is made in the data directory, and needs room there for another copy of it"),
        BackupError::Busy => Problem::new(&code::STORE_UNAVAILABLE, message).retry_after(5),
        BackupError::Artifact(_) => Problem::new(&code::ARTIFACT_DAMAGED, message)
            .hint("deploy the function again whose code it is, then back up"),
        BackupError::Sqlite(_) | BackupError::File(_) => Problem::new(&code::INTERNAL, message),
    }
}
