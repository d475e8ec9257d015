//! Who has a place, as calls and deliveries are leased and end.

use coracle_store::Holder;

use super::*;

fn taken(topic: &str) -> Taken {
    let topic = Topic::new(topic).unwrap();
    let holder = Holder::new("us").unwrap();
    let lease = Lease { position: Position(1), holder: holder.clone(), attempt: 1 };
    let message = Message {
        position: lease.position,
        topic: topic.clone(),
        id: None,
        group: None,
        appended: Timestamp::UNIX_EPOCH,
        due: Timestamp::UNIX_EPOCH,
        attempt: 1,
        state: MessageState::Held(holder),
        story: bytes::Bytes::new(),
        losses: Vec::new(),
        payload: bytes::Bytes::new(),
    };
    Taken { topic, messages: vec![(lease, message)], next_in: None }
}

#[test]
fn deliveries_take_no_place_of_a_call() {
    let (board, now) = (Board::new(1), Timestamp::UNIX_EPOCH);
    let next = || board.next(now).map(|job| (job.leased.message.topic.to_string(), job));
    for topic in ["default/deliveries/f", "default/deliveries/g", "default/calls/f", "default/calls/g"] {
        assert!(board.taken(taken(topic), 1, 1, now, |_| false).is_empty());
    }
    let (call, job) = next().expect("a place for a call");
    let (delivery, _delivering) = next().expect("and one for a delivery");
    assert!(next().is_none(), "each has one place");
    assert!(call.starts_with("default/calls/") && delivery.starts_with("default/deliveries/"));
    drop(job);
    assert!(next().is_some_and(|(topic, _)| topic.starts_with("default/calls/")), "its place is a call's");
}
