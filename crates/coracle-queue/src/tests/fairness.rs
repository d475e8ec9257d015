//! A function with a large backlog beside one that is called now and then: who waits for whom, counted in starts.

use futures_util::future::join_all;

use super::rig::{Act, Rig};
use crate::Options;
use crate::fair::QUANTUM;

/// What waits of the noisy function.
const BACKLOG: usize = 20_000;
/// Calls that run at once.
const PLACES: usize = 4;
/// Calls of the quiet function, one after the other.
const ROUNDS: usize = 20;

/// Puts so many calls of a function, a page at a time as many clients would.
async fn backlog(rig: &Rig, function: &str) {
    const AT_ONCE: usize = 500;
    for page in 0..BACKLOG / AT_ONCE {
        let ids: Vec<_> = (0..AT_ONCE).map(|n| format!("{function}-{page}-{n}")).collect();
        let put = join_all(ids.iter().map(|id| rig.put(function, id))).await;
        assert!(put.iter().all(Result::is_ok));
    }
}

/// How many calls begin between when a call of `quiet` was leased and when it begins itself, round by round.
async fn starts_between(quiet: &str) -> Vec<usize> {
    let rig = Rig::open_with(Options { concurrency: PLACES as u32, ..Options::default() }).await;
    rig.catalog.create_namespace(&"shop".parse().unwrap()).await.unwrap();
    rig.function("noisy", [Act::Hold]).await;
    rig.function(quiet, [Act::Hold]).await;
    backlog(&rig, "noisy").await;
    rig.script.until_begun(PLACES as u32).await;
    let mut counts = Vec::new();
    for round in 0..ROUNDS {
        // Not always at the same place of a turn.
        rig.script.release(round);
        rig.script.until_begun(round as u32).await;
        let id = format!("quiet-{round}");
        rig.put(quiet, &id).await.unwrap();
        rig.until("it is leased", async |rig| rig.ahead(quiet) == 1).await;
        let before = rig.script.begun().len();
        while !rig.script.begun().contains(&id) {
            rig.script.release(1);
            rig.script.until_begun(1).await;
        }
        counts.push(rig.script.begun().len() - before - 1);
    }
    counts
}

#[tokio::test]
async fn a_backlog_delays_another_function_by_no_more_than_its_turn() {
    let counts = starts_between("quiet").await;
    assert!(counts.iter().all(|between| *between <= QUANTUM as usize), "{counts:?}");
}

#[tokio::test]
async fn a_backlog_delays_another_namespace_by_no_more_than_its_turn() {
    let counts = starts_between("quiet.shop").await;
    assert!(counts.iter().all(|between| *between <= QUANTUM as usize), "{counts:?}");
}
