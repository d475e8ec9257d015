//! What every [`Database`] promises of its log: leases, groups, time, holders, counts and reads.
//! Called by the tests of each implementation; `pass` lets that much time pass for the database's clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{conflict, get, key};
use crate::{
    Append, Appended, Batch, Begin, CommitError, Committed, Condition, Database, Due, Fault, Faulty, Group,
    Holder, Lease, MESSAGES_BYTES_MAX, MESSAGES_MAX, Message, MessageId, MessageState, PAYLOAD_BYTES_MAX,
    Position, Read, ReadError, ReadFrom, STORY_BYTES_MAX, Take, Taken, Topic, TopicCount, Topics, Where,
};

/// Longer than any test: a holder that is kept for it does not go by itself.
const LONG: Duration = Duration::from_secs(3600);
/// A time that is waited for.
const SHORT: Duration = Duration::from_millis(200);

/// A message is leased to one holder, ended once, and what is not ours any more cannot be changed.
pub async fn leases(database: &dyn Database) {
    let (topic, dead) = (topic("leases/calls"), topic("leases/dead"));
    let lapsed = database.commit(Batch::new().take(take(&topic, "ann", 1))).await;
    assert!(matches!(lapsed, Err(CommitError::Lapsed { holder }) if holder.as_str() == "ann"));
    keep(database, "ann", LONG).await;
    keep(database, "bob", LONG).await;
    for text in ["one", "two", "three"] {
        append(database, waiting(&topic, text)).await;
    }
    let Taken { messages, next_in, .. } = taken(database, take(&topic, "ann", 2)).await;
    assert_eq!(texts(&messages), ["one", "two"], "those that came first are leased first");
    assert!(next_in == Some(Duration::ZERO), "one more is due");
    let (first, message) = &messages[0];
    assert_eq!((first.attempt, message.attempt), (1, 1));
    assert_eq!(message.state, MessageState::Held(holder("ann")));
    let theirs = taken(database, take(&topic, "bob", 10)).await;
    assert_eq!(texts(&theirs.messages), ["three"], "what is leased is leased to nobody else");
    assert_eq!(theirs.next_in, None);

    let stolen = Lease { holder: holder("bob"), ..first.clone() };
    let stale = Lease { attempt: 2, ..first.clone() };
    for wrong in [stolen, stale] {
        let refused = database.commit(Batch::new().ack(wrong).put(key("leases/x"), "", Condition::Any)).await;
        assert_eq!(lost(refused), first.position);
    }
    assert_eq!(
        lost(database.commit(Batch::new().remove(first.position)).await),
        first.position,
        "it is leased"
    );
    assert_eq!(get(database, &key("leases/x")).await, None, "a batch happens wholly or not at all");

    database.commit(Batch::new().ack(first.clone())).await.expect("ours");
    assert_eq!(lost(database.commit(Batch::new().ack(first.clone())).await), first.position, "it is over");
    let second = messages[1].0.clone();
    database.commit(Batch::new().retry(second.clone(), Due::Now, "tried once")).await.expect("ours");
    assert_eq!(lost(database.commit(Batch::new().ack(second.clone())).await), second.position, "given back");
    let again = taken(database, take(&topic, "bob", 10)).await.messages;
    assert_eq!(texts(&again), ["two"]);
    assert_eq!((again[0].0.attempt, &again[0].1.story[..]), (2, &b"tried once"[..]));
    database.commit(Batch::new().release(again[0].0.clone())).await.expect("ours");
    let again = taken(database, take(&topic, "bob", 10)).await.messages;
    assert_eq!(
        (again[0].0.attempt, &again[0].1.story[..]),
        (2, &b"tried once"[..]),
        "a release counts for nothing"
    );

    let buried =
        database.commit(Batch::new().bury(again[0].0.clone(), dead.clone(), "dead")).await.expect("ours");
    let [Appended { position, lease: None }] = buried.appended.as_slice() else { panic!("{buried:?}") };
    assert!(*position > again[0].0.position, "what moves has a new position");
    let kept = all(database, &dead).await;
    assert_eq!((&kept[0].payload[..], &kept[0].story[..], kept[0].attempt), (&b"two"[..], &b"dead"[..], 2));
    assert_eq!((kept[0].position, &kept[0].state), (*position, &MessageState::Kept));
    assert!(taken(database, take(&dead, "ann", 10)).await.messages.is_empty(), "what is kept is not leased");
    database
        .commit(Batch::new().shift(*position, topic.clone(), Due::Now))
        .await
        .expect("nobody has leased it");
    let redriven = taken(database, take(&topic, "ann", 10)).await.messages;
    assert_eq!(
        (redriven[0].0.attempt, &redriven[0].1.story[..]),
        (1, &b"dead"[..]),
        "it begins anew, with its story"
    );
    assert_eq!(lost(database.commit(Batch::new().shift(*position, topic, Due::Now)).await), *position);
}

