//! The steps of `cargo xtask bench density`, in their order: each leaves the server as the next one wants it.
//! What they must be and aim at is the table of the issue that asked for ten thousand functions.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::bulk::{Bulk, name_of};
use super::chance::{Chance, Zipf};
use super::numbered::{Tiny, answer_of};
use super::{Language, Plan, TINY};
use crate::bench::client::Connection;
use crate::bench::figure::{Bound, Figure, Unit, median, percentile};
use crate::bench::load;
use crate::bench::parts::at_rest;
use crate::bench::server::{Server, admin_token};
use crate::surroundings::{now, root, say};

/// Where chance begins.
const SEED: u64 = 10_000;

/// Calls that may fail before the rest of them would tell nothing new.
const FAILURES_MAX: usize = 100;

/// The load: its connections, how long a round takes, and how many calls are drawn for one.
const CONNECTIONS: u32 = 16;
const ROUND_SECONDS: u32 = 3;
const DRAWN: usize = 200_000;

/// What wrk is told to call.
const SCRIPT: &str = include_str!("../paths.lua");

/// A page of the list, and the namespace that has no more than one.
const PAGE: usize = 100;
const NAMESPACE: &str = "page";

/// How the Python guest is called: so many a second, for so long.
const PACED_PER_SECOND: u32 = 100;
const PACED: Duration = Duration::from_secs(15);

pub(super) fn all(plan: &Plan) -> Result<Vec<Figure>, String> {
    let data = plan.dir.join("data");
    let tiny = Tiny::read(&root().join(TINY))?;
    let order = Chance::new(SEED).order(plan.functions);
    let server = Server::coracle(&plan.coracle, &data, &[])?;
    let token = admin_token(&data)?;
    let count = plan.functions;

    say(&format!("── deploy {count} functions"));
    let took = Bulk { url: server.url(), token: &token, tiny: &tiny }.deploy(count)?;
    let mut figures = vec![Figure::alone(
        format!("bulk deploy of {count} functions"),
        Unit::PerSecond,
        count as f64 / took.as_secs_f64(),
        Bound::AtLeast { must: 50.0, aim: 300.0 },
    )];

    say("── call each once");
    figures.extend(each_once(&server, &order)?);
    figures.push(Figure::alone(
        "resident memory after that",
        Unit::MiB,
        server.resident_mib()?,
        Bound::AtMost { must: mib(600e6), aim: mib(300e6) },
    ));

    say("── a load by Zipf's law, and on one function");
    figures.push(zipf(plan, &server, &order)?);
    figures.push(Figure::alone(
        "for orientation: resident memory after the load",
        Unit::MiB,
        server.resident_mib()?,
        Bound::None,
    ));

    say("── list");
    figures.extend(lists(plan, &server, &data, &token, &tiny)?);

    say("── idle");
    figures.push(at_rest(&server, &format!("idle server with {count} functions"))?);

    say("── kill -9, and start");
    let (server, figure) = restart(plan, server, &data, &order)?;
    figures.push(figure);

    for guest in &plan.guests {
        match &guest.file {
            None => say(&format!("── {}: not built", guest.language.name())),
            Some(file) => {
                say(&format!("── {}", guest.language.name()));
                figures.push(other_guest(plan, &server, &data, guest.language, file)?);
            }
        }
    }
    Ok(figures)
}

/// The first call of each function since its deploy, one after the other.
fn each_once(server: &Server, order: &[usize]) -> Result<Vec<Figure>, String> {
    let mut connection = Connection::open(server.url())?;
    let (mut times, mut failures) = (Vec::with_capacity(order.len()), Vec::new());
    for &number in order {
        match call_us(&mut connection, number) {
            Ok(us) => times.push(us),
            Err(error) => {
                say(&error);
                failures.push(error);
                if failures.len() > FAILURES_MAX {
                    return Err(format!(
                        "more than {FAILURES_MAX} calls failed, the last one: {}",
                        failures[FAILURES_MAX]
                    ));
                }
                // The old one may be in the middle of an answer.
                connection = Connection::open(server.url())?;
            }
        }
    }
    let alone =
        |what: &str, unit, ours, must, aim| Figure::alone(what, unit, ours, Bound::AtMost { must, aim });
    let what = "each called once in random order";
    Ok(vec![
        alone(&format!("{what}, calls that failed"), Unit::Count, failures.len() as f64, 0.0, 0.0),
        alone(&format!("{what}, p50"), Unit::Microseconds, percentile(&times, 50), 2_000.0, 400.0),
        Figure::alone(
            format!("{what}, p99"),
            Unit::Microseconds,
            percentile(&times, 99),
            Bound::AimAtMost(3_000.0),
        ),
    ])
}

