//! Several nodes on one PostgreSQL: each message goes to one of them, in its turn, and none is lost when some die.
//! Each test has a server of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use coracle_store::{
    Append, Batch, Begin, CommitError, Database, Due, Group, Holder, Lease, MESSAGES_MAX, Message, Position,
    Postgres, Read, ReadFrom, Take, Topic, Topics, Where,
};
use own_postgres::OwnPostgres;
use tokio::task::JoinSet;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);
/// How soon other nodes must hear of something.
const SOON: Duration = Duration::from_millis(200);
/// How often it is tried.
const TRIES: usize = 10;

async fn nodes<const N: usize>(own: &OwnPostgres) -> [Arc<Postgres>; N] {
    let mut nodes = Vec::new();
    for _ in 0..N {
        nodes.push(Arc::new(Postgres::open(&own.url()).await.expect("a node that starts")));
    }
    nodes.try_into().expect("as many as were asked for")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_taken_by_one_node_and_a_group_goes_in_order() {
    const GROUPS: u64 = 10;
    const EACH: u64 = 30;
    let own = OwnPostgres::start_with(&[("fsync", "off")]).expect("a PostgreSQL that starts");
    let nodes: [_; 3] = nodes(&own).await;
    let calls = topic("default/calls/f");
    let mut tasks = JoinSet::new();
    // Which of a group runs now: 0 for none.
    let running: Arc<Vec<AtomicU64>> = Arc::new((0..GROUPS).map(|_| AtomicU64::new(0)).collect());
    let appended = Arc::new(AtomicBool::new(false));
    for (number, node) in nodes.iter().enumerate() {
        let (node, calls) = (Arc::clone(node), calls.clone());
        let (running, appended) = (Arc::clone(&running), Arc::clone(&appended));
        tasks.spawn(async move {
            let me = holder(&format!("node-{number}"));
            node.commit(Batch::new().keep(me.clone(), "", LONG)).await.unwrap();
            let mut mine = Vec::new();
            loop {
                let over = appended.load(Ordering::SeqCst);
                let taken = take(&*node, &calls, &me, 5).await;
                if taken.is_empty() && over {
                    let counts = node.topics(Topics { prefix: String::new(), after: None, limit: 9 }).await;
                    if counts.expect("readable").is_empty() {
                        return mine;
                    }
                }
                for (lease, message) in taken {
                    let group: usize = message.group.expect("a group").as_str().parse().unwrap();
                    let before = running[group].swap(lease.position.0, Ordering::SeqCst);
                    assert_eq!(before, 0, "two of group {group} run at once");
                    mine.push((group, lease.position, message.payload));
                    running[group].store(0, Ordering::SeqCst);
                    node.commit(Batch::new().ack(lease)).await.expect("ours");
                }
            }
        });
    }
    let mut appending = JoinSet::new();
    for group in 0..GROUPS {
        let (node, calls) = (Arc::clone(&nodes[group as usize % 3]), calls.clone());
        appending.spawn(async move {
            for number in 0..EACH {
                let grouped = Append {
                    group: Some(Group::new(&group.to_string()).unwrap()),
                    ..waiting(&calls, number.to_string())
                };
                node.commit(Batch::new().append(grouped)).await.unwrap();
            }
        });
    }
    appending.join_all().await;
    appended.store(true, Ordering::SeqCst);
    let mut ran: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    ran.sort_by_key(|(group, position, _)| (*group, *position));
    let expected =
        (0..GROUPS).flat_map(|group| (0..EACH).map(move |number| (group as usize, number.to_string())));
    let ran: Vec<_> =
        ran.iter().map(|(group, _, text)| (*group, String::from_utf8_lossy(text).into_owned())).collect();
    assert_eq!(ran, expected.collect::<Vec<_>>(), "each once, and positions in the order of the appends");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_nodes_hear_soon_where_something_waits() {
    let own = OwnPostgres::start().expect("a PostgreSQL that starts");
    let [here, there] = nodes(&own).await;
    let calls = topic("default/calls/f");
    let mut arrivals = here.arrivals();
    // Of several tries one must be quick: on a machine that is busy with other tests not each is.
    let mut soon = false;
    for _ in 0..TRIES {
        there.commit(Batch::new().append(waiting(&calls, "1".into()))).await.unwrap();
        let told = match tokio::time::timeout(SOON, arrivals.next()).await {
            Ok(told) => {
                soon = true;
                told
            }
            Err(_) => arrivals.next().await,
        };
        assert_eq!(told, Some(Where::In(HashMap::from([(calls.clone(), Duration::ZERO)]))));
    }
    assert!(soon, "never within {SOON:?}");

    // A node that dies says nothing, and lets its time run out.
    let dying = holder("dying");
    let batch = Batch::new().keep(dying.clone(), "", Duration::from_millis(50));
    let take = Take { topic: calls.clone(), holder: dying, limit: 1, begins: 1 };
    there.commit(batch.take(take)).await.unwrap();
    drop(there);
    let [third] = nodes(&own).await;
    while third.commit(Batch::new().reclaim()).await.unwrap().reclaimed == 0 {}
    assert_eq!(arrivals.next().await, Some(Where::In(HashMap::from([(calls, Duration::ZERO)]))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_ends_late_never_appears_behind_a_reader() {
    let own = OwnPostgres::start().expect("a PostgreSQL that starts");
    let [node] = nodes(&own).await;
    let events = topic("default/events");
    let kept = |text: &str| Append { begin: Begin::Kept, ..waiting(&events, text.to_owned()) };
    let append = async |text: &str| node.commit(Batch::new().append(kept(text))).await.unwrap();
    append("first").await;

    // Another node that was given its position, and has not committed yet.
    let (late, connection) = tokio_postgres::connect(&own.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    late.batch_execute(
        "BEGIN; SELECT pg_advisory_xact_lock_shared(1131377252, last_value::int) FROM coracle.position",
    )
    .await
    .unwrap();
    let insert = "INSERT INTO coracle.message SELECT nextval('coracle.position'), topic, id, grp, appended, due, attempt,
        state, holder, story, 'late' FROM coracle.message";
    late.batch_execute(insert).await.unwrap();
    append("second").await;
    let read = async |from| {
        texts(&node.read(Read { topic: events.clone(), from, limit: MESSAGES_MAX }).await.unwrap())
    };
    assert_eq!(read(ReadFrom::Start).await, ["first"], "what comes behind is not shown before it");
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(read(ReadFrom::Start).await, ["first", "late", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_survive_a_kill_of_the_database_under_load() {
    const CLIENTS: usize = 8;
    let mut own = OwnPostgres::start().expect("a PostgreSQL that starts");
    let nodes: [_; 2] = nodes(&own).await;
    let (calls, ended) = (topic("default/calls/f"), topic("default/ended"));
    let over = Arc::new(AtomicBool::new(false));
    let (tell, mut told) = tokio::sync::watch::channel(0_u64);
    let tell = Arc::new(tell);

    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (node, calls) = (Arc::clone(&nodes[client % 2]), calls.clone());
        let (over, tell) = (Arc::clone(&over), Arc::clone(&tell));
        clients.spawn(async move {
            let mut accepted = Vec::new();
            for number in 0.. {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let text = format!("{client}-{number}");
                match node.commit(Batch::new().append(waiting(&calls, text.clone()))).await {
                    Ok(_) => accepted.push(text),
                    Err(CommitError::Unavailable(_)) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other:?}"),
                }
                tell.send_modify(|count| *count = accepted.len() as u64);
            }
            accepted
        });
    }
    let mut workers = JoinSet::new();
    for (number, node) in nodes.iter().enumerate() {
        let (node, calls, ended) = (Arc::clone(node), calls.clone(), ended.clone());
        let over = Arc::clone(&over);
        workers.spawn(async move {
            let me = holder(&format!("node-{number}"));
            let mut done: BTreeMap<Position, String> = BTreeMap::new();
            loop {
                let last = over.load(Ordering::SeqCst);
                // Kept for a moment: what was leased by a commit whose answer was lost comes back.
                let keep = Batch::new().keep(me.clone(), "", Duration::from_secs(1)).reclaim();
                let take = Take { topic: calls.clone(), holder: me.clone(), limit: 20, begins: 20 };
                let Ok(committed) = node.commit(keep.take(take)).await else { continue };
                let messages = committed.taken.into_iter().next().expect("a take").messages;
                for (lease, message) in &messages {
                    let end = Append {
                        begin: Begin::Kept,
                        payload: message.payload.clone(),
                        ..waiting(&ended, "".into())
                    };
                    if node.commit(Batch::new().ack(lease.clone()).append(end)).await.is_ok() {
                        let text = String::from_utf8_lossy(&message.payload).into_owned();
                        assert_eq!(done.insert(lease.position, text), None, "it ran after it was over");
                    }
                }
                let all = Topics { prefix: calls.as_str().to_owned(), after: None, limit: 1 };
                if last && messages.is_empty() && node.topics(all).await.is_ok_and(|counts| counts.is_empty())
                {
                    return done;
                }
                if last && messages.is_empty() {
                    // Leases whose answer was lost end with their holder.
                    _ = node.commit(Batch::new().leave(me.clone())).await;
                }
            }
        });
    }
    for _ in 0..2 {
        let enough = *told.borrow() + 30;
        told.wait_for(|count| *count > enough).await.unwrap();
        own.kill().unwrap();
        own.start_again().unwrap();
    }
    let enough = *told.borrow() + 30;
    told.wait_for(|count| *count > enough).await.unwrap();
    over.store(true, Ordering::SeqCst);
    let accepted: BTreeSet<String> = clients.join_all().await.into_iter().flatten().collect();
    let done: Vec<_> = workers.join_all().await.into_iter().flatten().map(|(_, text)| text).collect();

    let mut records = Vec::new();
    loop {
        let from = records.last().map_or(ReadFrom::Start, |last: &Message| ReadFrom::After(last.position));
        let page = nodes[0].read(Read { topic: ended.clone(), from, limit: MESSAGES_MAX }).await.unwrap();
        if page.is_empty() {
            break;
        }
        records.extend(page);
    }
    let records = texts(&records);
    let once: BTreeSet<String> = records.iter().cloned().collect();
    assert_eq!(records.len(), once.len(), "each ended once");
    assert!(once.is_superset(&accepted), "{:?} was accepted and lost", accepted.difference(&once).next());
    assert!(once.is_superset(&done.into_iter().collect()), "what was acknowledged as over is over");
}

fn topic(text: &str) -> Topic {
    Topic::new(text).expect("a topic of the test")
}

fn holder(text: &str) -> Holder {
    Holder::new(text).expect("a holder of the test")
}

fn waiting(topic: &Topic, text: String) -> Append {
    let begin = Begin::Waiting(Due::Now);
    Append { topic: topic.clone(), id: None, group: None, begin, payload: text.into() }
}

async fn take(node: &dyn Database, topic: &Topic, holder: &Holder, limit: usize) -> Vec<(Lease, Message)> {
    let take = Take { topic: topic.clone(), holder: holder.clone(), limit, begins: limit };
    let committed = node.commit(Batch::new().take(take)).await.expect("writable");
    committed.taken.into_iter().next().expect("a take has its answer").messages
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
}