/// An append may be leased in its own commit, and what is about keys and what is about messages is one fact.
pub async fn one_fact(database: &dyn Database) {
    let (calls, ended, name) = (topic("fact/calls"), topic("fact/ended"), key("fact/key"));
    keep(database, "ann", LONG).await;
    let held = Append { begin: Begin::Held(holder("ann")), ..waiting(&calls, "call") };
    let appended = append(database, held.clone()).await;
    let lease = appended.lease.expect("it was leased in its own commit");
    assert_eq!((lease.position, lease.attempt), (appended.position, 1));
    assert!(taken(database, take(&calls, "ann", 1)).await.messages.is_empty());
    let lapsed = Append { begin: Begin::Held(holder("nobody")), ..held };
    assert!(matches!(database.commit(Batch::new().append(lapsed)).await, Err(CommitError::Lapsed { .. })));

    let over = |condition| {
        let end = Append { begin: Begin::Kept, ..waiting(&ended, "result") };
        let batch = Batch::new().ack(lease.clone()).append(end).put(name.clone(), "", condition);
        database.commit(batch)
    };
    assert_eq!(conflict(over(Condition::Revision(1)).await), (name.clone(), None));
    assert_eq!(
        (all(database, &calls).await.len(), all(database, &ended).await.len()),
        (1, 0),
        "nothing happened"
    );
    over(Condition::Absent).await.expect("all of it holds");
    assert_eq!((all(database, &calls).await.len(), all(database, &ended).await.len()), (0, 1));
    assert!(get(database, &name).await.is_some());

    let both = database.commit(Batch::new().keep(holder("eve"), "", LONG).take(take(&calls, "eve", 1))).await;
    both.expect("a holder may be kept and lease in one batch");
}

