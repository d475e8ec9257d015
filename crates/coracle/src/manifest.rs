//! `coracle.toml`: what a folder deploys, read by hand so that every mistake is shown where it stands.
//! `coracle deploy` calls it.

mod document;
mod function;
pub(crate) mod stack;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use coracle_model::{AppName, Contract, FunctionName, NamespaceName, Problem, Settings, code};

use self::document::{Document, Entry, Position};
use self::stack::Written;

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
    pub(crate) source: Source,
    /// How it is spoken to, where somebody says it.
    pub(crate) contract: Option<Contract>,
    pub(crate) settings: Settings,
    /// Where it is written, if that is a stack file.
    pub(crate) written: Option<Written>,
    /// Where `code` stands, for the error that it is missing; `None` when no manifest names it.
    source_at: Option<Position>,
}

/// What is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file or a folder, as it stands in the manifest: relative to its folder.
    Path(PathBuf),
    /// An image, by its name.
    Image(String),
}

impl Source {
    /// Whether its very name says that it is WebAssembly.
    pub(crate) fn is_wasm(&self) -> bool {
        matches!(self, Self::Path(path) if path.extension().is_some_and(|extension| extension == "wasm"))
    }
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
                        manifest.functions.push(function::read(&function, &[])?);
                    }
                }
                _ => return Err(unknown_at_top(&entry)),
            }
        }
        if manifest.functions.is_empty() {
            let message = format!("{file} has no function");
            return Err(Problem::new(&code::INVALID_MANIFEST, message).hint(
                "add a table `[function.NAME]` with a line `code = \"FILE.wasm\"`, or `image = \"NAME:TAG\"`",
            ));
        }
        Ok(manifest)
    }
}

impl Function {
    /// One that is there already, and has the settings that are given to it.
    pub(crate) fn new(name: FunctionName, source: Source) -> Self {
        Self {
            name,
            build: None,
            source,
            contract: None,
            settings: Settings::default(),
            written: None,
            source_at: None,
        }
    }

    /// The file or folder to deploy, once it is built; `None` for an image, which somebody else has.
    pub(crate) fn path(&self, folder: &Path) -> Result<Option<PathBuf>, Problem> {
        let Source::Path(code) = &self.source else { return Ok(None) };
        let path = folder.join(code);
        if path.is_file() || path.is_dir() {
            return Ok(Some(path));
        }
        let what = if path.exists() { "is neither a file nor a folder" } else { "does not exist" };
        let hint = match &self.build {
            Some(build) => format!("`{build}` succeeded, but writes another file: correct `code`"),
            None => "build it first, or add a line `build = \"COMMAND\"` that does".to_owned(),
        };
        let message = format!("the code of `{}` {what}: {}", self.name, path.display());
        let problem = match &self.source_at {
            Some(position) => position.problem(&message),
            None => Problem::new(&code::BAD_REQUEST, message),
        };
        Err(problem.hint(hint))
    }
}

/// Lays `KEY=VALUE` over the settings of a function: any key of its table but those that say what is deployed.
///
/// A value is what it would be in a manifest, or else a text that lacks its quotes.
pub(crate) fn set(function: &mut Function, key: &str, value: &str) -> Result<(), Problem> {
    let is_toml =
        toml::de::DeTable::parse(&format!("value = {value}")).is_ok_and(|table| table.get_ref().len() == 1);
    let as_text = format!("{key} = {}", toml::Value::from(value));
    if !is_toml {
        return set_line(function, &as_text);
    }
    // Where a text is wanted, `--set user=1000` is one.
    set_line(function, &format!("{key} = {value}"))
        .or_else(|problem| set_line(function, &as_text).map_err(|_| problem))
}

fn set_line(function: &mut Function, text: &str) -> Result<(), Problem> {
    let document = Document { file: "--set", text };
    let root = document.parse()?;
    for entry in document.entries(&root) {
        match entry.key {
            "build" | "code" | "image" => {
                let hint = match entry.key {
                    "build" => "write it in coracle.toml",
                    "code" => "name it as in `coracle deploy FILE`",
                    _ => "name it as in `coracle deploy --image NAME:TAG`",
                };
                return Err(entry.key_problem(&format!("`{}` is no setting", entry.key)).hint(hint));
            }
            "contract" => function.contract = Some(entry.parsed()?),
            _ => function::set(&mut function.settings, &function.source, &entry)?,
        }
    }
    Ok(())
}

fn read_text(path: &Path) -> std::io::Result<String> {
    read_text_of(path, MANIFEST_BYTES_MAX)
}

/// Reads a file that somebody named, unless it is none, or longer than this.
pub(crate) fn read_text_of(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    use std::io::{Error, Read as _};
    let mut text = String::new();
    // Asked first: a pipe would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::other("it is not a file"));
    }
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(Error::other(format!("it is longer than {bytes_max} bytes")));
    }
    Ok(text)
}

/// A key of a function that stands above all tables is a likely slip, and worth its own words.
fn unknown_at_top(entry: &Entry<'_>) -> Problem {
    if function::is_key(entry.key) {
        let message = format!("`{}` belongs to a function", entry.key);
        return entry.key_problem(&message).hint("move it below a line `[function.NAME]`");
    }
    entry.unknown_key(KEYS)
}
