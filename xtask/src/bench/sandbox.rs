//! `cargo xtask bench sandbox`: programs and images in sandboxes, from zero, frozen, warm and many, beside their floors.
//! `cargo xtask bench openfaas`: the same image, deployed and called as OpenFaaS' clients do it.
//! The choice of parts stands here; each part starts a server of its own, and leaves nothing behind.

mod containerd;
mod frozen;
mod image;
mod openfaas;
mod stage;
mod starts;
mod warm;

use std::fs;
use std::path::PathBuf;

use self::image::Image;
use super::figure::{self, Figure};
use super::results::{self, Section};
use super::{count, missed, release, server};
use crate::surroundings::{install_missing, report, say};

/// A command of this chore: what it measures, and how that is told.
pub(super) struct Suite {
    name: &'static str,
    title: &'static str,
    parts: &'static [Part],
    how: &'static str,
}

impl Suite {
    /// What may follow `cargo xtask bench`.
    pub(super) fn usage(&self) -> String {
        format!("{} [--program FILE] [--rounds N] [--only PART]…", self.name)
    }
}

pub(super) const SANDBOX: Suite = Suite {
    name: "sandbox",
    title: "Sandboxes",
    parts: &[
        Part { name: "zero", measure: starts::from_zero },
        Part { name: "frozen", measure: frozen::thawed },
        Part { name: "http", measure: warm::http },
        Part { name: "stdio", measure: warm::stdio },
        Part { name: "memory", measure: frozen::memory },
        Part { name: "burst", measure: starts::burst },
    ],
    how: HOW,
};

pub(super) const OPENFAAS: Suite = Suite {
    name: "openfaas",
    title: "OpenFaaS",
    parts: &[
        Part { name: "http", measure: openfaas::http },
        Part { name: "fork", measure: openfaas::fork },
        Part { name: "deploy", measure: openfaas::deploy },
        Part { name: "list", measure: openfaas::list },
    ],
    how: openfaas::HOW,
};

/// Rounds of which the median is taken.
const ROUNDS: usize = 5;

const HOW: &str = "\
The image is `guests/serve/serve.c`, linked statically, and nothing else; a start is timed from the call to the end of its answer of six bytes.
Starts and what sleeps are measured on all cores, ours and containerd's alike; loads as ever: servers and their programs on core 0, wrk on core 1.
containerd is Debian's with runc: a daemon of its own, the same archive imported, `ctr run --rm --net-host`, until the port answers.
The bare proxy is `bench/proxy`: hyper on one thread and connections that stay open, before the same web server without a sandbox.
The spawning floor is `bench/floor --spawn /bin/cat`: hyper, and a process for each request without a sandbox; bodies have 100 bytes.
What is compared takes turns within each round; a figure is the median of its rounds.";

/// How much is measured, and with what.
pub(super) struct Plan {
    rounds: usize,
    /// The program under test.
    coracle: PathBuf,
    /// The programs beside it.
    floor: PathBuf,
    proxy: PathBuf,
    image: Image,
    /// A directory of this part's own; its path is short enough for sockets in it.
    dir: PathBuf,
}

/// A part of the measurement: its name, as `--only` takes it, and what it does.
#[derive(Clone, Copy)]
pub(super) struct Part {
    name: &'static str,
    measure: fn(&Plan) -> Result<Vec<Figure>, String>,
}

/// The directory of a run; with it goes all that was written there.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // What cannot be removed lies where the system clears up.
    }
}

/// Runs `cargo xtask bench` with the name of a suite and the options that follow it.
pub(super) fn run(suite: &Suite, options: &[String]) -> Result<(), String> {
    let (mut rounds, mut program, mut only) = (ROUNDS, None, Vec::new());
    for option in options.chunks(2) {
        match option {
            [flag, value] if flag == "--rounds" => rounds = count(value)?,
            // Now, and not after everything was built.
            [flag, value] if flag == "--program" => {
                program = Some(fs::canonicalize(value).map_err(|error| format!("{value}: {error}"))?);
            }
            [flag, value] if flag == "--only" => only.push(part(suite, value)?),
            _ => return Err(format!("usage: cargo xtask bench {}", suite.usage())),
        }
    }
    let is_whole = only.is_empty() && rounds >= ROUNDS;
    let parts = if only.is_empty() { suite.parts.to_vec() } else { only };

    server::install_tools()?;
    install_missing(&[("cc", "gcc"), ("tar", "tar")])?;
    let [floor, proxy] = release(["floor", "proxy"])?;
    let coracle = match program {
        Some(program) => program,
        None => release(["coracle"]).map(|[coracle]| coracle)?,
    };
    server::pin_to_load_core()?;
    let load = load_average()?;
    let dir = Dir(std::env::temp_dir().join(format!("coracle-bench-{}", std::process::id())));
    fs::create_dir_all(&dir.0).map_err(|error| format!("create {}: {error}", dir.0.display()))?;
    let image = Image::build(&dir.0.join("image"))?;
    let plan = Plan { rounds, coracle, floor, proxy, image, dir: dir.0.join("part") };
    let mut figures = Vec::new();
    for part in parts {
        say(&format!("── {}", part.name));
        // Each part begins without leftovers of the one before.
        let _ = fs::remove_dir_all(&plan.dir);
        fs::create_dir_all(&plan.dir).map_err(|error| format!("create {}: {error}", plan.dir.display()))?;
        figures.extend((part.measure)(&plan).map_err(|error| format!("{}: {error}", part.name))?);
    }

    let table = figure::table(&figures);
    report(&table);
    if is_whole {
        let command = [&[suite.name.to_owned()], options].concat().join(" ");
        let how = suite.how;
        let how = format!("{how}\nThe load average of the machine was {load} when it began.");
        results::record(&Section { title: suite.title, command: &command, how: &how, table: &table })?;
    } else {
        say("not written down: that takes all parts, and no fewer rounds");
    }
    drop(dir);
    missed(&figures)
}

/// What others ask of the machine, over the last minute.
fn load_average() -> Result<String, String> {
    let text = fs::read_to_string("/proc/loadavg").map_err(|error| format!("read /proc/loadavg: {error}"))?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

fn part(suite: &Suite, name: &str) -> Result<Part, String> {
    suite.parts.iter().find(|part| part.name == name).copied().ok_or_else(|| {
        let names: Vec<&str> = suite.parts.iter().map(|part| part.name).collect();
        format!("there is no such part: `{name}`\nhint: the parts are {}", names.join(", "))
    })
}
