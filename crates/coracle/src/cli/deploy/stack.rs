//! A stack file as plans: its functions are one app, in each namespace that they name.
//! `plan.rs` finds the file and calls this.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_faces::openfaas::stack as openfaas;
use coracle_model::{AppName, NamespaceName, Problem, code};

use super::flags::Flags;
use super::plan::{Choice, Plan};
use crate::manifest::stack::{self, Written};
use crate::manifest::{self, Function};
use crate::options::Common;
use crate::stop::Done;
use crate::talk;

/// What an app is called whose folder has a name that no app may have.
const APP: &str = "stack";

/// The stack file that a path means, if it means one. A `coracle.toml` beside it is the one that counts.
pub(super) fn find(path: &Path) -> Option<PathBuf> {
    if !path.is_dir() {
        return (stack::is_named(path) && path.is_file()).then(|| path.to_owned());
    }
    in_folder(path).filter(|_| !path.join(manifest::FILE_NAME).exists())
}

/// Says of a stack file that it does not count, if there is one that does not.
pub(super) fn say_which_counts(path: &Path) {
    if let Some(file) = in_folder(path).filter(|_| path.join(manifest::FILE_NAME).exists()) {
        let (file, manifest) = (file.display(), manifest::FILE_NAME);
        talk::say(format_args!("{manifest} is what is deployed; {file} beside it is left alone"));
    }
}

fn in_folder(folder: &Path) -> Option<PathBuf> {
    stack::FILE_NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file())
}

/// What a stack file deploys, or what is chosen of it: a plan for each namespace.
pub(super) fn plans(file: &Path, choice: &Choice, flags: &Flags, common: &Common) -> Done<Vec<Plan>> {
    let mut stack = stack::read(file)?;
    keep(&mut stack, file, choice)?;
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let mut reads = vec![file.to_owned()];
    let mut rooms: BTreeMap<NamespaceName, Vec<Function>> = BTreeMap::new();
    for mut function in stack.functions {
        reads.extend(function.environment_files.iter().map(|file| folder.join(file)));
        stack::add_environment(&mut function, folder)?;
        let mut deployment = function.deployment();
        flags.overlay_sent(&mut deployment);
        if let Some(namespace) = &common.namespace {
            deployment.namespace = Some(namespace.to_string());
        }
        let wanted = stack::wanted(&deployment);
        let written = Written { file: file.to_owned(), function };
        let (namespace, mut function) = wanted.map_err(|problem| of_function(&written, problem))?;
        function.written = Some(written);
        rooms.entry(namespace).or_default().push(function);
    }
    let app = choice.app.clone().unwrap_or_else(|| app_of(folder));
    let plan = |(namespace, functions)| Plan {
        namespace,
        app: Some(app.clone()),
        is_part: choice.is_part(),
        functions,
        folder: Some(folder.to_owned()),
        stack: Some(reads.clone()),
    };
    Ok(rooms.into_iter().map(plan).collect())
}

/// What is wrong with what a function asks for.
fn of_function(written: &Written, problem: Problem) -> Problem {
    let place = written.place_of(&problem.message);
    let message = format!("{place}: the function `{}`: {}", written.function.name, problem.message);
    Problem { message, ..problem }
}

fn keep(stack: &mut openfaas::Stack, file: &Path, choice: &Choice) -> Result<(), Problem> {
    stack.keep(|name| choice.fits(name)).map_err(|names| {
        let message = format!("{} has no function that was chosen", file.display());
        Problem::new(&code::FUNCTION_NOT_FOUND, message).hint(format!("it has: {}", names.join(", ")))
    })
}

/// The app of a folder: its name, with dashes for what a name may not have.
fn app_of(folder: &Path) -> AppName {
    // `.` has no name but the one that it is known by elsewhere.
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = full.file_name().unwrap_or_default().to_string_lossy();
    let name = super::plan::name_of(&name);
    AppName::parse(&name).unwrap_or_else(|_| AppName::parse(APP).expect("letters are a name"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use expect_test::expect;

    use super::*;
    use crate::options::Options;

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn what_the_file_and_the_flags_say_is_kept_as_faas_cli_would_have_sent_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stack.yaml");
        let text = "functions:\n  page:\n    image: shop/page:1\n    environment: {LEVEL: info}\n    environment_file: [more.yml]\n    \
            labels: {com.openfaas.scale.max: 3}\n    limits: {memory: 64Mi}\n    readonly_root_filesystem: true\n";
        std::fs::write(&file, text).unwrap();
        std::fs::write(folder.path().join("more.yml"), "environment: {COLOUR: blue}\n").unwrap();
        let typed = Options::parse_from(["coracle", "list", "-n", "team"]);
        let flags = Typed::parse_from([
            "x",
            "--env",
            "LEVEL=debug",
            "--secret",
            "api-key",
            "--annotation",
            "topic=orders",
        ])
        .flags;
        let plans = plans(&file, &Choice::default(), &flags, &typed.common).unwrap();
        let [Plan { namespace, functions, is_part: false, .. }] = &plans[..] else { panic!("{plans:?}") };
        assert_eq!(namespace.as_str(), "team");
        let original = functions[0].settings.original.as_ref().unwrap();
        assert_eq!(original.face, "openfaas");
        expect![[r#"{"service":"page","image":"shop/page:1","namespace":"team","envVars":{"COLOUR":"blue","LEVEL":"debug"},"secrets":["api-key"],"labels":{"com.openfaas.scale.max":"3"},"annotations":{"topic":"orders"},"limits":{"memory":"64Mi"},"readOnlyRootFilesystem":true}"#]].assert_eq(&original.document);
        assert_eq!(
            (functions[0].settings.scale.max, functions[0].settings.limits.memory_bytes),
            (3, 64 << 20)
        );
    }

    #[test]
    fn an_app_is_called_as_its_folder_is() {
        let parent = tempfile::tempdir().unwrap();
        for (name, expected) in [("shop", "shop"), ("my shop.v2", "my-shop-v2"), ("···", "stack")] {
            let folder = parent.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            assert_eq!(app_of(&folder).as_str(), expected);
        }
    }
}
