//! `coracle show NAME`: all about a function on one screen, its last failures and what to do about them included.
//! Programs read `--json`: one object with `function`, `image`, `activity`, `queue`, `revisions` and `failures`.

use std::collections::BTreeMap;
use std::fmt::Display;

use coracle_api::{
    CallQuery, CallView, Client, FunctionActivity, FunctionView, ImageView, InstancesView, ProgramView,
    QueueCounts, QueueQuery, QueueingView, RevisionView, ScaleView, StatsQuery,
};
use coracle_model::{Limits, Queueing, Settings};
use serde_json::json;

use super::ago::{ago, bytes, millis};
use super::changes::changes;
use super::top::rate;
use super::words::typed;
use crate::options::{Common, Named};
use crate::print;
use crate::stop::Done;
use crate::table::{Column, Table};
use crate::talk::{BAD, BOLD, DIM, NEXT, styled};

/// How many of the last failures are shown.
const FAILURES_MAX: usize = 5;
/// How many of the last revisions are shown, beside the current one.
const REVISIONS_MAX: usize = 5;

/// Show all about a function.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  coracle show hello")]
pub(crate) struct Args {
    /// The function, as NAME or NAME.NS
    name: Named,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let client = common.client()?;
    let name = common.function(&args.name);
    let function = client.function(&name).await?;
    let revisions = client.revisions(&name).await?;
    let stats = StatsQuery {
        namespace: Some(name.namespace.clone()),
        function: Some(name.name.clone()),
        ..StatsQuery::default()
    };
    let activity = client.stats(&stats).await?.items.pop();
    let of = QueueQuery { namespace: Some(name.namespace.clone()), function: Some(name.name.clone()) };
    let queue = client.queue(&of).await?.totals;
    let failures = CallQuery {
        namespace: Some(name.namespace),
        function: Some(name.name),
        limit: Some(FAILURES_MAX),
        failed: true,
        ..CallQuery::default()
    };
    let failures = client.calls(&failures).await?;
    let image = image(&client, &function).await;
    if common.json {
        return print::json(&json!({
            "function": function,
            "image": image,
            "activity": activity,
            "queue": queue,
            "revisions": revisions,
            "failures": failures,
        }));
    }
    render_head(&client, &function)?;
    let is_program = function.instances.is_some();
    activity.as_ref().map_or(Ok(()), |activity| render_activity(activity, is_program))?;
    render_queue(&queue)?;
    function.instances.as_ref().map_or(Ok(()), render_instances)?;
    render_settings(&function)?;
    image.as_ref().map_or(Ok(()), render_image)?;
    render_revisions(&revisions)?;
    render_failures(&failures)
}

/// What its image brings along; whoever may see the function may not always see the images.
async fn image(client: &Client, function: &FunctionView) -> Option<ImageView> {
    function.image.as_ref()?;
    let images = client.images().await.ok()?;
    images.into_iter().find(|image| image.digest == function.digest)
}

fn render_head(client: &Client, function: &FunctionView) -> Done {
    let FunctionView { name, namespace, stats, .. } = function;
    print::line(styled(BOLD, format_args!("{name}.{namespace}")))?;
    field("url", format_args!("{}{}", client.url(), function.path))?;
    for route in &function.settings.route {
        field("route", format_args!("{}{route}", client.url()))?;
    }
    let size = function.size.map(|size| format!(", {}", bytes(size))).unwrap_or_default();
    let (code, contract, digest) = (function.code.as_str(), function.contract, function.digest.short());
    field("code", format_args!("{code}, {contract}, {digest}{size}"))?;
    if let Some(image) = &function.image {
        field("image", image)?;
    }
    let behind =
        if function.latest > function.revision { format!(", of {}", function.latest) } else { String::new() };
    field("revision", format_args!("{}{behind}, {}", function.revision, ago(function.updated)))?;
    if let Some(app) = &function.app {
        field("app", app)?;
    }
    let half = stats.p50_ms.map(|ms| format!(", half within {}", millis(ms))).unwrap_or_default();
    let most = stats.p99_ms.map(|ms| format!(", 99 of 100 within {}", millis(ms))).unwrap_or_default();
    let (calls, errors) = (stats.calls, stats.errors);
    field("calls", format_args!("{calls}, {errors} failed{half}{most}"))
}

