//! What must be true of everything that was seen: pure, from a history to the promises that were broken.
//! The tests call it at their end; its own tests hold it to finding what is wrong.

use std::collections::BTreeMap;

/// What is said of an attempt whose node was killed.
const LOST: &str = "attempt-lost";

/// A moment: greater than every moment before, whoever looked.
pub(crate) type Moment = u64;

/// A run of a function, as the one saw it that the function asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Which call.
    pub(crate) call: u32,
    pub(crate) began: Moment,
    /// When it was told what to answer, and what; none if it was cut off before.
    pub(crate) answered: Option<(Moment, u16)>,
}

/// A call, as its producer and those who asked after it saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) number: u32,
    /// In whose order it runs: those of one group were accepted in the order of their numbers.
    pub(crate) group: Option<u32>,
    /// Who it is, once it was acknowledged. One that nobody acknowledged may run or not.
    pub(crate) id: Option<String>,
    /// Since when it was known that it had been cancelled before it ran.
    pub(crate) cancelled: Option<Moment>,
    /// Whether anybody asked for its cancellation, heard or not.
    pub(crate) was_to_be_cancelled: bool,
    /// When it was first seen to have ended, and how.
    pub(crate) seen_ended: Option<(Moment, String)>,
    /// How it stands in the end.
    pub(crate) last: Option<Last>,
}

/// How a call stands in the end, as the API says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) state: String,
    /// Of each attempt that is told: its number, the node, and what came of it.
    pub(crate) attempts: Vec<(u64, String, String)>,
    pub(crate) attempts_made: u64,
    /// Why it is not tried again.
    pub(crate) reason: Option<String>,
}

/// The promises that were broken, each with the call that shows it.
pub(crate) fn broken(calls: &[Told], runs: &[Run]) -> Vec<String> {
    let mut runs_of: BTreeMap<u32, Vec<Run>> = BTreeMap::new();
    for run in runs {
        runs_of.entry(run.call).or_default().push(*run);
    }
    let of = |call: u32| runs_of.get(&call).map_or(&[][..], Vec::as_slice);
    let mut broken = Vec::new();
    for call in calls.iter().filter(|call| call.id.is_some()) {
        let (number, runs) = (call.number, of(call.number));
        let mut tell = |what: String| broken.push(format!("call {number}: {what}\n  {call:?}\n  {runs:?}"));
        match &call.last {
            None => tell("it was acknowledged, and nobody knows it".into()),
            Some(last) => ended(call, last, runs).into_iter().for_each(&mut tell),
        }
        if let Some(cancelled) = call.cancelled
            && runs.iter().any(|run| run.began > cancelled)
        {
            tell("it ran after it had been cancelled".into());
        }
        if let Some((seen, state)) = &call.seen_ended
            && runs.iter().any(|run| run.began > *seen)
        {
            tell(format!("it ran after it was said to be {state}"));
        }
    }
    broken.extend(out_of_order(calls, of));
    broken
}

/// What is wrong with how a call ended.
fn ended(call: &Told, last: &Last, runs: &[Run]) -> Vec<String> {
    let mut wrong = Vec::new();
    let answered = |fits: &dyn Fn(u16) -> bool| {
        runs.iter().any(|run| run.answered.is_some_and(|(_, status)| fits(status)))
    };
    match last.state.as_str() {
        "succeeded" if !answered(&|status| status < 400) => {
            wrong.push("it succeeded without a good run".into())
        }
        "failed" if !answered(&|status| (400..500).contains(&status)) => {
            wrong.push("it failed without a run that did".into());
        }
        "cancelled" if !call.was_to_be_cancelled => wrong.push("it was cancelled, and nobody asked".into()),
        "dead" => wrong.extend(without_story(last)),
        "succeeded" | "failed" | "cancelled" => {}
        state => wrong.push(format!("it never ended: it is {state}")),
    }
    if let Some((_, seen)) = &call.seen_ended
        && *seen != last.state
    {
        wrong.push(format!("it was {seen} once, and is {} now", last.state));
    }
    wrong
}

/// What the story of a dead call leaves out.
fn without_story(last: &Last) -> Option<String> {
    // Of one that was lost with its node, nobody is left who knows where it was.
    let is_told = |(number, node, end): &(u64, String, String)| {
        *number > 0 && !end.is_empty() && (!node.is_empty() || end.contains(LOST))
    };
    let numbers: Vec<u64> = last.attempts.iter().map(|(number, ..)| *number).collect();
    if numbers.is_empty() || !numbers.is_sorted() || !last.attempts.iter().all(is_told) {
        return Some("it is dead, and its attempts are not told".into());
    }
    if numbers.last() != Some(&last.attempts_made) {
        return Some(format!("it is dead after {} attempts, and another number is told", last.attempts_made));
    }
    last.reason.is_none().then(|| "it is dead, and nobody says why it is not tried again".into())
}

