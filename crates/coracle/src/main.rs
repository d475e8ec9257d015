//! Coracle: serverless functions made simple, in one binary.
//! Reads what was typed, runs the verb, and makes an exit code of how it ended: 0 done, 1 failed, 2 wrong usage.

mod basic_auth;
mod busy;
mod clear_up;
mod cli;
mod find;
mod keepers;
mod manifest;
mod options;
mod print;
mod serve;
mod signals;
mod stop;
mod storage;
mod table;
mod talk;

use std::process::ExitCode;
use std::time::Duration;

use coracle_model::{Problem, code};
use coracle_runtime::{COMPILE_WORKER, SANDBOX_SPAWNER};

use crate::cli::Verb;
use crate::options::Options;
use crate::stop::{Done, Stop};

/// How long a thread stays that has no more work that waits for the disk.
const THREAD_REST: Duration = Duration::from_secs(5);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else is set up: they fork, and so must have one thread. No verbs: nobody types them.
    match std::env::args_os().nth(1) {
        Some(argument) if argument == COMPILE_WORKER => return coracle_runtime::compile_worker(),
        Some(argument) if argument == SANDBOX_SPAWNER => return coracle_runtime::sandbox_spawner(),
        _ => {}
    }
    let options = Options::of_process();
    let json = options.common.json;
    match run(options) {
        Ok(()) | Err(Stop::ReaderGone) => ExitCode::SUCCESS,
        Err(Stop::Shown) => ExitCode::FAILURE,
        Err(Stop::Interrupted) => ExitCode::from(130),
        Err(Stop::Problem(problem)) => {
            talk::problem(&problem, json);
            ExitCode::FAILURE
        }
        Err(Stop::Usage(error)) => {
            let _ = error.print(); // Nobody is left to tell that nobody can be told.
            ExitCode::from(2)
        }
    }
}

fn run(options: Options) -> Done {
    let mut runtime = match options.verb {
        // A thread that others could take work from costs more than one that is alone.
        Verb::Up(_) if has_one_core() => tokio::runtime::Builder::new_current_thread(),
        Verb::Up(_) | Verb::Dev(_) => tokio::runtime::Builder::new_multi_thread(),
        // The other verbs ask one thing after the other.
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    runtime.enable_all().thread_keep_alive(THREAD_REST).on_thread_park(coracle_invoke::thread_idles);
    let runtime = runtime.build().map_err(|error| {
        Stop::from(Problem::new(&code::INTERNAL, format!("cannot start the async runtime: {error}")))
    })?;
    let done = runtime.block_on(Box::pin(cli::run(options.verb, &options.common)));
    // A thread that still waits for standard input must not keep the process.
    runtime.shutdown_background();
    done
}

fn has_one_core() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1)
}
