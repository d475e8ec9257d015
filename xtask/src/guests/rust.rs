//! A guest in Rust, by Debian's toolchain: `std` is built from its sources, linked for wasip1, and made a component.
//! With rustup, `cargo build --release --target wasm32-wasip2` in an example's folder does the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use wasi_preview1_component_adapter_provider as adapter;
use wit_component::ComponentEncoder;

use super::list::{Kind, Package};
use super::read;
use super::tools::Tools;
use crate::surroundings::{root, run_to_end, variable};

/// Builds a package.
pub(super) fn build(package: &Package, kind: Kind, tools: &Tools, cache: &Path) -> Result<Vec<u8>, String> {
    // Shared by all guests, since `std` is most of the work.
    let target_dir = cache.join(format!("target-{}", &tools.digest()[..16]));
    let module = match kind {
        Kind::Bare => cargo(package, &Route::BARE, &[], tools, &target_dir)?,
        Kind::Handler => cargo(package, &Route::WASI, &["crt1-reactor.o"], tools, &target_dir)?,
        Kind::Command | Kind::CoreCommand => {
            cargo(package, &Route::WASI, &["crt1-command.o"], tools, &target_dir)?
        }
    };
    match kind {
        Kind::CoreCommand => Ok(module),
        Kind::Bare => component(&module, None),
        Kind::Handler => component(&module, Some(adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)),
        Kind::Command => component(&module, Some(adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)),
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

/// Builds one package and returns its core module.
fn cargo(
    package: &Package,
    route: &Route,
    crt: &[&str],
    tools: &Tools,
    target_dir: &Path,
) -> Result<Vec<u8>, String> {
    let mut command = Command::new("/usr/bin/cargo");
    command.current_dir(root().join(package.workspace)).env("PATH", &tools.path);
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
        .env("CARGO_TARGET_DIR", target_dir)
        .env("CARGO_TARGET_WASM32_WASIP1_LINKER", "wasm-ld-19")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-19")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags()?.join("\u{1f}"))
        .args(["rustc", "--locked", "--quiet", "--release"])
        .args(["--package", package.name, "--target", route.target])
        .args(route.std)
        .arg("--")
        .args(route.link)
        .args(crt.iter().map(|object| format!("-Clink-arg=/usr/lib/wasm32-wasi/{object}")));
    run_to_end(&mut command)?;

    // A program keeps its dashes, a library does not.
    let built = target_dir.join(route.target).join("release");
    read(&built.join(format!("{}.wasm", package.name)))
        .or_else(|_| read(&built.join(format!("{}.wasm", package.name.replace('-', "_")))))
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

fn cargo_home() -> Result<PathBuf, String> {
    if let Some(dir) = variable("CARGO_HOME") {
        return Ok(dir.into());
    }
    let home = variable("HOME").ok_or("neither CARGO_HOME nor HOME is set")?;
    Ok(Path::new(&home).join(".cargo"))
}
