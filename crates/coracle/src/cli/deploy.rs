//! `coracle deploy`: builds what a manifest says to build, uploads what the server does not have, and makes it answer.
//! A folder with `coracle.toml`, or a file and flags; flags outrank the manifest.

mod code;
mod flags;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use coracle_api::{AppSpec, Client, ClientError, FunctionSpec, FunctionView};
use coracle_model::{
    AppName, ByteSize, Digest, FunctionName, FunctionRef, NamespaceName, Problem, Settings, Span,
    code as codes,
};
use serde_json::json;

pub(super) use self::code::upload;
use self::flags::Flags;
use super::changes::changes;
use crate::manifest::{self, Manifest};
use crate::options::{Common, Options};
use crate::stop::{Done, Stop};
use crate::talk::{BOLD, styled};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle deploy                       the folder with coracle.toml that you stand in
  coracle deploy shop/ --name resize   one function of it
  coracle deploy hello.wasm --name hello --env GREETING=Hi --memory 64MiB";

/// Deploy a folder with a coracle.toml, or a .wasm file.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A folder with a coracle.toml, or a .wasm file
    #[arg(default_value = ".", value_name = "FOLDER|FILE")]
    path: PathBuf,
    /// The name of the function; with a folder, the only one of it to deploy
    #[arg(long)]
    name: Option<FunctionName>,
    #[command(flatten)]
    flags: Flags,
}

/// What is to be deployed, once it is built.
#[derive(Debug)]
struct Plan {
    namespace: NamespaceName,
    /// Functions of an app are deployed together: all or none.
    app: Option<AppName>,
    functions: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    name: FunctionName,
    file: PathBuf,
    settings: Settings,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    // Before a build that may take minutes: whether there is anywhere to deploy to.
    let client = common.client()?;
    let mut plan = plan(&args, common).await?;
    for function in &mut plan.functions {
        args.flags.overlay(&mut function.settings);
    }
    let before = before(&client, &plan).await?;
    let functions = apply(&client, &plan).await?;
    render(&client, &functions, &before, common.json)
}

async fn plan(args: &Args, common: &Common) -> Done<Plan> {
    let folder = match args.path.file_name() {
        Some(name) if name == manifest::FILE_NAME => {
            args.path.parent().filter(|folder| *folder != Path::new(""))
        }
        _ => Some(args.path.as_path()),
    };
    let folder = folder.unwrap_or(Path::new("."));
    if folder.is_dir() { plan_folder(folder, args, common).await } else { plan_file(args, common) }
}

fn plan_file(args: &Args, common: &Common) -> Done<Plan> {
    let file = args.path.clone();
    if !file.is_file() {
        let why = if file.exists() { "it is not a file" } else { "there is no such file or folder" };
        let message = format!("cannot deploy {}: {why}", file.display());
        return Err(Problem::new(&codes::BAD_REQUEST, message).into());
    }
    let Some(name) = args.name.clone() else { return Err(name_is_missing(&file)) };
    let function = Planned { name, file, settings: Settings::default() };
    Ok(Plan { namespace: common.namespace(), app: None, functions: vec![function] })
}

fn name_is_missing(file: &Path) -> Stop {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let name = name.trim_matches('-').chars().take(64).collect::<String>();
    let name = if name.is_empty() { "NAME" } else { &name };
    let message = format!(
        "a file needs a name to be deployed under\n\nhint: coracle deploy {} --name {name}\n",
        file.display()
    );
    Stop::Usage(Box::new(Options::command().error(ErrorKind::MissingRequiredArgument, message)))
}

async fn plan_folder(folder: &Path, args: &Args, common: &Common) -> Done<Plan> {
    if !folder.join(manifest::FILE_NAME).exists() {
        let message = format!("there is no {} in {}", manifest::FILE_NAME, folder.display());
        return Err(Problem::new(&codes::INVALID_MANIFEST, message)
            .hint("name a file instead: coracle deploy FILE.wasm --name NAME")
            .into());
    }
    let mut manifest = Manifest::read(folder)?;
    if let Some(name) = &args.name {
        manifest = only(manifest, name)?;
    }
    let mut functions = Vec::new();
    for function in manifest.functions {
        if let Some(command) = &function.build {
            code::build(&function.name, command, folder).await?;
        }
        let file = function.artifact(folder)?;
        functions.push(Planned { name: function.name, file, settings: function.settings });
    }
    let namespace = common.namespace.clone().or(manifest.namespace).unwrap_or_default();
    Ok(Plan { namespace, app: manifest.app, functions })
}