/// How it did in the last seconds, and how it does now.
fn render_activity(activity: &FunctionActivity, is_program: bool) -> Done {
    let FunctionActivity { in_flight, waiting, instances_idle, memory_bytes, .. } = activity;
    let half = activity.p50_ms.map(|ms| format!(", half within {}", millis(ms))).unwrap_or_default();
    let most = activity.p99_ms.map(|ms| format!(", 99 of 100 within {}", millis(ms))).unwrap_or_default();
    let errors = if activity.errors_per_s > 0.0 {
        format!(", {} errors/s", rate(activity.errors_per_s))
    } else {
        String::new()
    };
    let calls = rate(activity.calls_per_s);
    field("of late", format_args!("{calls} calls/s{errors}{half}{most}"))?;
    let memory =
        if *memory_bytes > 0 { format!(", {} of memory", bytes(*memory_bytes)) } else { String::new() };
    // What instances of a program do stands in a line of its own.
    let idle = if is_program { String::new() } else { format!(", {instances_idle} instances idle") };
    field("now", format_args!("{in_flight} running, {waiting} waiting{idle}{memory}"))
}

/// Its queued calls, if there are any.
fn render_queue(queue: &QueueCounts) -> Done {
    let QueueCounts { waiting, running, dead, deliveries, oldest } = queue;
    if waiting + running + dead + deliveries == 0 {
        return Ok(());
    }
    let oldest = oldest.map(|at| format!(", the oldest since {}", ago(at))).unwrap_or_default();
    field("queue", format_args!("{waiting} waiting, {running} running, {dead} dead{oldest}"))
}

/// How its queued calls are run, as far as it is not as usual.
fn render_queueing(queueing: &QueueingView) -> Done {
    let usual = QueueingView::from(&Queueing::default());
    let QueueingView { attempts, first_wait, longest_wait, age, concurrency, retry_on, .. } = queueing;
    let retries =
        |of: &QueueingView| (of.attempts, of.first_wait, of.longest_wait, of.age, of.retry_on.clone());
    if retries(queueing) != retries(&usual) {
        let statuses: Vec<_> = retry_on.iter().map(ToString::to_string).collect();
        let statuses = if statuses.is_empty() { "no status".to_owned() } else { statuses.join(", ") };
        field(
            "retries",
            format_args!(
                "{attempts} attempts within {age}, {first_wait} to {longest_wait} apart, on {statuses}"
            ),
        )?;
    }
    if *concurrency != usual.concurrency {
        field("queued", format_args!("{concurrency} at once"))?;
    }
    for (name, target) in [("success", &queueing.on_success), ("failure", &queueing.on_failure)] {
        if let Some(target) = target {
            field(name, format_args!("goes to {target}"))?;
        }
    }
    Ok(())
}

/// The instances of its program, and what holds them up.
fn render_instances(instances: &InstancesView) -> Done {
    let InstancesView { starting, ready, busy, frozen, stopping, .. } = instances;
    let states = [
        (busy, "busy"),
        (ready, "ready"),
        (frozen, "frozen"),
        (starting, "starting"),
        (stopping, "stopping"),
    ];
    let there: Vec<_> = states
        .iter()
        .filter(|(count, _)| **count > 0)
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    field("instances", if there.is_empty() { "none".to_owned() } else { there.join(", ") })?;
    if let Some(revision) = instances.serves_before {
        field("serves", format_args!("revision {revision}, until this one is ready"))?;
    }
    if let Some(failure) = &instances.failure {
        field("trouble", styled(BAD, &failure.message))?;
    }
    if let Some(span) = instances.backs_off_for {
        field("", format_args!("too many ended of late: the next one starts in {span}"))?;
    }
    Ok(())
}

fn render_settings(function: &FunctionView) -> Done {
    let settings = &function.settings;
    field("memory", settings.memory)?;
    field("timeout", format_args!("{}, {} between chunks", settings.timeout, settings.stream_timeout))?;
    field("at once", format_args!("{}, {} may wait", settings.concurrency, settings.waiting))?;
    let default = Limits::default();
    let bodies = (settings.request_body.0, settings.response_body.0);
    if bodies != (default.request_body_bytes, default.response_body_bytes) {
        field("bodies", format_args!("{} in, {} out", settings.request_body, settings.response_body))?;
    }
    if settings.reuse > 0 {
        field("reuse", settings.reuse)?;
    }
    if settings.private {
        field("private", "only a token may call it")?;
    }
    settings.program.as_ref().map_or(Ok(()), render_program)?;
    render_queueing(&settings.queue)?;
    list("secrets", &settings.secrets)?;
    list("outbound", &settings.outbound)?;
    pairs("env", &settings.env)?;
    pairs("labels", &settings.labels)?;
    pairs("notes", &settings.annotations)
}

