//! How long it takes from a call to the start of its function, through the queue and without it.
//! A part of `cargo xtask bench queue`, and what `backlog.rs` times beside a backlog.

use super::Plan;
use super::ear::Ear;
use super::stage::{BODY_BYTES, Cores, IN_A_DAY, Stage};
use crate::bench::client::Connection;
use crate::bench::figure::{Bound, Figure, Unit, percentile};
use crate::surroundings::{now, say};

/// Calls of a round, one after the other.
const CALLS: usize = 300;

/// The function that is called when nobody else is.
pub(super) const QUIET: &str = "quiet";

/// An idle queue.
pub(super) fn start(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, "start", Cores::All, &[])?;
    let ear = Ear::answering()?;
    stage.deploy_asking(QUIET, ear.origin(), &[])?;
    let [mut queued, mut direct, mut kept, mut nothing] = [const { Vec::new() }; 4];
    let mut connection = stage.connect()?;
    let mut putting_off = stage.connect()?.with_header("x-coracle-delay", IN_A_DAY);
    // Once each, so that nothing is the first of its kind.
    queued_us(&mut connection, &ear)?;
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        for _ in 0..CALLS {
            queued.push(queued_us(&mut connection, &ear)?);
            direct.push(start_us(&mut connection, &ear, "function", 200)?);
            kept.push(answer_us(&mut putting_off, &format!("/async-function/{}", ear.path(QUIET)), 202)?);
            nothing.push(answer_us(&mut connection, "/healthz", 200)?);
        }
    }
    let p50 = |times: &[f64]| percentile(times, 50);
    let commit = p50(&kept) - p50(&nothing);
    let what = "accept → start of the function, idle queue, p50, beside a direct call and one commit";
    let bound = Bound::AtMost { must: 2_000.0, aim: 500.0 };
    Ok(vec![
        Figure::above(what, Unit::Microseconds, p50(&queued), p50(&direct) + commit, bound),
        Figure::alone("for orientation: one commit, p50", Unit::Microseconds, commit, Bound::None),
    ])
}

/// Microseconds from a queued call to the start of its function, of so many calls.
pub(super) fn of_quiet(stage: &Stage<'_>, ear: &Ear, calls: usize) -> Result<Vec<f64>, String> {
    let mut connection = stage.connect()?;
    (0..calls).map(|_| queued_us(&mut connection, ear)).collect()
}

fn queued_us(connection: &mut Connection, ear: &Ear) -> Result<f64, String> {
    start_us(connection, ear, "async-function", 202)
}

fn start_us(connection: &mut Connection, ear: &Ear, way: &str, status: u16) -> Result<f64, String> {
    ear.clear();
    let begun = now();
    answer_us(connection, &format!("/{way}/{}", ear.path(QUIET)), status)?;
    Ok(ear.next()?.saturating_duration_since(begun).as_secs_f64() * 1e6)
}

fn answer_us(connection: &mut Connection, path: &str, status: u16) -> Result<f64, String> {
    let (method, body) = if path == "/healthz" { ("GET", 0) } else { ("POST", BODY_BYTES) };
    let begun = now();
    let (answer, _) = connection.ask(method, path, &[b'x'; BODY_BYTES][..body])?;
    if answer.status != status {
        return Err(format!("{path} was answered with {}", answer.status));
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}
