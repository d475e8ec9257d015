//! Nodes and their database are killed again and again, while calls are sent, cancelled and asked after; then it is seen that every
//! promise was kept. `cargo xtask torture` does it for long, and with a seed of one's choice.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

mod asked;
mod checker;
mod choices;
#[path = "../guests/mod.rs"]
#[expect(dead_code, reason = "these tests use a part of it")]
mod guests;
#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
mod nodes;
mod producers;
mod recorder;
#[path = "../wire/mod.rs"]
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::asked::{FUNCTION, Sent};
use self::checker::Told;
use self::choices::Choice;
use self::guests::{built, now, until};
use self::nodes::World;
use self::producers::{Asking, PRODUCERS};
use self::recorder::Recorder;

/// How long it goes on, if nobody says otherwise.
const LENGTH: Duration = Duration::from_secs(12);
/// How many broken promises are shown.
const SHOWN_MAX: usize = 10;
/// The call that is sent when all is over.
const LAST_CALL: u32 = u32::MAX;

#[test]
fn one_node_on_sqlite_keeps_its_promises_however_often_it_is_killed() {
    torture("sqlite", World::on_sqlite);
}

#[test]
fn three_nodes_on_postgresql_keep_their_promises_whoever_is_killed() {
    torture("postgres", || World::on_postgres(3));
}

fn torture(what: &str, world: impl FnOnce() -> World) {
    let seed = number("CORACLE_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let length = number("CORACLE_TORTURE_SECONDS").map_or(LENGTH, Duration::from_secs);
    // Also where nothing fails: the seed makes the same choices again.
    let say = |line: String| {
        let mut stderr = std::io::stderr().lock();
        stderr.write_all(format!("{what}, seed {seed}: {line}\n").as_bytes()).unwrap();
    };
    let (recorder, mut world) = (Recorder::start(seed), world());
    deploy(&world, &recorder);
    say(format!("killed for {} s", length.as_secs()));
    let calls = under_blows(&mut world, &recorder, seed, length);
    say(format!("{} calls, {} runs", calls.len(), recorder.runs().len()));

    let calls = all_ended(&world, calls);
    // What was lost sight of comes back with those who held it, and runs before what is sent then.
    world.all_at_once();
    one_more(&world, &recorder);
    let calls = looked_at(&world, calls);
    let broken = checker::broken(&calls, &recorder.runs());
    let shown = broken.iter().take(SHOWN_MAX).map(|broken| format!("\n- {broken}")).collect::<String>();
    assert!(broken.is_empty(), "{what}, seed {seed}: {} promises were broken:{shown}", broken.len());
    let states = ["succeeded", "failed", "cancelled", "dead"].map(|state| {
        let is_so = |call: &&Told| call.last.as_ref().is_some_and(|last| last.state == state);
        format!("{} {state}", calls.iter().filter(is_so).count())
    });
    say(states.join(", "));
}

/// The function that asks the recorder what to do, tried again quickly.
fn deploy(world: &World, recorder: &Recorder) {
    let file = built("acid");
    let origin = recorder.origin();
    let quick =
        ["queue.attempts=6", "queue.first_wait=50ms", "queue.longest_wait=400ms", "queue.concurrency=20"];
    let mut words = vec!["deploy", file.to_str().unwrap(), "--name", FUNCTION, "--outbound", &origin];
    words.extend(quick.iter().flat_map(|setting| ["--set", setting]));
    world.servers().next().unwrap().ok(&words);
    for server in world.servers() {
        until("the function on every node", || server.run(&["show", FUNCTION]).code.eq(&0).then_some(()));
    }
}

/// Everything that was told of calls that were sent meanwhile.
fn under_blows(world: &mut World, recorder: &Recorder, seed: u64, length: Duration) -> Vec<Told> {
    let (told, is_over, begun) = (Mutex::default(), AtomicBool::new(false), now());
    let (nodes, has_database) = world.size();
    let places = world.places();
    let asking = Asking { seed, places: &places, recorder, told: &told, is_over: &is_over };
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let asking = &asking;
            scope.spawn(move || asking.produce(producer));
        }
        scope.spawn(|| asking.watch());
        for (pause, blow) in choices::blows(seed, nodes, has_database) {
            if begun.elapsed() + pause > length {
                break;
            }
            // How long all is well is one of the choices: nothing is waited for.
            std::thread::sleep(pause);
            world.suffer(blow);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    told.into_inner().unwrap()
}

/// The same, when each has ended that was acknowledged.
fn all_ended(world: &World, calls: Vec<Told>) -> Vec<Told> {
    let has_ended = |call: &&Told| {
        let id = call.id.as_deref().unwrap();
        // One that is not known has no end to wait for: the checker tells.
        asked::show(&world.place(), id).is_ok_and(|last| last.is_none_or(|last| asked::is_ended(&last.state)))
    };
    let mut open: Vec<&Told> = calls.iter().filter(|call| call.id.is_some()).collect();
    // After a long time there are many, and each end is one more that was worth waiting for.
    while !open.is_empty() {
        until(&format!("the end of one of {} calls, as of {}", open.len(), open[0].number), || {
            let before = open.len();
            open.retain(|call| !has_ended(call));
            (open.len() < before).then_some(())
        });
    }
    calls
}

/// Sends a call, and waits for its end.
fn one_more(world: &World, recorder: &Recorder) {
    let choice = Choice { delay: None, has_key: true, ..Choice::of(0, LAST_CALL) };
    let url = recorder.url_of(LAST_CALL);
    let id = until("a node that takes calls", || {
        match asked::send(&world.place(), LAST_CALL, &url, &choice, None).ok()? {
            Sent::Taken { id } => Some(id),
            Sent::Refused => None,
        }
    });
    until("its end", || {
        let last = asked::show(&world.place(), &id).ok()??;
        asked::is_ended(&last.state).then_some(())
    });
}

/// The same calls, with how each stands in the end.
fn looked_at(world: &World, calls: Vec<Told>) -> Vec<Told> {
    let look = |call: Told| {
        let Some(id) = call.id.clone() else { return call };
        let last = until("an answer", || asked::show(&world.place(), &id).ok());
        Told { last, ..call }
    };
    calls.into_iter().map(look).collect()
}

/// A number that whoever runs this asks for.
#[expect(clippy::disallowed_methods, reason = "a test has no other options")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is `{text}`, which is no number")))
}