/// How its program is run, and of what is rarely set only what is not as usual.
fn render_program(program: &ProgramView) -> Done {
    let default = ProgramView::from(&Settings::default());
    let ScaleView { min, max, target, grows, idle } = &program.scale;
    let more = if *grows { "" } else { ", more are refused" };
    field("scale", format_args!("{min} to {max}, {target} calls each{more}, {idle} idle"))?;
    for (name, words) in [("entry", &program.entrypoint), ("command", &program.command)] {
        if !words.is_empty() {
            field(name, typed(words.iter().map(String::as_str)))?;
        }
    }
    let texts = [
        ("workdir", program.workdir.clone()),
        ("user", program.user.clone()),
        ("port", program.port.map(|port| port.to_string())),
        ("health", program.health.clone()),
        ("speaks", program.http2.then(|| "HTTP/2".to_owned())),
        ("cpu", program.cpu.map(|cpu| cpu.to_string())),
        ("processes", (program.processes != default.processes).then(|| program.processes.to_string())),
        (
            "starts in",
            (program.start_timeout != default.start_timeout).then(|| program.start_timeout.to_string()),
        ),
        ("network", (program.network != default.network).then(|| "that of the machine".to_owned())),
        ("root", program.read_only.then(|| "read only".to_owned())),
        ("secrets", program.secrets_in_env.then(|| "in the environment too".to_owned())),
    ];
    texts.into_iter().try_for_each(|(name, text)| text.map_or(Ok(()), |text| field(name, text)))
}

/// What holds as far as its settings say nothing else.
fn render_image(image: &ImageView) -> Done {
    let ImageView { entrypoint, command, user, workdir, port, .. } = image;
    let words = |words: &[String]| typed(words.iter().map(String::as_str));
    let parts = [
        (!entrypoint.is_empty()).then(|| format!("entrypoint {}", words(entrypoint))),
        (!command.is_empty()).then(|| format!("command {}", words(command))),
        user.as_ref().map(|user| format!("user {user}")),
        workdir.as_ref().map(|workdir| format!("workdir {workdir}")),
        port.map(|port| format!("port {port}")),
    ];
    let mut parts = parts.into_iter().flatten();
    // A part on each line: commands are long.
    parts.next().map_or(Ok(()), |part| field("brings", part))?;
    parts.try_for_each(|part| field("", part))
}

fn render_revisions(revisions: &[RevisionView]) -> Done {
    let mut table = Table::new([
        Column::Right("REVISION"),
        Column::Left(""),
        Column::Left("CODE"),
        Column::Left("DEPLOYED"),
        Column::Left("CHANGED"),
    ]);
    // The one that answers is among them, however far back it was rolled.
    let shown = |(place, revision): &(usize, &RevisionView)| *place < REVISIONS_MAX || revision.current;
    for (place, revision) in revisions.iter().enumerate().filter(shown) {
        let changed = revisions.get(place + 1).map_or_else(Vec::new, |before| {
            let code = (before.digest != revision.digest).then(|| "code".to_owned());
            let contract = (before.contract != revision.contract)
                .then(|| format!("contract {} → {}", before.contract, revision.contract));
            code.into_iter().chain(contract).chain(changes(&before.settings, &revision.settings)).collect()
        });
        table.row([
            revision.number.to_string(),
            if revision.current { "current" } else { "" }.to_owned(),
            revision.digest.short(),
            ago(revision.created),
            changed.join(", "),
        ]);
    }
    print::line("")?;
    table.print()
}

fn render_failures(failures: &[CallView]) -> Done {
    if failures.is_empty() {
        return Ok(());
    }
    print::line("")?;
    print::line(styled(BOLD, "LAST FAILURES"))?;
    for call in failures {
        let CallView { id, status, outcome, .. } = call;
        let message = call.message.as_deref().unwrap_or("the function answered that it failed");
        let outcome = if outcome == "ok" { "answered" } else { outcome };
        let when = styled(DIM, ago(call.started));
        print::line(format_args!("{} {status} {message}  {when}", styled(BAD, outcome)))?;
        if let Some(hint) = &call.hint {
            print::line(format_args!("  {NEXT}hint:{NEXT:#} {hint}"))?;
        }
        print::line(styled(DIM, format_args!("  its logs: coracle logs {} --call {id}", call.function)))?;
    }
    Ok(())
}

fn field(name: &str, value: impl Display) -> Done {
    print::line(format_args!("  {} {value}", styled(DIM, format_args!("{name:<9}"))))
}

fn list(name: &str, values: &[impl Display]) -> Done {
    values.iter().try_for_each(|value| field(name, value))
}

fn pairs(name: &str, values: &BTreeMap<String, String>) -> Done {
    values.iter().try_for_each(|(key, value)| field(name, format_args!("{key}={value}")))
}