/// Messages of one group are leased one at a time and in order, whatever becomes of those before.
pub async fn groups(database: &dyn Database) {
    let (calls, dead) = (topic("groups/calls"), topic("groups/dead"));
    keep(database, "ann", LONG).await;
    let grouped = |text: &str, group: &str| Append {
        group: Some(Group::new(group).expect("a group")),
        ..waiting(&calls, text)
    };
    let begun = Append { begin: Begin::Held(holder("ann")), ..grouped("a1", "a") };
    let first = append(database, begun).await.lease.expect("nobody is before it");
    let behind = Append { begin: Begin::Held(holder("ann")), ..grouped("a2", "a") };
    assert_eq!(append(database, behind).await.lease, None, "it has to wait for its turn");
    for (text, group) in [("b1", "b"), ("a3", "a"), ("a4", "a"), ("a5", "a")] {
        append(database, grouped(text, group)).await;
    }
    let states: Vec<_> = all(database, &calls).await.into_iter().map(|message| message.state).collect();
    let held = || MessageState::Held(holder("ann"));
    assert_eq!(states[..3], [held(), MessageState::Behind, MessageState::Waiting]);
    let all_due = || taken(database, take(&calls, "ann", 10));
    let other = all_due().await.messages;
    assert_eq!(texts(&other), ["b1"], "another group does not wait");
    database.commit(Batch::new().retry(first.clone(), Due::Now, "")).await.expect("ours");
    let again = all_due().await.messages;
    assert_eq!(texts(&again), ["a1"], "one that is tried again keeps its turn");
    database.commit(Batch::new().ack(again[0].0.clone())).await.expect("ours");
    let second = all_due().await.messages;
    assert_eq!(texts(&second), ["a2"]);
    database.commit(Batch::new().bury(second[0].0.clone(), dead.clone(), "")).await.expect("ours");
    let third = all_due().await.messages;
    assert_eq!(texts(&third), ["a3"]);
    let waits = all(database, &calls).await.into_iter().find(|message| message.payload == "a4").expect("a4");
    database.commit(Batch::new().remove(waits.position)).await.expect("nobody has leased it");
    assert!(all_due().await.messages.is_empty(), "one that left from the middle lets nobody pass");
    let buried = all(database, &dead).await[0].position;
    database.commit(Batch::new().shift(buried, calls.clone(), Due::Now)).await.expect("nobody has leased it");
    assert!(all_due().await.messages.is_empty(), "one that comes again comes last");
    database.commit(Batch::new().ack(third[0].0.clone())).await.expect("ours");
    let fifth = all_due().await.messages;
    assert_eq!(texts(&fifth), ["a5"]);
    database.commit(Batch::new().ack(fifth[0].0.clone())).await.expect("ours");
    assert_eq!(texts(&all_due().await.messages), ["a2"]);
}

/// A message is leased when it is due by the database's clock, and not before; a holder that says nothing is gone.
pub async fn time(database: &dyn Database, pass: impl AsyncFn(Duration)) {
    let calls = topic("time/calls");
    keep(database, "ann", LONG).await;
    append(database, Append { begin: Begin::Waiting(Due::In(SHORT)), ..waiting(&calls, "later") }).await;
    let early = taken(database, take(&calls, "ann", 1)).await;
    assert!(early.messages.is_empty());
    let wait = early.next_in.expect("it says when to come again");
    assert!(wait > Duration::ZERO && wait <= SHORT);
    pass(SHORT).await;
    let late = taken(database, take(&calls, "ann", 1)).await.messages;
    assert_eq!(texts(&late), ["later"]);
    let due = late[0].1.due;
    database.commit(Batch::new().retry(late[0].0.clone(), Due::In(SHORT), "")).await.expect("ours");
    assert!(taken(database, take(&calls, "ann", 1)).await.messages.is_empty());
    let at = due - jiff::SignedDuration::from_secs(60);
    append(database, Append { begin: Begin::Waiting(Due::At(at)), ..waiting(&calls, "long ago") }).await;
    let past = taken(database, take(&calls, "ann", 1)).await;
    assert_eq!(texts(&past.messages), ["long ago"]);
    assert!(past.next_in.is_some_and(|wait| wait <= SHORT));
    pass(SHORT).await;

    keep(database, "bob", SHORT).await;
    let theirs = taken(database, take(&calls, "bob", 1)).await.messages;
    assert_eq!(texts(&theirs), ["later"]);
    let reclaim = || async { database.commit(Batch::new().reclaim()).await.expect("writable").reclaimed };
    assert_eq!(reclaim().await, 0, "whoever lives keeps what they hold");
    keep(database, "bob", SHORT * 4).await;
    pass(SHORT * 2).await;
    assert_eq!(reclaim().await, 0, "kept again in time");
    let alive: Vec<_> =
        database.alive().await.expect("readable").into_iter().map(|alive| alive.holder).collect();
    assert_eq!(alive, [holder("ann"), holder("bob")]);
    pass(SHORT * 3).await;
    assert_eq!(reclaim().await, 1, "gone, and what was held waits again");
    assert_eq!(database.alive().await.expect("readable").len(), 1);
    assert_eq!(lost(database.commit(Batch::new().ack(theirs[0].0.clone())).await), theirs[0].0.position);
    let again = taken(database, take(&calls, "ann", 1)).await.messages;
    assert_eq!((texts(&again), again[0].0.attempt), (vec!["later".to_owned()], 3));
    database.commit(Batch::new().leave(holder("ann"))).await.expect("writable");
    keep(database, "eve", LONG).await;
    assert_eq!(
        taken(database, take(&calls, "eve", 9)).await.messages.len(),
        2,
        "who leaves gives all back at once"
    );
}

