//! `coracle up`: the server, until Ctrl-C or SIGTERM.
//! Says where it listens, how to stop it and what to do next; with `--demo` there is something to call at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_model::{ByteSize, Problem, Span, code};
use serde_json::json;
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use super::demo;
use crate::find::admin_token_file;
use crate::options::Common;
use crate::serve::{self, MetricsListen, Ready};
use crate::signals::Signals;
use crate::stop::{Done, Stop};
use crate::storage::StoreUrl;
use crate::talk::{BOLD, DIM, styled};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle up --demo
  coracle up --data /srv/coracle --listen 0.0.0.0:8080 --metrics-listen 127.0.0.1:9090
  coracle up --data NEW --restore shop.backup";

/// What a server writes to its own log, if nobody says otherwise.
pub(super) const LOG_FILTER: &str = "warn,h2=error";

/// Start a server. It keeps everything in the data directory, and serves until Ctrl-C or SIGTERM.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to listen; port 0 picks one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
    /// /metrics without a token, or `none` [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDR:PORT", value_parser = metrics_listen)]
    metrics_listen: Option<MetricsListen>,
    /// Deploy three functions to play with
    #[arg(long)]
    demo: bool,
    /// Begin from a backup; the data directory must be empty
    #[arg(long, value_name = "FILE")]
    restore: Option<PathBuf>,
    /// The PostgreSQL that several servers share [default: a file]
    #[arg(long, value_name = "URL", env = "CORACLE_STORE", hide_env_values = true)]
    store: Option<StoreUrl>,
    /// Where those servers reach this one [default: where it listens]
    #[arg(long, value_name = "URL", env = "CORACLE_ADVERTISE", hide_env_values = true)]
    advertise: Option<String>,
    /// How long calls may take when it is stopped
    #[arg(long, value_name = "SPAN", default_value_t = Span(serve::DRAIN))]
    drain: Span,
    /// How long a client may take for the head of a request
    #[arg(long, value_name = "SPAN", default_value_t = Span(coracle_gateway::HEAD_TIMEOUT))]
    head_timeout: Span,
    /// Instances of all functions that may run at once
    #[arg(long, value_name = "N", default_value_t = serve::INSTANCES, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    instances: u32,
    /// Queued calls of all functions that may run at once
    #[arg(long, hide = true, value_name = "N", default_value_t = serve::QUEUE_CONCURRENCY, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queue_concurrency: u32,
    /// Calls that may wait in the queue of one namespace
    #[arg(long, hide = true, value_name = "N", default_value_t = serve::QUEUE_DEPTH)]
    queue_depth: u64,
    /// How long whoever is told of the result of a queued call may take to answer
    #[arg(long, hide = true, value_name = "SPAN", default_value_t = Span(serve::DELIVERY_TIMEOUT))]
    delivery_timeout: Span,
    /// Compiled code that is kept in memory
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(serve::CODE_BYTES))]
    code_cache: ByteSize,
    /// Memory that compiling a deployed file may take
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(serve::COMPILE_BYTES))]
    compile_memory: ByteSize,
    /// How long compiling a deployed file may take
    #[arg(long, value_name = "SPAN", default_value_t = Span(serve::COMPILE_TIMEOUT))]
    compile_timeout: Span,
    /// Keep parts of compiled code for the next revision; where all who may deploy trust each other
    #[arg(long)]
    incremental: bool,
    /// The largest file that may be deployed
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(coracle_api::ARTIFACT_BYTES_MAX))]
    upload_max: ByteSize,
    /// The key that secrets are sealed with [default: in the data directory]
    #[arg(long, value_name = "FILE", env = "CORACLE_KEY_FILE", hide_env_values = true)]
    key_file: Option<PathBuf>,
    /// The folder of a user and a password who may do everything
    #[arg(long, value_name = "DIR")]
    basic_auth_dir: Option<PathBuf>,
    /// The folder of compiled code
    #[arg(long, value_name = "DIR", env = "CORACLE_CACHE", hide_env_values = true)]
    cache: Option<PathBuf>,
    /// How much longer each commit takes than it does, as on a slow disk; for benchmarks
    #[arg(long, value_name = "SPAN", default_value_t = Span(Duration::ZERO), hide = true)]
    commit_delay: Span,
    /// Accept queued calls and forget them, which loses all of them; for benchmarks
    #[arg(long, hide = true)]
    queue_forgets: bool,
    /// What the server logs of itself, as in `debug`
    #[arg(long, value_name = "FILTER", default_value = LOG_FILTER)]
    log: String,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    log(&args.log)?;
    // Heard from now on: a signal during the start must not be lost.
    let signals = Signals::listen()?;
    let data = common.data_dir()?;
    let (ready, is_ready) = oneshot::channel();
    let options = serve::Options {
        data: data.clone(),
        listen: args.listen,
        metrics_listen: args.metrics_listen.unwrap_or(MetricsListen::UsualIfFree),
        drain: args.drain.0,
        head_timeout: args.head_timeout.0,
        instances: args.instances,
        queue_concurrency: args.queue_concurrency,
        queue_depth: args.queue_depth,
        delivery_timeout: args.delivery_timeout.0,
        code_bytes: args.code_cache.0,
        compile_bytes: args.compile_memory.0,
        compile_timeout: args.compile_timeout.0,
        incremental: args.incremental,
        upload_bytes: args.upload_max.0,
        key_file: args.key_file,
        basic_auth: args.basic_auth_dir,
        cache: args.cache,
        commit_delay: args.commit_delay.0,
        queue_forgets: args.queue_forgets,
        restore: args.restore,
        store: args.store,
        advertise: args.advertise,
    };
    let mut server = std::pin::pin!(serve::serve(options, ready, stopped(signals, args.drain)));
    let announced = async {
        // The server gave up before it was ready: it says itself why.
        let Ok(ready) = is_ready.await else { return std::future::pending().await };
        announce(&ready, &data, args.demo, common.json).await
    };
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        announced = announced => {
            // The demo failed, or nobody reads our output any more: the server is no worse for it.
            if let Err(Stop::Problem(problem)) = announced {
                talk::problem(&problem, common.json);
            }
        }
    }
    Ok(server.await?)
}