/// A load over all functions beside the same load on one.
fn zipf(plan: &Plan, server: &Server, order: &[usize]) -> Result<Figure, String> {
    let (script, paths) = (plan.dir.join("paths.lua"), plan.dir.join("paths.txt"));
    write(&script, SCRIPT)?;
    let law = Zipf::over(order.len());
    let run = |numbers: &mut dyn Iterator<Item = usize>, seconds| {
        let lines: String = numbers.take(DRAWN).map(|number| path_of(number) + "\n").collect();
        write(&paths, &lines)?;
        load::run_paths(server.url(), &script, &paths, CONNECTIONS, seconds)
    };
    // The one that the load over all calls most often.
    let first = order.first().copied().unwrap_or_default();
    let (mut many, mut one) = (Vec::new(), Vec::new());
    // The round 0 is for the server to get warm.
    for round in 0..=plan.rounds {
        let mut chance = Chance::new(SEED + round as u64);
        let seconds = if round == 0 { 1 } else { ROUND_SECONDS };
        let drawn = run(&mut std::iter::repeat_with(|| order[law.draw(&mut chance)]), seconds)?;
        let alone = run(&mut std::iter::repeat(first), seconds)?;
        if round > 0 {
            say(&format!("round {round} of {}", plan.rounds));
            many.push(drawn.calls_per_second);
            one.push(alone.calls_per_second);
        }
    }
    Ok(Figure::beside(
        format!("load by Zipf's law, {CONNECTIONS} connections, beside the same load on one function"),
        Unit::PerSecond,
        median(&many),
        median(&one),
        Bound::AtLeast { must: 0.5, aim: 0.8 },
    ))
}

/// Pages of the list by the API, and a page of it by the command line.
fn lists(plan: &Plan, server: &Server, data: &Path, token: &str, tiny: &Tiny) -> Result<Vec<Figure>, String> {
    let mut connection = Connection::open(server.url())?.with_token(token);
    let mut pages = Vec::new();
    for _ in 0..plan.rounds {
        let mut after = None;
        loop {
            let path = match &after {
                None => format!("/v1/functions?limit={PAGE}"),
                Some(after) => format!("/v1/functions?limit={PAGE}&after={after}"),
            };
            let start = now();
            let (answer, body) = connection.ask("GET", &path, b"")?;
            pages.push(us(start));
            if answer.status != 200 {
                return Err(format!("{path} was answered with {}", answer.status));
            }
            after = next_of(&String::from_utf8_lossy(&body));
            if after.is_none() {
                break;
            }
        }
    }
    let expected = plan.rounds * plan.functions.div_ceil(PAGE);
    if pages.len() != expected {
        return Err(format!("the list had {} pages, and not {expected}", pages.len()));
    }

    Bulk { url: server.url(), token, tiny }.deploy_again(NAMESPACE, PAGE)?;
    let by_command = |args: &[&str], lines: usize| {
        let start = now();
        let printed = server.command(&plan.coracle, data, args)?;
        let took = us(start);
        // The first line is the head of the table.
        match printed.lines().count() {
            found if found == lines + 1 => Ok(took),
            found => Err(format!("`coracle list` printed {found} lines")),
        }
    };
    let times = |args: &[&str], lines, count| {
        (0..count).map(|_| by_command(args, lines)).collect::<Result<Vec<f64>, String>>()
    };
    let page = times(&["list", "--namespace", NAMESPACE], PAGE, plan.rounds * 10)?;
    let whole = times(&["list"], plan.functions + PAGE, plan.rounds)?;

    let among = format!("{PAGE} among {}", plan.functions);
    let bound = Bound::AtMost { must: 20_000.0, aim: 5_000.0 };
    Ok(vec![
        Figure::alone(
            format!("`/v1/functions`, page of {among}, p50"),
            Unit::Microseconds,
            median(&pages),
            bound,
        ),
        Figure::alone(
            format!("`coracle list` of a namespace of {among}, exec to exit, p50"),
            Unit::Microseconds,
            median(&page),
            bound,
        ),
        Figure::alone(
            "for orientation: `coracle list` of all, p50",
            Unit::Microseconds,
            median(&whole),
            Bound::None,
        ),
    ])
}

