//! Starts from zero: one after the other beside containerd's, and a hundred at once.
//! A function is called once, so that each call finds nothing running.

use std::sync::Barrier;
use std::thread;

use super::Plan;
use super::containerd::Containerd;
use super::stage::{Cores, Stage, call_us, path_of};
use crate::bench::figure::{Bound, Figure, Unit, median};
use crate::surroundings::{now, say};

/// Functions that are called for the first time in a round, one after the other, and containers beside them.
const STARTS: usize = 20;
const CONTAINERS: usize = 5;

/// Functions that are called for the first time all at once.
const BURST: usize = 100;

/// From zero to the first answer, beside `ctr run` of the same image.
pub(super) fn from_zero(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, Cores::All)?;
    stage.deploy_many(1 + STARTS * plan.rounds)?;
    let mut connection = stage.connect()?;
    // The first of all is not counted, with neither: whatever is made once is made now.
    call_us(&mut connection, &path_of(0))?;
    let started = Containerd::start(&plan.dir.join("ctr"), &plan.image);
    let mut containerd = started.and_then(|mut daemon| daemon.start_us().map(|_| daemon));
    if let Err(why) = &containerd {
        say(&format!("containerd cannot be measured: {why}"));
    }

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        say(&format!("round {} of {}", round + 1, plan.rounds));
        let numbers = (1..=STARTS).map(|number| round * STARTS + number);
        let times = numbers.map(|number| call_us(&mut connection, &path_of(number)));
        ours.push(median(&times.collect::<Result<Vec<f64>, String>>()?));
        if let Ok(daemon) = &mut containerd {
            let times = (0..CONTAINERS).map(|_| daemon.start_us());
            theirs.push(median(&times.collect::<Result<Vec<f64>, String>>()?));
        }
    }
    let why = containerd.err();
    stage.clear()?;

    let ours = median(&ours);
    let what = format!("static web server in an image, from zero to its answer, p50 of {STARTS} functions");
    let bound = Bound::AtMost { must: 30_000.0, aim: 12_000.0 };
    let beside = "the same beside `ctr run` of containerd with runc, p50";
    Ok(vec![
        Figure::alone(what, Unit::Microseconds, ours, bound),
        match why {
            None => {
                let bound = Bound::AtLeast { must: 6.0, aim: 15.0 };
                Figure::faster(beside, Unit::Microseconds, ours, median(&theirs), bound)
            }
            Some(why) => Figure::unmeasured(beside, Unit::Microseconds, why.replace('\n', " ")),
        },
    ])
}

/// A hundred functions from zero at once.
pub(super) fn burst(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, Cores::All)?;
    stage.deploy_many(BURST * plan.rounds)?;
    let (mut failures, mut times) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        say(&format!("round {} of {}", round + 1, plan.rounds));
        let (took, failed) = at_once(&stage, round * BURST)?;
        times.push(took);
        failures.extend(failed);
        // The next round finds them at rest.
        stage.await_frozen(BURST * (round + 1) - failures.len())?;
    }
    for failure in &failures {
        say(failure);
    }
    stage.clear()?;
    let what = format!("{BURST} functions from zero at once");
    Ok(vec![
        Figure::alone(
            format!("{what}, calls that failed in {} rounds", plan.rounds),
            Unit::Count,
            failures.len() as f64,
            Bound::AtMost { must: 0.0, aim: 0.0 },
        ),
        Figure::alone(
            format!("{what}, until the last one has answered"),
            Unit::Milliseconds,
            median(&times),
            Bound::AtMost { must: 4_000.0, aim: 1_500.0 },
        ),
    ])
}

/// Calls so many functions from a number on, all in the same moment: how long it took in milliseconds, and what failed.
fn at_once(stage: &Stage<'_>, first: usize) -> Result<(f64, Vec<String>), String> {
    let connections = (0..BURST).map(|_| stage.connect()).collect::<Result<Vec<_>, String>>()?;
    let ready = Barrier::new(BURST + 1);
    let ready = &ready;
    let call = |mut connection, number| {
        ready.wait();
        call_us(&mut connection, &path_of(number))
    };
    let call = &call;
    Ok(thread::scope(|scope| {
        let calls: Vec<_> = connections
            .into_iter()
            .zip(first..)
            .map(|(connection, number)| scope.spawn(move || call(connection, number)))
            .collect();
        ready.wait();
        let begun = now();
        let answers: Vec<_> = calls.into_iter().map(thread::ScopedJoinHandle::join).collect();
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let failed = answers.into_iter().filter_map(|answer| match answer {
            Ok(answer) => answer.err(),
            Err(_) => Some("a caller panicked".to_owned()),
        });
        (took, failed.collect())
    }))
}
