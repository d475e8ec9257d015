//! The parts of `cargo xtask bench wasm`: each starts what it needs, measures, and returns its figures.
//! What they must be and aim at is the table of the issue that built the call path.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::client::Connection;
use super::figure::{Bound, Figure, Unit, median};
use super::load::{self, Load};
use super::server::Server;
use super::wasm::Plan;
use crate::surroundings::{now, root, say};

/// The guest that does as little as a guest can.
const TINY: &str = "guests/built/tiny.wasm";

/// The guest that is called for the first time: an ordinary one, in Rust with its standard library, of 60 KB.
const ORDINARY: &str = "guests/built/upper.core.wasm";

/// The guest that reads and writes whatever it is told to.
const STREAMING: &str = "guests/built/acid.wasm";

/// How long a round of load takes.
const ROUND_SECONDS: u32 = 3;

/// Connections that leave no core idle.
const CONNECTIONS: u32 = 16;

/// Mapped code for the calls after eviction: room for a few of the functions.
const CODE_CACHE_SMALL: &str = "8MiB";

/// Functions that are deployed when the start is measured.
const START_FUNCTIONS: usize = 100;

/// How long an idle server is watched, and how long it may take to settle before.
const IDLE: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(5);

/// What is streamed up, and down.
const STREAM_BYTES: u64 = 1 << 30;

/// One call at a time and many, beside the floor: a fresh instance for each, and instances that are used again.
pub(crate) fn calls(plan: &Plan) -> Result<Vec<Figure>, String> {
    let data = plan.dir.join("data");
    let coracle = Server::coracle(&plan.coracle, &data, &[])?;
    let tiny = root().join(TINY);
    coracle.deploy(&plan.coracle, &data, &tiny, "tiny", &[])?;
    coracle.deploy(&plan.coracle, &data, &tiny, "tiny-reuse", &["--reuse", "1000"])?;
    let floor = Server::floor(&plan.floor, &headers_of(coracle.url(), "/function/tiny")?)?;
    let bare = Server::bare(&plan.bare, &tiny)?;

    let targets = [
        format!("{}/", floor.url()),
        format!("{}/", bare.url()),
        format!("{}/function/tiny", coracle.url()),
        format!("{}/function/tiny-reuse", coracle.url()),
    ];
    for url in &targets {
        load::run(url, CONNECTIONS, 1)?;
    }
    // One after the other in each round, so that a machine that slows down slows all of them.
    let mut rounds: [[Vec<Load>; 2]; 4] = Default::default();
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        for (slot, connections) in [1, CONNECTIONS].into_iter().enumerate() {
            for (url, loads) in targets.iter().zip(&mut rounds) {
                loads[slot].push(load::run(url, connections, ROUND_SECONDS)?);
            }
        }
    }

    let p50 = |loads: &[Vec<Load>; 2]| median(&loads[0].iter().map(|load| load.p50_us).collect::<Vec<_>>());
    let many = |loads: &[Vec<Load>; 2]| {
        median(&loads[1].iter().map(|load| load.calls_per_second).collect::<Vec<_>>())
    };
    let [floor, bare, fresh, reuse] = &rounds;
    Ok(vec![
        Figure::beside(
            "tiny guest, fresh instance per call, 1 connection, p50",
            Unit::Microseconds,
            p50(fresh),
            p50(floor),
            Bound::AtMost { must: 2.2, aim: 1.5 },
        ),
        Figure::beside(
            format!("the same, {CONNECTIONS} connections, throughput"),
            Unit::PerSecond,
            many(fresh),
            many(floor),
            Bound::AtLeast { must: 0.25, aim: 0.45 },
        ),
        Figure::beside(
            format!("`reuse = 1000`, {CONNECTIONS} connections, throughput"),
            Unit::PerSecond,
            many(reuse),
            many(floor),
            Bound::AtLeast { must: 0.4, aim: 0.7 },
        ),
        Figure::beside(
            "for orientation: a bare embedding, 1 connection, p50",
            Unit::Microseconds,
            p50(bare),
            p50(floor),
            Bound::None,
        ),
        Figure::beside(
            format!("the same, {CONNECTIONS} connections, throughput"),
            Unit::PerSecond,
            many(bare),
            many(floor),
            Bound::None,
        ),
    ])
}

