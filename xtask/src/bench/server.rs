//! The servers that are measured, ours and the floor, each pinned to the core that the load does not use.
//! The parts of the benchmark start them; one that is dropped is killed, also after an error.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::surroundings::{install_missing, output_of};

/// The core of the server under test.
const SERVER_CORE: &str = "0";

/// The core of the load, and of this program while it measures.
pub(crate) const LOAD_CORE: &str = "1";

/// Where the kernel lists its cores, as taskset reads them.
const CORES: &str = "/sys/devices/system/cpu/online";

/// How long a server may take until it says where it listens.
const START_MAX: Duration = Duration::from_secs(30);

/// What the command line and the server would otherwise take from the person who runs the benchmark.
const VARIABLES: [&str; 5] =
    ["CORACLE_URL", "CORACLE_TOKEN", "CORACLE_DATA", "CORACLE_CACHE", "CORACLE_KEY_FILE"];

/// Sees to the programs that a measurement needs.
pub(crate) fn install_tools() -> Result<(), String> {
    install_missing(&[("wrk", "wrk"), ("taskset", "util-linux"), ("setpriv", "util-linux")])
}

/// Our own calls are load: they keep off the server's core.
pub(crate) fn pin_to_load_core() -> Result<(), String> {
    output_of(Command::new("taskset").args(["-pc", LOAD_CORE, &std::process::id().to_string()])).map(drop)
}

