//! Loads on programs that run already: a web server beside a bare proxy, and a program for each call beside bare spawning.
//! Servers and programs share one core; wrk has the other.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use super::Plan;
use super::image::TAG;
use super::stage::{Cores, Stage, answered, free_address};
use crate::bench::figure::{Bound, Figure, Unit, median};
use crate::bench::load::{self, Load};
use crate::bench::server::{Server, pinned};
use crate::surroundings::{now, say};

/// Connections that leave no core idle.
pub(super) const CONNECTIONS: u32 = 16;

/// How long a round of load takes.
const ROUND_SECONDS: u32 = 3;

/// One instance, which takes all of the load: beside one web server, and beside one server that spawns.
pub(super) const SCALE: &str = "scale = { min = 1, max = 1, target = 16 }\n";

/// What is run for each call, inside as outside.
const PROGRAM: &str = "/bin/cat";

/// What wrk is told to send.
pub(super) const SCRIPT: &str = include_str!("../post.lua");

/// How long a web server may take until it answers, and between two looks.
const START_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// A web server behind Coracle, beside the same behind a bare proxy.
pub(super) fn http(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, Cores::One)?;
    stage.deploy(&format!("[function.serve]\nimage = \"{TAG}\"\n{SCALE}"))?;
    let web = Web::start(&plan.image.program)?;
    let proxy = Server::proxy(&plan.proxy, web.address)?;
    let urls = [stage.url("/function/serve/"), format!("{}/", proxy.url())];
    let [ours, bare] = in_turns(plan, &urls, |url, seconds| load::run(url, CONNECTIONS, seconds))?;
    stage.clear()?;
    let what = format!("warm web server, {CONNECTIONS} connections, throughput beside a bare proxy");
    let bound = Bound::AtLeast { must: 0.8, aim: 1.2 };
    Ok(vec![Figure::beside(what, Unit::PerSecond, ours, bare, bound)])
}

/// A program for each call in a sandbox that is there, beside the same without one.
pub(super) fn stdio(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, Cores::One)?;
    let script = plan.dir.join("post.lua");
    write(&script, SCRIPT)?;
    let bundle = plan.dir.join("app/bundle");
    fs::create_dir_all(&bundle).map_err(|error| format!("create {}: {error}", bundle.display()))?;
    write(&bundle.join("README"), "The program is the machine's.\n")?;
    stage.deploy(&format!(
        "[function.cat]\ncode = \"bundle\"\ncommand = [\"{PROGRAM}\"]\ncontract = \"stdio\"\n{SCALE}"
    ))?;
    let floor = Server::spawning_floor(&plan.floor, PROGRAM)?;
    let urls = [stage.url("/function/cat"), format!("{}/", floor.url())];
    let post = |url: &str, seconds| load::run_script(url, &script, CONNECTIONS, seconds);
    let [ours, bare] = in_turns(plan, &urls, post)?;
    stage.clear()?;
    let what =
        format!("`{PROGRAM}` for each call, {CONNECTIONS} connections, throughput beside bare spawning");
    let bound = Bound::AtLeast { must: 0.6, aim: 0.95 };
    Ok(vec![Figure::beside(what, Unit::PerSecond, ours, bare, bound)])
}

/// Calls a second of each, one after the other in each round, so that a machine that slows down slows both.
pub(super) fn in_turns(
    plan: &Plan,
    urls: &[String; 2],
    run: impl Fn(&str, u32) -> Result<Load, String>,
) -> Result<[f64; 2], String> {
    for url in urls {
        run(url, 1)?;
    }
    let mut rounds: [Vec<f64>; 2] = Default::default();
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        for (url, round) in urls.iter().zip(&mut rounds) {
            round.push(run(url, ROUND_SECONDS)?.calls_per_second);
        }
    }
    Ok(rounds.map(|round| median(&round)))
}

/// The web server of the image without a sandbox, killed when it is dropped.
struct Web {
    child: Child,
    address: SocketAddr,
}

impl Web {
    fn start(program: &Path) -> Result<Self, String> {
        let address = free_address()?;
        let mut command = pinned(program);
        command.env("PORT", address.port().to_string()).stdin(Stdio::null());
        let child = command.spawn().map_err(|error| format!("start the web server: {error}"))?;
        // From here on, dropping kills it.
        let web = Self { child, address };
        let begun = now();
        while !answered(address) {
            if begun.elapsed() > START_MAX {
                return Err("the web server does not answer".to_owned());
            }
            thread::sleep(LOOK);
        }
        Ok(web)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("write {}: {error}", file.display()))
}
