//! The database fails, at every commit of a call's life in turn: nothing that was promised is lost, and what was done is done.

use std::time::Duration;

use coracle_store::Fault;

use super::rig::{Act, Rig, call_id, submission};
use crate::{Group, OnceKey, State};

/// A life with all that a call may meet: it is put, fails, waits, runs again, ends, and tells somebody.
async fn live(rig: &Rig) -> Vec<&'static str> {
    let mut accepted = Vec::new();
    for id in ["one", "two", "three"] {
        let mut call = submission("f", id, "");
        call.group = (id != "one").then(|| Group::parse("g").unwrap());
        call.once = Some(OnceKey::parse(id).unwrap());
        if rig.queue.put(call).await.is_ok() {
            accepted.push(id);
        }
    }
    accepted
}

async fn until_ended(rig: &Rig, accepted: &[&'static str], n: u64) {
    for id in accepted {
        rig.until(&format!("{id} has ended after fault {n}"), async |rig| {
            rig.advance(Duration::from_secs(1));
            rig.queue.show(&call_id(id), |_| true).await.is_ok_and(|call| call.state.is_ended())
        })
        .await;
    }
}

fn acts() -> Vec<Act> {
    vec![Act::Answer(503, ""), Act::Answer(200, "")]
}

async fn sweep(fault: fn(u64) -> Fault) {
    sweep_on(fault, false).await;
    sweep_on(fault, true).await;
}

async fn sweep_on(fault: fn(u64) -> Fault, is_alone: bool) {
    for n in 1.. {
        let rig = if is_alone { Rig::alone().await } else { Rig::open().await };
        rig.function("f", acts()).await;
        let before = rig.database.commits();
        rig.database.set(Some(fault(before + n)));
        let accepted = live(&rig).await;
        if !matches!(fault(0), Fault::Down(_)) {
            // It failed once, and goes on.
            until_ended(&rig, &accepted, n).await;
        } else {
            rig.database.set(None);
            until_ended(&rig, &accepted, n).await;
        }
        rig.until_quiet().await;
        for id in &accepted {
            let call = rig.show(id).await;
            assert_eq!(call.state, State::Succeeded, "{id} after fault {n}: {call:?}");
            let ended = rig.script.ended().iter().filter(|ended| ended == id).count();
            let told = call.attempts.len();
            assert!(ended >= 1 && told >= 1, "{id} after fault {n}");
        }
        let begun = rig.script.begun();
        // What is done stays done when the files are opened again.
        let next = rig.killed().await;
        next.function("f", [Act::Answer(200, "")]).await;
        next.put("f", "last").await.unwrap();
        next.ended("last").await;
        let again: Vec<_> =
            next.script.begun().into_iter().filter(|id| accepted.contains(&id.as_str())).collect();
        assert!(again.is_empty(), "{again:?} ran again after fault {n}, having run {begun:?}");
        if rig.database.commits() < before + n {
            // The fault was never reached: every commit has failed once.
            assert!(n > 5, "only {n} commits");
            return;
        }
    }
}

#[tokio::test]
async fn any_commit_may_fail_before_it_is_made() {
    sweep(Fault::Before).await;
}

#[tokio::test]
async fn the_answer_to_any_commit_may_be_lost() {
    sweep(Fault::After).await;
}

#[tokio::test]
async fn the_database_may_go_away_at_any_commit_and_come_back() {
    sweep(Fault::Down).await;
}

#[tokio::test]
async fn what_a_call_ended_in_is_kept_while_the_database_is_away_and_it_is_not_run_again() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Hold]).await;
    rig.put("f", "one").await.unwrap();
    rig.script.until_begun(1).await;
    rig.database.set(Some(Fault::Down(0)));
    rig.script.release(1);
    rig.until("it was answered", async |rig| rig.script.ended() == ["one"]).await;
    assert_eq!(rig.put("f", "two").await.unwrap_err().code.status, 503);
    rig.database.set(None);
    assert_eq!(rig.ended("one").await.attempts_made, 1);
    assert_eq!(rig.script.begun(), ["one"]);
}