/// What is leased ahead waits and is no attempt until it has begun, also if its holder is lost.
pub async fn ahead(database: &dyn Database) {
    let calls = topic("ahead/calls");
    keep(database, "ann", LONG).await;
    for text in ["one", "two", "three", "four"] {
        append(database, waiting(&calls, text)).await;
    }
    let counted = async || {
        let asked = Topics { prefix: calls.as_str().to_owned(), after: None, limit: 1 };
        let topics = database.topics(asked).await.expect("readable");
        topics.first().map(|count| (count.waiting, count.held))
    };
    let messages = taken(database, Take { begins: 1, ..take(&calls, "ann", 4) }).await.messages;
    let (held, ahead) = (|| MessageState::Held(holder("ann")), || MessageState::Ahead(holder("ann")));
    let states = |messages: &[Message]| -> Vec<MessageState> {
        messages.iter().map(|message| message.state.clone()).collect()
    };
    let leased: Vec<Message> = messages.iter().map(|(_, message)| message.clone()).collect();
    assert_eq!(states(&leased), [held(), ahead(), ahead(), ahead()]);
    assert_eq!(states(&all(database, &calls).await), states(&leased), "and so it is kept");
    assert_eq!(counted().await, Some((3, 1)), "what has not begun waits");
    assert!(taken(database, take(&calls, "ann", 4)).await.messages.is_empty(), "and is nobody else's");

    let [_, two, three, four] = [0, 1, 2, 3].map(|at| messages[at].0.clone());
    let both = Batch::new().begin(two.clone()).ack(four);
    database.commit(both).await.expect("ours");
    database.commit(Batch::new().begin(two.clone())).await.expect("it may be said twice");
    assert_eq!(counted().await, Some((1, 2)));
    let stolen = Lease { holder: holder("bob"), ..three };
    let lost = database.commit(Batch::new().begin(stolen)).await;
    assert!(matches!(lost, Err(CommitError::Lost { .. })));

    database.commit(Batch::new().leave(holder("ann"))).await.expect("writable");
    assert_eq!(counted().await, Some((3, 0)));
    let told: Vec<_> =
        all(database, &calls).await.iter().map(|message| (message.attempt, message.losses.len())).collect();
    assert_eq!(told, [(1, 1), (1, 1), (0, 0)], "an attempt is lost with its holder, a lease is nothing");
    let gone = database.commit(Batch::new().begin(two)).await;
    assert!(matches!(gone, Err(CommitError::Lost { .. })));
}

