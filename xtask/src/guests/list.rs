//! Every guest there is: its name, where it is committed if it is, and what it is made of.
//! `guests.rs` goes through them.

/// Something to build.
pub(super) struct Guest {
    pub(super) name: &'static str,
    /// The committed file, from the root of the repository; large ones and most examples are built where they are wanted.
    pub(super) committed: Option<&'static str>,
    pub(super) recipe: Recipe,
}

/// What a guest is made of, and how.
pub(super) enum Recipe {
    /// A package in Rust, built by Debian's toolchain: a `rustup target add` is not to be had everywhere.
    Rust { package: Package, kind: Kind },
    /// A folder with a `coracle.toml`, whose own build command is run.
    Project { folder: &'static str, language: Language },
    /// A component written by hand.
    Text { source: &'static str },
}

/// A package, and the workspace it is a member of; a package that stands alone is its own.
pub(super) struct Package {
    pub(super) workspace: &'static str,
    pub(super) name: &'static str,
}

/// What becomes of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A library with `std`, as a component that exports a handler.
    Handler,
    /// The same without `std`, with as little memory as it can do with.
    Bare,
    /// A program with a `main`, as a component that exports `wasi:cli/run`.
    Command,
    /// The same program as a core module for wasip1.
    CoreCommand,
}

/// What a guest is written in, and so which tools build it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Language {
    C,
    JavaScript,
    Python,
    Rust,
}

impl Recipe {
    /// The language whose tools it needs; what is written by hand needs none.
    pub(super) fn language(&self) -> Option<Language> {
        match self {
            Self::Rust { .. } => Some(Language::Rust),
            Self::Project { language, .. } => Some(*language),
            Self::Text { .. } => None,
        }
    }
}

pub(super) const GUESTS: [Guest; 20] = [
    fixture("tiny", "guests/built/tiny.wasm", rust("guests", "tiny", Kind::Bare)),
    fixture("acid", "guests/built/acid.wasm", rust("guests", "acid", Kind::Handler)),
    fixture("upper", "guests/built/upper.wasm", rust("guests", "upper", Kind::Command)),
    fixture("upper.core", "guests/built/upper.core.wasm", rust("guests", "upper", Kind::CoreCommand)),
    fixture("library", "guests/built/library.wasm", Recipe::Text { source: "guests/wat/library.wat" }),
    fixture(
        "unknown-import",
        "guests/built/unknown-import.wasm",
        Recipe::Text { source: "guests/wat/unknown-import.wat" },
    ),
    fixture("hello", "examples/hello/hello.wasm", rust("examples", "hello", Kind::Handler)),
    fixture("sse", "examples/sse/sse.wasm", rust("examples", "sse", Kind::Handler)),
    fixture("resize", "examples/resize/resize.wasm", rust("examples", "resize", Kind::Handler)),
    fixture("markdown", "examples/markdown/markdown.wasm", rust("examples", "markdown", Kind::Handler)),
    fixture("qrcode", "examples/qrcode/qrcode.wasm", rust("examples", "qrcode", Kind::Handler)),
    fixture("banner", "examples/banner/banner.wasm", rust("examples", "banner", Kind::Handler)),
    fixture("csv-json", "examples/csv-json/csv-json.wasm", rust("examples", "csv-json", Kind::Handler)),
    example("hello-rust", rust("examples/hello-rust", "hello-rust", Kind::Handler)),
    example("stdio-upper", rust("examples", "stdio-upper", Kind::CoreCommand)),
    example("hello-c", project("examples/hello-c", Language::C)),
    example("hello-js", project("examples/hello-js", Language::JavaScript)),
    example("fetch", project("examples/fetch", Language::JavaScript)),
    example("hello-python", project("examples/hello-python", Language::Python)),
    example("csv-to-json", project("examples/csv-to-json", Language::Python)),
];

/// A guest that is committed: part of the binary, or of tests that must run without any toolchain.
const fn fixture(name: &'static str, file: &'static str, recipe: Recipe) -> Guest {
    Guest { name, committed: Some(file), recipe }
}

const fn example(name: &'static str, recipe: Recipe) -> Guest {
    Guest { name, committed: None, recipe }
}

const fn rust(workspace: &'static str, name: &'static str, kind: Kind) -> Recipe {
    Recipe::Rust { package: Package { workspace, name }, kind }
}

const fn project(folder: &'static str, language: Language) -> Recipe {
    Recipe::Project { folder, language }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::surroundings::root;

    #[test]
    fn every_example_is_a_guest_or_a_program_of_the_machine() {
        const PROGRAMS: [&str; 4] = ["hello-binary", "hello-node-http", "hello-python-http", "sysinfo"];
        for entry in fs::read_dir(root().join("examples")).unwrap() {
            let folder = entry.unwrap().path();
            if folder.join("coracle.toml").exists() && !PROGRAMS.iter().any(|name| folder.ends_with(name)) {
                assert!(GUESTS.iter().any(|guest| folder.ends_with(guest.name)), "{}", folder.display());
            }
        }
    }
}
