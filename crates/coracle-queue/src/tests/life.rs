//! The life of a call: accepted, run, tried again, ended in its place.

use std::time::Duration;

use coracle_model::{Settings, Target, code};

use super::rig::{Act, Rig, call_id, code_of, function, submission};
use crate::{AttemptEnd, Callback, Delay, Filter, Form, Group, List, OnceKey, Options, Selection, State};

/// A function whose calls go wrong in this way, whose outcomes go there.
fn settings(on_success: Option<&str>, on_failure: Option<&str>, attempts: u32) -> Settings {
    let target = |text: &str| text.parse::<Target>().unwrap();
    let mut settings = Settings::default();
    settings.queue.on_success = on_success.map(target);
    settings.queue.on_failure = on_failure.map(target);
    settings.queue.retry.attempts = attempts;
    settings
}

#[tokio::test]
async fn a_call_runs_and_its_answer_is_kept() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "hello")]).await;
    let accepted = rig.put("f", "one").await.unwrap();
    assert_eq!((accepted.id.as_str(), accepted.again), ("one", false));
    let call = rig.ended("one").await;
    assert_eq!((call.state, call.attempts_made), (State::Succeeded, 1));
    let result = call.result.unwrap();
    assert_eq!((result.status, &*result.body, result.body_bytes), (200, &b"hello"[..], 5));
    rig.until_quiet().await;
    assert_eq!(rig.counts().await, "waiting 0 running 0 dead 0 deliveries 0");
}

#[tokio::test]
async fn a_call_that_failed_is_tried_again_until_it_succeeds() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(503, "no"), Act::Fail(&code::GUEST_TRAPPED), Act::Answer(200, "yes")])
        .await;
    rig.put("f", "one").await.unwrap();
    for attempts in 1..=2 {
        rig.until("it waits again", async |rig| {
            let call = rig.show("one").await;
            call.state == State::Waiting && call.attempts.len() == attempts
        })
        .await;
        rig.advance(Duration::from_secs(4));
    }
    let call = rig.ended("one").await;
    assert_eq!((call.state, call.attempts_made), (State::Succeeded, 3));
    let ends: Vec<_> = call.attempts.iter().map(|attempt| attempt.end.clone()).collect();
    assert_eq!(ends[0], AttemptEnd::Answered(503));
    assert!(matches!(&ends[1], AttemptEnd::Failed { code, .. } if code == "guest-trapped"));
    assert_eq!(ends[2], AttemptEnd::Answered(200));
    assert_eq!(&*call.result.unwrap().body, b"yes");
}

#[tokio::test]
async fn a_call_that_never_succeeds_is_dead_with_its_story_and_runs_again_when_it_is_redriven() {
    let rig = Rig::open().await;
    let acts = [Act::Answer(500, ""), Act::Answer(500, ""), Act::Answer(200, "at last")];
    rig.function_with("f", acts, settings(None, None, 2)).await;
    rig.put("f", "one").await.unwrap();
    rig.until("it waits again", async |rig| rig.show("one").await.state == State::Waiting).await;
    rig.advance(Duration::from_secs(2));
    let call = rig.ended("one").await;
    assert_eq!((call.state, call.attempts.len()), (State::Dead, 2));
    assert_eq!(call.reason.as_deref(), Some("all of its 2 attempts failed"));
    assert_eq!(rig.counts().await, "waiting 0 running 0 dead 1 deliveries 0");
    // The age of a call that is redriven begins anew.
    rig.advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(rig.queue.redrive(&Selection::Call(call_id("one"), Filter::All)).await.unwrap(), 1);
    let call = rig.ended("one").await;
    assert_eq!((call.state, call.attempts.len(), call.attempts_made), (State::Succeeded, 3, 3));
    assert_eq!(call.reason, None);
    let again = rig.queue.redrive(&Selection::Call(call_id("one"), Filter::All)).await;
    assert_eq!(code_of(again), "conflict");
}

