//! The build command of a function: run in its folder, bounded in time, ended when nobody waits for it.
//! `coracle deploy` shows what it prints as it comes; `coracle dev` only when it fails.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use coracle_model::{ByteSize, FunctionName, Problem, Span, code};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;

use super::tools;
use crate::stop::Done;
use crate::talk::{self, BOLD, styled};

/// What is shown of a build that failed in silence, in bytes: its end, where the error stands.
const SAID_BYTES_MAX: usize = 16 << 10;

/// How long is listened to what is left of a build that ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs build commands.
#[derive(Debug)]
pub(in crate::cli) struct Builder {
    /// How long one may take.
    pub(in crate::cli) timeout: Span,
    pub(in crate::cli) voice: Voice,
}

/// What becomes of what a build prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Voice {
    /// It is shown as it comes.
    Aloud,
    /// Its end is shown if it fails.
    WhenItFails,
}

impl Builder {
    /// Runs a build command in the folder of the manifest.
    pub(super) async fn build(&self, name: &FunctionName, command: &str, folder: &Path) -> Done {
        if self.voice == Voice::Aloud {
            talk::say(format_args!("building {}: {command}", styled(BOLD, name)));
        }
        let problem = |what: String| {
            Problem::new(&code::BUILD_FAILED, format!("cannot build `{name}`: `{command}` {what}"))
        };
        let failed = |error: io::Error| problem(format!("does not start: {error}"));
        let (output, said) = self.output().map_err(failed)?;
        let again = output.try_clone().map_err(failed)?;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(folder).stdin(Stdio::null()).stdout(output).stderr(again);
        // A group of its own, so that all of it can be ended.
        let mut child = shell.process_group(0).spawn().map_err(failed)?;
        // Its own copies of the pipe would keep it open.
        drop(shell);
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let mut said = Said::listen(said);
        let ended = tokio::time::timeout(self.timeout.0, said.during(child.wait())).await;
        // What it left running goes as well, and with it who else could write to the pipe.
        group.end();
        let Ok(status) = ended else {
            let hint = "correct `build` in coracle.toml, or give it longer with `--build-timeout`";
            return Err(problem(format!("did not end within {}", self.timeout)).hint(hint).into());
        };
        // Somebody who left the group may hold it none the less.
        let _ = tokio::time::timeout(LAST_WORDS, said.rest()).await;
        let status = status.map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        said.show();
        let problem = problem(how(status));
        Err(match tools::missing(command, status.code()) {
            Some(missing) => problem.hint(missing).into(),
            None => problem.into(),
        })
    }

    /// Where a build prints to, and the end of it that is listened on.
    fn output(&self) -> io::Result<(OwnedFd, Option<Receiver>)> {
        match self.voice {
            // Standard output is for data; what a build prints is talk.
            Voice::Aloud => Ok((io::stderr().as_fd().try_clone_to_owned()?, None)),
            Voice::WhenItFails => {
                let (said, output) = pipe_with(PipeFlags::CLOEXEC)?;
                Ok((output, Some(Receiver::from_owned_fd(said)?)))
            }
        }
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(exit), _) => format!("failed with exit code {exit}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    }
}

/// The processes of a build; dropped before their end, they are killed.
struct Group(Option<Pid>);

impl Group {
    fn end(&mut self) {
        if let Some(group) = self.0.take() {
            // Most left nobody behind.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// The end of what a build printed.
#[derive(Debug, Default)]
struct Said {
    pipe: Option<Receiver>,
    end: VecDeque<u8>,
    left_out: u64,
}

impl Said {
    fn listen(pipe: Option<Receiver>) -> Self {
        Self { pipe, ..Self::default() }
    }

    /// Listens until something else is done.
    async fn during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        tokio::select! {
            done = &mut other => return done,
            () = self.rest() => {}
        }
        other.await
    }

    /// Listens until nobody is left to say anything. May be dropped and asked again: nothing is missed.
    async fn rest(&mut self) {
        let mut chunk = vec![0; 8 << 10];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut chunk).await {
                Ok(length @ 1..) => self.push(&chunk[..length]),
                // A pipe that breaks has said all it will.
                Ok(0) | Err(_) => self.pipe = None,
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.end.extend(bytes);
        let over = self.end.len().saturating_sub(SAID_BYTES_MAX);
        self.end.drain(..over);
        self.left_out += over as u64;
    }

    fn show(&self) {
        if self.left_out > 0 {
            talk::say(format_args!("(the first {} are left out)", ByteSize(self.left_out)));
        }
        let end: Vec<u8> = self.end.iter().copied().collect();
        let text = String::from_utf8_lossy(&end);
        if !text.trim().is_empty() {
            talk::say(text.trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_megabyte_the_end_is_kept() {
        let mut said = Said::default();
        for line in 0..100_000 {
            said.push(format!("line {line}\n").as_bytes());
        }
        assert_eq!(said.end.len(), SAID_BYTES_MAX);
        assert!(said.end.iter().copied().collect::<Vec<_>>().ends_with(b"line 99999\n"));
        assert_eq!(said.left_out as usize + said.end.len(), 100_000 * 6 + 488_890);
    }
}
