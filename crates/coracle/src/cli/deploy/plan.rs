//! What is to be deployed: the functions of a folder, or one file; built, and made known to a server.
//! `coracle deploy` makes one for once, `coracle dev` one for every save.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use coracle_api::{
    AppSpec, Client, CodeSpec, FunctionSpec, FunctionView, OriginalSpec, ProblemView, PullRequest,
};
use coracle_faces::openfaas;
use coracle_model::{
    AppName, ByteSize, Contract, Cores, FunctionName, FunctionRef, NamespaceName, Original, Problem,
    Settings, Span, code as codes,
};

use super::code;
use super::flags::Flags;
use super::pack::Packed;
use super::{Builder, if_there};
use super::{saved, stack};
use regex::Regex;

use crate::cli::image;
use crate::manifest::{self, Function, Manifest, Source};
use crate::options::{self, Common};
use crate::stop::{Done, Stop};

/// Functions that are deployed together.
#[derive(Debug)]
pub(in crate::cli) struct Plan {
    pub(in crate::cli) namespace: NamespaceName,
    /// Functions of an app are deployed together: all or none.
    pub(in crate::cli) app: Option<AppName>,
    /// Whether these are some of the app's functions, and the others stay.
    pub(in crate::cli) is_part: bool,
    pub(in crate::cli) functions: Vec<Function>,
    /// Where they are built; `None` is a file that is there already.
    pub(in crate::cli) folder: Option<PathBuf>,
    /// The stack file and its environment files, if it is they that say what is deployed.
    pub(in crate::cli) stack: Option<Vec<PathBuf>>,
}

/// What is chosen of the functions that a folder describes, and their app.
#[derive(Debug, Default)]
pub(in crate::cli) struct Choice {
    pub(in crate::cli) name: Option<FunctionName>,
    /// A pattern with `*`.
    pub(in crate::cli) filter: Option<String>,
    pub(in crate::cli) regex: Option<Regex>,
    /// What the app is called, whatever the folder says.
    pub(in crate::cli) app: Option<AppName>,
}

impl Choice {
    /// Whether some functions may be left out.
    pub(super) fn is_part(&self) -> bool {
        self.name.is_some() || self.filter.is_some() || self.regex.is_some()
    }

    /// Whether a function is among those that are chosen.
    pub(super) fn fits(&self, name: &str) -> bool {
        let Self { name: only, filter, regex, .. } = self;
        only.as_ref().is_none_or(|only| only.as_str() == name)
            && filter.as_ref().is_none_or(|filter| openfaas::stack::fits(filter, name))
            && regex.as_ref().is_none_or(|regex| regex.is_match(name))
    }
}

impl Plan {
    /// What a folder or a file deploys, or what is chosen of it: a plan for each namespace that it names.
    pub(in crate::cli) fn all_of(
        path: &Path,
        choice: &Choice,
        flags: &Flags,
        common: &Common,
    ) -> Done<Vec<Self>> {
        if let Some(file) = stack::find(path) {
            return stack::plans(&file, choice, flags, common);
        }
        let folder = match path.file_name() {
            Some(file) if file == manifest::FILE_NAME => {
                path.parent().filter(|folder| *folder != Path::new(""))
            }
            _ => Some(path),
        };
        let folder = folder.unwrap_or(Path::new("."));
        let plan = match folder.is_dir() {
            true => Self::of_folder(folder, choice, common)?,
            false => Self::of_file(path, choice.name.as_ref(), common)?,
        };
        Ok(vec![plan])
    }

    /// The same for one namespace, which is all that `coracle dev` works on.
    pub(in crate::cli) fn of(path: &Path, name: Option<&FunctionName>, common: &Common) -> Done<Self> {
        let choice = Choice { name: name.cloned(), ..Choice::default() };
        let mut plans = Self::all_of(path, &choice, &Flags::default(), common)?;
        match (plans.pop(), plans.is_empty()) {
            (Some(plan), true) => Ok(plan),
            _ => {
                let message = format!("{} names several namespaces, and one is worked on", path.display());
                Err(Problem::new(&codes::BAD_REQUEST, message)
                    .hint("choose one function of it with `--name`, or put all into one namespace with `-n`")
                    .into())
            }
        }
    }