/// Attempts that ended with their holder are told, until its story is written; those that did not end so are not.
pub async fn losses(database: &dyn Database, pass: impl AsyncFn(Duration)) {
    let (calls, dead) = (topic("losses/calls"), topic("losses/dead"));
    keep(database, "ann's", LONG).await;
    let begun = Append { begin: Begin::Held(holder("ann's")), ..waiting(&calls, "call") };
    append(database, begun).await;
    let appended = all(database, &calls).await[0].appended;
    pass(Duration::from_millis(5)).await;
    database.commit(Batch::new().leave(holder("ann's"))).await.expect("writable");
    let told = async || -> Vec<(u32, String)> {
        let losses = all(database, &calls).await.swap_remove(0).losses;
        losses.into_iter().map(|loss| (loss.attempt, loss.holder.to_string())).collect()
    };
    let first = || (1, "ann's".to_owned());
    assert_eq!(told().await, [first()]);
    assert_eq!(all(database, &calls).await[0].losses[0].since, appended, "leased when it was appended");

    keep(database, "bob", SHORT).await;
    let theirs = taken(database, take(&calls, "bob", 1)).await.messages;
    assert_eq!(theirs[0].1.losses.len(), 1, "who leases it hears of those before");
    pass(SHORT * 2).await;
    database.commit(Batch::new().reclaim()).await.expect("writable");
    assert_eq!(told().await, [first(), (2, "bob".to_owned())]);
    let since = all(database, &calls).await[0].losses[1].since;
    assert!(since > appended, "leased later: {since} {appended}");

    keep(database, "eve", LONG).await;
    let lease = async || taken(database, take(&calls, "eve", 1)).await.messages.swap_remove(0).0;
    database.commit(Batch::new().release(lease().await)).await.expect("ours");
    assert_eq!(told().await.len(), 2, "what was not tried was not lost, and tells nothing");
    database.commit(Batch::new().retry(lease().await, Due::Now, "all is told")).await.expect("ours");
    assert_eq!(told().await, []);
    let held = lease().await;
    database.commit(Batch::new().leave(holder("eve"))).await.expect("writable");
    assert_eq!(told().await, [(held.attempt, "eve".to_owned())]);
    keep(database, "eve", LONG).await;
    database.commit(Batch::new().bury(lease().await, dead.clone(), "why")).await.expect("ours");
    assert_eq!(all(database, &dead).await[0].losses, [], "its story tells");

    // Together, so that it may come and go within one transaction.
    keep(database, "dan", LONG).await;
    let begun = Append { begin: Begin::Held(holder("dan")), ..waiting(&calls, "brief") };
    let leave = database.commit(Batch::new().append(begun).leave(holder("dan")));
    leave.await.expect("writable");
    assert_eq!(told().await, [(1, "dan".to_owned())]);
}

