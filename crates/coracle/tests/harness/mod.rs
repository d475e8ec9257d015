//! The real binary, as people and scripts run it: a server on a port of its own in a folder of its own, and verbs that speak to it.
//! Every end-to-end test starts one; dropped, it is killed.
//! A test binary that leaves some of it unused says so where it declares the module.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Compiled guest code that all tests share, so that each example is compiled once.
pub(crate) const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled");

/// A server that was started by `coracle up`.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it answers.
    pub(crate) url: String,
    /// What it printed with `--json` when it was ready.
    pub(crate) ready: Value,
    child: Child,
    data: Data,
}

/// The data directory: it outlives its server, so that another one can be started on it.
#[derive(Debug)]
pub(crate) struct Data(TempDir);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; -1 when a signal ended it.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it said.
    pub(crate) stderr: String,
}

impl Data {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        // Not there yet: the server makes it.
        self.0.path().join("data")
    }
}

impl Server {
    /// A server on an empty data directory.
    pub(crate) fn start() -> Self {
        Self::start_with(Data::new(), &[])
    }

    /// A server on this data directory, with these flags beside those that every test needs.
    pub(crate) fn start_with(data: Data, flags: &[&str]) -> Self {
        Self::spawn(coracle(), data, flags)
    }

    /// The same, with the binary started by this command: it is followed by the binary and the arguments, and must become it.
    pub(crate) fn start_within(command: &[&str], data: Data, flags: &[&str]) -> Self {
        let mut within = surroundings(Command::new(command[0]));
        within.args(&command[1..]).arg(env!("CARGO_BIN_EXE_coracle"));
        Self::spawn(within, data, flags)
    }

    fn spawn(mut command: Command, data: Data, flags: &[&str]) -> Self {
        command.args(["up", "--listen", "127.0.0.1:0", "--json", "--data"]).arg(data.path()).args(flags);
        if !flags.contains(&"--metrics-listen") {
            // Servers of other tests want the usual port too.
            command.args(["--metrics-listen", "none"]);
        }
        let mut child =
            command.env("CORACLE_CACHE", CACHE).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        // A server that does not start closes its output, and what it said stands in the test's own.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the server did not start: {line:?}"));
        Self { url: ready["url"].as_str().unwrap().to_owned(), ready, child, data }
    }

    /// A command that finds this server by its data directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = coracle();
        command.args(args).arg("--data").arg(self.data.path());
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs a verb with something on its standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Ended {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Ended::of(child.wait_with_output().unwrap())
    }

    /// Runs a verb that succeeds, and gives what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "coracle {args:?}\n{}", ended.stderr);
        ended.stdout
    }

    /// Runs a verb with `--json` that succeeds, and gives what it printed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["--json"]].concat())).unwrap()
    }

    /// Deploys one of the examples under its own name.
    pub(crate) fn deploy(&self, example: &str) {
        self.ok(&["deploy", wasm(example).to_str().unwrap(), "--name", example]);
    }

    /// The data directory of the running server.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.path()
    }

    /// The process of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it as a service manager does, and waits until it has drained; gives its exit code.
    pub(crate) fn stop(mut self) -> (i32, Data) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), self.into_data())
    }

    /// Kills it in the middle of whatever it does.
    pub(crate) fn kill(mut self) -> Data {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.into_data()
    }

    fn into_data(mut self) -> Data {
        std::mem::replace(&mut self.data, Data::new())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended already.
        let _ = self.child.wait();
    }
}

impl Ended {
    /// How this output came to be.
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// All of it, as a snapshot shows it.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("exit code {}\n", self.code);
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                let _ = write!(text, "--- {name}\n{stream}");
            }
        }
        text
    }
}

/// The binary, without anything of the surroundings that could change what it does.
pub(crate) fn coracle() -> Command {
    surroundings(Command::new(env!("CARGO_BIN_EXE_coracle")))
}

fn surroundings(mut command: Command) -> Command {
    for variable in ["CORACLE_URL", "CORACLE_TOKEN", "CORACLE_DATA", "CORACLE_KEY_FILE", "CORACLE_CACHE"] {
        command.env_remove(variable);
    }
    command.env("NO_COLOR", "1");
    command
}

/// An example as it is committed.
pub(crate) fn wasm(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{example}/{example}.wasm"))
}
