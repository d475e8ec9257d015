//! Builds the WebAssembly guests: the demo functions of `examples/`, the fixtures of `guests/`.
//! Called as `cargo xtask guests`, and with `--out DIR` by the test that rebuilds them from source.
//!
//! The toolchain is Debian's and the registries' own, since a `rustup target add` is not to be had everywhere:
//! `std` is built from `rust-web-src`, linked for wasip1, and made a component with the adapter from crates.io.
//! With rustup, `cargo build --release --target wasm32-wasip2` in an example's folder does the same.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use sha2::{Digest, Sha256};
use wasi_preview1_component_adapter_provider as adapter;
use wit_component::ComponentEncoder;

const USAGE: &str = "\
usage: cargo xtask guests [--check | --check-sources | --out DIR]

  (nothing)        build all guests and write the committed files
  --check          build all guests and compare the committed files, byte for byte
  --check-sources  build nothing; say whether the sources changed since the committed files were built
  --out DIR        build all guests into DIR, and leave the committed files alone";

/// What each file of the toolchain comes with.
const TOOLCHAIN: [(&str, &str); 5] = [
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/lib/rustlib/src/rust/library/std/Cargo.toml", "rust-web-src"),
    ("/usr/bin/wasm-ld-19", "lld-19"),
    ("/usr/lib/wasm32-wasi/crt1-reactor.o", "wasi-libc"),
];

/// Where the digest of the sources stands from which the committed files were built.
const SOURCES_DIGEST: &str = "guests/built/sources.sha256";

/// A file to build, and how.
struct Guest {
    name: &'static str,
    /// The committed file, from the root of the repository.
    file: &'static str,
    recipe: Recipe,
}

