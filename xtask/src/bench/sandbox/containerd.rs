//! containerd with runc, as Debian packs them: what a start from zero stands beside.
//! `starts.rs` starts a daemon of its own, which touches no other on this machine and ends with the measurement.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::image::{Image, TAG};
use super::stage::{answered, free_address};
use crate::bench::server::on_all_cores;
use crate::surroundings::{install_missing, now, output_of, program};

/// How long the daemon may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);

/// How long a container may take until its port answers, and until it is gone.
const RUN_MAX: Duration = Duration::from_secs(20);

/// Between two looks at whether something is there.
const LOOK: Duration = Duration::from_millis(20);

/// Between two attempts to connect: far below what a start takes.
const ATTEMPT: Duration = Duration::from_micros(250);

/// A daemon that runs, with an image.
#[derive(Debug)]
pub(super) struct Containerd {
    daemon: Child,
    dir: PathBuf,
    /// Containers that were run; each is called by its number.
    run: usize,
}

impl Containerd {
    /// Installs what is missing, starts the daemon in a directory, and imports the image.
    pub(super) fn start(dir: &Path, image: &Image) -> Result<Self, String> {
        install_missing(&[("containerd", "containerd"), ("runc", "runc")])?;
        fs::create_dir_all(dir).map_err(|error| format!("create {}: {error}", dir.display()))?;
        let (file, log) = (dir.join("config.toml"), dir.join("log"));
        fs::write(&file, config(dir)).map_err(|error| format!("write {}: {error}", file.display()))?;
        let log = fs::File::create(&log).map_err(|error| format!("create {}: {error}", log.display()))?;
        let daemon = program("containerd").ok_or("containerd is not installed")?;
        let daemon = on_all_cores(&daemon)?
            .arg("--config")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("start containerd: {error}"))?;
        // From here on, dropping ends it.
        let mut started = Self { daemon, dir: dir.to_owned(), run: 0 };
        started.await_answer()?;
        output_of(started.ctr(&["image", "import"])?.arg(&image.archive))?;
        Ok(started)
    }

    /// Runs a container until it answers, and says how long that took in microseconds.
    pub(super) fn start_us(&mut self) -> Result<f64, String> {
        self.run += 1;
        let name = format!("bench{}", self.run);
        let address = free_address()?;
        let port = format!("PORT={}", address.port());
        let mut command = self.ctr(&["run", "--rm", "--net-host", "--env", &port])?;
        command.arg("--fifo-dir").arg(self.dir.join("fifo")).args([TAG, &name]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let begun = now();
        let mut container = command.spawn().map_err(|error| format!("run ctr: {error}"))?;
        let answered = self.first_answer(&mut container, address);
        let took = begun.elapsed().as_secs_f64() * 1e6;
        // By its name, because `ctr` passes signals on only once it comes to that.
        let killed = self
            .ctr(&["task", "kill", "--signal", "SIGKILL", &name])
            .and_then(|mut kill| output_of(&mut kill));
        let gone = ends_within(&mut container, RUN_MAX);
        answered?;
        killed?;
        gone.then_some(took).ok_or_else(|| format!("the container `{name}` does not end"))
    }

    fn first_answer(&self, container: &mut Child, address: SocketAddr) -> Result<(), String> {
        let begun = now();
        while !answered(address) {
            if let Ok(Some(status)) = container.try_wait() {
                return Err(format!("`ctr run` ended with {status}{}", self.last_words()));
            }
            if begun.elapsed() > RUN_MAX {
                return Err(format!("a container did not answer in {} s", RUN_MAX.as_secs()));
            }
            thread::sleep(ATTEMPT);
        }
        Ok(())
    }

    fn await_answer(&mut self) -> Result<(), String> {
        let begun = now();
        loop {
            let Err(error) = output_of(&mut self.ctr(&["version"])?) else { return Ok(()) };
            if let Ok(Some(status)) = self.daemon.try_wait() {
                return Err(format!("containerd ended with {status}{}", self.last_words()));
            }
            if begun.elapsed() > START_MAX {
                return Err(format!("containerd does not answer: {error}"));
            }
            thread::sleep(LOOK);
        }
    }

    fn ctr(&self, args: &[&str]) -> Result<Command, String> {
        let ctr = program("ctr").ok_or("ctr is not installed")?;
        let mut command = on_all_cores(&ctr)?;
        command.arg("--address").arg(socket(&self.dir)).args(args);
        Ok(command)
    }

    /// What the daemon said last, to be put after an error.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().last().map_or_else(String::new, |line| format!(": {line}"))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Containers that an error left behind: they are no children of the daemon, and would outlive it.
        let left = self.ctr(&["task", "list", "--quiet"]).and_then(|mut list| output_of(&mut list));
        for name in left.unwrap_or_default().lines() {
            if let Ok(mut remove) = self.ctr(&["task", "remove", "--force", name]) {
                let _ = output_of(&mut remove); // It may have ended by itself.
            }
        }
        // Asked first, so that it unmounts what it mounted.
        let _ = output_of(Command::new("kill").arg(self.daemon.id().to_string()));
        if !ends_within(&mut self.daemon, RUN_MAX) {
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
    }
}

/// Everything in one directory, and nothing that is for Kubernetes.
fn config(dir: &Path) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    format!(
        "version = 2\nroot = '{}'\nstate = '{}'\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n\
         [grpc]\naddress = '{}'\n\
         [plugins.'io.containerd.internal.v1.opt']\npath = '{}'\n",
        path("root"),
        path("state"),
        socket(dir).display(),
        path("opt"),
    )
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("socket")
}

fn ends_within(child: &mut Child, longest: Duration) -> bool {
    let begun = now();
    while begun.elapsed() < longest {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        thread::sleep(LOOK);
    }
    // Ours, and nobody else's: it is not left behind.
    let _ = child.kill();
    let _ = child.wait();
    false
}
