//! A test that runs itself again in a child process, to be traced, starved or killed there.
//! Used by the tests of durability and of a full disk.

use std::path::PathBuf;
use std::process::{Command, Output};

use bytes::Bytes;
use coracle_store::{Batch, CommitError, Committed, Condition, Database, Key};

/// How a child knows that it is one, and where its files are.
const DIR: &str = "CORACLE_STORE_TEST_DIR";

/// The directory of the child's files, if this process is a child.
pub(crate) fn dir() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "this is how a test speaks to itself in a child process")]
    std::env::var_os(DIR).map(PathBuf::from)
}

/// The command that runs one test of this program as a child, behind another program if `runner` names one.
pub(crate) fn command(runner: &[&str], test: &str, dir: &std::path::Path) -> Command {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = match runner.split_first() {
        Some((first, arguments)) => {
            let mut command = Command::new(first);
            command.args(arguments).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args([test, "--exact", "--nocapture"]).env(DIR, dir);
    command
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Output {
    let program = command.get_program().display().to_string();
    command.output().unwrap_or_else(|error| panic!("run {program}: {error}; `cargo xtask test` installs it"))
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// The key of a numbered record.
pub(crate) fn record(number: u32) -> Key {
    Key::new(&format!("record/{number:06}")).expect("a key of the test")
}

/// Commits one numbered record.
pub(crate) async fn commit(
    database: &dyn Database,
    number: u32,
    value: impl Into<Bytes>,
) -> Result<Committed, CommitError> {
    database.commit(Batch::new().put(record(number), value, Condition::Any)).await
}
