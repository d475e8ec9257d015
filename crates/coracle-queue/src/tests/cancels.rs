//! Cancelling: what waits never runs, what runs is stopped, and what has ended has ended.

use std::time::Duration;

use coracle_model::{Queueing, RetryPolicy, Settings};
use coracle_store::{Batch, Condition, Database as _, read_all};

use super::rig::{Act, Rig, call_id, code_of, function, submission};
use crate::topics::{CANCEL_PREFIX, cancel_key};
use crate::{Delay, Filter, Group, List, Options, Selection, State, sweep};

#[tokio::test]
async fn a_call_that_waits_is_cancelled_and_never_runs() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "")]).await;
    let mut call = submission("f", "one", "");
    call.delay = Delay::For(Duration::from_secs(60));
    rig.queue.put(call).await.unwrap();
    assert_eq!(rig.queue.cancel(&call_id("one"), &Filter::All).await.unwrap(), State::Waiting);
    let call = rig.show("one").await;
    assert_eq!(
        (call.state, call.reason.as_deref()),
        (State::Cancelled, Some("it was cancelled while it waited"))
    );
    rig.advance(Duration::from_secs(120));
    rig.put("f", "two").await.unwrap();
    rig.ended("two").await;
    assert_eq!(rig.script.begun(), ["two"]);
    assert_eq!(code_of(rig.queue.cancel(&call_id("one"), &Filter::All).await), "call-ended");
    assert_eq!(code_of(rig.queue.cancel(&call_id("two"), &Filter::All).await), "call-ended");
    assert_eq!(code_of(rig.queue.cancel(&call_id("nobody"), &Filter::All).await), "call-not-found");
}

#[tokio::test]
async fn a_call_that_runs_is_stopped_and_its_place_is_free_again() {
    let rig = Rig::open_with(Options { concurrency: 1, ..Options::default() }).await;
    rig.function("f", [Act::Hold, Act::Answer(200, "")]).await;
    rig.put("f", "one").await.unwrap();
    rig.script.until_begun(1).await;
    rig.put("f", "two").await.unwrap();
    assert_eq!(rig.queue.cancel(&call_id("one"), &Filter::All).await.unwrap(), State::Running);
    assert_eq!(rig.show("one").await.state, State::Cancelled);
    assert_eq!(rig.ended("two").await.state, State::Succeeded);
    assert_eq!(rig.script.ended(), ["two"], "the function of the first was stopped");
}

#[tokio::test]
async fn a_call_that_was_leased_ahead_and_has_not_begun_is_cancelled() {
    let rig = Rig::with_two_ahead().await;
    assert_eq!(rig.counts().await, "waiting 2 running 1 dead 0 deliveries 0", "what has not begun waits");
    assert_eq!(rig.show("two").await.state, State::Waiting);
    rig.queue.cancel(&call_id("two"), &Filter::All).await.unwrap();
    rig.queue.cancel(&call_id("three"), &Filter::All).await.unwrap();
    rig.script.release(3);
    rig.ended("one").await;
    rig.until_quiet().await;
    assert_eq!(rig.script.begun(), ["one"]);
}

/// What another server does to have a call cancelled that is not its own.
async fn cancel_from_elsewhere(rig: &Rig, id: &str) {
    let found = crate::read::find(rig.queue.engine(), &call_id(id)).await.unwrap();
    let put = Batch::new().put(cancel_key(found[0].position), id.to_owned(), Condition::Any);
    rig.database.commit(put).await.unwrap();
}

#[tokio::test]
async fn another_server_cancels_what_runs_here_and_what_was_leased_and_has_not_begun() {
    let rig = Rig::with_two_ahead().await;
    cancel_from_elsewhere(&rig, "two").await;
    assert_eq!(rig.ended("two").await.state, State::Cancelled, "while the first runs");
    cancel_from_elsewhere(&rig, "one").await;
    assert_eq!(rig.ended("one").await.state, State::Cancelled);
    rig.script.release(2);
    rig.ended("three").await;
    assert_eq!(rig.script.begun(), ["one", "three"]);
    // Another call may come with an id that was cancelled.
    rig.put("f", "two").await.unwrap();
    assert_eq!(rig.ended("two").await.state, State::Succeeded);
    sweep::once(rig.queue.engine(), false).await.unwrap();
    assert!(read_all(&*rig.database, CANCEL_PREFIX).await.unwrap().is_empty(), "nothing is kept of it");
}

#[tokio::test]
async fn the_next_of_a_group_follows_one_that_was_cancelled() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Hold, Act::Answer(200, "")]).await;
    for id in ["1", "2", "3"] {
        let mut call = submission("f", id, "");
        call.group = Some(Group::parse("g").unwrap());
        rig.queue.put(call).await.unwrap();
    }
    rig.script.until_begun(1).await;
    rig.queue.cancel(&call_id("2"), &Filter::All).await.unwrap();
    rig.queue.cancel(&call_id("1"), &Filter::All).await.unwrap();
    rig.ended("3").await;
    assert_eq!(rig.script.begun(), ["1", "3"]);
}

