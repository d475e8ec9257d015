//! Where a part plays: a server with a queue, functions on it, and what it says of its calls.
//! All parts set up one or two.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::Plan;
use crate::bench::client::Connection;
use crate::bench::load::{self, Load};
use crate::bench::server::{Server, admin_token};
use crate::surroundings::{now, root, say};

/// The guest that does as little as a guest can.
const TINY: &str = "guests/built/tiny.wasm";
/// The guest that asks whomever it is told to.
const ASKING: &str = "guests/built/acid.wasm";

/// The bytes of a body.
pub(super) const BODY_BYTES: usize = 512;
/// Connections that send.
pub(super) const CONNECTIONS: u32 = 64;
/// What is due only when nobody looks any more.
pub(super) const IN_A_DAY: &str = "24h";
/// More than are ever put.
const DEPTH: &str = "100000000";

/// How long a round of filling takes, between two looks at how full it is.
const FILL_SECONDS: u32 = 2;
/// How long a change of the queue may take.
const CHANGE_MAX: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Which cores a server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cores {
    All,
    /// The one that no load comes from.
    One,
}

/// A server with a queue.
pub(super) struct Stage<'a> {
    plan: &'a Plan,
    name: &'static str,
    cores: Cores,
    flags: Vec<String>,
    data: PathBuf,
    pub(super) server: Server,
}

/// How many calls there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) waiting: usize,
    pub(super) running: usize,
}

impl<'a> Stage<'a> {
    /// Starts a server on a data directory of this name, which is made if it is not there.
    pub(super) fn set(
        plan: &'a Plan,
        name: &'static str,
        cores: Cores,
        flags: &[&str],
    ) -> Result<Self, String> {
        let data = plan.dir.join(name);
        let flags = [flags, &["--queue-depth", DEPTH]].concat();
        let server = start(plan, &data, cores, &flags)?;
        let flags = flags.into_iter().map(str::to_owned).collect();
        Ok(Self { plan, name, cores, flags, data, server })
    }

    /// Kills the server, and starts it on what it left.
    pub(super) fn again(self) -> Result<Self, String> {
        let Self { plan, name, cores, flags, data, server } = self;
        server.kill();
        let words: Vec<&str> = flags.iter().map(String::as_str).collect();
        let server = start(plan, &data, cores, &words)?;
        Ok(Self { plan, name, cores, flags, data, server })
    }

    /// Deploys the function that does as little as it can.
    pub(super) fn deploy_tiny(&self) -> Result<(), String> {
        self.server.deploy(&self.plan.coracle, &self.data, &root().join(TINY), "tiny", &[])
    }

    /// Deploys a function that asks what a call of it names, and may reach this origin.
    pub(super) fn deploy_asking(&self, name: &str, origin: &str, more: &[&str]) -> Result<(), String> {
        let more = [&["--outbound", origin], more].concat();
        self.server.deploy(&self.plan.coracle, &self.data, &root().join(ASKING), name, &more)
    }

    pub(super) fn connect(&self) -> Result<Connection, String> {
        Connection::open(self.server.url())
    }

    /// How many calls wait and run.
    pub(super) fn calls(&self) -> Result<Calls, String> {
        let mut connection = self.connect()?.with_token(&admin_token(&self.data)?);
        let (answer, body) = connection.ask("GET", "/v1/queue", b"")?;
        if answer.status != 200 {
            return Err(format!("/v1/queue was answered with {}", answer.status));
        }
        Calls::read(&String::from_utf8_lossy(&body))
    }

    /// Waits until so it is, and says how many there are then.
    pub(super) fn until(&self, what: &str, is_so: impl Fn(Calls) -> bool) -> Result<Calls, String> {
        let begun = now();
        loop {
            let calls = self.calls()?;
            if is_so(calls) {
                return Ok(calls);
            }
            if begun.elapsed() > CHANGE_MAX {
                return Err(format!("{what} took too long: {calls:?}"));
            }
            thread::sleep(LOOK);
        }
    }

    /// Puts calls of a path for so many seconds, due when the header says.
    pub(super) fn put(&self, path: &str, due: Option<&str>, seconds: u32) -> Result<Load, String> {
        let script = self.plan.dir.join(format!("{}.lua", self.name));
        let delay =
            due.map_or(String::new(), |due| format!("wrk.headers[\"x-coracle-delay\"] = \"{due}\"\n"));
        let text = format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {BODY_BYTES})\n{delay}");
        fs::write(&script, text).map_err(|error| format!("write {}: {error}", script.display()))?;
        let url = format!("{}/async-function/{path}", self.server.url());
        load::run_script(&url, &script, CONNECTIONS, seconds)
    }

    /// Puts calls until so many wait at the least; says how many do.
    pub(super) fn fill(&self, path: &str, due: Option<&str>, count: usize) -> Result<usize, String> {
        loop {
            self.put(path, due, FILL_SECONDS)?;
            let Calls { waiting, .. } = self.calls()?;
            say(&format!("{waiting} of {count} wait"));
            if waiting >= count {
                return Ok(waiting);
            }
        }
    }
}

impl Calls {
    /// Whether there is nothing to do.
    pub(super) fn is_none(self) -> bool {
        self.waiting + self.running == 0
    }

    /// Reads what `/v1/queue` says; the totals come first.
    fn read(text: &str) -> Result<Self, String> {
        let number = |name: &str| {
            let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
            let digits: String =
                rest.chars().skip_while(|c| *c == ' ').take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let calls = number("waiting").zip(number("running"));
        let (waiting, running) = calls.ok_or_else(|| format!("/v1/queue says {text}"))?;
        Ok(Self { waiting, running })
    }
}

fn start(plan: &Plan, data: &std::path::Path, cores: Cores, flags: &[&str]) -> Result<Server, String> {
    match cores {
        Cores::All => Server::coracle_on_all_cores(&plan.coracle, data, flags),
        Cores::One => Server::coracle(&plan.coracle, data, flags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_the_queue_are_read() {
        let text =
            r#"{"totals":{"waiting": 12,"running":3,"dead":0},"functions":[{"waiting":7,"running":1}]}"#;
        assert_eq!(Calls::read(text), Ok(Calls { waiting: 12, running: 3 }));
        assert!(Calls::read("{}").is_err());
    }
}