#[tokio::test]
async fn an_answer_that_says_the_call_was_wrong_is_not_tried_again() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(404, "what?")]).await;
    rig.put("f", "one").await.unwrap();
    let call = rig.ended("one").await;
    assert_eq!((call.state, call.attempts_made), (State::Failed, 1));
    assert_eq!(call.result.unwrap().status, 404);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let rig = Rig::open().await;
    rig.function("f", [Act::AnswerWith(429, "retry-after", "300"), Act::Answer(200, "")]).await;
    rig.put("f", "one").await.unwrap();
    rig.until("it waits again", async |rig| rig.show("one").await.state == State::Waiting).await;
    let call = rig.show("one").await;
    assert_eq!(call.due.duration_since(call.accepted).as_secs(), 300);
    rig.advance(Duration::from_secs(300));
    assert_eq!(rig.ended("one").await.state, State::Succeeded);
}

#[tokio::test]
async fn what_panics_is_tried_again_and_holds_up_nobody() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Panic, Act::Answer(200, "")]).await;
    rig.put("f", "one").await.unwrap();
    rig.until("it waits again", async |rig| rig.show("one").await.state == State::Waiting).await;
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.ended("one").await.attempts.len(), 2);
}

#[tokio::test]
async fn a_call_waits_for_its_time() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "")]).await;
    let mut later = submission("f", "later", "");
    later.delay = Delay::For(Duration::from_secs(3600));
    rig.queue.put(later).await.unwrap();
    let mut at = submission("f", "at", "");
    at.delay = Delay::Until("2026-11-22T02:00:00Z".parse().unwrap());
    rig.queue.put(at).await.unwrap();
    rig.put("f", "now").await.unwrap();
    rig.ended("now").await;
    rig.until_quiet().await;
    assert_eq!(
        (rig.script.begun(), rig.counts().await.as_str()),
        (vec!["now".to_owned()], "waiting 2 running 0 dead 0 deliveries 0")
    );
    rig.advance(Duration::from_secs(3600));
    rig.ended("later").await;
    rig.advance(Duration::from_secs(3600));
    rig.ended("at").await;
    assert_eq!(rig.script.begun(), ["now", "later", "at"]);
}

#[tokio::test]
async fn calls_of_one_group_run_one_at_a_time_and_in_order() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(500, ""), Act::Hold]).await;
    for id in ["1", "2", "3"] {
        let mut call = submission("f", id, "");
        call.group = Some(Group::parse("g").unwrap());
        rig.queue.put(call).await.unwrap();
    }
    rig.put("f", "other").await.unwrap();
    rig.until("the other runs", async |rig| rig.script.begun().contains(&"other".to_owned())).await;
    rig.until("the first waits", async |rig| rig.show("1").await.attempts.len() == 1).await;
    rig.script.release(10);
    rig.ended("other").await;
    rig.until_quiet().await;
    assert!(!rig.script.begun().contains(&"2".to_owned()), "the first of the group has not ended");
    rig.advance(Duration::from_secs(2));
    rig.ended("3").await;
    let group: Vec<_> = rig.script.begun().into_iter().filter(|id| id != "other").collect();
    assert_eq!(group, ["1", "1", "2", "3"]);
}

#[tokio::test]
async fn the_same_key_is_the_same_call_for_a_day() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "")]).await;
    let put = async |id: &str, body: &'static str| {
        let mut call = submission("f", id, body);
        call.once = Some(OnceKey::parse("order-17").unwrap());
        rig.queue.put(call).await
    };
    assert!(!put("one", "a").await.unwrap().again);
    let again = put("two", "a").await.unwrap();
    assert_eq!((again.id.as_str(), again.again), ("one", true));
    assert_eq!(code_of(put("three", "another").await), "idempotency-key-reused");
    rig.ended("one").await;
    rig.advance(Duration::from_secs(24 * 60 * 60));
    assert!(!put("four", "a").await.unwrap().again);
    rig.ended("four").await;
    assert_eq!(rig.script.begun(), ["one", "four"]);
}

#[tokio::test]
async fn a_hundred_with_the_same_key_at_once_are_one() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "")]).await;
    let puts = (0..100).map(|n| {
        let mut call = submission("f", &format!("c{n}"), "");
        call.once = Some(OnceKey::parse("k").unwrap());
        rig.queue.put(call)
    });
    let accepted = futures_util::future::join_all(puts).await;
    let first = accepted.iter().filter(|accepted| !accepted.as_ref().unwrap().again).count();
    assert_eq!(first, 1);
    rig.until_quiet().await;
    assert_eq!(rig.script.begun().len(), 1);
}