#[tokio::test]
async fn a_call_that_ends_while_it_is_cancelled_has_one_end() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "")]).await;
    for n in 0..50 {
        let id = format!("c{n}");
        rig.put("f", &id).await.unwrap();
        let id = call_id(&id);
        let cancelled = rig.queue.cancel(&id, &Filter::All).await;
        let call = rig.queue.show(&id, |_| true).await.unwrap();
        match cancelled {
            Ok(_) => assert_eq!(call.state, State::Cancelled),
            Err(problem) => {
                assert_eq!((problem.code.name, call.state), ("call-ended", State::Succeeded));
            }
        }
        assert_eq!(crate::read::find(rig.queue.engine(), &id).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn what_waits_is_purged_and_what_runs_is_left_alone() {
    let rig = Rig::open_with(Options { concurrency: 1, ..Options::default() }).await;
    rig.function("f", [Act::Hold]).await;
    rig.put("f", "runs").await.unwrap();
    rig.script.until_begun(1).await;
    for n in 0..5 {
        let mut call = submission("f", &format!("c{n}"), "");
        call.delay = Delay::For(Duration::from_secs(60));
        rig.queue.put(call).await.unwrap();
    }
    let all = Selection::All(Filter::All);
    assert_eq!(code_of(rig.queue.purge(&all, State::Running).await), "bad-request");
    assert_eq!(
        rig.queue.purge(&Selection::Call(call_id("c0"), Filter::All), State::Waiting).await.unwrap(),
        1
    );
    assert_eq!(rig.queue.purge(&all, State::Waiting).await.unwrap(), 4);
    assert_eq!(rig.counts().await, "waiting 0 running 1 dead 0 deliveries 0");
    rig.script.release(1);
    assert_eq!(rig.ended("runs").await.state, State::Succeeded);
}

#[tokio::test]
async fn lists_go_on_where_the_page_before_ended() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "")]).await;
    rig.function("g", [Act::Answer(200, "")]).await;
    for n in 0..7 {
        for function in ["f", "g"] {
            let mut call = submission(function, &format!("{function}{n}"), "");
            call.delay = Delay::For(Duration::from_secs(60));
            rig.queue.put(call).await.unwrap();
        }
    }
    let expected: Vec<_> = ["f", "g"].iter().flat_map(|f| (0..7).map(move |n| format!("{f}{n}"))).collect();
    assert_eq!(listed(&rig, State::Waiting).await, expected);
    let wrong = List { filter: Filter::All, state: State::Waiting, after: Some("x".into()), limit: 3 };
    assert_eq!(code_of(rig.queue.list(&wrong).await), "bad-request");
}

#[tokio::test]
async fn those_that_ended_are_listed_the_newest_first_across_pages() {
    let rig = Rig::open().await;
    rig.function("works", [Act::Answer(200, "")]).await;
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let settings = Settings { queue: Queueing { retry: once, ..Queueing::default() }, ..Settings::default() };
    rig.function_with("fails", [Act::Answer(500, "")], settings).await;
    for n in 0..7 {
        for function in ["works", "fails"] {
            let id = format!("{function}{n}");
            rig.put(function, &id).await.unwrap();
            rig.ended(&id).await;
        }
    }
    for (state, function) in [(State::Succeeded, "works"), (State::Dead, "fails")] {
        let expected: Vec<_> = (0..7).rev().map(|n| format!("{function}{n}")).collect();
        assert_eq!(listed(&rig, state).await, expected);
    }
}

/// The calls of a state, page by page.
async fn listed(rig: &Rig, state: State) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = rig.queue.list(&List { filter: Filter::All, state, after, limit: 3 }).await.unwrap();
        all.extend(page.calls.iter().map(|call| call.id.to_string()));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn a_call_of_another_function_with_the_same_identity_is_not_meant() {
    let rig = Rig::open().await;
    for name in ["f", "g"] {
        rig.function(name, [Act::Answer(200, "")]).await;
        let mut call = submission(name, "one", "");
        call.delay = Delay::For(Duration::from_secs(60));
        rig.queue.put(call).await.unwrap();
    }
    let of = |name: &str| Filter::Function(function(name));
    assert_eq!(rig.queue.cancel(&call_id("one"), &of("f")).await.unwrap(), State::Waiting);
    assert_eq!(code_of(rig.queue.cancel(&call_id("one"), &of("f")).await), "call-ended");
    let other = rig.queue.show(&call_id("one"), |asked| *asked == function("g")).await.unwrap();
    assert_eq!((other.function, other.state), (function("g"), State::Waiting));
    let purged = rig.queue.purge(&Selection::Call(call_id("one"), of("f")), State::Waiting).await;
    assert_eq!(purged.unwrap(), 0);
    assert_eq!(code_of(rig.queue.cancel(&call_id("one"), &of("h")).await), "call-not-found");
}