/// The first call of each of many functions: after its deploy, after a restart, after its code was let go.
pub(crate) fn first_calls(plan: &Plan) -> Result<Vec<Figure>, String> {
    let data = plan.dir.join("data");
    let ordinary = read(&root().join(ORDINARY))?;
    let (count, kib) = (plan.functions, ordinary.len() / 1_024);

    let coracle = Server::coracle(&plan.coracle, &data, &[])?;
    let mut after_deploy = Vec::new();
    for number in 0..count {
        deploy_distinct(plan, &coracle, &data, &ordinary, number)?;
        after_deploy.push(call_us(coracle.url(), number)?);
        if (number + 1) % 100 == 0 {
            say(&format!("{} of {count} deployed", number + 1));
        }
    }
    coracle.kill();

    let all = |url: &str| (0..count).map(|number| call_us(url, number)).collect::<Result<Vec<f64>, String>>();
    let coracle = Server::coracle(&plan.coracle, &data, &[])?;
    let after_restart = all(coracle.url())?;
    coracle.kill();

    let coracle = Server::coracle(&plan.coracle, &data, &["--code-cache", CODE_CACHE_SMALL])?;
    all(coracle.url())?;
    // Each was let go long before its turn comes again.
    let after_eviction = all(coracle.url())?;

    let figure = |when: &str, times: &[f64]| {
        let what = format!("first call after {when} ({kib} KiB guest), p50 over {count} functions");
        Figure::alone(what, Unit::Microseconds, median(times), Bound::AtMost { must: 2_000.0, aim: 400.0 })
    };
    Ok(vec![
        figure("deploy", &after_deploy),
        figure("eviction", &after_eviction),
        figure("restart", &after_restart),
    ])
}