/// From exec to the first answered call, on what a kill -9 left behind.
fn restart(
    plan: &Plan,
    mut server: Server,
    data: &Path,
    order: &[usize],
) -> Result<(Server, Figure), String> {
    let mut times = Vec::new();
    for round in 0..plan.rounds {
        server.kill();
        let start = now();
        server = Server::coracle(&plan.coracle, data, &[])?;
        // Another one each round: what the kernel holds of its file is as it happens to be.
        call_us(&mut Connection::open(server.url())?, order[round % order.len()])?;
        times.push(us(start) / 1e3);
    }
    let what = format!("from exec to the first answered call, {} functions, after kill -9", plan.functions);
    let bound = Bound::AtMost { must: 1_000.0, aim: 250.0 };
    Ok((server, Figure::alone(what, Unit::Milliseconds, median(&times), bound)))
}

/// A fresh instance for each call, of a guest that brings a runtime of its own.
fn other_guest(
    plan: &Plan,
    server: &Server,
    data: &Path,
    language: Language,
    file: &Path,
) -> Result<Figure, String> {
    let name = language.name().to_lowercase();
    server.deploy(&plan.coracle, data, file, &name, &[])?;
    let path = format!("/function/{name}");
    let what = format!("{} guest, fresh instance per call, 1 connection", language.name());
    match language {
        Language::JavaScript => {
            let url = format!("{}{path}", server.url());
            load::run(&url, 1, 1)?;
            let round = |_| load::run(&url, 1, ROUND_SECONDS).map(|load| load.p50_us);
            let times = (0..plan.rounds).map(round).collect::<Result<Vec<f64>, String>>()?;
            let bound = Bound::AtMost { must: 400.0, aim: 150.0 };
            Ok(Figure::alone(format!("{what}, p50"), Unit::Microseconds, median(&times), bound))
        }
        Language::Python => {
            let times = paced(server, &path)?;
            let bound = Bound::AtMost { must: 2_000.0, aim: 300.0 };
            let what = format!("{what}, {PACED_PER_SECOND} calls a second, p50");
            Ok(Figure::alone(what, Unit::Microseconds, median(&times), bound))
        }
    }
}

/// How long calls take that come at their times, in microseconds.
fn paced(server: &Server, path: &str) -> Result<Vec<f64>, String> {
    let mut connection = Connection::open(server.url())?;
    let mut times = Vec::new();
    // Not counted: whoever is called for the first time is mapped first.
    connection.get(path)?;
    let begun = now();
    for number in 0.. {
        let due = Duration::from_secs(1) / PACED_PER_SECOND * number;
        if due >= PACED {
            break;
        }
        // A call that took too long delays those behind it: their number says what was asked for, not what came.
        thread::sleep(due.saturating_sub(begun.elapsed()));
        let start = now();
        let answer = connection.get(path)?;
        times.push(us(start));
        if answer.status != 200 {
            return Err(format!("{path} was answered with {}", answer.status));
        }
    }
    Ok(times)
}

/// Calls a function, and sees that it was this one that answered.
fn call_us(connection: &mut Connection, number: usize) -> Result<f64, String> {
    let path = path_of(number);
    let start = now();
    let (answer, body) = connection.ask("GET", &path, b"")?;
    let took = us(start);
    if answer.status == 200 && body == answer_of(number) {
        return Ok(took);
    }
    Err(format!("{path} was answered with {}: {}", answer.status, String::from_utf8_lossy(&body)))
}

fn us(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

fn path_of(number: usize) -> String {
    format!("/function/{}", name_of(number))
}

/// What a page of a list says comes next, if anything does.
fn next_of(page: &str) -> Option<String> {
    // It stands last, behind all items.
    let (_, next) = page.rsplit_once("\"next\":\"")?;
    Some(next.split('"').next()?.to_owned())
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("write {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_read_from_the_end_of_a_page() {
        assert_eq!(next_of(r#"{"items":[{"name":"a"}],"next":"a.default"}"#).as_deref(), Some("a.default"));
        assert_eq!(next_of(r#"{"items":[]}"#), None);
    }
}
