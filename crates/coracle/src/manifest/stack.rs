//! `stack.yaml` in the words of a manifest: the file and its environment files read, and each function with its settings.
//! What the text means is known to the face; `coracle deploy` and `coracle dev` call this.

use std::path::Path;

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
        let text = text_of(&path).map_err(|problem| {
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

/// What was asked for there in our words, with the namespace, and what makes its image if somebody knows.
pub(crate) fn wanted(
    deployment: &Deployment,
    remedy: Option<String>,
) -> Result<(NamespaceName, Function), Problem> {
    let Wanted { function, image, settings } = deployment.wanted()?;
    let source = Source::Image(image);
    Ok((function.namespace, Function { settings, remedy, ..Function::new(function.name, source) }))
}

/// The commands that make the image of a function, and bring it to the server.
pub(crate) fn remedy(file: &Path, function: &stack::Function) -> String {
    let stack::Function { name, image, .. } = function;
    let (build, then) = match function.is_built {
        true => (format!("faas-cli build -f {} --filter {name}, then ", file.display()), ""),
        false => (String::new(), " where the image is"),
    };
    format!("{build}docker save {image} -o {name}.tar{then}, then coracle image load {name}.tar")
}

fn text_of(path: &Path) -> Result<String, Problem> {
    read_text(path).map_err(|error| {
        Problem::new(&code::INVALID_MANIFEST, format!("cannot read {}: {error}", path.display()))
    })
}

fn problem(file: &str, invalid: Invalid) -> Problem {
    let Invalid { place, line, message, hint } = invalid;
    let problem = match place {
        Some(place) => Position::of_line(file, &line, place, 1).problem(&message),
        None => Problem::new(&code::INVALID_MANIFEST, format!("{file}: {message}")),
    };
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}