/// Topics are counted; pages of messages join; a message is found by its identity; and the oldest are trimmed.
pub async fn reads(database: &dyn Database, pass: impl AsyncFn(Duration)) {
    let (calls, kept) = (topic("reads/calls/f"), topic("reads/kept"));
    keep(database, "ann", LONG).await;
    let id = |text: &str| Some(MessageId::new(text).expect("an identity"));
    for number in 0..5 {
        append(database, Append { id: id("call"), ..waiting(&calls, &number.to_string()) }).await;
    }
    let record = |text: &str| Append { begin: Begin::Kept, id: id("call"), ..waiting(&kept, text) };
    for text in ["a", "b", "c"] {
        append(database, record(text)).await;
    }
    pass(Duration::from_millis(5)).await;
    append(database, record("d")).await;
    taken(database, take(&calls, "ann", 2)).await;
    let count = |prefix: &str, after: Option<&Topic>, limit| {
        let topics = Topics { prefix: prefix.to_owned(), after: after.cloned(), limit };
        async move { database.topics(topics).await.expect("readable") }
    };
    let counts = count("reads/", None, 10).await;
    let first_due = all(database, &calls).await[2].due;
    let of_calls =
        TopicCount { topic: calls.clone(), waiting: 3, held: 2, kept: 0, oldest_due: Some(first_due) };
    let of_kept = TopicCount { topic: kept.clone(), waiting: 0, held: 0, kept: 4, oldest_due: None };
    assert_eq!(counts, [of_calls.clone(), of_kept.clone()]);
    assert_eq!(count("reads/", Some(&calls), 10).await, [of_kept]);
    assert_eq!(count("reads/", None, 1).await, [of_calls]);

    let page = |from, limit| {
        let read = Read { topic: kept.clone(), from, limit };
        async move { database.read(read).await.expect("readable") }
    };
    let whole = page(ReadFrom::Start, 10).await;
    assert_eq!(texts_of(&whole), ["a", "b", "c", "d"]);
    assert!(whole.windows(2).all(|pair| pair[0].position < pair[1].position));
    assert_eq!(texts_of(&page(ReadFrom::After(whole[1].position), 1).await), ["c"]);
    assert_eq!(texts_of(&page(ReadFrom::Since(whole[0].appended), 10).await), ["a", "b", "c", "d"]);
    assert_eq!(texts_of(&page(ReadFrom::Since(whole[3].appended), 10).await), ["d"]);
    let after_all = whole[3].appended + jiff::SignedDuration::from_secs(1);
    assert!(page(ReadFrom::Since(after_all), 10).await.is_empty());
    assert_eq!(texts_of(&page(ReadFrom::End, 10).await), ["d", "c", "b", "a"], "back from the last");
    assert_eq!(texts_of(&page(ReadFrom::End, 1).await), ["d"]);
    assert_eq!(texts_of(&page(ReadFrom::Before(whole[2].position), 10).await), ["b", "a"]);
    assert_eq!(texts_of(&page(ReadFrom::Before(whole[2].position), 1).await), ["b"]);
    for position in [whole[0].position, Position(0)] {
        assert!(page(ReadFrom::Before(position), 10).await.is_empty());
    }

    let call = MessageId::new("call").expect("an identity");
    let found = database.find(&call).await.expect("readable");
    assert_eq!(texts_of(&found), ["d", "c", "b", "a", "4", "3", "2", "1", "0"], "the newest first");
    assert_eq!(found[8].state, MessageState::Held(holder("ann")));
    assert!(
        database.find(&MessageId::new("other").expect("an identity")).await.expect("readable").is_empty()
    );

    let trim = |before| async move {
        database.commit(Batch::new().trim(topic("reads/kept"), before)).await.expect("writable").trimmed
    };
    assert_eq!(trim(whole[0].appended).await, 0);
    assert_eq!(trim(whole[3].appended).await, 3, "what came before");
    assert_eq!(texts_of(&page(ReadFrom::Start, 10).await), ["d"]);
    database.commit(Batch::new().trim(calls.clone(), after_all)).await.expect("writable");
    assert_eq!(count("reads/calls", None, 10).await[0].held, 2, "what is leased is not trimmed");

    let large = topic("reads/large");
    for _ in 0..3 {
        let payload = Bytes::from(vec![7; PAYLOAD_BYTES_MAX]);
        append(database, Append { payload, ..waiting(&large, "") }).await;
    }
    for from in [ReadFrom::Start, ReadFrom::End] {
        let read = Read { topic: large.clone(), from, limit: 10 };
        assert_eq!(
            database.read(read).await.expect("readable").len(),
            MESSAGES_BYTES_MAX / PAYLOAD_BYTES_MAX + 1
        );
    }
    assert_eq!(
        taken(database, take(&large, "ann", 10)).await.messages.len(),
        MESSAGES_BYTES_MAX / PAYLOAD_BYTES_MAX + 1
    );
}

/// What breaks a bound of a message is refused with the reason.
pub async fn message_bounds(database: &dyn Database) {
    let calls = topic("bounds/calls");
    keep(database, "ann", LONG).await;
    let lease = Lease { position: Position(1), holder: holder("ann"), attempt: 1 };
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES_MAX + 1]);
    for (batch, said) in [
        (Batch::new().append(Append { payload, ..waiting(&calls, "") }), "payload"),
        (Batch::new().retry(lease.clone(), Due::Now, vec![7; STORY_BYTES_MAX + 1]), "story"),
        (Batch::new().take(take(&calls, "ann", 0)), "limit"),
        (Batch::new().take(take(&calls, "ann", MESSAGES_MAX + 1)), "limit"),
        (Batch::new().ack(lease.clone()).remove(lease.position), "twice"),
    ] {
        let refused = database.commit(batch).await.expect_err(said);
        assert!(matches!(&refused, CommitError::Invalid { reason } if reason.contains(said)), "{refused}");
    }
    for limit in [0, MESSAGES_MAX + 1] {
        let read = database.read(Read { topic: calls.clone(), from: ReadFrom::Start, limit }).await;
        assert!(matches!(read, Err(ReadError::Invalid { .. })));
        let topics = database.topics(Topics { prefix: String::new(), after: None, limit }).await;
        assert!(matches!(topics, Err(ReadError::Invalid { .. })));
    }
}

