//! Why a build failed, where the reason is a tool that is not there: its name, and what installs it.
//! `coracle new` asks before, a build only after it failed, so that one that works costs nothing more.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::options;

/// The exit code of a shell that did not find a command.
const NOT_FOUND: i32 = 127;

/// Debian 12 has Node.js 18, and the tools of JavaScript want 20.
const NODE: &str = "sudo apt-get install npm && sudo npm install --global node@22";

/// Tools of the languages that `coracle new` knows, and the command that installs each.
const TOOLS: [(&str, &str); 8] = [
    ("cargo", "curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- --target wasm32-wasip2"),
    ("npm", NODE),
    ("npx", NODE),
    ("node", NODE),
    ("python3", "sudo apt-get install python3 python3-venv"),
    ("pip", "sudo apt-get install python3-pip"),
    ("clang", "sudo apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32"),
    ("make", "sudo apt-get install make"),
];

/// What to install for a build command that failed, if that is what it lacks.
pub(super) fn missing(command: &str, exit: Option<i32>) -> Option<String> {
    missing_tool(command).or_else(|| {
        (exit == Some(NOT_FOUND))
            .then(|| "it calls a program that is not installed, or not in PATH".to_owned())
    })
}

/// What to install before a build command can work.
pub(in crate::cli) fn missing_tool(command: &str) -> Option<String> {
    let tool = programs(command).find(|program| !is_there(program));
    if let Some(tool) = tool {
        return Some(match install(tool) {
            Some(install) => format!("`{tool}` is not installed: {install}"),
            None => format!("`{tool}` is not installed, or not in PATH"),
        });
    }
    let target = rust_target(command).filter(|target| !rust_has(target))?;
    Some(format!("Rust's target is not installed: rustup target add {target}"))
}

/// What to install before a program can be started in a sandbox: it has what lies in `/usr` of the machine.
pub(in crate::cli) fn missing_program(program: &str) -> Option<String> {
    const FOLDERS: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin"];
    if program.contains('/') || FOLDERS.iter().any(|folder| Path::new(folder).join(program).exists()) {
        return None;
    }
    let install = install(program).map(|install| format!(": {install}")).unwrap_or_default();
    Some(format!("`{program}` is not in /usr/bin of this machine{install}"))
}

fn install(tool: &str) -> Option<&'static str> {
    TOOLS.iter().find(|(name, _)| *name == tool).map(|(_, install)| *install)
}

/// The programs that a command for the shell calls, as far as they stand in it plainly.
fn programs(command: &str) -> impl Iterator<Item = &str> {
    let is_plain = |word: &&str| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+'))
    };
    command.split(['&', ';', '|', '\n', '(', ')']).filter_map(move |part| {
        // `LEVEL=1 program`: the variables come first.
        part.split_whitespace().find(|word| !word.contains('=')).filter(is_plain)
    })
}

fn is_there(program: &str) -> bool {
    // What the shell itself knows.
    const BUILTINS: [&str; 14] = [
        "cd", "echo", "exit", "export", "false", "if", "printf", "set", "test", "true", "then", "fi", ".",
        "umask",
    ];
    let is_program = |path: PathBuf| {
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    BUILTINS.contains(&program) || options::path().iter().any(|folder| is_program(folder.join(program)))
}

/// The target for which a cargo command builds.
fn rust_target(command: &str) -> Option<&str> {
    let mut words = command.split_whitespace().skip_while(|word| *word != "cargo");
    words.next()?;
    let mut words = words.skip_while(|word| !word.starts_with("--target"));
    match words.next()?.split_once('=') {
        Some((_, target)) => Some(target),
        None => words.next(),
    }
}

fn rust_has(target: &str) -> bool {
    let asked = Command::new("rustc").args(["--print", "sysroot"]).stdin(Stdio::null()).output();
    // A rustc that cannot be asked has another trouble.
    let Ok(sysroot) = asked.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned()) else {
        return true;
    };
    sysroot.is_empty() || Path::new(&sysroot).join("lib/rustlib").join(target).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_of_a_command_are_found() {
        let programs = |command| programs(command).collect::<Vec<_>>();
        assert_eq!(programs("cargo build --release"), ["cargo"]);
        assert_eq!(programs("npm ci && npm run build"), ["npm", "npm"]);
        assert_eq!(programs("CC=clang LEVEL=1 make -j; strip x | cat"), ["make", "strip", "cat"]);
        assert_eq!(programs("./build.sh && \"my tool\" x"), [] as [&str; 0]);
    }

    #[test]
    fn a_program_that_nobody_has_is_named_and_one_that_we_know_with_its_installation() {
        assert_eq!(missing("true && exit 1", Some(1)), None);
        assert_eq!(
            missing("no-such-program-of-ours --x", Some(127)).unwrap(),
            "`no-such-program-of-ours` is not installed, or not in PATH"
        );
        assert_eq!(
            install("clang").unwrap(),
            "sudo apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32"
        );
        assert!(missing("./no-such-script", Some(127)).unwrap().contains("not in PATH"));
    }

    #[test]
    fn a_program_of_the_sandbox_is_looked_for_where_the_sandbox_has_it() {
        assert_eq!(missing_program("env"), None);
        assert_eq!(missing_program("./server"), None);
        assert!(missing_program("no-such-program-of-ours").unwrap().ends_with("of this machine"));
    }

    #[test]
    fn the_target_of_a_rust_build_is_found() {
        assert_eq!(rust_target("cargo build --release --target wasm32-wasip2"), Some("wasm32-wasip2"));
        assert_eq!(rust_target("cargo build --target=wasm32-wasip1 && cp a b"), Some("wasm32-wasip1"));
        assert_eq!(rust_target("cargo build --release"), None);
        assert_eq!(rust_target("make --target x"), None);
        assert!(
            missing("cargo build --target wasm32-unknown-martian", Some(101)).unwrap().contains("martian")
        );
    }
}