#[tokio::test]
async fn a_full_namespace_takes_no_more_and_its_neighbour_does() {
    let rig = Rig::open_with(Options { depth_max: 3, concurrency: 1, ..Options::default() }).await;
    rig.function("f", [Act::Hold]).await;
    rig.catalog.create_namespace(&"shop".parse().unwrap()).await.unwrap();
    rig.function("g.shop", [Act::Hold]).await;
    rig.put("f", "runs").await.unwrap();
    rig.script.until_begun(1).await;
    for id in ["1", "2", "3"] {
        rig.put("f", id).await.unwrap();
    }
    let problem = rig.put("f", "4").await.unwrap_err();
    assert_eq!((problem.code.name, problem.status(), problem.retry_after_s), ("queue-full", 429, Some(5)));
    rig.put("g.shop", "5").await.unwrap();
    rig.script.release(10);
    rig.ended("3").await;
    rig.advance(Duration::from_secs(1));
    rig.put("f", "6").await.unwrap();
}

#[tokio::test]
async fn a_function_that_is_not_there_is_said_at_once() {
    let rig = Rig::open().await;
    assert_eq!(code_of(rig.put("nobody", "one").await), "function-not-found");
}

#[tokio::test]
async fn a_call_whose_function_is_gone_is_dead_and_is_not_redriven_until_it_is_back() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "")]).await;
    let mut call = submission("f", "one", "");
    call.delay = Delay::For(Duration::from_secs(60));
    rig.queue.put(call).await.unwrap();
    rig.catalog.remove(&function("f")).await.unwrap();
    rig.advance(Duration::from_secs(60));
    let dead = rig.ended("one").await;
    assert_eq!(dead.state, State::Dead);
    assert!(dead.reason.unwrap().contains("there is no function `f`"));
    let one = Selection::Call(call_id("one"), Filter::All);
    assert_eq!(code_of(rig.queue.redrive(&one).await), "function-not-found");
    assert_eq!(rig.queue.redrive(&Selection::All(Filter::All)).await.unwrap(), 0);
    rig.function("f", [Act::Answer(200, "")]).await;
    assert_eq!(rig.queue.redrive(&Selection::All(Filter::All)).await.unwrap(), 1);
    assert_eq!(rig.ended("one").await.state, State::Succeeded);
}

#[tokio::test]
async fn outcomes_go_where_the_function_says() {
    let rig = Rig::open().await;
    rig.function_with("good", [Act::Answer(200, "fine")], settings(Some("function:told"), None, 5)).await;
    rig.function_with("bad", [Act::Answer(400, "no")], settings(None, Some("topic:failed"), 5)).await;
    rig.function("told", [Act::Echo]).await;
    rig.put("good", "one").await.unwrap();
    rig.put("bad", "two").await.unwrap();
    rig.ended("two").await;
    rig.script.until_begun(3).await;
    let told = rig.script.begun().into_iter().find(|id| !["one", "two"].contains(&id.as_str())).unwrap();
    let told = rig.ended(&told).await;
    let said: serde_json::Value = serde_json::from_slice(&told.result.unwrap().body).unwrap();
    assert_eq!(
        (&said["call"], &said["state"], &said["response"]["body"]),
        (&"one".into(), &"succeeded".into(), &"fine".into())
    );
    let topic = coracle_store::Topic::new("default/topics/failed").unwrap();
    let read = coracle_store::Read { topic, from: coracle_store::ReadFrom::Start, limit: 10 };
    let kept = coracle_store::Database::read(&*rig.database, read).await.unwrap();
    let said: serde_json::Value = serde_json::from_slice(&kept[0].payload).unwrap();
    assert_eq!((&said["call"], &said["response"]["status"]), (&"two".into(), &400.into()));
}

#[tokio::test]
async fn functions_that_tell_each_other_end_after_some_calls() {
    let rig = Rig::open().await;
    rig.function_with("f", [Act::Answer(200, "")], settings(Some("function:f"), None, 5)).await;
    rig.put("f", "one").await.unwrap();
    rig.until("one is dead", async |rig| rig.counts().await.contains("dead 1")).await;
    assert_eq!(rig.script.begun().len(), 17);
    let dead = List { filter: Filter::All, state: State::Dead, after: None, limit: 10 };
    let dead = rig.queue.list(&dead).await.unwrap().calls;
    assert!(dead[0].reason.as_ref().unwrap().contains("16 calls led to it"), "{:?}", dead[0]);
}

