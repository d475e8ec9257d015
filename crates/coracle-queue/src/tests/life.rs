//! The life of a call: accepted, run, tried again, ended in its place.

use super::rig::{Act, Rig};
use crate::State;

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
