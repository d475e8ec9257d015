//! `coracle.toml`: what a folder deploys, read by hand so that every mistake is shown where it stands.
//! `coracle deploy` calls it.

mod document;
mod function;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use coracle_model::{AppName, FunctionName, NamespaceName, Problem, Settings, code};

use self::document::{Document, Entry, Position};

/// The name of the file, in the folder that is deployed.
pub(crate) const FILE_NAME: &str = "coracle.toml";

/// The longest manifest, in bytes: more than anybody writes by hand.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What a folder deploys.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The app that its functions belong to.
    pub(crate) app: Option<AppName>,
    /// Where it goes; `None` leaves it to the command line.
    pub(crate) namespace: Option<NamespaceName>,
    /// Its functions, in the order of the file; there is one at least.
    pub(crate) functions: Vec<Function>,
}

/// One `[function.NAME]`.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: FunctionName,
    /// A command for the shell, run in the folder of the manifest before `code` is read.
    pub(crate) build: Option<String>,
    /// The file to deploy, as it stands in the manifest: relative to its folder.
    pub(crate) code: PathBuf,
    pub(crate) settings: Settings,
    /// Where `code` stands, for the error that it is missing; `None` when no manifest names it.
    code_at: Option<Position>,
}

const KEYS: &[&str] = &["app", "namespace", "function"];

impl Manifest {
    /// Reads the manifest of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, Problem> {
        let path = folder.join(FILE_NAME);
        let text = read_text(&path).map_err(|error| {
            Problem::new(&code::INVALID_MANIFEST, format!("cannot read {}: {error}", path.display()))
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Understands the text of a manifest; `file` is its name in errors.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, Problem> {
        let document = Document { file, text };
        let root = document.parse()?;
        let mut manifest = Self { app: None, namespace: None, functions: Vec::new() };
        for entry in document.entries(&root) {
            match entry.key {
                "app" => manifest.app = Some(entry.parsed()?),
                "namespace" => manifest.namespace = Some(entry.parsed()?),
                "function" => {
                    for function in entry.table()? {
                        manifest.functions.push(function::read(&function)?);
                    }
                }
                _ => return Err(unknown_at_top(&entry)),
            }
        }
        if manifest.functions.is_empty() {
            let message = format!("{file} has no function");
            return Err(Problem::new(&code::INVALID_MANIFEST, message)
                .hint("add a table `[function.NAME]` with a line `code = \"FILE.wasm\"`"));
        }
        Ok(manifest)
    }
}

impl Function {
    /// One that is there already, and has the settings that are given to it.
    pub(crate) fn of_file(name: FunctionName, code: PathBuf) -> Self {
        Self { name, build: None, code, settings: Settings::default(), code_at: None }
    }

    /// The file to deploy, once it is built.
    pub(crate) fn artifact(&self, folder: &Path) -> Result<PathBuf, Problem> {
        let path = folder.join(&self.code);
        if path.is_file() {
            return Ok(path);
        }
        let what = if path.exists() { "is not a file" } else { "does not exist" };
        let hint = match &self.build {
            Some(build) => format!("`{build}` succeeded, but writes another file: correct `code`"),
            None => "build it first, or add a line `build = \"COMMAND\"` that does".to_owned(),
        };
        let message = format!("the code of `{}` {what}: {}", self.name, path.display());
        let problem = match &self.code_at {
            Some(position) => position.problem(&message),
            None => Problem::new(&code::BAD_REQUEST, message),
        };
        Err(problem.hint(hint))
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, Read as _};
    let mut text = String::new();
    // Asked first: a pipe would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::other("it is not a file"));
    }
    std::fs::File::open(path)?.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(Error::other(format!("it is longer than {MANIFEST_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A key of a function that stands above all tables is a likely slip, and worth its own words.
fn unknown_at_top(entry: &Entry<'_>) -> Problem {
    if function::KEYS.contains(&entry.key) {
        let message = format!("`{}` belongs to a function", entry.key);
        return entry.key_problem(&message).hint("move it below a line `[function.NAME]`");
    }
    entry.unknown_key(KEYS)
}
