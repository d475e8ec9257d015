//! From one revision of a program to the next: the old fleet serves until the new one can.
//! Room has one for each function whose code is a program, and makes the next one when the function is deployed anew.

use std::sync::{Arc, Mutex, PoisonError};

use coracle_model::Revision;
use coracle_runtime::Standing;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::fleet::member::{Berth, Start};
use crate::fleet::{Fleet, InstanceCounts, Lease, Refusal};

/// A program at one revision, and the one before until this one is ready.
///
/// No call fails because of a deploy: a new revision that does not start is tried again and again, and shown as failing, while the old one serves.
/// The old one keeps an instance for that, however idle it is; only when it crashes do calls get what the new one has to say.
#[derive(Debug)]
pub(crate) struct Program<S: Start> {
    served: Served<S>,
    // Std mutex: held to look or to take, never over an await.
    before: Mutex<Option<Served<S>>>,
    /// Whether calls get this revision.
    is_serving: watch::Sender<bool>,
}

/// A revision and its instances.
#[derive(Debug)]
struct Served<S: Start> {
    revision: Arc<Revision>,
    fleet: Fleet<S>,
}

impl<S: Start> Program<S> {
    /// The program of a function that has no older one; its minimum is started.
    pub(crate) fn first(revision: Arc<Revision>, fleet: Fleet<S>) -> Arc<Self> {
        fleet.warm();
        Arc::new(Self {
            served: Served { revision, fleet },
            before: Mutex::default(),
            is_serving: watch::Sender::new(true),
        })
    }

    /// The program that takes the place of this one as soon as it is ready; at once, if this one does not run.
    pub(crate) fn next(&self, revision: Arc<Revision>, fleet: Fleet<S>) -> Arc<Self> {
        // What was asked for stays; but whoever deploys anew wants it to run.
        let is_renewed = Arc::ptr_eq(&revision, &self.served.revision);
        fleet.ask_for(self.served.fleet.asked().filter(|asked| *asked > 0 || is_renewed));
        let next = Self::first(revision, fleet);
        let running = self.running();
        if let Some(served) = &running {
            // Nobody calls it before it is ready, so that somebody else has to want it.
            next.served.fleet.hold(1);
            // And what serves must not go to sleep for good meanwhile.
            served.fleet.hold(1);
            next.is_serving.send_replace(false);
            *next.lock() = Some(served.clone());
            tokio::spawn(Arc::clone(&next).take_over(served.clone()));
        }
        // Of two deploys in a row, the first may not have got as far as to serve.
        if running.is_none_or(|served| !served.fleet.is(&self.served.fleet)) {
            self.served.fleet.retire();
        }
        next
    }

    /// A place for a call, and the revision that it is in.
    pub(crate) async fn lease(&self, deadline: Instant) -> Result<(Lease<S>, Arc<Revision>), Refusal> {
        let before = self.lock().clone();
        if let Some(before) = before {
            match before.fleet.lease(deadline).await {
                Err(Refusal::Retired) => {}
                other => return other.map(|lease| (lease, before.revision)),
            }
        }
        self.served.fleet.lease(deadline).await.map(|lease| (lease, Arc::clone(&self.served.revision)))
    }

    /// Starts an instance of this revision, if none runs; until it is ready, and calls get it, or it could not start.
    pub(crate) async fn tried(&self) {
        let is_first = *self.is_serving.borrow();
        let _held = is_first.then(|| Held::one(&self.served.fleet));
        let mut is_serving = self.is_serving.subscribe();
        let ready = async {
            self.served.fleet.until_ready().await;
            // Whoever tells is `self`.
            let _ = is_serving.wait_for(|is_serving| *is_serving).await;
        };
        tokio::select! {
            () = ready => {}
            () = self.served.fleet.until_failed() => {}
        }
    }

    /// Makes it so many instances until told otherwise, up to the maximum, and says how many.
    pub(crate) fn scale(&self, instances: u32) -> u32 {
        if instances == 0
            && let Some(before) = self.lock().take()
        {
            // Nothing runs that calls could wait with: the next one starts the newest revision.
            before.fleet.retire();
            self.is_serving.send_replace(true);
            self.served.fleet.hold(0);
        }
        self.served.fleet.scale(instances)
    }

    /// Keeps its minimum here, or leaves it to another server.
    pub(crate) fn keep(&self, is_kept: bool) {
        self.served.fleet.keep(is_kept);
        if let Some(before) = &*self.lock() {
            before.fleet.keep(is_kept);
        }
    }

