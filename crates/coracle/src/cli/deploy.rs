//! `coracle deploy`: builds what a manifest says to build, uploads what the server does not have, and makes it answer.
//! A folder with `coracle.toml` or a stack file, or a file, a folder or an image and flags; flags outrank the manifest.

mod build;
mod code;
mod flags;
mod order;
mod pack;
mod plan;
mod saved;
mod stack;
mod tools;

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle_api::{Client, ClientError, FunctionView, InstancesView, ProblemView};
use coracle_model::{AppName, FunctionName, FunctionRef, Span};
use regex::Regex;
use serde_json::json;

pub(super) use self::build::{Builder, Voice};
pub(super) use self::code::upload;
pub(super) use self::flags::Flags;
use self::plan::Choice;
pub(super) use self::plan::Plan;
pub(super) use self::tools::{missing_program, missing_tool};
use super::changes::changes;
use crate::manifest;
use crate::options::Common;
use crate::signals::Signals;
use crate::stop::{Done, Stop};
use crate::talk::{BOLD, styled};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle deploy                       the folder with coracle.toml that you stand in
  coracle deploy shop/ --filter 'a-*'  some functions of it; of a stack.yaml as well
  coracle deploy hello.wasm --name hello --env GREETING=Hi --memory 64MiB
  coracle deploy dist/ --name api --command './server -v' --contract http --port 3000
  coracle deploy --image nginx:1 --name site --set scale.max=3 --set read_only=true";

/// How long a build command may take: the first build of a large project takes minutes.
pub(super) const BUILD_TIMEOUT: &str = "30m";

/// Deploy a folder with a coracle.toml or a stack.yaml, a .wasm file, any program, or an image.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A folder, a stack.yaml, a .wasm file, an archive or an executable
    #[arg(default_value = ".", value_name = "FOLDER|FILE")]
    path: PathBuf,
    /// A stack file
    // Hidden: whoever types it knows it from faas-cli.
    #[arg(short = 'f', long, hide = true, value_name = "FILE", conflicts_with_all = ["path", "image"])]
    yaml: Option<PathBuf>,
    /// An OCI image in place of a file
    #[arg(long, value_name = "REFERENCE", conflicts_with = "path")]
    image: Option<String>,
    /// The name of the function; with a folder, the only one of it to deploy
    #[arg(long)]
    name: Option<FunctionName>,
    /// Only the functions of a folder whose names fit, as in `*-worker`
    #[arg(long, value_name = "GLOB", conflicts_with_all = ["name", "image"])]
    filter: Option<String>,
    /// Only those whose names this expression finds
    // Hidden: whoever needs one knows it from faas-cli.
    #[arg(long, hide = true, value_name = "REGEX", conflicts_with_all = ["name", "filter", "image"])]
    regex: Option<Regex>,
    /// What the app of a folder is called [default: as its coracle.toml says; of a stack.yaml, the folder's name]
    #[arg(long, hide = true, value_name = "NAME", conflicts_with = "image")]
    app: Option<AppName>,
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

async fn deploy(mut args: Args, common: &Common) -> Done {
    // Before a build that may take minutes: whether there is anywhere to deploy to.
    let client = common.client()?;
    if let Some(yaml) = args.yaml.take() {
        args.path = yaml;
    }
    let mut plans = plans(&mut args, common)?;
    for function in plans.iter_mut().flat_map(|plan| &mut plan.functions) {
        args.flags.overlay(function)?;
    }
    let builder = Builder { timeout: args.build_timeout, voice: Voice::Aloud };
    for plan in &plans {
        plan.build(&builder).await?;
    }
    deploy_all(&client, &plans, None, common.json).await
}

/// Makes plans true and says so: nothing is deployed before all that they need is on the server.
///
/// An example is a line to try in place of ours, in which `URL` stands for where a function answers.
pub(super) async fn deploy_all(client: &Client, plans: &[Plan], example: Option<&str>, json: bool) -> Done {
    let before = Before::of(client, plans).await?;
    order::check(client, plans, &before).await?;
    let mut specs = Vec::with_capacity(plans.len());
    for plan in plans {
        specs.push(plan.prepare(client).await?);
    }
    let mut done = order::Done::default();
    let ended = order::send(client, plans, &specs, &before, &mut done).await;
    // What was done is said also when a later part of it fails.
    if ended.is_ok() || !done.deployed.is_empty() {
        render(client, &done, &before, example, json)?;
    }
    if ended.is_err() && !json {
        say_what_stays(&before, &done);
    }
    ended?;
    done.deployed.iter().try_for_each(starts)
}

/// Says of functions that were to be removed that they are still there.
fn say_what_stays(before: &Before, done: &order::Done) {
    let stays = |function: &&FunctionRef| !done.deployed.is_empty() && !done.removed.contains(function);
    for FunctionRef { namespace, name } in before.leaving.iter().filter(stays) {
        let room = talk::in_namespace(namespace);
        talk::say(format_args!("{name}{room} stays: nothing is removed before everything is deployed"));
    }
}

