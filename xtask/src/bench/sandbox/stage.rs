//! Where a part plays: a server with the image, functions of it, and what its metrics and `/proc` say of their instances.
//! All parts set one up; at its end nothing may run any more that was in a sandbox.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::Plan;
use super::image::{ANSWER, TAG};
use crate::bench::client::Connection;
use crate::bench::server::{Server, admin_token};
use crate::surroundings::now;

/// How long instances may take until they are frozen; they are after 100 ms without a call.
const FREEZE_MAX: Duration = Duration::from_secs(30);

/// How long programs may outlive their server.
const END_MAX: Duration = Duration::from_secs(15);

/// Between two looks at whether something is so.
const LOOK: Duration = Duration::from_millis(10);

/// Which cores a server and its programs get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cores {
    All,
    /// The one that no load comes from.
    One,
}

/// A server that knows the image.
pub(super) struct Stage<'a> {
    plan: &'a Plan,
    server: Server,
    data: PathBuf,
    token: String,
}

impl<'a> Stage<'a> {
    /// Starts a server on a new data directory, and gives it the image.
    pub(super) fn set(plan: &'a Plan, cores: Cores) -> Result<Self, String> {
        let data = plan.dir.join("data");
        let server = match cores {
            Cores::All => Server::coracle_on_all_cores(&plan.coracle, &data, &[])?,
            Cores::One => Server::coracle(&plan.coracle, &data, &[])?,
        };
        let token = admin_token(&data)?;
        let stage = Self { plan, server, data, token };
        let archive = plan.image.archive.to_str().ok_or("a path that is not text")?;
        stage.command(&["image", "load", archive, "--tag", TAG])?;
        Ok(stage)
    }

    /// Deploys what a manifest says; its paths begin at the folder of the part.
    pub(super) fn deploy(&self, manifest: &str) -> Result<(), String> {
        let folder = self.plan.dir.join("app");
        let file = folder.join("coracle.toml");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&file, manifest))
            .map_err(|error| format!("write {}: {error}", file.display()))?;
        self.command(&["deploy", folder.to_str().ok_or("a path that is not text")?])
    }

    /// Deploys so many functions of the image at once, none of which runs: see [`path_of`].
    pub(super) fn deploy_many(&self, count: usize) -> Result<(), String> {
        let functions = (0..count).map(|number| format!("[function.f{number}]\nimage = \"{TAG}\"\n"));
        self.deploy(&functions.collect::<String>())?;
        // A deploy tries an instance of each.
        let mut connection = self.connect_as_admin()?;
        for number in 0..count {
            let path = format!("/v1/namespaces/default/functions/f{number}/scale");
            let (answer, _) = connection.ask("POST", &path, br#"{"instances":0}"#)?;
            if answer.status != 200 {
                return Err(format!("{path} was answered with {}", answer.status));
            }
        }
        self.await_none()
    }

    /// Waits until no program runs.
    pub(super) fn await_none(&self) -> Result<(), String> {
        until(END_MAX, || {
            let left = self.programs();
            Ok((!left.is_empty()).then(|| format!("programs run on: {left:?}")))
        })
    }

    pub(super) fn connect(&self) -> Result<Connection, String> {
        Connection::open(self.server.url())
    }

    /// A connection that may ask everything.
    pub(super) fn connect_as_admin(&self) -> Result<Connection, String> {
        Ok(self.connect()?.with_token(&self.token))
    }

    /// The address of a function.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    /// Waits until so many instances are frozen.
    pub(super) fn await_frozen(&self, count: usize) -> Result<(), String> {
        let mut connection = self.connect_as_admin()?;
        until(FREEZE_MAX, || {
            let (answer, body) = connection.ask("GET", "/metrics", b"")?;
            if answer.status != 200 {
                return Err(format!("/metrics was answered with {}", answer.status));
            }
            let frozen = frozen_in(&String::from_utf8_lossy(&body));
            Ok((frozen != count).then(|| format!("{frozen} instances are frozen, and not {count}")))
        })
    }

    /// The memory of the programs in all sandboxes, in KiB: what they share with one another is divided among them.
    pub(super) fn programs_kib(&self, count: usize) -> Result<f64, String> {
        let programs = self.programs();
        if programs.len() != count {
            return Err(format!("{} programs run, and not {count}", programs.len()));
        }
        let of = |id: &u32| {
            let path = format!("/proc/{id}/smaps_rollup");
            let text = fs::read_to_string(&path).map_err(|error| format!("read {path}: {error}"))?;
            kib_of(&text, "Pss:").ok_or_else(|| format!("no Pss in {path}"))
        };
        programs.iter().map(of).sum()
    }

    /// Ends the server by kill -9, and sees that no program outlives it.
    pub(super) fn clear(self) -> Result<(), String> {
        let Self { server, plan, .. } = self;
        server.kill();
        until(END_MAX, || {
            let left = running(&plan.image.mark);
            Ok((!left.is_empty()).then(|| format!("programs outlive their server: {left:?}")))
        })
    }

    fn programs(&self) -> Vec<u32> {
        running(&self.plan.image.mark)
    }

    fn command(&self, args: &[&str]) -> Result<(), String> {
        self.server.command(&self.plan.coracle, &self.data, args).map(drop)
    }
}