async fn announce(ready: &Ready, data: &Path, demo: bool, json: bool) -> Done {
    let url = serve::url_of(ready.address);
    let metrics = ready.metrics.map(|address| format!("{}/metrics", serve::url_of(address)));
    // Pinned: scripts wait for this line, and for the JSON object below.
    talk::say(format_args!("listening on {}", styled(BOLD, &url)));
    if json {
        print::json_line(
            &json!({ "url": url, "metrics_url": metrics, "data": data, "pid": std::process::id() }),
        )?;
    }
    if let Some(metrics) = metrics {
        talk::say(format_args!("metrics on {metrics}"));
    }
    talk::say(styled(DIM, format_args!("data in {}", data.display())));
    talk::say(styled(
        DIM,
        format_args!(
            "log in, as at {url}/ui/, as admin with what is in {}",
            admin_token_file(data).display()
        ),
    ));
    if demo {
        demo::deploy(&url, &ready.admin_token).await?;
    }
    talk::say("deploy your own: coracle deploy FILE --name NAME");
    talk::say(styled(DIM, "stop with Ctrl-C"));
    Ok(())
}

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an address and a port, as in `127.0.0.1:8080` or `0.0.0.0:80`")
}

fn metrics_listen(text: &str) -> Result<MetricsListen, &'static str> {
    match text {
        "none" => Ok(MetricsListen::Nowhere),
        text => match text.parse() {
            Ok(address) => Ok(MetricsListen::At(address)),
            Err(_) => Err("write an address and a port, as in `127.0.0.1:8082`, or `none`"),
        },
    }
}

/// The server's own log goes to standard error, as talk does.
pub(super) fn log(filter: &str) -> Result<(), Problem> {
    let filter = filter.parse::<EnvFilter>().map_err(|error| {
        Problem::new(&code::BAD_REQUEST, format!("`{filter}` is not a filter of logs: {error}"))
    })?;
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| anstream::AutoStream::auto(std::io::stderr()))
        .try_init(); // In this process nobody else could have begun one.
    Ok(())
}

/// The first signal is heard; the second ends everything.
async fn stopped(mut signals: Signals, drain: Span) {
    signals.heard().await;
    talk::say(format_args!("stopping: calls that run have {drain} to finish; once more stops at once"));
    // Whoever asks twice does not want to wait.
    tokio::spawn(async move {
        signals.heard().await;
        std::process::exit(1);
    });
}
