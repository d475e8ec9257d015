//! Bodies that are too long for their message: kept beside it for as long as a call needs them, and no longer.

use std::time::Duration;

use coracle_model::{Body, Settings};

use super::rig::{Act, Rig, call_id, code_of, submission};
use crate::bodies::INLINE_BYTES_MAX;
use crate::{Delay, Filter, Selection, State, Submission, sweep};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A call of `f` whose body is as long as this.
fn long(id: &str, bytes: usize) -> Submission {
    let mut call = submission("f", id, "");
    *call.call.request.body_mut() = Body::once("x".repeat(bytes));
    call
}

/// A function that takes such bodies, and does this with its calls.
async fn rig(act: Act) -> Rig {
    let rig = Rig::open().await;
    let mut settings = Settings::default();
    settings.limits.request_body_bytes = 8 << 20;
    settings.queue.retry.attempts = 1;
    rig.function_with("f", [act], settings).await;
    rig
}

async fn kept(rig: &Rig) -> usize {
    rig.queue.bodies().await.unwrap().len()
}

#[tokio::test]
async fn a_body_is_kept_beside_its_call_if_it_is_longer_than_a_message_may_be() {
    let rig = rig(Act::Answer(200, "")).await;
    for (bytes, beside) in [(INLINE_BYTES_MAX, 0), (INLINE_BYTES_MAX + 1, 1)] {
        let id = format!("of-{bytes}");
        let mut call = long(&id, bytes);
        call.delay = Delay::For(Duration::from_secs(60));
        rig.queue.put(call).await.unwrap();
        assert_eq!((kept(&rig).await, rig.show(&id).await.body_bytes), (beside, bytes as u64));
    }
    rig.advance(Duration::from_secs(60));
    rig.ended(&format!("of-{}", INLINE_BYTES_MAX + 1)).await;
    assert_eq!(kept(&rig).await, 0, "the end of the call is the end of its body, in one commit");
}

#[tokio::test]
async fn a_dead_call_keeps_its_body_until_it_is_run_again_removed_or_forgotten() {
    let rig = rig(Act::Answer(500, "")).await;
    for id in ["redriven", "purged", "forgotten"] {
        rig.queue.put(long(id, INLINE_BYTES_MAX + 1)).await.unwrap();
        assert_eq!(rig.ended(id).await.state, State::Dead);
        // Equal bodies are one artifact.
        assert_eq!(kept(&rig).await, 1, "{id}");
    }
    rig.function("f", [Act::Answer(200, "")]).await;
    rig.queue.redrive(&Selection::Call(call_id("redriven"), Filter::All)).await.unwrap();
    assert_eq!(rig.ended("redriven").await.state, State::Succeeded);
    rig.queue.purge(&Selection::Call(call_id("purged"), Filter::All), State::Dead).await.unwrap();
    assert_eq!(kept(&rig).await, 1, "of the one that is left");
    rig.clock.advance(29 * DAY);
    sweep::once(rig.queue.engine(), true).await.unwrap();
    assert_eq!((rig.show("forgotten").await.state, kept(&rig).await), (State::Dead, 1));
    rig.clock.advance(2 * DAY);
    sweep::once(rig.queue.engine(), true).await.unwrap();
    assert_eq!(code_of(rig.queue.show(&call_id("forgotten"), |_| true).await), "call-not-found");
    assert_eq!(kept(&rig).await, 0, "nobody can ask for it any more");
}

#[tokio::test]
async fn what_is_cancelled_or_purged_while_it_waits_leaves_no_body() {
    let rig = rig(Act::Answer(200, "")).await;
    for id in ["cancelled", "purged"] {
        let mut call = long(id, INLINE_BYTES_MAX + 1);
        call.delay = Delay::For(DAY);
        rig.queue.put(call).await.unwrap();
    }
    rig.queue.cancel(&call_id("cancelled"), &Filter::All).await.unwrap();
    assert_eq!(kept(&rig).await, 1);
    rig.queue.purge(&Selection::All(Filter::All), State::Waiting).await.unwrap();
    assert_eq!(kept(&rig).await, 0);
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused_and_leaves_nothing() {
    let rig = rig(Act::Answer(200, "")).await;
    let refused = rig.queue.put(long("one", (8 << 20) + 1)).await.unwrap_err();
    assert_eq!(
        (refused.code.name, refused.message.as_str()),
        ("request-too-large", "the body of the request is over 8MiB")
    );
    assert_eq!(kept(&rig).await, 0);
    assert_eq!(code_of(rig.queue.show(&call_id("one"), |_| true).await), "call-not-found");
}

#[tokio::test]
async fn while_too_many_bodies_are_being_read_those_that_come_are_written_to_the_disk() {
    let rig = rig(Act::Answer(200, "")).await;
    let engine = rig.queue.engine();
    let all = engine.reading.available_permits();
    let others = engine.reading.try_acquire_many(u32::try_from(all).unwrap()).unwrap();
    let mut call = long("one", 100);
    call.delay = Delay::For(Duration::from_secs(60));
    rig.queue.put(call).await.unwrap();
    assert_eq!((kept(&rig).await, rig.show("one").await.body_bytes), (1, 100));
    drop(others);
    rig.queue.put(long("two", 100)).await.unwrap();
    rig.ended("two").await;
    assert_eq!((kept(&rig).await, engine.reading.available_permits()), (1, all), "what was read makes room");
}
