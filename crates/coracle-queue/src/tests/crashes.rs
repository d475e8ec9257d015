//! The server is killed at each named point of a call's life, and another one opens what it left.

use std::time::Duration;

use coracle_model::Clock as _;
use coracle_store::{Batch, Database, MessageState};
use expect_test::{Expect, expect};

use super::rig::{Act, Rig, call_id, submission};
use crate::{Delay, Filter, List, Options, State};

/// All that the queue has, as text: a line for each call.
async fn snapshot(rig: &Rig) -> String {
    let mut text = String::new();
    for state in State::ALL {
        let list = List { filter: Filter::All, state, after: None, limit: 100 };
        for call in rig.queue.list(&list).await.unwrap().calls {
            let attempts: Vec<_> = call.attempts.iter().map(|attempt| format!("{:?}", attempt.end)).collect();
            let (id, state, made) = (call.id, state.as_str(), call.attempts_made);
            text += &format!("{id} {state}, {made} attempts: {attempts:?}\n");
        }
    }
    text
}

async fn check(rig: &Rig, expected: Expect) {
    expected.assert_eq(&snapshot(rig).await);
}

#[tokio::test]
async fn killed_when_a_call_was_accepted() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "")]).await;
    let mut call = submission("f", "one", "");
    call.delay = Delay::For(Duration::from_secs(60));
    rig.queue.put(call).await.unwrap();
    check(
        &rig,
        expect![[r#"
            one waiting, 0 attempts: []
        "#]],
    )
    .await;
    let next = rig.killed().await;
    check(
        &next,
        expect![[r#"
            one waiting, 0 attempts: []
        "#]],
    )
    .await;
    next.advance(Duration::from_secs(60));
    next.ended("one").await;
    check(
        &next,
        expect![[r#"
            one succeeded, 1 attempts: ["Answered(200)"]
        "#]],
    )
    .await;
}

#[tokio::test]
async fn killed_when_a_call_ran() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Hold]).await;
    rig.put("f", "one").await.unwrap();
    rig.script.until_begun(1).await;
    check(
        &rig,
        expect![[r#"
            one running, 1 attempts: []
        "#]],
    )
    .await;
    let next = rig.killed().await;
    next.script.until_begun(1).await;
    check(&next, expect![[r#"
        one running, 2 attempts: ["Failed { code: \"attempt-lost\", message: \"the server ended while it ran\" }"]
    "#]]).await;
    next.script.release(1);
    next.ended("one").await;
    check(&next, expect![[r#"
        one succeeded, 2 attempts: ["Failed { code: \"attempt-lost\", message: \"the server ended while it ran\" }", "Answered(200)"]
    "#]]).await;
}

#[tokio::test]
async fn a_lost_attempt_tells_which_server_had_it_and_since_when() {
    let rig = Rig::open_with(Options { node: "web-1:8080".into(), ..Options::default() }).await;
    rig.function("f", [Act::Hold]).await;
    rig.put("f", "one").await.unwrap();
    rig.script.until_begun(1).await;
    let begun = rig.clock.now();
    rig.advance(Duration::from_secs(60));
    let next = rig.killed().await;
    next.script.until_begun(1).await;
    let lost = next.show("one").await.attempts.swap_remove(0);
    assert_eq!((lost.node.as_str(), lost.started, lost.took), ("web-1:8080", begun, Duration::ZERO));
    next.script.release(1);
    let told = next.ended("one").await.attempts;
    assert_eq!((&told[0], told.len()), (&lost, 2), "it is kept with the call");
}

#[tokio::test]
async fn what_was_leased_ahead_and_runs_for_long_is_an_attempt() {
    let rig = Rig::with_two_ahead().await;
    rig.script.release(1);
    rig.script.until_begun(1).await;
    const NOW: &str = "waiting 1 running 1 dead 0 deliveries 0";
    rig.until("it is known here", async |rig| rig.counts().await == NOW).await;
    rig.advance(Duration::from_millis(20));
    rig.until("it is written down", async |rig| rig.held("f").await == 1).await;
    assert_eq!(rig.counts().await, NOW);
    let next = rig.killed().await;
    next.script.until_begun(1).await;
    check(&next, expect![[r#"
        three waiting, 0 attempts: []
        two running, 2 attempts: ["Failed { code: \"attempt-lost\", message: \"the server ended while it ran\" }"]
        one succeeded, 1 attempts: ["Answered(200)"]
    "#]]).await;
}

#[tokio::test]
async fn killed_when_calls_were_leased_and_had_not_begun() {
    let rig = Rig::with_two_ahead().await;
    let next = rig.killed().await;
    next.script.until_begun(1).await;
    check(&next, expect![[r#"
        two waiting, 0 attempts: []
        three waiting, 0 attempts: []
        one running, 2 attempts: ["Failed { code: \"attempt-lost\", message: \"the server ended while it ran\" }"]
    "#]]).await;
    next.script.release(10);
    for (id, made) in [("one", 2), ("two", 1), ("three", 1)] {
        let call = next.ended(id).await;
        assert_eq!((call.state, call.attempts_made), (State::Succeeded, made), "{id}");
    }
}

#[tokio::test]
async fn killed_when_the_answer_was_there_and_not_written() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Hold]).await;
    rig.put("f", "one").await.unwrap();
    rig.script.until_begun(1).await;
    // Nothing reaches the database any more.
    rig.database.set(Some(coracle_store::Fault::Down(0)));
    rig.script.release(1);
    rig.until("it was answered", async |rig| rig.script.ended() == ["one"]).await;
    let next = rig.killed().await;
    next.script.until_begun(1).await;
    check(&next, expect![[r#"
        one running, 2 attempts: ["Failed { code: \"attempt-lost\", message: \"the server ended while it ran\" }"]
    "#]]).await;
}

#[tokio::test]
async fn killed_when_the_end_was_written() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "done")]).await;
    rig.put("f", "one").await.unwrap();
    rig.ended("one").await;
    let next = rig.killed().await;
    check(
        &next,
        expect![[r#"
            one succeeded, 1 attempts: ["Answered(200)"]
        "#]],
    )
    .await;
    next.put("f", "two").await.unwrap();
    next.ended("two").await;
    assert_eq!(next.script.begun(), ["two"], "what was acknowledged as done is not run again");
    assert_eq!(&*next.show("one").await.result.unwrap().body, b"done");
}

#[tokio::test]
async fn a_call_that_kills_the_server_ends_up_dead_with_its_story_and_the_others_do_not() {
    let mut rig = Rig::open().await;
    rig.function("f", [Act::HoldFor("c3")]).await;
    for n in 0..8 {
        rig.put("f", &format!("c{n}")).await.unwrap();
    }
    // The server is gone as soon as it begins `c3`; whatever else runs then goes with it.
    let mut kills = 0;
    loop {
        rig.until("c3 runs or all is over", async |rig| {
            rig.script.release(usize::from(!rig.script.begun().contains(&"c3".to_owned())));
            rig.script.begun().contains(&"c3".to_owned())
                || rig.counts().await.starts_with("waiting 0 running 0")
        })
        .await;
        if !rig.script.begun().contains(&"c3".to_owned()) {
            break;
        }
        kills += 1;
        assert!(kills < 10, "it is tried for ever");
        rig = rig.killed().await;
    }
    let dead = rig.ended("c3").await;
    assert_eq!((dead.state, dead.attempts.len()), (State::Dead, 5));
    for attempt in &dead.attempts {
        assert!(format!("{:?}", attempt.end).contains("attempt-lost"), "{attempt:?}");
        assert_eq!(attempt.node, "local", "each tells where it was lost, whoever had it after that");
    }
    for n in [0, 1, 2, 4, 5, 6, 7] {
        rig.script.release(1);
        assert_eq!(rig.ended(&format!("c{n}")).await.state, State::Succeeded, "c{n}");
    }
}

#[tokio::test]
async fn a_server_that_was_believed_to_be_gone_drops_what_it_ran() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Hold]).await;
    rig.put("f", "one").await.unwrap();
    rig.script.until_begun(1).await;
    // Another server's heartbeat, when ours was silent for long.
    rig.clock.advance(Duration::from_secs(60));
    let reclaimed = rig.database.commit(Batch::new().reclaim()).await.unwrap().reclaimed;
    assert_eq!(reclaimed, 1);
    rig.script.until_begun(1).await;
    rig.until("the first run is given up", async |rig| rig.queue.engine().board.running() == 1).await;
    rig.script.release(1);
    rig.until("one of the two has ended", async |rig| rig.script.ended().len() == 1).await;
    rig.script.release(1);
    let call = rig.ended("one").await;
    assert_eq!((call.state, call.attempts_made), (State::Succeeded, 2));
    rig.until_quiet().await;
    assert_eq!(crate::read::find(rig.queue.engine(), &call_id("one")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_stops_gives_back_what_has_not_begun_and_waits_for_what_runs() {
    let rig = Rig::with_two_ahead().await;
    let drained = async {
        let draining = rig.queue.drain(Duration::from_secs(10));
        tokio::pin!(draining);
        assert!(futures_util::poll!(draining.as_mut()).is_pending());
        rig.script.release(1);
        draining.await
    };
    assert_eq!(drained.await.left, 0);
    assert_eq!(rig.counts().await, "waiting 2 running 0 dead 0 deliveries 0");
    let next = rig.killed().await;
    next.script.release(10);
    next.ended("two").await;
    let call = next.ended("three").await;
    assert_eq!(call.attempts_made, 1, "what had not begun was no attempt");
}

#[tokio::test]
async fn what_runs_too_long_when_the_server_stops_is_run_again() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Hold]).await;
    rig.put("f", "one").await.unwrap();
    rig.script.until_begun(1).await;
    assert_eq!(rig.queue.drain(Duration::from_millis(1)).await.left, 1);
    assert_eq!(rig.counts().await, "waiting 1 running 0 dead 0 deliveries 0");
    let next = rig.killed().await;
    next.script.release(1);
    assert_eq!(next.ended("one").await.attempts_made, 2);
}

#[tokio::test]
async fn a_server_that_stood_still_for_long_begins_nothing_that_may_be_another_s_by_now() {
    let rig = Rig::with_two_ahead().await;
    let found = crate::read::find(rig.queue.engine(), &call_id("two")).await.unwrap().swap_remove(0);
    rig.clock.advance(Duration::from_secs(15));
    // Another server takes over, and ends one of the two.
    rig.database.commit(Batch::new().reclaim()).await.unwrap();
    rig.database.commit(Batch::new().remove(found.position)).await.unwrap();
    rig.script.release(10);
    for id in ["one", "three"] {
        rig.until("it has ended", async |rig| rig.show(id).await.state == State::Succeeded).await;
    }
    assert!(!rig.script.begun().contains(&"two".to_owned()), "{:?}", rig.script.begun());
    assert_eq!(rig.show("three").await.attempts_made, 1);
}

#[tokio::test]
async fn what_had_not_begun_before_a_silence_is_given_back_at_once() {
    let rig = Rig::with_two_ahead().await;
    let before = rig.queue.engine().sessions.current();
    rig.clock.advance(Duration::from_secs(15));
    crate::heartbeat::beat(rig.queue.engine()).await.unwrap();
    rig.until("both are leased under another name, while the first one runs", async |rig| {
        let mut are_new = true;
        for id in ["two", "three"] {
            let found = crate::read::find(rig.queue.engine(), &call_id(id)).await.unwrap().swap_remove(0);
            are_new &= matches!(found.state, MessageState::Ahead(holder) if holder != before);
        }
        are_new
    })
    .await;
    assert_eq!(rig.script.begun(), ["one"]);
    rig.script.release(3);
    for id in ["one", "two", "three"] {
        assert_eq!(rig.ended(id).await.attempts_made, 1, "{id}");
    }
}