/// From exec to the first answered call, on what a kill -9 left behind.
pub(crate) fn start(plan: &Plan) -> Result<Vec<Figure>, String> {
    let data = plan.dir.join("data");
    let ordinary = read(&root().join(ORDINARY))?;
    let mut coracle = Server::coracle(&plan.coracle, &data, &[])?;
    for number in 0..START_FUNCTIONS {
        deploy_distinct(plan, &coracle, &data, &ordinary, number)?;
    }
    let mut times = Vec::new();
    for round in 0..plan.rounds {
        coracle.kill();
        let start = now();
        coracle = Server::coracle(&plan.coracle, &data, &[])?;
        let mut connection = Connection::open(coracle.url())?;
        // Another one each round: what the kernel holds of its file is as it happens to be.
        expect_200(&mut connection, &path_of(round % START_FUNCTIONS))?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let what =
        format!("from exec to the first answered call, {START_FUNCTIONS} functions deployed, after kill -9");
    let bound = Bound::AtMost { must: 500.0, aim: 100.0 };
    Ok(vec![Figure::alone(what, Unit::Milliseconds, median(&times), bound)])
}

/// What a server costs that has served, and now has nothing to do.
pub(crate) fn idle(plan: &Plan) -> Result<Vec<Figure>, String> {
    let data = plan.dir.join("data");
    let coracle = Server::coracle(&plan.coracle, &data, &[])?;
    coracle.deploy(&plan.coracle, &data, &root().join(TINY), "tiny", &[])?;
    expect_200(&mut Connection::open(coracle.url())?, "/function/tiny")?;
    Ok(vec![at_rest(&coracle, "idle server")?])
}

/// The processor time of a server that nobody asks anything.
pub(super) fn at_rest(server: &Server, what: &str) -> Result<Figure, String> {
    thread::sleep(SETTLE);
    let before = server.processor_ms()?;
    thread::sleep(IDLE);
    let used = server.processor_ms()? - before;
    let what = format!("{what}, processor time over {} s", IDLE.as_secs());
    // The kernel counts in ticks of 10 ms: one is as good as none.
    Ok(Figure::alone(what, Unit::Milliseconds, used, Bound::AtMost { must: 10.0, aim: 0.0 }))
}

/// How much memory a body takes that is far larger than it.
pub(crate) fn stream(plan: &Plan) -> Result<Vec<Figure>, String> {
    let data = plan.dir.join("data");
    let coracle = Server::coracle(&plan.coracle, &data, &[])?;
    let limits = ["--timeout", "5m", "--request-body", "2GiB", "--response-body", "2GiB"];
    coracle.deploy(&plan.coracle, &data, &root().join(STREAMING), "acid", &limits)?;
    let mut connection = Connection::open(coracle.url())?;
    // Once in small, so that what is mapped and pooled is not counted as growth.
    expect_200(&mut connection, "/function/acid/source?bytes=1000000")?;

    let bound = Bound::AtMost { must: 16.0, aim: 16.0 };
    let before = coracle.resident_mib()?;
    let answer = connection.post("/function/acid/sink", STREAM_BYTES)?;
    let up = coracle.resident_peak_mib()? - before;
    if answer.status != 200 {
        return Err(format!("a body of 1 GiB was answered with {}", answer.status));
    }

    let before = coracle.resident_mib()?;
    let answer = connection.get(&format!("/function/acid/source?bytes={STREAM_BYTES}"))?;
    let down = coracle.resident_peak_mib()? - before;
    if answer.body_bytes != STREAM_BYTES {
        return Err(format!("of 1 GiB came {} bytes, with status {}", answer.body_bytes, answer.status));
    }
    Ok(vec![
        Figure::alone("1 GiB streamed up, growth of resident memory", Unit::MiB, up, bound),
        Figure::alone("1 GiB streamed down, growth of resident memory", Unit::MiB, down, bound),
    ])
}

/// The header lines of an answer that the floor cannot add by itself.
fn headers_of(url: &str, path: &str) -> Result<Vec<String>, String> {
    let mut headers = expect_200(&mut Connection::open(url)?, path)?;
    let adds = ["date", "content-length", "transfer-encoding", "connection"];
    headers
        .retain(|line| !adds.iter().any(|name| line.to_ascii_lowercase().starts_with(&format!("{name}:"))));
    Ok(headers)
}

fn expect_200(connection: &mut Connection, path: &str) -> Result<Vec<String>, String> {
    let answer = connection.get(path)?;
    if answer.status == 200 { Ok(answer.headers) } else { Err(format!("{path} answered {}", answer.status)) }
}

/// How long a call takes on a connection that is there already.
fn call_us(url: &str, number: usize) -> Result<f64, String> {
    let mut connection = Connection::open(url)?;
    expect_200(&mut connection, "/healthz")?;
    let path = path_of(number);
    let start = now();
    expect_200(&mut connection, &path)?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}

fn path_of(number: usize) -> String {
    format!("/function/f{number}")
}

/// Deploys a function whose bytes, and so whose compiled code, are its own.
fn deploy_distinct(plan: &Plan, to: &Server, data: &Path, wasm: &[u8], number: usize) -> Result<(), String> {
    let file: PathBuf = plan.dir.join("distinct.wasm");
    fs::write(&file, distinct(wasm, number)).map_err(|error| format!("write {}: {error}", file.display()))?;
    to.deploy(&plan.coracle, data, &file, &format!("f{number}"), &[])
}

/// The same component with a number in a custom section at its end, which changes nothing but its digest.
fn distinct(wasm: &[u8], number: usize) -> Vec<u8> {
    const NAME: &[u8] = b"bench";
    let number = number.to_le_bytes();
    // Both lengths are below 128, so that each is one byte of LEB128.
    let length = 1 + NAME.len() + number.len();
    let section = [&[0, length as u8, NAME.len() as u8][..], NAME, &number].concat();
    [wasm, &section].concat()
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("read {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_components_differ_in_a_section_that_is_well_formed() {
        let (one, two) = (distinct(b"\0asm", 1), distinct(b"\0asm", 2));
        assert_ne!(one, two);
        assert_eq!(&one[..4], b"\0asm");
        // Its id, the length of the rest, the length of the name, the name.
        assert_eq!((one[4], usize::from(one[5]), one[6]), (0, one.len() - 6, 5));
        assert_eq!(&one[7..12], b"bench");
    }
}
