//! A call behind a watchdog: to its process, and back with what a watchdog adds.
//! `Process` sends the calls of such functions here.

use coracle_model::Problem;

use super::fork::{self, Place};
use super::http;
use super::line::Line;
use super::settings::{Mode, Watchdog};
use crate::oci::Ingress;
use crate::wasm::{Answer, Ended, Left, Running, Work};

/// Serves a call, as far as the head of its answer.
///
/// # Errors
/// The call itself, untouched, if the instance has ended: another may serve it.
pub(crate) async fn serve(
    watchdog: &Watchdog,
    place: Place<'_>,
    ingress: Option<&Ingress>,
    mut work: Work,
) -> Result<Answer, Work> {
    if let Some(reply) = watchdog.probed_within(&mut work.request) {
        return Ok(Answer { reply: Ok(reply), running: Running::Over(nothing_used(None)) });
    }
    let line = Line::begin(watchdog, place.output, &work.id, &work.request);
    let answer = match (&watchdog.mode, ingress) {
        (Mode::Http(_), Some(ingress)) => http::serve(watchdog, ingress, work, &line).await?,
        (Mode::Fork(fork), _) => fork::serve(watchdog, fork, place, work, &line).await,
        (Mode::Http(_), None) => return Err(work),
    };
    Ok(line.end(answer))
}

/// How a call ended that no process heard of.
pub(super) fn nothing_used(problem: Option<Box<Problem>>) -> Ended {
    Ended { problem, left: Left::Nothing, memory_bytes: 0, bytes_in: 0, bytes_out: 0 }
}
