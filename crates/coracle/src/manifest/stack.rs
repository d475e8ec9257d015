//! `stack.yaml` in the words of a manifest: the file and its environment files read, and each function with its settings.
//! What the text means is known to the face; `coracle deploy` and `coracle dev` call this.

use std::path::{Path, PathBuf};

use coracle_faces::openfaas::deployment::{Deployment, Wanted};
use coracle_faces::openfaas::stack::{self, Invalid, Stack};
use coracle_model::{NamespaceName, Problem, code};

use super::document::Position;
use super::{Function, Source, read_text};
use crate::options;

/// The names that the file has, the first of which wins.
pub(crate) const FILE_NAMES: [&str; 2] = ["stack.yaml", "stack.yml"];

/// The environment files of one function, at most.
const ENVIRONMENT_FILES_MAX: usize = 64;

/// Whether a path is that of such a file, whatever it is called.
pub(crate) fn is_named(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Reads a stack file, with what the environment says for its variables.
pub(crate) fn read(path: &Path) -> Result<Stack, Problem> {
    let file = path.display().to_string();
    let text = text_of(path)?;
    Stack::parse(&text, &options::variable).map_err(|invalid| problem(&file, invalid))
}

/// Reads the environment files of a function, which lie beside the stack file.
pub(crate) fn add_environment(function: &mut stack::Function, folder: &Path) -> Result<(), Problem> {
    let files = std::mem::take(&mut function.environment_files);
    if files.len() > ENVIRONMENT_FILES_MAX {
        let message = format!(
            "the function `{}` has more than {ENVIRONMENT_FILES_MAX} environment files",
            function.name
        );
        return Err(Problem::new(&code::INVALID_MANIFEST, message));
    }
    for file in files {
        let path = folder.join(&file);
        let text = text_below(folder, &path).map_err(|problem| {
            problem.hint(format!(
                "`{}` names it: such a file lies beside the stack file, or below",
                function.name
            ))
        })?;
        let variables =
            stack::environment(&text).map_err(|invalid| problem(&path.display().to_string(), invalid))?;
        function.add_environment(variables);
    }
    Ok(())
}

/// What was asked for there in our words, with the namespace.
pub(crate) fn wanted(deployment: &Deployment) -> Result<(NamespaceName, Function), Problem> {
    let Wanted { function, image, settings } = deployment.wanted()?;
    let source = Source::Image(image);
    Ok((function.namespace, Function { settings, ..Function::new(function.name, source) }))
}

/// A function as a stack file has it, for what is found wrong with it later.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) file: PathBuf,
    pub(crate) function: stack::Function,
}

impl Written {
    /// The commands that make its image, and bring it to the server.
    pub(crate) fn remedy(&self) -> String {
        let stack::Function { name, image, is_built, .. } = &self.function;
        let (build, then) = match is_built {
            true => (format!("faas-cli build -f {} --filter {name}, then ", self.file.display()), ""),
            false => (String::new(), " where the image is"),
        };
        format!("{build}docker save {image} -o {name}.tar{then}, then coracle image load {name}.tar")
    }

    /// Where that stands which a message says to be wrong with it.
    pub(crate) fn place_of(&self, message: &str) -> String {
        let (line, column) = self.function.place_of(message);
        format!("{}:{line}:{column}", self.file.display())
    }
}

fn text_of(path: &Path) -> Result<String, Problem> {
    read_text(path).map_err(|error| cannot_read(path, &error))
}

/// The text of a file that lies in a folder, or below, wherever links lead.
fn text_below(folder: &Path, path: &Path) -> Result<String, Problem> {
    let cannot = |error: std::io::Error| cannot_read(path, &error);
    let real = path.canonicalize().map_err(cannot)?;
    if !real.starts_with(folder.canonicalize().map_err(cannot)?) {
        return Err(cannot_read(path, &"it lies elsewhere"));
    }
    read_text(&real).map_err(cannot)
}

fn cannot_read(path: &Path, why: &dyn std::fmt::Display) -> Problem {
    Problem::new(&code::INVALID_MANIFEST, format!("cannot read {}: {why}", path.display()))
}

fn problem(file: &str, invalid: Invalid) -> Problem {
    let Invalid { place, line, message, hint } = invalid;
    let problem = match (place, line) {
        (Some(place), Some(line)) => Position::of_line(file, &line, place, 1).problem(&message),
        (Some((line, column)), None) => {
            Problem::new(&code::INVALID_MANIFEST, format!("{file}:{line}:{column}: {message}"))
        }
        (None, _) => Problem::new(&code::INVALID_MANIFEST, format!("{file}: {message}")),
    };
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the environment file that a function names.
    fn said(folder: &Path, file: &str) -> String {
        let text = format!("functions:\n  a:\n    image: x\n    environment_file: [{file}]\n");
        let mut function = Stack::parse(&text, &|_| None).unwrap().functions.remove(0);
        match add_environment(&mut function, folder) {
            Ok(()) => format!("{:?}", function.environment),
            Err(problem) => format!("{problem} | {}", problem.hint.as_deref().unwrap_or_default()),
        }
    }

    #[test]
    fn an_environment_file_lies_beside_the_stack_file_or_below() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("shop");
        std::fs::create_dir_all(folder.join("env")).unwrap();
        let outside = parent.path().join("outside.yml");
        std::fs::write(&outside, "environment: {KEY: TOPSEKRIT43}\n").unwrap();
        std::fs::write(folder.join("env/a.yml"), "environment: {A: 1}\n").unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("out.yml")).unwrap();
        std::os::unix::fs::symlink("env/a.yml", folder.join("in.yml")).unwrap();
        assert_eq!(said(&folder, "env/a.yml"), r#"{"A": "1"}"#);
        assert_eq!(said(&folder, "in.yml"), r#"{"A": "1"}"#);
        for file in ["../outside.yml", "out.yml", outside.to_str().unwrap(), "/etc/passwd"] {
            let said = said(&folder, file);
            assert!(said.contains("it lies elsewhere | `a` names it: such a file lies beside"), "{said}");
        }
    }

    #[test]
    fn nothing_of_an_environment_file_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.env");
        std::fs::write(&file, "API_KEY=TOPSEKRIT43\n").unwrap();
        let said = said(folder.path(), "a.env");
        assert!(said.starts_with(&format!("{}:1:1: ", file.display())) && !said.contains("SEKRIT"), "{said}");
        assert!(!said.contains("API_KEY"), "{said}");
    }
}