/// Looks until nothing is missing, or for too long: then what was missing is the error.
pub(super) fn until(
    at_most: Duration,
    mut missing: impl FnMut() -> Result<Option<String>, String>,
) -> Result<(), String> {
    let begun = now();
    while let Some(what) = missing()? {
        if begun.elapsed() > at_most {
            return Err(what);
        }
        // What is waited for takes processor time of its own.
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Where the function of a number is called.
pub(super) fn path_of(number: usize) -> String {
    format!("/function/f{number}")
}

/// Calls a function of the image, and says how long that took in microseconds.
pub(super) fn call_us(connection: &mut Connection, path: &str) -> Result<f64, String> {
    let begun = now();
    let (answer, body) = connection.ask("GET", path, b"")?;
    let took = begun.elapsed().as_secs_f64() * 1e6;
    if answer.status == 200 && body == ANSWER {
        return Ok(took);
    }
    Err(format!("{path} was answered with {}: {}", answer.status, String::from_utf8_lossy(&body)))
}

/// Whether the web server answers at this address.
pub(super) fn answered(address: SocketAddr) -> bool {
    Connection::open(&format!("http://{address}"))
        .and_then(|mut connection| call_us(&mut connection, "/"))
        .is_ok()
}

/// An address of the loopback that nobody listens at.
pub(super) fn free_address() -> Result<SocketAddr, String> {
    let found = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    found.map_err(|error| format!("find a free port: {error}"))
}

/// Memory that the kernel could give away, in KiB.
pub(super) fn available_kib() -> Result<f64, String> {
    let text = fs::read_to_string("/proc/meminfo").map_err(|error| format!("read /proc/meminfo: {error}"))?;
    kib_of(&text, "MemAvailable:").ok_or_else(|| "no MemAvailable in /proc/meminfo".to_owned())
}

/// The processes that were called with this argument.
fn running(mark: &str) -> Vec<u32> {
    let called = |id: &u32| {
        // One that ended in the meantime has none.
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == mark.as_bytes())
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(called).collect()
}

fn frozen_in(metrics: &str) -> usize {
    let of_frozen =
        |line: &&str| line.starts_with("coracle_program_instances{") && line.contains("state=\"frozen\"");
    metrics.lines().filter(of_frozen).filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

fn kib_of(text: &str, field: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_instances_of_all_functions_are_added_up() {
        let metrics = "# HELP coracle_program_instances Instances.\n\
            coracle_program_instances{namespace=\"default\",function=\"f0\",state=\"frozen\"} 1\n\
            coracle_program_instances{namespace=\"default\",function=\"f0\",state=\"busy\"} 4\n\
            coracle_program_instances{namespace=\"default\",function=\"f1\",state=\"frozen\"} 2\n";
        assert_eq!(frozen_in(metrics), 3);
    }

    #[test]
    fn a_process_is_known_by_an_argument_of_its_own() {
        assert!(running("an argument that nobody has").is_empty());
        let line = fs::read("/proc/self/cmdline").unwrap();
        let first = line.split(|&byte| byte == 0).next().unwrap();
        assert!(running(std::str::from_utf8(first).unwrap()).contains(&std::process::id()));
    }

    #[test]
    fn a_free_address_does_not_answer() {
        assert!(!answered(free_address().unwrap()));
    }
}