enum Recipe {
    /// A package with `std` that exports a handler.
    Handler { workspace: &'static str },
    /// A package without `std` that exports a handler, with as little memory as it can do with.
    Bare { workspace: &'static str },
    /// A program with a `main`, as a component that exports `wasi:cli/run`.
    Command { workspace: &'static str },
    /// The same program as a core module for wasip1.
    CoreCommand { workspace: &'static str, package: &'static str },
    /// A component written by hand.
    Text { source: &'static str },
}

const GUESTS: [Guest; 9] = [
    Guest { name: "tiny", file: "guests/built/tiny.wasm", recipe: Recipe::Bare { workspace: "guests" } },
    Guest { name: "acid", file: "guests/built/acid.wasm", recipe: Recipe::Handler { workspace: "guests" } },
    Guest {
        name: "hello",
        file: "examples/hello/hello.wasm",
        recipe: Recipe::Handler { workspace: "examples" },
    },
    Guest { name: "sse", file: "examples/sse/sse.wasm", recipe: Recipe::Handler { workspace: "examples" } },
    Guest {
        name: "resize",
        file: "examples/resize/resize.wasm",
        recipe: Recipe::Handler { workspace: "examples" },
    },
    Guest { name: "upper", file: "guests/built/upper.wasm", recipe: Recipe::Command { workspace: "guests" } },
    Guest {
        name: "upper.core",
        file: "guests/built/upper.core.wasm",
        recipe: Recipe::CoreCommand { workspace: "guests", package: "upper" },
    },
    Guest {
        name: "library",
        file: "guests/built/library.wasm",
        recipe: Recipe::Text { source: "guests/wat/library.wat" },
    },
    Guest {
        name: "unknown-import",
        file: "guests/built/unknown-import.wasm",
        recipe: Recipe::Text { source: "guests/wat/unknown-import.wat" },
    },
];

/// Runs `cargo xtask guests` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => write_committed(&build_all()?),
        ["--check"] => compare_committed(&build_all()?),
        ["--check-sources"] => compare_sources(),
        ["--out", dir] => write_flat(&build_all()?, Path::new(dir)),
        _ => Err(USAGE.to_owned()),
    }
}

/// The guests, each with its bytes.
type Built = Vec<(&'static Guest, Vec<u8>)>;

fn write_committed(built: &Built) -> Result<(), String> {
    for (guest, wasm) in built {
        write(&root().join(guest.file), wasm)?;
    }
    write(&root().join(SOURCES_DIGEST), sources_digest()?.as_bytes())
}

fn compare_committed(built: &Built) -> Result<(), String> {
    let differing: Vec<&str> = built
        .iter()
        .filter(|(guest, wasm)| fs::read(root().join(guest.file)).ok().as_ref() != Some(wasm))
        .map(|(guest, _)| guest.file)
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(format!("not what their sources build to: {}\nhint: cargo xtask guests", differing.join(", ")))
}

fn compare_sources() -> Result<(), String> {
    let committed = fs::read_to_string(root().join(SOURCES_DIGEST)).unwrap_or_default();
    if committed == sources_digest()? {
        return Ok(());
    }
    Err("the sources of the guests changed since the committed files were built\nhint: cargo xtask guests"
        .to_owned())
}

fn write_flat(built: &Built, dir: &Path) -> Result<(), String> {
    for (guest, wasm) in built {
        write(&dir.join(format!("{}.wasm", guest.name)), wasm)?;
    }
    Ok(())
}

/// Builds every guest, or takes those that were built before from the same sources by the same tools.
fn build_all() -> Result<Built, String> {
    install_toolchain()?;
    let tools = tools_digest()?;
    let cache = cache_dir()?.join("guests");
    let shelf = cache.join(digest([tools.as_bytes(), sources_digest()?.as_bytes()]));
    let workshop = Workshop { target_dir: cache.join(format!("target-{}", &tools[..16])) };

    GUESTS
        .iter()
        .map(|guest| {
            let kept = shelf.join(format!("{}.wasm", guest.name));
            if let Ok(wasm) = fs::read(&kept) {
                return Ok((guest, wasm));
            }
            let start = now();
            let wasm = workshop.build(guest).map_err(|error| format!("build {}: {error}", guest.name))?;
            say(&format!(
                "built {}: {} bytes in {:.1} s",
                guest.name,
                wasm.len(),
                start.elapsed().as_secs_f32()
            ));
            write(&kept, &wasm)?;
            Ok((guest, wasm))
        })
        .collect()
}

/// Where cargo builds; shared by all guests, since `std` is most of the work.
struct Workshop {
    target_dir: PathBuf,
}

impl Workshop {
    fn build(&self, guest: &Guest) -> Result<Vec<u8>, String> {
        match guest.recipe {
            Recipe::Handler { workspace } => {
                let module = self.cargo(workspace, guest.name, &Route::WASI, &["crt1-reactor.o"])?;
                component(&module, Some(adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER))
            }
            Recipe::Bare { workspace } => {
                let module = self.cargo(workspace, guest.name, &Route::BARE, &[])?;
                component(&module, None)
            }
            Recipe::Command { workspace } => {
                let module = self.cargo(workspace, guest.name, &Route::WASI, &["crt1-command.o"])?;
                component(&module, Some(adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER))
            }
            Recipe::CoreCommand { workspace, package } => {
                self.cargo(workspace, package, &Route::WASI, &["crt1-command.o"])
            }
            Recipe::Text { source } => {
                wat::parse_file(root().join(source)).map_err(|error| error.to_string())
            }
        }
    }

    /// Builds one package of a workspace and returns its core module.
    fn cargo(&self, workspace: &str, package: &str, route: &Route, crt: &[&str]) -> Result<Vec<u8>, String> {
        let mut command = Command::new("/usr/bin/cargo");
        command.current_dir(root().join(workspace)).env("PATH", debian_first()?);
        // What the cargo that runs us, or the person who runs it, set for another toolchain.
        for name in
            ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "LD_LIBRARY_PATH"]
        {
            command.env_remove(name);
        }
        command
            // Building `std` is unstable, and here deliberate.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTC", "/usr/bin/rustc")
            .env("CARGO_TARGET_DIR", &self.target_dir)
            .env("CARGO_TARGET_WASM32_WASIP1_LINKER", "wasm-ld-19")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-19")
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags()?.join("\u{1f}"))
            .args([
                "rustc",
                "--locked",
                "--quiet",
                "--release",
                "--package",
                package,
                "--target",
                route.target,
            ])
            .args(route.std)
            .arg("--")
            .args(route.link)
            .args(crt.iter().map(|object| format!("-Clink-arg=/usr/lib/wasm32-wasi/{object}")));
        run_to_end(&mut command)?;

        let file = self.target_dir.join(route.target).join("release").join(format!("{package}.wasm"));
        read(&file)
    }
}

/// A target, and what of the standard library is built for it.
struct Route {
    target: &'static str,
    std: &'static [&'static str],
    link: &'static [&'static str],
}

impl Route {
    const WASI: Self = Self {
        target: "wasm32-wasip1",
        std: &["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"],
        link: &[],
    };
    const BARE: Self = Self {
        target: "wasm32-unknown-unknown",
        std: &["-Zbuild-std=core,alloc"],
        // One page of memory holds the stack and all data.
        link: &["-Clink-arg=-zstack-size=8192"],
    };
}