#[tokio::test]
async fn a_private_callback_is_refused_and_one_that_nobody_takes_is_a_dead_delivery() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "")]).await;
    let put = async |id: &str, url: &str| {
        let mut call = submission("f", id, "");
        call.callback = Some(Callback::parse(url, Form::Plain).unwrap());
        rig.queue.put(call).await
    };
    assert_eq!(code_of(put("one", "http://127.0.0.1:9/").await), "callback-denied");
    let outbound = vec!["http://127.0.0.1:9".parse().unwrap()];
    let allowed = Settings { outbound, ..Settings::default() };
    rig.function_with("f", [Act::Answer(200, "")], allowed).await;
    put("two", "http://127.0.0.1:9/").await.unwrap();
    assert_eq!(rig.ended("two").await.state, State::Succeeded);
    rig.until("a delivery waits", async |rig| {
        rig.queue
            .deliveries(&call_id("two"), &Filter::All)
            .await
            .unwrap()
            .iter()
            .any(|d| !d.attempts.is_empty())
    })
    .await;
    // The grant is taken back: nothing is sent there any more.
    rig.function("f", [Act::Answer(200, "")]).await;
    rig.advance(Duration::from_secs(2));
    rig.until("it is dead", async |rig| rig.counts().await.contains("dead 1")).await;
    let deliveries = rig.queue.deliveries(&call_id("two"), &Filter::All).await.unwrap();
    let ends: Vec<_> = deliveries[0].attempts.iter().map(|attempt| format!("{:?}", attempt.end)).collect();
    assert!(ends[0].contains("delivery-failed") && ends[1].contains("callback-denied"), "{ends:?}");
    assert_eq!(rig.show("two").await.state, State::Succeeded, "the call itself ended well");
}

#[tokio::test]
async fn the_key_of_a_call_that_was_removed_is_free_again() {
    let rig = Rig::open().await;
    rig.function("f", [Act::Answer(200, "")]).await;
    let put = async |id: &str, delay: Delay| {
        let mut call = submission("f", id, "");
        (call.once, call.delay) = (Some(OnceKey::parse("order-17").unwrap()), delay);
        rig.queue.put(call).await.unwrap()
    };
    put("one", Delay::For(Duration::from_secs(60))).await;
    assert_eq!(rig.queue.purge(&Selection::All(Filter::All), State::Waiting).await.unwrap(), 1);
    let second = put("two", Delay::None).await;
    assert_eq!((second.id.as_str(), second.again), ("two", false));
    rig.ended("two").await;
    assert!(put("three", Delay::None).await.again);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_its_database_for_itself_rests_while_nothing_happens() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let rig = Rig::alone().await;
    rig.function("f", [Act::Answer(200, "hello")]).await;
    let pass = async |hours: u32| {
        for _ in 0..hours {
            rig.clock.advance(HOUR);
            // Nobody waits: the test's time jumps to whatever is due next.
            tokio::time::sleep(HOUR).await;
        }
    };
    // Until it hears that a function was deployed, and that this changes nothing.
    pass(1).await;
    let before = rig.database.commits();
    pass(10).await;
    assert_eq!(rig.database.commits(), before);
    // While the database's own thread writes, time that stands still would jump: so it is looked, and not waited.
    let run = async |id: &str| {
        rig.put("f", id).await.unwrap();
        rig.until("it has ended", async |rig| rig.show(id).await.state == State::Succeeded).await;
    };
    run("one").await;
    assert_eq!(rig.database.commits() - before, 2, "put and begun at once, and ended: its name is alive");
    // What has ended is kept, and nothing is written for that.
    let ended = rig.database.commits();
    pass(10).await;
    assert_eq!(rig.database.commits(), ended);
    // Its name is renewed long before its time is over.
    let engine = rig.queue.engine();
    let name = engine.sessions.current();
    rig.clock.advance(HOUR * 24 * 200);
    run("two").await;
    pass(1).await;
    rig.until("its name is renewed", async |rig| {
        let engine = rig.queue.engine();
        engine.sessions.lasts_until(engine.observe.clock.instant() + HOUR * 24 * 300)
    })
    .await;
    rig.clock.advance(HOUR * 24 * 200);
    assert!(engine.is_ours(&name));
}