fn only(mut manifest: Manifest, name: &FunctionName) -> Result<Manifest, Problem> {
    if let Some(app) = &manifest.app {
        // Deployed alone, it would be the only function that is left of the app.
        let message = format!("cannot deploy `{name}` alone: the app `{app}` is deployed whole");
        return Err(Problem::new(&codes::CONFLICT, message).hint("leave out `--name`"));
    }
    let names: Vec<_> = manifest.functions.iter().map(|function| function.name.to_string()).collect();
    manifest.functions.retain(|function| function.name == *name);
    if !manifest.functions.is_empty() {
        return Ok(manifest);
    }
    let problem = Problem::new(&codes::FUNCTION_NOT_FOUND, format!("the manifest has no function `{name}`"));
    Err(problem.hint(format!("it has: {}", names.join(", "))))
}

/// How the functions are run now, as far as they exist.
async fn before(client: &Client, plan: &Plan) -> Done<BTreeMap<FunctionName, FunctionView>> {
    let mut before = BTreeMap::new();
    for Planned { name, .. } in &plan.functions {
        let function = FunctionRef { namespace: plan.namespace.clone(), name: name.clone() };
        match client.function(&function).await {
            Ok(view) => drop(before.insert(view.name.clone(), view)),
            // It is new, or its namespace is; whether that is wrong is for the deploy to say.
            Err(ClientError::Problem(problem)) if problem.status == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(before)
}

async fn apply(client: &Client, plan: &Plan) -> Done<Vec<FunctionView>> {
    let mut app = AppSpec::default();
    for Planned { name, file, settings } in &plan.functions {
        let artifact = code::upload(client, name, file).await?;
        app.functions.insert(name.clone(), spec(artifact, settings));
    }
    if let Some(name) = &plan.app {
        return Ok(client.deploy_app(&plan.namespace, name, &app).await?);
    }
    let mut functions = Vec::new();
    for (name, spec) in app.functions {
        let function = FunctionRef { namespace: plan.namespace.clone(), name };
        functions.push(client.deploy(&function, &spec).await?);
    }
    Ok(functions)
}

/// Settings on their way to the server, every one of them said.
fn spec(artifact: Digest, settings: &Settings) -> FunctionSpec {
    let settings = settings.clone();
    let limits = settings.limits;
    FunctionSpec {
        artifact,
        env: settings.env,
        secrets: settings.secrets,
        outbound: settings.outbound,
        memory: Some(ByteSize(limits.memory_bytes)),
        timeout: Some(Span(limits.timeout)),
        stream_timeout: Some(Span(limits.stream_timeout)),
        concurrency: Some(limits.concurrency),
        waiting: Some(limits.waiting),
        request_body: Some(ByteSize(limits.request_body_bytes)),
        response_body: Some(ByteSize(limits.response_body_bytes)),
        log_rate: Some(ByteSize(limits.log_bytes_per_second)),
        reuse: Some(settings.reuse),
        route: settings.routes,
        private: settings.private,
        content_type: settings.content_type,
        labels: settings.labels,
        annotations: settings.annotations,
    }
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
        print::line(url(function))?;
        for route in &function.settings.route {
            talk::say(format_args!("  also at {}{route}", client.url()));
        }
        talk::say(format_args!("  try: coracle call {name}{room_flag}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_says_every_setting_of_a_function() {
        let settings = Settings {
            private: true,
            reuse: 9,
            content_type: Some("text/plain".into()),
            routes: vec!["/a/*".parse().unwrap()],
            ..Settings::default()
        };
        assert_eq!(Settings::from(spec(Digest::from_bytes([7; 32]), &settings)), settings);
    }
}
