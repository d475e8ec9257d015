//! `coracle deploy`: builds what a manifest says to build, uploads what the server does not have, and makes it answer.
//! A folder with `coracle.toml`, or a file, a folder or an image and flags; flags outrank the manifest.

mod build;
mod code;
mod flags;
mod pack;
mod plan;
mod tools;

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle_api::{Client, ClientError, FunctionView, InstancesView};
use coracle_model::{FunctionName, FunctionRef, Span};
use serde_json::json;

pub(super) use self::build::{Builder, Voice};
pub(super) use self::code::upload;
use self::flags::Flags;
pub(super) use self::plan::Plan;
pub(super) use self::tools::{missing_program, missing_tool};
use super::changes::changes;
use crate::manifest;
use crate::options::Common;
use crate::signals::Signals;
use crate::stop::{Done, Stop};
use crate::talk::{BAD, BOLD, styled};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle deploy                       the folder with coracle.toml that you stand in
  coracle deploy shop/ --name resize   one function of it
  coracle deploy hello.wasm --name hello --env GREETING=Hi --memory 64MiB
  coracle deploy ./report.sh --name report
  coracle deploy dist/ --name api --command './server -v' --contract http --port 3000
  coracle deploy --image nginx:1 --name site --set scale.max=3 --set read_only=true";

/// How long a build command may take: the first build of a large project takes minutes.
pub(super) const BUILD_TIMEOUT: &str = "30m";

/// Deploy a folder with a coracle.toml, a .wasm file, any program, or an image.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A folder, a .wasm file, an archive or an executable
    #[arg(default_value = ".", value_name = "FOLDER|FILE")]
    path: PathBuf,
    /// An OCI image in place of a file
    #[arg(long, value_name = "REFERENCE", conflicts_with = "path")]
    image: Option<String>,
    /// The name of the function; with a folder, the only one of it to deploy
    #[arg(long)]
    name: Option<FunctionName>,
    /// How long a build command may take
    // Hidden: one that takes longer is told of it.
    #[arg(long, hide = true, value_name = "SPAN", default_value = BUILD_TIMEOUT)]
    build_timeout: Span,
    #[command(flatten)]
    flags: Flags,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = deploy(args, common) => done,
        // What is being built ends with the future that is dropped here.
        () = signals.heard() => Err(Stop::Interrupted),
    }
}

async fn deploy(args: Args, common: &Common) -> Done {
    // Before a build that may take minutes: whether there is anywhere to deploy to.
    let client = common.client()?;
    let mut plan = plan(&args, common)?;
    for function in &mut plan.functions {
        args.flags.overlay(function)?;
    }
    let builder = Builder { timeout: args.build_timeout, voice: Voice::Aloud };
    plan.build(&builder).await?;
    let before = before(&client, &plan).await?;
    let functions = plan.apply(&client).await?;
    render(&client, &functions, &before, common.json)
}

/// What was typed: an image, a folder and the command that is run in it, or all that a path says itself.
fn plan(args: &Args, common: &Common) -> Done<Plan> {
    let name = args.name.as_ref();
    let is_described = args.path.join(manifest::FILE_NAME).exists();
    match &args.image {
        Some(image) => Plan::of_image(image, name, common),
        None if args.path.is_dir() && !is_described && args.flags.has_command() => {
            Plan::of_bundle(&args.path, name, common)
        }
        None => Plan::of(&args.path, name, common),
    }
}

/// How the functions are run now, as far as they exist.
async fn before(client: &Client, plan: &Plan) -> Done<BTreeMap<FunctionName, FunctionView>> {
    let mut before = BTreeMap::new();
    for function in &plan.functions {
        let function = FunctionRef { namespace: plan.namespace.clone(), name: function.name.clone() };
        match client.function(&function).await {
            Ok(view) => drop(before.insert(view.name.clone(), view)),
            // It is new, or its namespace is; whether that is wrong is for the deploy to say.
            Err(ClientError::Problem(problem)) if problem.status == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(before)
}

fn render(
    client: &Client,
    functions: &[FunctionView],
    before: &BTreeMap<FunctionName, FunctionView>,
    json: bool,
) -> Done {
    let changed = |function: &FunctionView| {
        before
            .get(&function.name)
            .map_or_else(Vec::new, |before| changes(&before.settings, &function.settings))
    };
    let url = |function: &FunctionView| format!("{}{}", client.url(), function.path);
    if json {
        let deployed = functions.iter().map(|function| {
            json!({
                "name": function.name,
                "namespace": function.namespace,
                "revision": function.revision,
                "digest": function.digest,
                "url": url(function),
                "changed": changed(function),
            })
        });
        return print::json(&deployed.collect::<Vec<_>>());
    }
    for function in functions {
        let FunctionView { name, namespace, revision, .. } = function;
        let room = talk::in_namespace(namespace);
        let room_flag = if room.is_empty() { String::new() } else { format!(" -n {namespace}") };
        let is_same = before.get(name).is_some_and(|before| before.revision == *revision);
        let what = if is_same { "unchanged:" } else { "deployed" };
        talk::say(format_args!("{what} {}{room}, revision {revision}", styled(BOLD, name)));
        for change in changed(function) {
            talk::say(format_args!("  changed: {change}"));
        }
        if let Some(InstancesView { serves_before: Some(older), failure, .. }) = &function.instances {
            match failure {
                Some(failure) => {
                    talk::say(format_args!("  {} it does not start: {}", styled(BAD, "but"), failure.message))
                }
                None => talk::say(format_args!("  {} it is not ready yet", styled(BAD, "but"))),
            }
            talk::say(format_args!(
                "  revision {older} goes on serving until it does; to stay with it: coracle rollback {name}{room_flag}"
            ));
        }
        print::line(url(function))?;
        for route in &function.settings.route {
            talk::say(format_args!("  also at {}{route}", client.url()));
        }
        talk::say(format_args!("  try: coracle call {name}{room_flag}"));
    }
    Ok(())
}