/// Whoever waits for arrivals hears where something has begun to wait, and of nothing else.
pub async fn arrivals(database: &dyn Database) {
    let (calls, kept) = (topic("arrivals/calls"), topic("arrivals/kept"));
    let mut arrivals = database.arrivals();
    keep(database, "ann", LONG).await;
    append(database, Append { begin: Begin::Kept, ..waiting(&kept, "") }).await;
    append(database, Append { begin: Begin::Held(holder("ann")), ..waiting(&kept, "") }).await;
    append(database, waiting(&calls, "")).await;
    let here = Some(Where::In(HashMap::from([(calls.clone(), Duration::ZERO)])));
    assert_eq!(arrivals.next().await, here);
    let lease = taken(database, take(&calls, "ann", 1)).await.messages[0].0.clone();
    database.commit(Batch::new().retry(lease, Due::Now, "")).await.expect("ours");
    assert_eq!(arrivals.next().await, here, "what is given back waits again");
    append(database, Append { begin: Begin::Waiting(Due::In(LONG)), ..waiting(&calls, "") }).await;
    let Some(Where::In(later)) = arrivals.next().await else { panic!("it says where") };
    let wait = later[&calls];
    assert!(wait > LONG / 2 && wait <= LONG, "nobody needs to look before it is due: {wait:?}");
}

/// Of many that lease from one topic at once, each message goes to exactly one.
pub async fn takers(database: Arc<dyn Database>) {
    const MESSAGES: usize = 200;
    const TAKERS: usize = 8;
    let calls = topic("takers/calls");
    let batch = (0..MESSAGES).fold(Batch::new(), |batch, n| batch.append(waiting(&calls, &n.to_string())));
    database.commit(batch).await.expect("writable");
    let mut takers = JoinSet::new();
    for taker in 0..TAKERS {
        let (database, calls) = (Arc::clone(&database), calls.clone());
        takers.spawn(async move {
            let name = format!("taker-{taker}");
            keep(&*database, &name, LONG).await;
            let mut mine = Vec::new();
            loop {
                let page = taken(&*database, take(&calls, &name, 7)).await.messages;
                if page.is_empty() {
                    return mine;
                }
                mine.extend(texts(&page));
                let acks = page.into_iter().fold(Batch::new(), |batch, (lease, _)| batch.ack(lease));
                database.commit(acks).await.expect("ours");
            }
        });
    }
    let mut got: Vec<usize> =
        takers.join_all().await.into_iter().flatten().map(|text| text.parse().expect("a number")).collect();
    got.sort_unstable();
    assert_eq!(got, (0..MESSAGES).collect::<Vec<_>>());
    let left = Topics { prefix: calls.as_str().to_owned(), after: None, limit: 10 };
    assert_eq!(database.topics(left).await.expect("readable"), [], "and the counts agree");
}