/// A server that runs, and is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts a server that says its URL on stdout.
    fn start(what: &str, command: &mut Command) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("start {what}: {error}");
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| failed(&error))?;
        // From here on, dropping kills it.
        let mut server = Self { child, url: String::new() };
        let stdout = server.child.stdout.take().ok_or_else(|| failed(&"it has no stdout"))?;
        let (say, heard) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            if let Some(url) = lines.find_map(|line| url_in(&line)) {
                // The other side may have waited long enough.
                let _ = say.send(url);
            }
            // Read on, so that the server never waits for us.
            lines.for_each(drop);
        });
        server.url =
            heard.recv_timeout(START_MAX).map_err(|_| failed(&"it does not say where it listens"))?;
        Ok(server)
    }

    /// The floor, answering these header lines.
    pub(crate) fn floor(program: &Path, headers: &[String]) -> Result<Self, String> {
        Self::start("the floor", pinned(program).args(headers))
    }

    /// The bare embedding, which serves this component.
    pub(crate) fn bare(program: &Path, component: &Path) -> Result<Self, String> {
        Self::start("the bare embedding", pinned(program).arg(component))
    }

    /// The floor, answering what this program prints.
    pub(crate) fn spawning_floor(floor: &Path, program: &str) -> Result<Self, String> {
        Self::start("the spawning floor", pinned(floor).args(["--spawn", program]))
    }

    /// The bare proxy before a web server.
    pub(crate) fn proxy(program: &Path, to: SocketAddr) -> Result<Self, String> {
        Self::start("the bare proxy", pinned(program).arg(to.to_string()))
    }

    /// Coracle on a data directory, with more arguments for `up`.
    pub(crate) fn coracle(program: &Path, data: &Path, more: &[&str]) -> Result<Self, String> {
        Self::up(pinned(program), data, more)
    }

    /// The same on all cores, for what is no load: whoever calls waits meanwhile.
    pub(crate) fn coracle_on_all_cores(program: &Path, data: &Path, more: &[&str]) -> Result<Self, String> {
        Self::up(on_all_cores(program)?, data, more)
    }

    fn up(mut program: Command, data: &Path, more: &[&str]) -> Result<Self, String> {
        let up = program
            .args(["up", "--listen", "127.0.0.1:0", "--metrics-listen", "none", "--json", "--data"])
            .arg(data)
            .args(more);
        Self::start("coracle up", up)
    }

    /// Where it listens, as in `http://127.0.0.1:41234`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Deploys a file to it with the command line, and more arguments for `deploy`.
    pub(crate) fn deploy(
        &self,
        program: &Path,
        data: &Path,
        file: &Path,
        name: &str,
        more: &[&str],
    ) -> Result<(), String> {
        let file = file.to_str().ok_or("a path that is not text")?;
        self.command(program, data, &[&["deploy", file, "--name", name], more].concat()).map(drop)
    }

    /// What the command line prints when it is told to ask this server.
    pub(crate) fn command(&self, program: &Path, data: &Path, args: &[&str]) -> Result<String, String> {
        let token = admin_token(data)?;
        let mut command = without_variables(Command::new(program));
        command.args(args).args(["--url", &self.url, "--token", &token]);
        output_of(command.stdin(Stdio::null()))
    }

    /// kill -9, and until it is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// The time that its threads were on a processor, in milliseconds.
    pub(crate) fn processor_ms(&self) -> Result<f64, String> {
        let stat = self.proc("stat")?;
        // After the name, which may have spaces, come the third field and on.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |index: usize| fields.get(index - 3).and_then(|field| field.parse::<f64>().ok());
        let (user, system) = ticks(14).zip(ticks(15)).ok_or("/proc/PID/stat has no times")?;
        let per_second = output_of(Command::new("getconf").arg("CLK_TCK"))?;
        let per_second: f64 =
            per_second.trim().parse().map_err(|error| format!("getconf CLK_TCK: {error}"))?;
        Ok((user + system) * 1_000.0 / per_second)
    }

    /// Its resident memory now, in MiB; the peak is measured anew from here.
    pub(crate) fn resident_mib(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(&path, "5").map_err(|error| format!("write {path}: {error}"))?;
        self.status_mib("VmRSS:")
    }

    /// The most resident memory since it was last asked for, in MiB.
    pub(crate) fn resident_peak_mib(&self) -> Result<f64, String> {
        self.status_mib("VmHWM:")
    }

    fn status_mib(&self, field: &str) -> Result<f64, String> {
        kib_of(&self.proc("status")?, field)
            .map(|kib| kib / 1_024.0)
            .ok_or_else(|| format!("no {field} in /proc"))
    }

    fn proc(&self, file: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).map_err(|error| format!("read {path}: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The token that may do everything on the server of this data directory.
pub(crate) fn admin_token(data: &Path) -> Result<String, String> {
    let file = data.join("admin.token");
    let token = fs::read_to_string(&file).map_err(|error| format!("read {}: {error}", file.display()))?;
    Ok(token.trim().to_owned())
}

/// A program on the server's core, which ends with us however we end.
///
/// Both wrappers replace themselves, so that the process is the program's own.
pub(super) fn pinned(program: &Path) -> Command {
    on(SERVER_CORE, program)
}

/// A program on all cores of the machine, which ends with us too; what it starts has them as well.
pub(super) fn on_all_cores(program: &Path) -> Result<Command, String> {
    let cores = fs::read_to_string(CORES).map_err(|error| format!("read {CORES}: {error}"))?;
    Ok(on(cores.trim(), program))
}

fn on(cores: &str, program: &Path) -> Command {
    let mut command = without_variables(Command::new("setpriv"));
    command.args(["--pdeathsig", "KILL", "taskset", "-c", cores]).arg(program);
    command
}

fn without_variables(mut command: Command) -> Command {
    for name in VARIABLES {
        command.env_remove(name);
    }
    command
}

/// The URL in a line that is one, or that is part of a JSON object with the key `url`.
fn url_in(line: &str) -> Option<String> {
    let value = match line.split_once("\"url\"") {
        Some((_, rest)) => rest.split('"').nth(1)?,
        None => line.trim(),
    };
    value.starts_with("http://").then(|| value.to_owned())
}

fn kib_of(status: &str, field: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_found_alone_and_in_json() {
        let url = Some("http://127.0.0.1:41234".to_owned());
        assert_eq!(url_in("http://127.0.0.1:41234\n"), url);
        assert_eq!(url_in("{\"pid\":7,\"url\":\"http://127.0.0.1:41234\",\"x\":\"y\"}"), url);
        assert_eq!(url_in("  \"url\": \"http://127.0.0.1:41234\","), url);
        assert_eq!(url_in("listening on http://127.0.0.1:41234"), None);
    }

    #[test]
    fn memory_is_read_as_proc_says_it() {
        let status = "VmPeak:\t  9000 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(kib_of(status, "VmRSS:"), Some(1_024.0));
        assert_eq!(kib_of(status, "VmSwap:"), None);
    }

    #[test]
    fn a_program_that_never_says_a_url_is_killed_and_named() {
        let started = Server::start("sh", Command::new("sh").args(["-c", "echo nothing of use"]));
        assert!(started.is_err_and(|error| error.contains("does not say where it listens")));
    }
}