/// That a program starts which was deployed or gone back to: else the reason is the error of the verb.
pub(super) fn starts(function: &FunctionView) -> Done {
    let Some(InstancesView { failure: Some(failure), serves_before, ready, busy, frozen, .. }) =
        &function.instances
    else {
        return Ok(());
    };
    if serves_before.is_none() && ready + busy + frozen > 0 {
        // What failed was another instance of it, or an earlier one.
        return Ok(());
    }
    let FunctionView { name, revision, namespace, .. } = function;
    let room_flag = talk::namespace_flag(namespace);
    let hint = match serves_before {
        Some(older) => format!(
            "revision {older} goes on serving; to stay with it: coracle rollback {name}{room_flag} --to {older}"
        ),
        None => format!("coracle logs {name}{room_flag}"),
    };
    let message = format!("revision {revision} of `{name}` does not start: {}", failure.message);
    Err(Stop::Problem(Box::new(ProblemView { message, hint: Some(hint), ..failure.clone() })))
}

/// What was typed: an image, a folder and the command that is run in it, or all that a path says itself.
fn plans(args: &mut Args, common: &Common) -> Done<Vec<Plan>> {
    let name = args.name.as_ref();
    let is_described = args.path.join(manifest::FILE_NAME).exists() || stack::find(&args.path).is_some();
    let plan = match &args.image {
        Some(image) => Plan::of_image(image, name, common)?,
        None if args.path.is_dir() && !is_described && args.flags.has_command() => {
            Plan::of_bundle(&args.path, name, common)?
        }
        None => {
            stack::say_which_counts(&args.path);
            let choice = Choice {
                name: args.name.take(),
                filter: args.filter.take(),
                regex: args.regex.take(),
                app: args.app.take(),
            };
            let is_named = choice.app.is_some();
            let plans = Plan::all_of(&args.path, &choice, &args.flags, common)?;
            if let [Plan { app: Some(app), stack: Some(_), .. }, ..] = &plans[..]
                && !is_named
            {
                talk::say(format_args!(
                    "the app is called {app}, as its folder is; `--app` calls it something else"
                ));
            }
            return Ok(plans);
        }
    };
    Ok(vec![plan])
}

/// What is there before a deploy.
struct Before {
    /// The functions as they are run, as far as they exist.
    functions: BTreeMap<FunctionRef, FunctionView>,
    /// Those of an app that it names no longer.
    leaving: Vec<FunctionRef>,
}

impl Before {
    async fn of(client: &Client, plans: &[Plan]) -> Done<Self> {
        let mut before = Self { functions: BTreeMap::new(), leaving: Vec::new() };
        for plan in plans {
            let Plan { namespace, functions, .. } = plan;
            let reference =
                |name: &FunctionName| FunctionRef { namespace: namespace.clone(), name: name.clone() };
            for function in functions {
                let function = reference(&function.name);
                if let Some(view) = if_there(client.function(&function).await)? {
                    before.functions.insert(function, view);
                }
            }
            before.leaving.extend(plan.leaving(client).await?);
        }
        Ok(before)
    }
}

/// What was asked for, unless it is new, or its namespace is; whether that is wrong is for the deploy to say.
fn if_there<T>(asked: Result<T, ClientError>) -> Done<Option<T>> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(ClientError::Problem(problem)) if problem.status == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn render(client: &Client, done: &order::Done, before: &Before, example: Option<&str>, json: bool) -> Done {
    let known = |function: &FunctionView| {
        let FunctionView { name, namespace, .. } = function;
        before.functions.get(&FunctionRef { namespace: namespace.clone(), name: name.clone() })
    };
    let changed = |function: &FunctionView| {
        known(function).map_or_else(Vec::new, |before| changes(&before.settings, &function.settings))
    };
    let url = |function: &FunctionView| format!("{}{}", client.url(), function.path);
    if json {
        let deployed = done.deployed.iter().map(|function| {
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
    for function in &done.deployed {
        let FunctionView { name, namespace, revision, .. } = function;
        let room = talk::in_namespace(namespace);
        let room_flag = talk::namespace_flag(namespace);
        let is_same = known(function).is_some_and(|before| before.revision == *revision);
        let what = if is_same { "unchanged:" } else { "deployed" };
        talk::say(format_args!("{what} {}{room}, revision {revision}", styled(BOLD, name)));
        for change in changed(function) {
            talk::say(format_args!("  changed: {change}"));
        }
        print::line(url(function))?;
        for route in &function.settings.route {
            talk::say(format_args!("  also at {}{route}", client.url()));
        }
        match example {
            Some(example) => talk::say(format_args!("  try: {}", example.replace("URL", &url(function)))),
            None => talk::say(format_args!("  try: coracle call {name}{room_flag}")),
        }
    }
    for FunctionRef { namespace, name } in &done.removed {
        let room = talk::in_namespace(namespace);
        talk::say(format_args!("removed {name}{room}: its app has it no longer"));
    }
    Ok(())
}
