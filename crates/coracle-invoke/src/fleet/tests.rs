//! Fleets of scripted instances, in paused time: what calls get, and what is left of them.
//! The handover's tests use the same instances.

mod random;
mod script;

use std::sync::Arc;
use std::time::Duration;

use coracle_model::{FunctionRef, Problem, Scale, code};
use tokio::time::{Instant, sleep};

pub(crate) use script::Script;

use crate::fleet::house::House;
use crate::fleet::{Fleet, Lease, Refusal, Terms};

pub(crate) type Scripted = Arc<Script>;

pub(crate) fn scale(min: u32, max: u32, target: u32) -> Scale {
    Scale { min, max, target, idle: Duration::from_secs(300), ..Scale::default() }
}

pub(crate) fn fleet_in(house: &Arc<House<Scripted>>, script: &Scripted, scale: Scale) -> Fleet<Scripted> {
    let function = FunctionRef::parse("hello").expect("a name");
    let full = (!scale.grows).then(|| Problem::new(&code::FUNCTION_BUSY, "every instance is full"));
    Fleet::new(Arc::clone(script), Terms { function, scale, is_kept: true, is_checked: true, full }, house)
}

fn fleet(script: &Scripted, scale: Scale) -> Fleet<Scripted> {
    fleet_in(&House::new(100), script, scale)
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

pub(crate) async fn ms(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

async fn lease(fleet: &Fleet<Scripted>) -> Lease<Scripted> {
    fleet.lease(soon()).await.expect("a place")
}

async fn problem(fleet: &Fleet<Scripted>) -> coracle_model::Problem {
    match fleet.lease(soon()).await {
        Err(Refusal::Problem(problem)) => *problem,
        other => panic!("{other:?}"),
    }
}

/// Leases so many at once.
async fn leases(fleet: &Fleet<Scripted>, count: usize) -> Vec<Lease<Scripted>> {
    let calls: Vec<_> = (0..count)
        .map(|_| {
            let fleet = fleet.clone();
            tokio::spawn(async move { lease(&fleet).await })
        })
        .collect();
    let mut leases = Vec::new();
    for call in calls {
        leases.push(call.await.expect("a lease"));
    }
    leases
}

/// Starting, ready, busy, frozen, stopping.
fn counts(fleet: &Fleet<Scripted>) -> [u32; 5] {
    let counts = fleet.counts();
    [counts.starting, counts.ready, counts.busy, counts.frozen, counts.stopping]
}

#[tokio::test(start_paused = true)]
async fn the_first_call_starts_an_instance_and_the_next_one_shares_it() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(0, 20, 10));
    let begun = Instant::now();
    let first = lease(&fleet).await;
    assert_eq!((begun.elapsed().as_millis(), first.is_cold), (20, true));
    let second = lease(&fleet).await;
    assert_eq!((script.starts(), second.is_cold), (1, false));
    assert_eq!(counts(&fleet), [0, 0, 1, 0, 0]);
    drop((first, second));
    assert_eq!(counts(&fleet), [0, 1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn twenty_at_once_start_two_and_not_twenty() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(0, 20, 10));
    let leases = leases(&fleet, 20).await;
    assert_eq!(script.starts(), 2);
    let of_first = leases.iter().filter(|lease| lease.member().number == 1).count();
    assert_eq!(of_first, 10);
}

#[tokio::test(start_paused = true)]
async fn a_minimum_that_another_server_keeps_is_none_here() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(2, 20, 10));
    fleet.keep(false);
    fleet.warm();
    ms(1_000).await;
    assert_eq!((script.starts(), fleet.counts().wanted), (0, 0));
    drop(lease(&fleet).await);
    assert_eq!(script.starts(), 1, "calls start what they need");
    fleet.keep(true);
    ms(1_000).await;
    assert_eq!((script.alive(), fleet.counts().wanted), (2, 2), "it is kept here from now on");
    fleet.keep(false);
    ms(1_000).await;
    assert_eq!(script.alive(), 2, "what runs serves on");
    ms(300_000).await;
    assert_eq!(script.alive(), 0, "and goes when nobody called it for long");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_does_not_grow_serves_as_many_calls_wherever_its_minimum_is_kept() {
    let script = Script::taking(20);
    let fleet = fleet(&script, Scale { grows: false, ..scale(3, 5, 1) });
    fleet.keep(false);
    let leases = leases(&fleet, 3).await;
    assert_eq!((leases.len(), script.starts()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_maximum_wait_in_their_order() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(0, 1, 1));
    let first = lease(&fleet).await;
    let mut second = Box::pin(fleet.lease(soon()));
    let mut third = Box::pin(fleet.lease(soon()));
    assert!(futures_now(&mut second).await.is_none() && futures_now(&mut third).await.is_none());
    drop(first);
    assert!(futures_now(&mut third).await.is_none());
    let second = futures_now(&mut second).await.expect("its turn").expect("a place");
    assert!(!second.is_cold, "it waited for a place, not for a start");
    drop(second);
    assert!(futures_now(&mut third).await.is_some());
    assert_eq!(script.starts(), 1);
}

/// What a future has by now.
async fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::time::timeout(Duration::from_millis(1), future).await.ok()
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_is_frozen_thawed_by_a_call_and_stopped_in_the_end() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(0, 20, 10));
    drop(lease(&fleet).await);
    ms(99).await;
    assert_eq!(counts(&fleet), [0, 1, 0, 0, 0]);
    ms(2).await;
    assert_eq!(counts(&fleet), [0, 0, 0, 1, 0]);
    let again = lease(&fleet).await;
    assert!(!again.is_cold);
    assert_eq!(counts(&fleet), [0, 0, 1, 0, 0]);
    drop(again);
    ms(299_900).await;
    assert_eq!(counts(&fleet), [0, 0, 0, 1, 0]);
    ms(200).await;
    assert_eq!(counts(&fleet), [0; 5]);
    assert_eq!(script.told(), "start 1, freeze 1, thaw 1, freeze 1, thaw 1, stop 1 within 10s");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_rests_sets_no_timer() {
    let script = Script::taking(0);
    let fleet = fleet(&script, scale(1, 20, 10));
    fleet.warm();
    ms(1_000).await;
    assert_eq!(counts(&fleet), [0, 0, 0, 1, 0]);
    assert_eq!(fleet.0.lock().alarm, None, "its minimum sleeps");
    drop(lease(&fleet).await);
    fleet.retire();
    ms(1).await;
    assert_eq!(counts(&fleet), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn the_minimum_is_kept_frozen_and_comes_back_when_it_crashes() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(2, 20, 10));
    fleet.warm();
    ms(3_600_000).await;
    assert_eq!((counts(&fleet), script.starts()), ([0, 0, 0, 2, 0], 2));
    script.crash(1);
    ms(30).await;
    assert_eq!((counts(&fleet), script.starts()), ([0, 1, 0, 1, 0], 3));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_crashes_among_calls_is_replaced_at_once() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(0, 20, 1));
    let leases = leases(&fleet, 2).await;
    script.crash(1);
    ms(1).await;
    assert_eq!(counts(&fleet), [1, 0, 1, 0, 0]);
    drop(leases);
    assert!(
        fleet.counts().last_failure.is_some_and(|failure| failure.message.contains("exited with code 1"))
    );
    ms(61_000).await;
    let _lease = lease(&fleet).await;
    assert!(fleet.counts().last_failure.is_none(), "an instance has lived for a minute");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_tells_those_who_wait_and_those_who_come() {
    let script = Script::taking(20);
    script.fail(true);
    let fleet = fleet(&script, scale(0, 20, 1));
    assert_eq!(problem(&fleet).await.message, "exited with code 2");
    // During the pause nothing is started, and nobody waits.
    let begun = Instant::now();
    let refused = problem(&fleet).await;
    assert_eq!((refused.retry_after_s, begun.elapsed(), script.starts()), (Some(1), Duration::ZERO, 1));
    ms(100).await;
    script.fail(false);
    assert!(lease(&fleet).await.is_cold);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off() {
    let script = Script::taking(0);
    script.fail(true);
    let fleet = fleet(&script, scale(1, 20, 10));
    fleet.warm();
    // Tries at 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 12.7, 25.5, 51.1 s, then every 30 s.
    ms(50_000).await;
    assert_eq!(script.starts(), 9);
    assert!(fleet.counts().backs_off_for.is_some());
    ms(600_000).await;
    assert_eq!(script.starts(), 10 + 19);
    script.fail(false);
    ms(100_000).await;
    assert_eq!((counts(&fleet), script.starts()), ([0, 0, 0, 1, 0], 30));
    assert!(fleet.counts().last_failure.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_wait_for_a_start_beyond_its_deadline() {
    let script = Script::taking(60_000);
    let fleet = fleet(&script, scale(0, 20, 10));
    let refused = problem(&fleet).await;
    assert_eq!((refused.code.name, counts(&fleet)), ("guest-timeout", [1, 0, 0, 0, 0]));
    ms(31_000).await;
    assert!(!lease(&fleet).await.is_cold, "the start went on for those who come");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_away_leaves_its_turn_and_its_place() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(0, 1, 1));
    for wait in [0, 19, 20, 21] {
        let (first, second) = (fleet.clone(), fleet.clone());
        let gone = tokio::spawn(async move { first.lease(soon()).await.map(drop) });
        let stays = tokio::spawn(async move { second.lease(soon()).await.map(drop) });
        ms(wait).await;
        gone.abort();
        stays.await.expect("a call").expect("a place");
        assert_eq!((fleet.0.lock().waiting.len(), fleet.0.house.leases()), (0, 0));
    }
    ms(101).await;
    // Half-way through being thawed.
    script.thawing_takes(50);
    assert!(tokio::time::timeout(Duration::from_millis(10), fleet.lease(soon())).await.is_err());
    let lease = lease(&fleet).await;
    assert!(script.is_awake(lease.member().number));
    drop(lease);
    assert_eq!(counts(&fleet), [0, 1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_not_well_is_replaced_and_a_frozen_one_is_not_asked() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(0, 20, 1));
    drop(lease(&fleet).await);
    ms(60_000).await;
    assert!(!script.told().contains("check"));
    let _busy = lease(&fleet).await;
    script.fall_ill(1);
    ms(14_000).await;
    assert_eq!(counts(&fleet), [0, 0, 1, 0, 0]);
    ms(1_100).await;
    assert_eq!((script.starts(), counts(&fleet)), (2, [0, 1, 0, 0, 0]));
    assert!(
        script.told().contains("check 1, check 1, check 1, stop 1 within 10s, start 2"),
        "{}",
        script.told()
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_needed_of_late_is_kept_and_the_rest_goes() {
    let script = Script::taking(0);
    let fleet = fleet(&script, Scale { idle: Duration::from_secs(1), ..scale(0, 20, 1) });
    drop(leases(&fleet, 5).await);
    ms(500).await;
    drop(leases(&fleet, 3).await);
    ms(600).await;
    // All five were idle for no longer than their last call, and three of them were called.
    assert_eq!(counts(&fleet), [0, 0, 0, 3, 0]);
    ms(1_000).await;
    assert_eq!(counts(&fleet), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_person_sets_how_many_run_within_the_bounds() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(0, 5, 1));
    assert_eq!(fleet.scale(9), 5);
    ms(200).await;
    assert_eq!(counts(&fleet), [0, 0, 0, 5, 0]);
    let busy = lease(&fleet).await;
    assert_eq!(fleet.scale(0), 0);
    ms(200).await;
    assert_eq!(counts(&fleet), [0, 0, 1, 0, 0]);
    drop(busy);
    ms(200).await;
    assert_eq!(counts(&fleet), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_is_kept_until_told_otherwise() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(1, 5, 1));
    fleet.warm();
    assert_eq!((fleet.counts().wanted, fleet.scale(3)), (1, 3));
    ms(3_600_000).await;
    assert_eq!((counts(&fleet), fleet.counts().wanted), ([0, 0, 0, 3, 0], 3));
    script.crash(2);
    ms(200).await;
    assert_eq!(counts(&fleet), [0, 0, 0, 3, 0], "one that ends is replaced");
    drop(leases(&fleet, 5).await);
    assert_eq!(counts(&fleet), [0, 5, 0, 0, 0], "calls start more");
    ms(3_600_000).await;
    assert_eq!(counts(&fleet), [0, 0, 0, 3, 0]);
    assert_eq!(fleet.scale(1), 1);
    ms(200).await;
    assert_eq!(counts(&fleet), [0, 0, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn none_runs_when_none_was_asked_for_and_the_next_call_brings_the_minimum_back() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(2, 5, 20));
    fleet.warm();
    ms(200).await;
    assert_eq!(fleet.scale(0), 0);
    ms(3_600_000).await;
    assert_eq!((counts(&fleet), fleet.counts().wanted, script.starts()), ([0; 5], 0, 2));
    let leases = leases(&fleet, 20).await;
    assert_eq!((fleet.counts().wanted, fleet.counts().total(), script.starts()), (2, 2, 4));
    drop(leases);
    ms(3_600_000).await;
    assert_eq!(counts(&fleet), [0, 0, 0, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn twenty_calls_at_once_after_none_start_one_that_can_take_them() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(1, 5, 20));
    fleet.warm();
    ms(200).await;
    fleet.scale(0);
    ms(200).await;
    drop(leases(&fleet, 20).await);
    assert_eq!((script.starts(), fleet.counts().total()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_busy_instance_that_was_to_go_stays_when_a_call_brings_the_minimum_back() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(1, 5, 2));
    let busy = lease(&fleet).await;
    fleet.scale(0);
    drop((lease(&fleet).await, busy));
    ms(3_600_000).await;
    assert_eq!((counts(&fleet), script.starts()), ([0, 0, 0, 1, 0], 1));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_grows_a_call_that_finds_no_place_is_refused_in_a_moment() {
    let script = Script::taking(20);
    let fleet = fleet(&script, Scale { grows: false, ..scale(0, 5, 2) });
    // Two wait for the one that starts, and the third has nothing to wait for.
    let waiting = tokio::spawn({
        let fleet = fleet.clone();
        async move { leases(&fleet, 2).await }
    });
    ms(1).await;
    let begun = Instant::now();
    assert_eq!(problem(&fleet).await.code, &code::FUNCTION_BUSY);
    assert!(begun.elapsed() < Duration::from_millis(10), "{:?}", begun.elapsed());
    let two = waiting.await.expect("two places");
    assert_eq!(problem(&fleet).await.message, "every instance is full");
    assert_eq!(fleet.scale(2), 2);
    ms(30).await;
    let more = leases(&fleet, 2).await;
    assert_eq!(problem(&fleet).await.code, &code::FUNCTION_BUSY);
    drop((two, more));
    assert_eq!(script.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_given_back_just_after_the_answer_is_the_next_calls() {
    let script = Script::taking(20);
    let fleet = fleet(&script, Scale { grows: false, ..scale(1, 1, 1) });
    let answered = lease(&fleet).await;
    let next = tokio::spawn({
        let fleet = fleet.clone();
        async move { lease(&fleet).await }
    });
    ms(1).await;
    drop(answered);
    drop(next.await.expect("the place"));
    assert_eq!(script.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_grows_up_to_its_maximum_may_refuse_there() {
    let script = Script::taking(20);
    let function = FunctionRef::parse("hello").expect("a name");
    let full = Some(Problem::new(&code::FUNCTION_BUSY, "all are full"));
    let terms = Terms { function, scale: scale(1, 2, 1), is_kept: true, is_checked: false, full };
    let fleet = Fleet::new(Arc::clone(&script), terms, &House::new(100));
    let both = leases(&fleet, 2).await;
    assert_eq!((problem(&fleet).await.message.as_str(), script.starts()), ("all are full", 2));
    drop(both);
    drop(lease(&fleet).await);
}

#[tokio::test(start_paused = true)]
async fn a_full_house_takes_the_place_that_was_idle_for_longest() {
    let house = House::new(2);
    let scripts = [Script::taking(20), Script::taking(20), Script::taking(20)];
    let fleets = scripts.each_ref().map(|script| fleet_in(&house, script, scale(0, 5, 1)));
    drop(lease(&fleets[0]).await);
    drop(lease(&fleets[1]).await);
    ms(1_000).await;
    drop(lease(&fleets[0]).await);
    let third = lease(&fleets[2]).await;
    assert_eq!([0, 1, 2].map(|i| fleets[i].counts().total()), [1, 0, 1]);
    let first = lease(&fleets[0]).await;
    assert_eq!(problem(&fleets[1]).await.code.name, "server-busy");
    assert_eq!((house.instances(), house.leases()), (2, 2));
    drop((first, third));
    assert_eq!(house.leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_beside_a_healthy_instance_backs_off_too() {
    let script = Script::taking(0);
    let fleet = fleet(&script, scale(0, 5, 1));
    let _healthy = lease(&fleet).await;
    ms(120_000).await;
    script.fail(true);
    let waits = tokio::time::timeout(Duration::from_millis(1_000), fleet.lease(soon())).await;
    assert!(waits.is_err(), "it waits for the instance that there is");
    // Tries at 0, 0.1, 0.3 and 0.7 s.
    assert_eq!(script.starts(), 1 + 4);
}

#[tokio::test(start_paused = true)]
async fn a_retired_fleet_finishes_its_calls_and_takes_no_more() {
    let script = Script::taking(20);
    let fleet = fleet(&script, scale(1, 5, 1));
    let busy = lease(&fleet).await;
    let waiting = tokio::spawn({
        let fleet = fleet.clone();
        async move { fleet.lease(soon()).await.map(drop) }
    });
    ms(1).await;
    fleet.retire();
    assert!(matches!(waiting.await.expect("a call"), Err(Refusal::Retired)));
    assert!(matches!(fleet.lease(soon()).await, Err(Refusal::Retired)));
    ms(100).await;
    assert_eq!(counts(&fleet), [0, 0, 1, 0, 0]);
    drop(busy);
    fleet.until_gone().await;
    assert_eq!(script.alive(), 0);
}