    /// An image, which is built by nobody here.
    pub(super) fn of_image(image: &str, name: Option<&FunctionName>, common: &Common) -> Done<Self> {
        let Some(name) = name.cloned() else {
            return Err(name_is_missing(image));
        };
        Ok(Self::of_one(Function::new(name, Source::Image(image.to_owned())), common))
    }

    /// A folder that no manifest describes: a bundle, whose command is said by flags.
    pub(super) fn of_bundle(folder: &Path, name: Option<&FunctionName>, common: &Common) -> Done<Self> {
        let Some(name) = name.cloned() else { return Err(no_name(folder)) };
        Ok(Self::of_one(Function::new(name, Source::Path(folder.to_owned())), common))
    }

    fn of_file(file: &Path, name: Option<&FunctionName>, common: &Common) -> Done<Self> {
        if !file.is_file() {
            let why = if file.exists() { "it is not a file" } else { "there is no such file or folder" };
            let message = format!("cannot deploy {}: {why}", file.display());
            return Err(Problem::new(&codes::BAD_REQUEST, message).into());
        }
        let Some(name) = name.cloned() else { return Err(no_name(file)) };
        Ok(Self::of_one(Function::new(name, Source::Path(file.to_owned())), common))
    }

    fn of_one(function: Function, common: &Common) -> Self {
        Self::of_functions(vec![function], None, common)
    }

    /// Functions that somebody found, whose paths are relative to this folder.
    pub(in crate::cli) fn of_functions(
        functions: Vec<Function>,
        folder: Option<PathBuf>,
        common: &Common,
    ) -> Self {
        Self { namespace: common.namespace(), app: None, is_part: false, functions, folder, stack: None }
    }

    fn of_folder(folder: &Path, choice: &Choice, common: &Common) -> Done<Self> {
        if !folder.join(manifest::FILE_NAME).exists() {
            let message = format!(
                "there is neither a {} nor a stack.yaml in {}",
                manifest::FILE_NAME,
                folder.display()
            );
            return Err(Problem::new(&codes::INVALID_MANIFEST, message)
                .hint("begin a project with `coracle new NAME --lang rust`, or say what runs in it: coracle deploy FOLDER --name NAME --command ./PROGRAM")
                .into());
        }
        let Manifest { app, namespace, functions } = chosen(Manifest::read(folder)?, choice)?;
        let namespace = common.namespace.clone().or(namespace).unwrap_or_default();
        Ok(Self {
            namespace,
            app: choice.app.clone().or(app),
            is_part: choice.is_part(),
            functions,
            folder: Some(folder.to_owned()),
            stack: None,
        })
    }

    /// Builds what has a build command, one after the other.
    pub(in crate::cli) async fn build(&self, builder: &Builder) -> Done {
        let Some(folder) = &self.folder else { return Ok(()) };
        for function in &self.functions {
            if let Some(command) = &function.build {
                builder.build(&function.name, command, folder).await?;
            }
            function.path(folder)?;
        }
        Ok(())
    }

    /// The functions that its app has now, and has no longer once it is deployed.
    pub(in crate::cli) async fn leaving(&self, client: &Client) -> Done<Vec<FunctionRef>> {
        let Self { namespace, app: Some(app), is_part: false, functions, .. } = self else {
            return Ok(Vec::new());
        };
        let members = if_there(client.app(namespace, app).await)?.map(|app| app.functions);
        let is_named = |name: &FunctionName| functions.iter().any(|function| function.name == *name);
        let leaving = members.into_iter().flatten().filter(|name| !is_named(name));
        Ok(leaving.map(|name| FunctionRef { namespace: namespace.clone(), name }).collect())
    }

