//! `coracle new`: a project to begin with, in the language of one's choice.
//! The projects are the examples `hello-LANG` of this repository, which are built and called by the tests; only the name is another.

use std::fs;
use std::io;
use std::path::Path;

use clap::ValueEnum;
use coracle_model::{FunctionName, Problem, code};
use serde_json::json;

use super::deploy;
use crate::manifest::Manifest;
use crate::options::Common;
use crate::stop::Done;
use crate::talk::{BOLD, styled};
use crate::{print, talk};

const EXAMPLES: &str = "\
Languages:
  rust         a component of WebAssembly, with the crate wstd
  js           a component with componentize-js; JavaScript, or what compiles to it
  python       a WSGI application, as a component with componentize-py
  c            a program that reads standard input and prints, as WebAssembly
  python-http  a web server with Python's own library, in a sandbox
  node-http    a web server with Node's own library, in a sandbox
  binary       a program in Rust that reads standard input and prints, in a sandbox

Examples:
  coracle new hello --lang rust
  coracle new hello --lang python && cd hello && coracle dev
  coracle new site --lang node-http     a web server as it is, in a sandbox";

/// Begin a project: a function that greets, ready to be deployed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The name of the function, and of the new folder
    name: FunctionName,
    /// The language it is written in
    #[arg(short, long, value_name = "LANG")]
    lang: Language,
}

// What each is for stands in the examples: beside the flag it would take a line for each, and then some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    #[value(alias = "javascript", alias = "node")]
    Js,
    #[value(alias = "py")]
    Python,
    C,
    PythonHttp,
    NodeHttp,
    Binary,
}

/// A file of a project, from its folder, and its text.
type File = (&'static str, &'static str);

/// The files of an example.
macro_rules! files {
    ($example:literal: $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../../../../examples/", $example, "/", $file)))),+]
    };
}

impl Language {
    /// The name that is another in every project.
    fn example(self) -> &'static str {
        match self {
            Self::Rust => "hello-rust",
            Self::Js => "hello-js",
            Self::Python => "hello-python",
            Self::C => "hello-c",
            Self::PythonHttp => "hello-python-http",
            Self::NodeHttp => "hello-node-http",
            Self::Binary => "hello-binary",
        }
    }

    fn files(self) -> &'static [File] {
        match self {
            Self::Rust => {
                files!("hello-rust": ".gitignore", "Cargo.toml", "README.md", "coracle.toml", "src/lib.rs")
            }
            Self::Js => {
                files!("hello-js": ".gitignore", "README.md", "app.js", "build.js", "coracle.toml", "package.json")
            }
            Self::Python => files!(
                "hello-python": ".gitignore", "README.md", "build.sh", "coracle.toml", "requirements.txt",
                "src/app.py", "src/handler.py", "world.wit"
            ),
            Self::C => files!("hello-c": ".gitignore", "README.md", "coracle.toml", "main.c"),
            Self::PythonHttp => {
                files!("hello-python-http": ".gitignore", "README.md", "coracle.toml", "src/server.py")
            }
            Self::NodeHttp => {
                files!("hello-node-http": ".gitignore", "README.md", "coracle.toml", "src/server.js")
            }
            Self::Binary => {
                files!("hello-binary": ".gitignore", "Cargo.toml", "README.md", "coracle.toml", "src/main.rs")
            }
        }
    }

    /// Why its tools would not take a name that we take.
    fn refuses(self, name: &str) -> Option<&'static str> {
        const RUST_KEYWORDS: [&str; 43] = [
            "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do",
            "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
            "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
            "self", "static", "struct", "super", "test", "trait", "true", "type",
        ];
        match self {
            Self::Rust | Self::Binary if !name.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                Some("the name of a Rust package begins with a letter")
            }
            Self::Rust | Self::Binary
                if RUST_KEYWORDS.contains(&name) || ["std", "core", "alloc"].contains(&name) =>
            {
                Some("Rust uses that word itself")
            }
            Self::Js if name.starts_with('_') => Some("the name of an npm package does not begin with `_`"),
            Self::Js if name.chars().any(|c| c.is_ascii_uppercase()) => {
                Some("the name of an npm package is in lower case")
            }
            _ if name.starts_with('-') => Some("tools would take it for a flag"),
            _ => None,
        }
    }
}

pub(crate) fn run(args: &Args, common: &Common) -> Done {
    let Args { name, lang } = args;
    let cannot =
        |why: String| Problem::new(&code::BAD_REQUEST, format!("cannot begin a project `{name}`: {why}"));
    if let Some(why) = lang.refuses(name.as_str()) {
        return Err(cannot(why.to_owned())
            .hint("choose another name; a function may be renamed later")
            .into());
    }
    let folder = Path::new(name.as_str());
    if !is_free(folder) {
        return Err(cannot(format!("there is something at {} already", folder.display()))
            .hint("choose another name, or another folder to stand in")
            .into());
    }
    let files = lang.files().iter().map(|(file, text)| (*file, named(text, *lang, name)));
    let files: Vec<(&str, String)> = files.collect();
    write_all(folder, &files).map_err(|error| cannot(format!("write {}: {error}", folder.display())))?;
    render(args, folder, &files, common.json)
}

