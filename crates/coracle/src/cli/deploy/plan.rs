//! What is to be deployed: the functions of a folder, or one file; built, and made known to a server.
//! `coracle deploy` makes one for once, `coracle dev` one for every save.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use coracle_api::{AppSpec, Client, FunctionSpec, FunctionView};
use coracle_model::{
    AppName, ByteSize, Digest, FunctionName, FunctionRef, NamespaceName, Problem, Settings, Span,
    code as codes,
};

use super::Builder;
use super::code;
use crate::manifest::{self, Function, Manifest};
use crate::options::{Common, Options};
use crate::stop::{Done, Stop};

/// Functions that are deployed together.
#[derive(Debug)]
pub(in crate::cli) struct Plan {
    pub(in crate::cli) namespace: NamespaceName,
    /// Functions of an app are deployed together: all or none.
    pub(in crate::cli) app: Option<AppName>,
    pub(in crate::cli) functions: Vec<Function>,
    /// Where they are built; `None` is a file that is there already.
    pub(in crate::cli) folder: Option<PathBuf>,
}

impl Plan {
    /// What a folder or a file deploys; with a name, that function of the folder alone.
    pub(in crate::cli) fn of(path: &Path, name: Option<&FunctionName>, common: &Common) -> Done<Self> {
        let folder = match path.file_name() {
            Some(file) if file == manifest::FILE_NAME => {
                path.parent().filter(|folder| *folder != Path::new(""))
            }
            _ => Some(path),
        };
        let folder = folder.unwrap_or(Path::new("."));
        if folder.is_dir() {
            Self::of_folder(folder, name, common)
        } else {
            Self::of_file(path, name, common)
        }
    }

    fn of_file(file: &Path, name: Option<&FunctionName>, common: &Common) -> Done<Self> {
        if !file.is_file() {
            let why = if file.exists() { "it is not a file" } else { "there is no such file or folder" };
            let message = format!("cannot deploy {}: {why}", file.display());
            return Err(Problem::new(&codes::BAD_REQUEST, message).into());
        }
        let Some(name) = name.cloned() else { return Err(name_is_missing(file)) };
        let function = Function::of_file(name, file.to_owned());
        Ok(Self { namespace: common.namespace(), app: None, functions: vec![function], folder: None })
    }

    fn of_folder(folder: &Path, name: Option<&FunctionName>, common: &Common) -> Done<Self> {
        if !folder.join(manifest::FILE_NAME).exists() {
            let message = format!("there is no {} in {}", manifest::FILE_NAME, folder.display());
            return Err(Problem::new(&codes::INVALID_MANIFEST, message)
                .hint("begin a project with `coracle new NAME --lang rust`, or name a file: coracle deploy FILE.wasm --name NAME")
                .into());
        }
        let mut manifest = Manifest::read(folder)?;
        if let Some(name) = name {
            manifest = only(manifest, name)?;
        }
        let namespace = common.namespace.clone().or(manifest.namespace).unwrap_or_default();
        let Manifest { app, functions, .. } = manifest;
        Ok(Self { namespace, app, functions, folder: Some(folder.to_owned()) })
    }

    /// Builds what has a build command, one after the other.
    pub(in crate::cli) async fn build(&self, builder: &Builder) -> Done {
        let Some(folder) = &self.folder else { return Ok(()) };
        for function in &self.functions {
            if let Some(command) = &function.build {
                builder.build(&function.name, command, folder).await?;
            }
            function.artifact(folder)?;
        }
        Ok(())
    }

    /// Uploads what the server does not have, and makes it answer.
    pub(in crate::cli) async fn apply(&self, client: &Client) -> Done<Vec<FunctionView>> {
        let mut app = AppSpec::default();
        for function in &self.functions {
            let file = match &self.folder {
                Some(folder) => function.artifact(folder)?,
                None => function.code.clone(),
            };
            let artifact = code::upload(client, &function.name, &file).await?;
            app.functions.insert(function.name.clone(), spec(artifact, &function.settings));
        }
        if let Some(name) = &self.app {
            return Ok(client.deploy_app(&self.namespace, name, &app).await?);
        }
        let mut functions = Vec::new();
        for (name, spec) in app.functions {
            let function = FunctionRef { namespace: self.namespace.clone(), name };
            functions.push(client.deploy(&function, &spec).await?);
        }
        Ok(functions)
    }
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