    /// What the file is called that says all this.
    pub(in crate::cli) fn file_name(&self) -> String {
        let stack = self.stack.as_ref().and_then(|files| files.first()?.file_name());
        stack.map_or_else(|| manifest::FILE_NAME.to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Uploads what the server does not have, and makes it answer.
    pub(in crate::cli) async fn apply(&self, client: &Client) -> Done<Vec<FunctionView>> {
        self.send(client, self.prepare(client).await?).await
    }

    /// Uploads what the server does not have, and has images pulled.
    pub(super) async fn prepare(&self, client: &Client) -> Done<AppSpec> {
        let mut app = AppSpec { part: self.is_part, ..AppSpec::default() };
        for function in &self.functions {
            let spec = self.spec_of(client, function).await?;
            app.functions.insert(function.name.clone(), spec);
        }
        Ok(app)
    }

    /// What the server finds wrong with a function of a stack file, with the place where that stands.
    fn placed(&self, stop: Stop) -> Stop {
        let Stop::Problem(problem) = stop else { return stop };
        let is_told =
            |function: &&Function| problem.message.starts_with(&format!("cannot deploy `{}`", function.name));
        let written = self.functions.iter().find(is_told).and_then(|function| function.written.as_ref());
        let place = written.map(|written| format!("{}: ", written.place_of(&problem.message)));
        let message = format!("{}{}", place.unwrap_or_default(), problem.message);
        Stop::Problem(Box::new(ProblemView { message, ..*problem }))
    }

    /// Makes answer what was prepared.
    pub(super) async fn send(&self, client: &Client, app: AppSpec) -> Done<Vec<FunctionView>> {
        if let Some(name) = &self.app {
            let deployed = client.deploy_app(&self.namespace, name, &app).await;
            return deployed.map_err(|error| self.placed(error.into()));
        }
        let mut functions = Vec::new();
        for (name, spec) in app.functions {
            let function = FunctionRef { namespace: self.namespace.clone(), name };
            functions.push(client.deploy(&function, &spec).await?);
        }
        Ok(functions)
    }

    /// Has an image pulled that the server does not have: there is something to look at while one waits.
    async fn fetch(&self, client: &Client, reference: &str) -> Done {
        let (reference, namespace) = (reference.to_owned(), self.namespace.clone());
        image::pull(client, PullRequest { reference, namespace, if_missing: true }).await.map(drop)
    }

    /// What a function is to be, with its code on the server.
    async fn spec_of(&self, client: &Client, function: &Function) -> Done<FunctionSpec> {
        let mut settings = function.settings.clone();
        let code = match &function.source {
            Source::Image(image) => {
                let file = self.folder.as_deref().unwrap_or(Path::new("")).join(image);
                if saved::is_named(image, &file) {
                    return Err(saved::problem(&file, &function.name).into());
                }
                self.fetch(client, image).await.map_err(|stop| without_image(stop, function))?;
                CodeSpec::Image(image.clone())
            }
            Source::Path(path) => {
                let folder = self.folder.as_deref().unwrap_or(Path::new(""));
                let path = function.path(folder)?.unwrap_or_else(|| folder.join(path));
                let packed = pack(path, function.name.clone()).await?;
                let program = &mut settings.program;
                if let Packed::Executable(_, command) = &packed
                    && program.command.is_empty()
                    && program.entrypoint.is_empty()
                {
                    program.command = vec![command.clone()];
                }
                CodeSpec::Artifact(code::upload(client, &function.name, packed.file()).await?)
            }
        };
        Ok(spec(code, function.contract, &settings))
    }
}

/// Packs on a thread that may wait: a folder may be large, and a file system slow.
async fn pack(path: PathBuf, name: FunctionName) -> Result<Packed, Problem> {
    let packed = tokio::task::spawn_blocking(move || match saved::is_image(&path) {
        true => Err(saved::problem(&path, &name)),
        false => Packed::of(&path),
    });
    let packed = packed.await;
    packed.map_err(|error| Problem::new(&codes::INTERNAL, format!("pack the code: {error}")))?
}

fn no_name(path: &Path) -> Stop {
    // `.` has no name but the one that it is known by elsewhere.
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    name_is_missing(&full.file_stem().unwrap_or_default().to_string_lossy())
}

/// A text with dashes for what a name may not have.
pub(super) fn name_of(text: &str) -> String {
    let name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    name.trim_matches('-').chars().take(64).collect()
}

/// Why an image is not there, and what makes it where that is known.
fn without_image(stop: Stop, function: &Function) -> Stop {
    match (stop, &function.written) {
        (Stop::Problem(problem), Some(written)) => {
            let ProblemView { message, .. } = &*problem;
            let message = format!("the image of `{}` is not there: {message}", function.name);
            Stop::Problem(Box::new(ProblemView { message, hint: Some(written.remedy()), ..*problem }))
        }
        (stop, _) => stop,
    }
}

/// Wrong usage, with a name that is made of what is deployed.
fn name_is_missing(stem: &str) -> Stop {
    let stem = stem.rsplit('/').next().unwrap_or(stem);
    let name = name_of(stem.split([':', '@']).next().unwrap_or(stem));
    let name = if name.is_empty() { "NAME" } else { &name };
    let message = format!("a function needs a name to be deployed under\n\nhint: add `--name {name}`");
    // Its own usage, and not that of all verbs.
    let mut options = options::command();
    let deploy = options.find_subcommand_mut("deploy").map(std::mem::take).unwrap_or_default();
    Stop::Usage(Box::new({ deploy }.error(ErrorKind::MissingRequiredArgument, message)))
}

fn chosen(mut manifest: Manifest, choice: &Choice) -> Result<Manifest, Problem> {
    let names: Vec<_> = manifest.functions.iter().map(|function| function.name.to_string()).collect();
    manifest.functions.retain(|function| choice.fits(function.name.as_str()));
    if !manifest.functions.is_empty() {
        return Ok(manifest);
    }
    let message = match &choice.name {
        Some(name) => format!("the manifest has no function `{name}`"),
        None => "the manifest has no function that was chosen".to_owned(),
    };
    Err(Problem::new(&codes::FUNCTION_NOT_FOUND, message).hint(format!("it has: {}", names.join(", "))))
}

/// Settings on their way to the server, every one of them said.
fn spec(code: CodeSpec, contract: Option<Contract>, settings: &Settings) -> FunctionSpec {
    let (artifact, image) = match code {
        CodeSpec::Artifact(artifact) => (Some(artifact), None),
        CodeSpec::Image(image) => (None, Some(image)),
    };
    let Settings { limits, program, scale, queue, .. } = settings.clone();
    let settings = settings.clone();
    FunctionSpec {
        artifact,
        image,
        contract,
        command: program.command,
        entrypoint: program.entrypoint,
        workdir: program.workdir,
        user: program.user,
        port: program.port,
        health: program.health,
        http2: program.http2,
        start_timeout: Some(Span(program.start_timeout)),
        read_only: program.read_only,
        network: Some(program.network),
        secrets_in_env: program.secrets_in_env,
        cpu: program.cpu_millis.map(Cores),
        processes: Some(program.processes),
        scale: Some((&scale).into()),
        queue: Some((&queue).into()),
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
        original: settings.original.map(|Original { face, document }| OriginalSpec { face, document }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coracle_model::{Network, Program, Queueing, RetryPolicy, Scale};

    use super::*;

    #[test]
    fn a_spec_says_every_setting_of_a_function() {
        let settings = Settings {
            private: true,
            reuse: 9,
            content_type: Some("text/plain".into()),
            routes: vec!["/a/*".parse().unwrap()],
            program: Program {
                command: vec!["./server".into()],
                port: Some(80),
                http2: true,
                cpu_millis: Some(1_500),
                network: Network::Host,
                read_only: true,
                ..Program::default()
            },
            scale: Scale { min: 1, max: 2, target: 3, grows: false, idle: Duration::from_secs(4) },
            queue: Queueing {
                concurrency: 5,
                retry: RetryPolicy {
                    attempts: 6,
                    first_wait: Duration::from_secs(7),
                    longest_wait: Duration::from_secs(8),
                    age: Duration::from_secs(9),
                    statuses: vec!["409".parse().unwrap()],
                },
                on_success: Some("function:notify".parse().unwrap()),
                on_failure: Some("topic:dead-orders".parse().unwrap()),
            },
            ..Settings::default()
        };
        let code = CodeSpec::Image("nginx".into());
        assert_eq!(Settings::from(spec(code, None, &settings)), settings);
    }
}