    /// Takes no more calls, and stops every instance when its calls are over.
    pub(crate) fn retire(&self) {
        self.served.fleet.retire();
        if let Some(before) = self.lock().take() {
            before.fleet.retire();
        }
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> &Arc<Revision> {
        &self.served.revision
    }

    /// The instances of the newest revision.
    pub(crate) fn fleet(&self) -> &Fleet<S> {
        &self.served.fleet
    }

    /// How the instances stand that calls get.
    pub(crate) fn standing(&self) -> Standing {
        let before = self.lock().clone();
        before.as_ref().unwrap_or(&self.served).fleet.standing()
    }

    /// The instances of both revisions; what failed is of the newest.
    pub(crate) fn counts(&self) -> InstanceCounts {
        let newest = self.served.fleet.counts();
        let before = self.lock().clone();
        match before {
            None => newest,
            Some(before) => {
                let old = before.fleet.counts();
                InstanceCounts {
                    starting: newest.starting + old.starting,
                    ready: newest.ready + old.ready,
                    busy: newest.busy + old.busy,
                    frozen: newest.frozen + old.frozen,
                    stopping: newest.stopping + old.stopping,
                    serves_before: Some(before.revision.number),
                    ..newest
                }
            }
        }
    }

    /// The instances of both revisions that take calls.
    pub(crate) fn berths(&self) -> Vec<Arc<Berth<S::Member>>> {
        let before = self.lock().clone();
        let mut berths = self.served.fleet.berths();
        berths.extend(before.into_iter().flat_map(|before| before.fleet.berths()));
        berths
    }

    /// Lets the one before go when this one is ready, or when nothing of that one is left to serve.
    async fn take_over(self: Arc<Self>, before: Served<S>) {
        tokio::select! {
            () = self.served.fleet.until_ready() => {}
            () = before.fleet.until_empty() => {}
        }
        // Calls first, so that those which find the old one retired know where to go.
        let ours = self.lock().take();
        // It is not ours to retire when the next deploy took it.
        if let Some(before) = ours {
            before.fleet.retire();
        }
        self.is_serving.send_replace(true);
        self.served.fleet.hold(0);
    }

    /// What has an instance, of this one and the one before.
    fn running(&self) -> Option<Served<S>> {
        let before = self.lock().take();
        match before {
            Some(before) if self.served.fleet.is_ready() => {
                before.fleet.retire();
                Some(self.served.clone())
            }
            Some(before) => Some(before),
            None => self.served.fleet.is_running().then(|| self.served.clone()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Served<S>>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instance that is kept for as long as somebody waits for it.
struct Held<'a, S: Start>(&'a Fleet<S>);

impl<'a, S: Start> Held<'a, S> {
    fn one(fleet: &'a Fleet<S>) -> Self {
        fleet.hold(1);
        Self(fleet)
    }
}

impl<S: Start> Drop for Held<'_, S> {
    fn drop(&mut self) {
        self.0.hold(0);
    }
}

impl<S: Start> Clone for Served<S> {
    fn clone(&self) -> Self {
        Self { revision: Arc::clone(&self.revision), fleet: self.fleet.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::house::House;
    use crate::fleet::tests::{Script, Scripted, fleet_in, ms, scale, soon};
    use coracle_model::{Code, Contract, Digest, FunctionRef, Settings};
    use tokio::task::JoinSet;

    fn revision(number: u32) -> Arc<Revision> {
        Arc::new(Revision {
            function: FunctionRef::parse("hello").expect("a name"),
            number,
            code: Code::Bundle(Digest::from_bytes([7; 32])),
            contract: Contract::Http,
            settings: Settings::default(),
            created: jiff::Timestamp::UNIX_EPOCH,
        })
    }

    fn first(house: &Arc<House<Scripted>>, script: &Scripted) -> Arc<Program<Scripted>> {
        Program::first(revision(1), fleet_in(house, script, scale(0, 20, 2)))
    }

    fn next(
        program: &Program<Scripted>,
        number: u32,
        house: &Arc<House<Scripted>>,
        script: &Scripted,
    ) -> Arc<Program<Scripted>> {
        program.next(revision(number), fleet_in(house, script, scale(0, 20, 2)))
    }

    async fn serves(program: &Program<Scripted>) -> u32 {
        program.lease(soon()).await.expect("a place").1.number
    }

    #[tokio::test(start_paused = true)]
    async fn a_deploy_under_load_fails_no_call() {
        let (house, old, new) = (House::new(100), Script::taking(20), Script::taking(200));
        let mut program = first(&house, &old);
        let mut calls = JoinSet::new();
        let mut revisions = Vec::new();
        for millisecond in 0..600 {
            if millisecond == 100 {
                program = next(&program, 2, &house, &new);
            }
            let program = Arc::clone(&program);
            calls.spawn(async move {
                let (lease, revision) = program.lease(soon()).await.expect("no call fails");
                ms(7).await;
                drop(lease);
                revision.number
            });
            ms(1).await;
        }
        while let Some(call) = calls.join_next().await {
            revisions.push(call.expect("a call"));
        }
        let of_old = revisions.iter().filter(|number| **number == 1).count();
        assert_eq!(revisions.len(), 600);
        assert!((290..=310).contains(&of_old), "the old one serves until the new one is ready: {of_old}");
        ms(1).await;
        assert_eq!((old.alive(), program.counts().serves_before), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_revision_that_does_not_start_leaves_the_old_one_serving_and_says_so() {
        let (house, old, new) = (House::new(100), Script::taking(20), Script::taking(20));
        new.fail(true);
        let before = first(&house, &old);
        assert_eq!(serves(&before).await, 1);
        let program = next(&before, 2, &house, &new);
        for _ in 0..100 {
            ms(1_000).await;
            assert_eq!(serves(&program).await, 1);
        }
        let counts = program.counts();
        assert_eq!(counts.serves_before, Some(1));
        assert!(counts.last_failure.is_some_and(|failure| failure.message == "exited with code 2"));
        // Mended from outside: the next try succeeds, and takes over.
        new.fail(false);
        ms(31_000).await;
        assert_eq!((serves(&program).await, old.alive()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_revision_that_rests_is_not_waited_for() {
        let (house, old, new) = (House::new(100), Script::taking(20), Script::taking(20));
        let program = next(&first(&house, &old), 2, &house, &new);
        ms(1_000).await;
        assert_eq!((old.starts(), new.starts()), (0, 0), "from zero to zero");
        assert_eq!(serves(&program).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_revision_stays_awake_as_long_as_the_new_one_fails() {
        let (house, old, new) = (House::new(100), Script::taking(20), Script::taking(20));
        new.fail(true);
        let before = first(&house, &old);
        assert_eq!(serves(&before).await, 1);
        let program = next(&before, 2, &house, &new);
        ms(3_600_000).await;
        assert_eq!((serves(&program).await, program.counts().serves_before), (1, Some(1)));
        assert_eq!(old.alive(), 1);
        program.retire();
        program.fleet().until_gone().await;
        ms(1).await;
        assert_eq!(old.alive(), 0);
        let starts = new.starts();
        ms(3_600_000).await;
        assert_eq!(new.starts(), starts, "nobody calls: nothing is tried");
    }

    #[tokio::test(start_paused = true)]
    async fn a_revision_is_tried_at_its_deploy_and_rests_if_nobody_calls() {
        let (house, good, bad) = (House::new(100), Script::taking(20), Script::taking(20));
        let program = first(&house, &good);
        program.tried().await;
        assert_eq!((good.alive(), program.counts().total()), (1, 1));
        ms(301_000).await;
        assert_eq!(good.alive(), 0);
        bad.fail(true);
        let program = first(&house, &bad);
        program.tried().await;
        assert!(program.counts().last_failure.is_some());
        let starts = bad.starts();
        ms(3_600_000).await;
        assert_eq!(bad.starts(), starts, "once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deploy_during_a_deploy_goes_from_the_first_to_the_third() {
        let (house, old) = (House::new(100), Script::taking(20));
        let (second, third) = (Script::taking(5_000), Script::taking(20));
        let one = first(&house, &old);
        let _busy = one.lease(soon()).await.expect("a place");
        let two = next(&one, 2, &house, &second);
        assert_eq!(serves(&two).await, 1);
        let three = next(&two, 3, &house, &third);
        assert_eq!(serves(&three).await, 1);
        ms(30).await;
        assert_eq!(serves(&three).await, 3);
        ms(10_000).await;
        assert_eq!((second.alive(), third.alive(), old.alive()), (0, 1, 1), "the first has a call still");
        three.retire();
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_outlives_a_deploy_and_none_does_not() {
        let (house, old, new) = (House::new(100), Script::taking(20), Script::taking(20));
        let one = first(&house, &old);
        assert_eq!(one.scale(3), 3);
        ms(100).await;
        let two = next(&one, 2, &house, &new);
        ms(100).await;
        assert_eq!((old.alive(), new.alive(), two.counts().wanted), (0, 3, 3));
        assert_eq!(two.scale(0), 0);
        ms(1).await;
        assert_eq!(new.alive(), 0);
        let three = two.next(revision(3), fleet_in(&house, &old, scale(1, 20, 2)));
        ms(100).await;
        assert_eq!((old.alive(), three.counts().wanted), (1, 1), "a deploy wants its minimum to run");
        three.scale(0);
        let renewed = three.next(Arc::clone(three.revision()), fleet_in(&house, &new, scale(1, 20, 2)));
        ms(100).await;
        assert_eq!((new.alive(), renewed.counts().wanted), (0, 0), "other secrets are no deploy");
    }

    #[tokio::test(start_paused = true)]
    async fn none_asked_for_during_a_deploy_is_none_of_both_revisions() {
        let (house, old, new) = (House::new(100), Script::taking(20), Script::taking(5_000));
        let one = first(&house, &old);
        let busy = one.lease(soon()).await.expect("a place");
        let two = next(&one, 2, &house, &new);
        ms(10).await;
        assert_eq!(two.scale(0), 0);
        ms(10).await;
        assert_eq!((old.alive(), new.alive()), (1, 0), "the call that runs is finished");
        drop(busy);
        ms(10_000).await;
        assert_eq!((old.alive(), new.alive(), two.counts().total()), (0, 0, 0));
        assert_eq!(serves(&two).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_is_retired_leaves_nothing() {
        let (house, old, new) = (House::new(100), Script::taking(20), Script::taking(2_000));
        let before = first(&house, &old);
        assert_eq!(serves(&before).await, 1);
        let program = next(&before, 2, &house, &new);
        ms(10).await;
        program.retire();
        program.fleet().until_gone().await;
        ms(1).await;
        assert_eq!((old.alive(), new.alive(), house.instances()), (0, 0, 0));
    }
}