/// Calls of one group of which a later one ran before an earlier one was over.
fn out_of_order<'a>(calls: &[Told], runs_of: impl Fn(u32) -> &'a [Run]) -> Vec<String> {
    let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.id.is_some()) {
        if let Some(group) = call.group {
            groups.entry(group).or_default().push(call.number);
        }
    }
    let mut broken = Vec::new();
    for (group, mut numbers) in groups {
        numbers.sort_unstable();
        // The last moment in which any call before was at work.
        let mut busy: Option<(Moment, u32)> = None;
        for number in numbers {
            let runs = runs_of(number);
            if let (Some((until, before)), Some(first)) = (busy, runs.iter().map(|run| run.began).min())
                && first < until
            {
                broken.push(format!("group {group}: call {number} ran before call {before} was over"));
            }
            // Of one that was cut off, only the beginning is certain.
            let last = runs.iter().map(|run| run.answered.map_or(run.began, |(moment, _)| moment)).max();
            busy = busy.max(last.map(|last| (last, number)));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(call: u32, began: Moment, answered: Option<(Moment, u16)>) -> Run {
        Run { call, began, answered }
    }

    fn told(number: u32, state: &str) -> Told {
        let last = Some(Last { state: state.into(), ..Last::default() });
        Told { number, id: Some(format!("id{number}")), last, ..Told::default() }
    }

    fn check(calls: &[Told], runs: &[Run], expected: &[&str]) {
        let found = broken(calls, runs);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn a_history_in_which_all_is_well_breaks_nothing() {
        let group = Some(1);
        let calls = [
            Told { group, ..told(1, "succeeded") },
            Told { group, seen_ended: Some((9, "succeeded".into())), ..told(2, "succeeded") },
            Told { cancelled: Some(4), was_to_be_cancelled: true, ..told(3, "cancelled") },
            Told { id: None, ..told(4, "waiting") },
        ];
        // The first was cut off, and ran again before the second one began.
        let runs = [
            run(1, 1, None),
            run(1, 2, Some((5, 200))),
            run(2, 6, Some((7, 200))),
            run(4, 10, Some((11, 200))),
        ];
        check(&calls, &runs, &[]);
    }

    #[test]
    fn a_call_that_never_ended_or_is_gone_is_found() {
        check(&[told(1, "waiting")], &[], &["it never ended: it is waiting"]);
        check(&[Told { last: None, ..told(1, "") }], &[], &["nobody knows it"]);
        check(&[told(1, "succeeded")], &[run(1, 1, Some((2, 503)))], &["it succeeded without a good run"]);
        check(&[told(1, "cancelled")], &[], &["nobody asked"]);
    }

    #[test]
    fn a_run_after_the_end_is_found() {
        let ran = [run(1, 1, Some((2, 200))), run(1, 5, None)];
        let seen = Told { seen_ended: Some((3, "succeeded".into())), ..told(1, "succeeded") };
        check(&[seen], &ran, &["it ran after it was said to be succeeded"]);
        let cancelled = Told { cancelled: Some(3), was_to_be_cancelled: true, ..told(1, "cancelled") };
        check(&[cancelled], &ran, &["it ran after it had been cancelled"]);
        let changed = Told { seen_ended: Some((9, "dead".into())), ..told(1, "succeeded") };
        check(&[changed], &ran, &["it was dead once, and is succeeded now"]);
    }

    #[test]
    fn a_group_out_of_order_is_found() {
        let group = Some(1);
        let calls = [Told { group, ..told(1, "succeeded") }, Told { group, ..told(2, "succeeded") }];
        let at_once = [run(1, 1, Some((4, 200))), run(2, 3, Some((5, 200)))];
        check(&calls, &at_once, &["call 2 ran before call 1 was over"]);
        let again = [run(1, 1, None), run(2, 3, Some((5, 200))), run(1, 6, Some((7, 200)))];
        check(&calls, &again, &["call 2 ran before call 1 was over"]);
    }

    #[test]
    fn a_dead_call_without_its_story_is_found() {
        let dead = |attempts: &[u64], attempts_made, reason: Option<&str>| {
            let attempts =
                attempts.iter().map(|number| (*number, "a".to_owned(), "503".to_owned())).collect();
            let last =
                Last { state: "dead".into(), attempts, attempts_made, reason: reason.map(str::to_owned) };
            [Told { last: Some(last), ..told(1, "") }]
        };
        check(&dead(&[1, 2, 3], 3, Some("attempts")), &[], &[]);
        check(&dead(&[], 3, Some("attempts")), &[], &["its attempts are not told"]);
        check(&dead(&[1, 2], 3, Some("attempts")), &[], &["another number is told"]);
        check(&dead(&[1], 1, None), &[], &["nobody says why"]);
        let somewhere = |end: &str| {
            let [mut call] = dead(&[1], 1, Some("attempts"));
            call.last.as_mut().unwrap().attempts = vec![(1, String::new(), end.to_owned())];
            [call]
        };
        check(&somewhere(LOST), &[], &[]);
        check(&somewhere("503"), &[], &["its attempts are not told"]);
    }
}