/// The text of a file, with the name of the new function in the place of the example's.
fn named(text: &str, lang: Language, name: &FunctionName) -> String {
    let example = lang.example();
    let text = text.replace(example, name.as_str());
    // The name that cargo gives to what it builds.
    text.replace(&example.replace('-', "_"), &name.as_str().replace('-', "_"))
}

/// Whether nothing is there, or an empty folder.
fn is_free(folder: &Path) -> bool {
    // Not through a link: what is written there might be somebody else's.
    match fs::symlink_metadata(folder) {
        Ok(found) => found.is_dir() && fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Writes all files, or leaves none.
fn write_all(folder: &Path, files: &[(&str, String)]) -> io::Result<()> {
    let write = || {
        for (file, text) in files {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::File::create_new(&path)
                .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))?;
        }
        Ok(())
    };
    let written = write();
    if written.is_err() {
        // It was empty before; what cannot be removed either is for its owner to see.
        let _ = fs::remove_dir_all(folder);
    }
    written
}

fn render(Args { name, .. }: &Args, folder: &Path, files: &[(&str, String)], json: bool) -> Done {
    let manifest = Manifest::read(folder)?;
    let missing = manifest.functions.iter().find_map(|function| {
        let built = function.build.as_deref().and_then(deploy::missing_tool);
        // A sandbox has the programs of the machine; which machine that is, is not known yet.
        built.or_else(|| deploy::missing_program(function.settings.program.command.first()?))
    });
    if json {
        let files: Vec<_> = files.iter().map(|(file, _)| folder.join(file)).collect();
        return print::json(&json!({ "name": name, "folder": folder, "files": files, "missing": missing }));
    }
    for (file, _) in files {
        print::line(folder.join(file).display())?;
    }
    talk::say("");
    if let Some(missing) = missing {
        talk::hint(missing);
    }
    talk::say(format_args!("next: {}", styled(BOLD, format_args!("cd {name} && coracle dev"))));
    talk::say(format_args!("then, in another terminal: coracle call {name} -d Ada"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Source;

    fn project(lang: Language, name: &str) -> Vec<(&'static str, String)> {
        let name = name.parse().unwrap();
        lang.files().iter().map(|(file, text)| (*file, named(text, lang, &name))).collect()
    }

    #[test]
    fn nothing_of_the_example_s_name_is_left_in_a_project() {
        for lang in Language::value_variants() {
            for (file, text) in project(*lang, "my-shop") {
                assert!(!text.contains("hello-") && !text.contains("hello_"), "{file}: {text}");
            }
        }
    }

    #[test]
    fn every_project_has_a_manifest_that_deploys_what_its_build_makes() {
        for lang in Language::value_variants() {
            let project = project(*lang, "my-shop");
            let (_, text) = project.iter().find(|(file, _)| *file == "coracle.toml").unwrap();
            let manifest = Manifest::parse("coracle.toml", text).unwrap();
            let [function] = &manifest.functions[..] else { panic!("{text}") };
            assert_eq!(function.name.as_str(), "my-shop");
            let Source::Path(code) = &function.source else { panic!("{text}") };
            let made = code.file_name().unwrap().to_str().unwrap();
            if function.build.is_some() {
                assert!(["my-shop.wasm", "my_shop.wasm", "my-shop"].contains(&made), "{made}");
            } else {
                // What nobody builds is in the project.
                let program = function.settings.program.command.last().unwrap();
                assert!(project.iter().any(|(file, _)| *file == format!("{made}/{program}")), "{program}");
            }
        }
    }

    #[test]
    fn every_file_of_an_example_is_in_the_project() {
        let is_made =
            |name: &str| name.ends_with(".wasm") || name.ends_with(".lock") || name.contains("package-lock");
        for lang in Language::value_variants() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(lang.example());
            let files: Vec<_> = lang.files().iter().map(|(file, _)| *file).collect();
            for entry in ignore::WalkBuilder::new(&folder).hidden(false).require_git(false).build() {
                let entry = entry.unwrap();
                let file = entry.path().strip_prefix(&folder).unwrap().to_str().unwrap();
                if entry.file_type().unwrap().is_file() && !is_made(file) {
                    assert!(files.contains(&file), "{file} of {}", lang.example());
                }
            }
        }
    }

    #[test]
    fn names_that_the_tools_refuse_are_refused() {
        for (lang, name) in [
            (Language::Rust, "fn"),
            (Language::Rust, "7up"),
            (Language::Rust, "std"),
            (Language::Js, "Shop"),
            (Language::Js, "_shop"),
            (Language::Binary, "fn"),
            (Language::C, "-shop"),
        ] {
            assert!(lang.refuses(name).is_some(), "{name}");
        }
        for lang in Language::value_variants() {
            assert_eq!(lang.refuses("my-shop"), None);
        }
    }
}
