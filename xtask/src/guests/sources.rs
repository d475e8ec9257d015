//! What a guest is built from: the files of its folder, and of the workspace it is a member of.
//! Asked for the key under which a guest is kept, and for the files that a build command gets to see.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::list::{Guest, Package, Recipe};
use super::read;
use super::shelf::hex;
use crate::surroundings::root;

/// What builds leave behind, which is not a source wherever it lies.
const LEFTOVERS: [&str; 5] = ["target", "node_modules", "package-lock.json", ".venv", "__pycache__"];

/// What lies beside code and is no part of it.
const BESIDE: [&str; 2] = ["README.md", ".gitignore"];

/// The digest of everything that goes into a guest and stands in the repository.
pub(super) fn digest(guest: &Guest) -> Result<String, String> {
    let mut hasher = Sha256::new();
    for file in files(&guest.recipe)? {
        let text = read(&file)?;
        let name = file.strip_prefix(root()).unwrap_or(&file).display();
        hasher.update(format!("{name} {}\n", text.len()));
        hasher.update(text);
    }
    Ok(hex(&hasher.finalize()))
}

fn files(recipe: &Recipe) -> Result<Vec<PathBuf>, String> {
    let mut files = match recipe {
        Recipe::Rust { package, .. } => {
            let workspace = root().join(package.workspace);
            let mut files = in_folder(&folder(package))?;
            // It is built by us, not by its manifest.
            files.retain(|file| !file.ends_with("coracle.toml"));
            files.extend(["Cargo.toml", "Cargo.lock"].map(|name| workspace.join(name)));
            files
        }
        Recipe::Project { folder, .. } => in_folder(&root().join(folder))?,
        Recipe::Text { source } => vec![root().join(source)],
    };
    files.retain(|file| !BESIDE.iter().any(|name| file.ends_with(name)));
    files.sort();
    files.dedup();
    Ok(files)
}

fn folder(package: &Package) -> PathBuf {
    let workspace = root().join(package.workspace);
    let member = workspace.join(package.name);
    if member.is_dir() { member } else { workspace }
}

/// The sources in a folder and below it, in order.
pub(super) fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    collect(folder, &mut files).map_err(|error| format!("read {}: {error}", folder.display()))?;
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_leftover(&path) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a build made this.
pub(super) fn is_leftover(path: &Path) -> bool {
    LEFTOVERS.iter().any(|name| path.ends_with(name)) || path.extension().is_some_and(|kind| kind == "wasm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::list::GUESTS;

    #[test]
    fn a_guest_is_built_from_its_own_folder_and_its_workspace() {
        let names = |name: &str| -> Vec<String> {
            let guest = GUESTS.iter().find(|guest| guest.name == name).unwrap();
            let files = files(&guest.recipe).unwrap();
            files.iter().map(|file| file.strip_prefix(root()).unwrap().display().to_string()).collect()
        };
        assert_eq!(
            names("hello"),
            [
                "examples/Cargo.lock",
                "examples/Cargo.toml",
                "examples/hello/Cargo.toml",
                "examples/hello/src/lib.rs"
            ]
        );
        assert_eq!(
            names("hello-rust"),
            [
                "examples/hello-rust/Cargo.lock",
                "examples/hello-rust/Cargo.toml",
                "examples/hello-rust/src/lib.rs"
            ]
        );
        assert_eq!(names("library"), ["guests/wat/library.wat"]);
        assert!(names("hello-js").contains(&"examples/hello-js/build.js".to_owned()));
    }
}