fn component(module: &[u8], adapter: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let encode = || {
        let mut encoder =
            ComponentEncoder::default().validate(true).merge_imports_based_on_semver(true).module(module)?;
        if let Some(bytes) = adapter {
            encoder = encoder.adapter(adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, bytes)?;
        }
        encoder.encode()
    };
    // The alternate form shows the causes, which is where the missing import is named.
    encode().map_err(|error| format!("{error:#}"))
}

/// Flags for all packages. Paths of this machine are kept out of panic messages, so that builds agree.
fn rustflags() -> Result<Vec<String>, String> {
    Ok(vec![
        "-Clink-self-contained=no".to_owned(),
        "-Lnative=/usr/lib/wasm32-wasi".to_owned(),
        format!("--remap-path-prefix={}=", with_slash(&root())),
        format!("--remap-path-prefix={}=", with_slash(&cargo_home()?.join("registry/src"))),
    ])
}

fn with_slash(dir: &Path) -> String {
    format!("{}/", dir.display())
}

fn install_toolchain() -> Result<(), String> {
    let missing: Vec<&str> =
        TOOLCHAIN.iter().filter(|(file, _)| !Path::new(file).exists()).map(|&(_, package)| package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("installing {}", missing.join(", ")));
    let install = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        run_to_end(command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq"]).args(args))
    };
    install(&["update"])
        .and_then(|()| install(&[&["install", "--yes", "--no-install-recommends"], &missing[..]].concat()))
        .map_err(|error| format!("{error}\nhint: as root: apt-get install {}", missing.join(" ")))
}

/// The digest of everything that goes into the guests and stands in the repository.
fn sources_digest() -> Result<String, String> {
    let mut files = Vec::new();
    for workspace in ["examples", "guests"] {
        collect_sources(&root().join(workspace), &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let text = read(&file)?;
        let name = file.strip_prefix(root()).unwrap_or(&file).display();
        hasher.update(format!("{name} {}\n", text.len()));
        hasher.update(text);
    }
    Ok(hex(&hasher.finalize()))
}

fn collect_sources(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("read {}: {error}", dir.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("read {}: {error}", dir.display()))?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect_sources(&path, files)?;
            }
        } else if path.file_name().is_some_and(|name| name != "coracle.toml")
            && path
                .extension()
                .is_some_and(|kind| ["rs", "toml", "lock", "wat"].iter().any(|&known| kind == known))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// The digest of the tools: their versions, the adapters, and this file.
fn tools_digest() -> Result<String, String> {
    let version = |tool: &str| {
        let output = Command::new(tool).env_remove("LD_LIBRARY_PATH").arg("--version").output();
        output.map(|output| output.stdout).map_err(|error| format!("run {tool}: {error}"))
    };
    let (rustc, linker) = (version("/usr/bin/rustc")?, version("/usr/bin/wasm-ld-19")?);
    Ok(digest([
        &rustc,
        &linker,
        adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        include_bytes!("guests.rs"),
    ]))
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(Sha256::digest(part));
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn run_to_end(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_owned();
    let status = command.status().map_err(|error| format!("run {}: {error}", program.display()))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", program.display())) }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("read {}: {error}", file.display()))
}

/// Writes a file whole or not at all, with the directories it needs.
fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let partial = file.with_extension(format!("{}.tmp", std::process::id()));
    let written = file
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&partial, bytes))
        .and_then(|()| fs::rename(&partial, file));
    written.map_err(|error| format!("write {}: {error}", file.display()))
}

fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

fn cache_dir() -> Result<PathBuf, String> {
    match variable("CORACLE_CACHE") {
        Some(dir) => Ok(dir.into()),
        None => Ok(home()?.join(".cache/coracle")),
    }
}

fn cargo_home() -> Result<PathBuf, String> {
    match variable("CARGO_HOME") {
        Some(dir) => Ok(dir.into()),
        None => Ok(home()?.join(".cargo")),
    }
}

fn home() -> Result<PathBuf, String> {
    variable("HOME").map(PathBuf::from).ok_or_else(|| "HOME is not set".to_owned())
}

/// Debian's tools before those of rustup, whose `rustc` is only a front for another.
fn debian_first() -> Result<OsString, String> {
    let paths = variable("PATH").unwrap_or_default();
    let paths = std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&paths));
    std::env::join_paths(paths).map_err(|error| error.to_string())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a chore is a program of its own, and reads its environment here"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "tells how long a build took, and decides nothing")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stderr, reason = "a chore talks to the person who runs it")]
fn say(line: &str) {
    eprintln!("{line}");
}
