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
        assert!(board.taken(taken(topic), 1, 1, now).is_empty());
    }
    let (call, job) = next().expect("a place for a call");
    let (delivery, _delivering) = next().expect("and one for a delivery");
    assert!(next().is_none(), "each has one place");
    assert!(call.starts_with("default/calls/") && delivery.starts_with("default/deliveries/"));
    drop(job);
    assert!(next().is_some_and(|(topic, _)| topic.starts_with("default/calls/")), "its place is a call's");
}

#[test]
fn where_attempts_were_lost_a_lane_begins_with_one_call_and_leases_one_more_with_each_that_ended() {
    let mut lane = Lane::new(NamespaceName::default(), false);
    lane.limit = 3;
    // What happens to the lane, and how many it leases then with nothing running.
    let came = |losses| move |lane: &mut Lane| lane.came(losses);
    let ended = |lane: &mut Lane| lane.ended(Duration::from_millis(50));
    type Event<'a> = &'a dyn Fn(&mut Lane);
    let table: [(&str, Event<'_>, usize); 10] = [
        ("nothing", &|_| (), 1),
        ("one that was lost", &came(1), 1),
        ("its end", &ended, 2),
        ("more that were lost with it", &came(1), 2),
        ("one that was not", &came(0), 2),
        ("its end", &ended, 3),
        ("one that was lost twice", &came(2), 1),
        ("its end", &ended, 2),
        ("another end", &ended, 3),
        ("the end with which it has ended often enough", &ended, 3),
    ];
    for (what, happens, leases) in table {
        happens(&mut lane);
        assert_eq!(lane.wants(10), leases, "after {what}");
    }
    assert_eq!(lane.trust, Trust::Watchful(1));
    lane.came(1);
    assert_eq!(lane.trust, Trust::Careful(1), "it begins anew, wherever it was");
}