/// Whichever write of a call's life fails, and however: what was acknowledged is there, and nothing half done.
///
/// `open` opens the database of that name: empty the first time, and with what it held when every handle to it has
/// been dropped before the next.
pub async fn failed_lives(open: impl AsyncFn(&str) -> Arc<dyn Database>) {
    type Kind = (&'static str, fn(u64) -> Fault, u64);
    let kinds: [Kind; 3] =
        [("log-before", Fault::Before, 0), ("log-after", Fault::After, 1), ("log-down", Fault::Down, 0)];
    for (kind, fault, unacknowledged) in kinds {
        for n in 1.. {
            let name = format!("{kind}-{n}");
            let faulty = Faulty::new(open(&name).await);
            faulty.set(Some(fault(n)));
            let acknowledged = live(&faulty).await;
            drop(faulty);
            let done = if acknowledged == LIFE { LIFE } else { acknowledged + unacknowledged };
            let database = open(&name).await;
            let ended = texts_of(&all(&*database, &topic("life/ended")).await);
            let calls = all(&*database, &topic("life/calls")).await;
            // The steps: keep, append, take, retry, take, end.
            let expected = match done {
                0 | 1 => (0, 0),
                LIFE.. => (0, 1),
                _ => (1, 0),
            };
            assert_eq!((calls.len(), ended.len()), expected, "{name}: after {done} steps");
            if acknowledged == LIFE {
                break;
            }
        }
    }
}

/// How many commits a call's life has.
const LIFE: u64 = 6;

/// Lives the life of one call, and returns how many of its commits were acknowledged.
async fn live(database: &dyn Database) -> u64 {
    let (calls, ended) = (topic("life/calls"), topic("life/ended"));
    let take = || Batch::new().take(take(&calls, "ann", 1));
    let lease = |committed: Committed| committed.taken[0].messages[0].0.clone();
    let first = [Batch::new().keep(holder("ann"), "", LONG), Batch::new().append(waiting(&calls, "call"))];
    for (done, batch) in (0..).zip(first) {
        if database.commit(batch).await.is_err() {
            return done;
        }
    }
    let Ok(leased) = database.commit(take()).await else { return 2 };
    let Ok(_) = database.commit(Batch::new().retry(lease(leased), Due::Now, "")).await else { return 3 };
    let Ok(leased) = database.commit(take()).await else { return 4 };
    let end = Append { begin: Begin::Kept, ..waiting(&ended, "result") };
    let Ok(_) = database.commit(Batch::new().ack(lease(leased)).append(end)).await else { return 5 };
    LIFE
}

fn topic(text: &str) -> Topic {
    Topic::new(text).expect("a topic of the suite")
}

fn holder(text: &str) -> Holder {
    Holder::new(text).expect("a holder of the suite")
}

fn waiting(topic: &Topic, payload: &str) -> Append {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Append { topic: topic.clone(), id: None, group: None, begin: Begin::Waiting(Due::Now), payload }
}

fn take(topic: &Topic, name: &str, limit: usize) -> Take {
    Take { topic: topic.clone(), holder: holder(name), limit, begins: limit }
}

async fn keep(database: &dyn Database, name: &str, time: Duration) {
    database.commit(Batch::new().keep(holder(name), "info", time)).await.expect("writable");
}

async fn append(database: &dyn Database, append: Append) -> Appended {
    let committed = database.commit(Batch::new().append(append)).await.expect("writable");
    committed.appended.into_iter().next().expect("an append has a position")
}

async fn taken(database: &dyn Database, take: Take) -> Taken {
    let committed = database.commit(Batch::new().take(take)).await.expect("writable");
    committed.taken.into_iter().next().expect("a take has its answer")
}

async fn all(database: &dyn Database, topic: &Topic) -> Vec<Message> {
    let read = Read { topic: topic.clone(), from: ReadFrom::Start, limit: MESSAGES_MAX };
    database.read(read).await.expect("readable")
}

fn texts(messages: &[(Lease, Message)]) -> Vec<String> {
    messages.iter().map(|(_, message)| text(message)).collect()
}

fn texts_of(messages: &[Message]) -> Vec<String> {
    messages.iter().map(text).collect()
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}

fn lost(committed: Result<Committed, CommitError>) -> Position {
    match committed {
        Err(CommitError::Lost { position }) => position,
        other => panic!("a lost lease was expected, not {other:?}"),
    }
}
