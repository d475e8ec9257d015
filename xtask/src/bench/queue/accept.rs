//! How many calls a second are accepted, and what it costs that they are kept.
//! Two parts of `cargo xtask bench queue`.

use super::Plan;
use super::stage::{BODY_BYTES, CONNECTIONS, Cores, IN_A_DAY, Stage};
use crate::bench::figure::{Bound, Figure, Unit, median};
use crate::surroundings::say;

/// How long a round of load takes.
const ROUND_SECONDS: u32 = 3;

/// Every commit takes 4 ms longer than it does.
pub(super) fn on_a_slow_disk(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, "slow", Cores::One, &["--commit-delay", "4ms"])?;
    stage.deploy_tiny()?;
    let [kept, run] = rounds(plan, [(&stage, Some(IN_A_DAY)), (&stage, None)])?;
    let what = format!("accept, {CONNECTIONS} clients, {BODY_BYTES}-byte bodies, SQLite, 4 ms");
    Ok(vec![
        Figure::alone(what, Unit::PerSecond, kept, Bound::AtLeast { must: 5_000.0, aim: 12_000.0 }),
        Figure::alone("the same while they run on the same core", Unit::PerSecond, run, Bound::None),
    ])
}

/// As the disk is, beside the same gateway that keeps nothing.
pub(super) fn beside_forgetting(plan: &Plan) -> Result<Vec<Figure>, String> {
    let keeps = Stage::set(plan, "keeps", Cores::One, &[])?;
    keeps.deploy_tiny()?;
    let forgets = Stage::set(plan, "forgets", Cores::One, &["--queue-forgets"])?;
    forgets.deploy_tiny()?;
    let [kept, forgotten, run] =
        rounds(plan, [(&keeps, Some(IN_A_DAY)), (&forgets, Some(IN_A_DAY)), (&keeps, None)])?;
    let what = "accept as the disk is, beside the same gateway answering 202 without storing";
    let bound = Bound::AtLeast { must: 0.12, aim: 0.35 };
    Ok(vec![
        Figure::beside(what, Unit::PerSecond, kept, forgotten, bound),
        Figure::alone("the same while they run on the same core", Unit::PerSecond, run, Bound::None),
    ])
}

/// Calls a second of each, one after the other in each round, so that a machine that slows down slows all.
fn rounds<const N: usize>(plan: &Plan, of: [(&Stage<'_>, Option<&str>); N]) -> Result<[f64; N], String> {
    let mut rounds = [const { Vec::new() }; N];
    for (stage, due) in of {
        stage.put("tiny", due, 1)?;
    }
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        for ((stage, due), round) in of.iter().zip(&mut rounds) {
            let before = stage.calls()?;
            round.push(stage.put("tiny", *due, ROUND_SECONDS)?.calls_per_second);
            if due.is_none() {
                // What is left over would run beside the next one; what wrk gave up on may have been put later.
                let at_most = before.waiting + CONNECTIONS as usize;
                stage.until("the end of what ran", |now| now.waiting <= at_most && now.running == 0)?;
            }
        }
    }
    Ok(rounds.map(|round| median(&round)))
}
