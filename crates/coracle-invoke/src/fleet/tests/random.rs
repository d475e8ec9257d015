//! Random lives of a fleet: whatever comes in whichever order, the bounds hold and nobody is stuck.
//! Time is paused, so that each case takes microseconds.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::{Script, fleet_in, ms, scale, soon};
use crate::fleet::house::House;
use crate::fleet::trouble::WAITED_OUT_MAX;

#[derive(Debug, Clone)]
enum Event {
    /// A call that takes so long once it has its place.
    Call(u64),
    /// A call whose client goes away after so long.
    Leave(u64),
    Crash(u64),
    FallIll(u64),
    Fail(bool),
    Scale(u32),
    Keep(bool),
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0_u64..400).prop_map(Event::Call),
        2 => (0_u64..60).prop_map(Event::Leave),
        1 => (1_u64..12).prop_map(Event::Crash),
        1 => (1_u64..12).prop_map(Event::FallIll),
        1 => any::<bool>().prop_map(Event::Fail),
        1 => (0_u32..9).prop_map(Event::Scale),
        1 => any::<bool>().prop_map(Event::Keep),
        4 => (0_u64..300).prop_map(Event::Wait),
        1 => (1_000_u64..40_000).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn bounds_hold_and_no_call_is_stuck(
        events in events(),
        (min, more, target, places) in (0_u32..3, 1_u32..5, 1_u32..4, 2_u32..9),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (house, script) = (House::new(places), Script::taking(20));
            let scale = coracle_model::Scale { idle: Duration::from_secs(5), ..scale(min, min + more, target) };
            let fleet = fleet_in(&house, &script, scale);
            fleet.warm();
            let mut calls = JoinSet::new();
            for event in events {
                match event {
                    Event::Call(takes) => {
                        let (fleet, script) = (fleet.clone(), Arc::clone(&script));
                        calls.spawn(async move {
                            if let Ok(lease) = fleet.lease(soon()).await {
                                assert!(script.is_awake(lease.member().number));
                                ms(takes).await;
                            }
                        });
                    }
                    Event::Leave(after) => {
                        let fleet = fleet.clone();
                        calls.spawn(async move {
                            let _ = tokio::time::timeout(Duration::from_millis(after), fleet.lease(soon())).await;
                        });
                    }
                    Event::Crash(number) => script.crash(number),
                    Event::FallIll(number) => script.fall_ill(number),
                    Event::Fail(fails) => script.fail(fails),
                    Event::Scale(instances) => drop(fleet.scale(instances)),
                    Event::Keep(is_kept) => fleet.keep(is_kept),
                    Event::Wait(time) => ms(time).await,
                }
                ms(1).await;
                let counts = fleet.counts();
                let running = counts.total() - counts.stopping;
                assert!(running <= min + more && house.instances() <= u64::from(places), "{counts:?}");
                let mut state = fleet.0.lock();
                let stuck = state.waiting.iter().filter(|waiting| !waiting.call.is_closed()).count();
                let has_free = state.ready().any(|ready| ready.in_flight < target);
                assert!(stuck == 0 || !has_free, "{stuck} calls wait beside a free place");
                let is_soon = counts.backs_off_for.is_some_and(|pause| pause <= WAITED_OUT_MAX);
                assert!(stuck == 0 || running > 0 || is_soon, "{stuck} calls wait for nothing");
            }
            script.fail(false);
            while let Some(call) = calls.join_next().await {
                call.expect("no call breaks off");
            }
            assert_eq!(house.leases(), 0);
            // Beyond every pause of a crash loop, and beyond `idle`.
            ms(100_000).await;
            let counts = fleet.counts();
            let expected = counts.wanted.min(places);
            assert_eq!((counts.frozen, counts.total()), (expected, expected), "as many as were asked for");
            fleet.retire();
            fleet.until_gone().await;
            assert_eq!((script.alive(), house.instances()), (0, 0));
        });
    }
}
