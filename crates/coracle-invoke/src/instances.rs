//! The instances of functions, beside the calls: how many there are, how many there should be, and their end.
//! The admin API asks and sets here; `serve.rs` warms what always runs, and says what changed.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::{Code, Contract, FunctionRef, Outcome, Problem, Revision, code};
use coracle_runtime::{Answer, Running, Work};
use tokio::time::Instant;

use crate::call::{Held, Invoke, stopping};
use crate::fleet::{InstanceCounts, Refusal};
use crate::keepers::Keepers;
use crate::record::{Recorder, Usage};
use crate::room::{Pool, Program, Room};

/// The least time that programs are given to end when the server stops, however long its calls took.
const LAST_GRACE: Duration = Duration::from_secs(1);

impl Invoke {
    /// Starts the instances of these functions that run even when nobody calls, as far as this server keeps them.
    pub fn warm(&self, functions: impl IntoIterator<Item = Arc<Revision>>) {
        for revision in functions {
            if self.min_here(&revision) > 0 {
                self.room_of(&revision);
            }
        }
    }

    /// Takes part in keeping what runs even when nobody calls: each function's instances are kept by one of the servers.
    ///
    /// What another one keeps from now on serves here for as long as it is called, and goes when it was idle for long.
    pub fn keep_among(&self, keepers: Keepers) {
        if self.0.rooms.keep_among(keepers) {
            self.warm(self.0.catalog.current());
        }
    }

    /// Instances of a program that run on this server even when nobody calls.
    fn min_here(&self, revision: &Revision) -> u32 {
        let is_ours = is_program(revision) && self.0.rooms.keeps(&revision.function);
        if is_ours { revision.settings.scale.min } else { 0 }
    }

    /// Makes it so many instances of a program, up to its maximum, and says how many that is.
    ///
    /// They take the place of its minimum until told otherwise, or until the server ends: calls may start more, and what
    /// is not called is stopped after `idle` down to so many. None is none until the next call; then its minimum holds again.
    ///
    /// # Errors
    /// When there is no such function, or it is no program.
    pub async fn scale(&self, function: &FunctionRef, instances: u32) -> Result<u32, Problem> {
        let inner = &self.0;
        let revision = inner.catalog.resolve(function).ok_or_else(|| Problem::no_function(function))?;
        let room = self.room_of(&revision);
        let Some(program) = room.program(&revision, &inner.rooms.starts(&inner.runtime)) else {
            return Err(Problem::new(
                &code::INVALID_SETTINGS,
                format!("`{function}` is WebAssembly, which has an instance for each call and is not scaled"),
            )
            .hint("`concurrency` of the function bounds its calls at once"));
        };
        Ok(program.scale(instances))
    }

    /// Starts an instance of a program that listens, if none runs: until calls get its current revision, or that could not start.
    ///
    /// An older revision that runs serves until then. For all other code there is nothing to try.
    pub async fn tried(&self, function: &FunctionRef) {
        let inner = &self.0;
        let is_tried = |revision: &Arc<Revision>| {
            is_program(revision) && matches!(revision.contract, Contract::Http | Contract::Watchdog)
        };
        let Some(revision) = inner.catalog.resolve(function).filter(is_tried) else { return };
        if let Some(program) = self.room_of(&revision).program(&revision, &inner.rooms.starts(&inner.runtime))
        {
            program.tried().await;
        }
    }

    /// The instances of a function's program; none for Wasm, and for a program that was never called.
    pub fn instances_of(&self, function: &FunctionRef) -> InstanceCounts {
        match self.0.rooms.get(function).map(|room| room.current_pool()).as_deref() {
            Some(Pool::Program(program)) => program.counts(),
            Some(Pool::Wasm(_)) => InstanceCounts::default(),
            None => {
                let revision = self.0.catalog.resolve(function);
                let wanted = revision.map_or(0, |revision| self.min_here(&revision));
                InstanceCounts { wanted, ..InstanceCounts::default() }
            }
        }
    }

    /// Instances that exist, of all functions.
    pub fn instances(&self) -> u64 {
        let house = self.0.rooms.house();
        let of_wasm = self.in_flight().saturating_sub(house.leases()) + self.0.rooms.idle() as u64;
        of_wasm + house.instances()
    }

    /// Those of them that wait for a call.
    pub fn idle_instances(&self) -> usize {
        self.0.rooms.idle() + self.0.rooms.house().idle()
    }

    /// Those of them that wait for a call of this function.
    pub fn idle_instances_of(&self, function: &FunctionRef) -> usize {
        self.0.rooms.get(function).map_or(0, |room| match &*room.current_pool() {
            Pool::Wasm(instances) => instances.idle.len(),
            Pool::Program(program) => {
                let counts = program.counts();
                (counts.ready + counts.frozen) as usize
            }
        })
    }

    /// Brings the numbers of instances by state up to date, before somebody reads them.
    pub fn mirror(&self) {
        for room in self.0.rooms.all() {
            if let Pool::Program(program) = &*room.current_pool() {
                let InstanceCounts { starting, ready, busy, frozen, stopping, .. } = program.counts();
                let counts = [starting, ready, busy, frozen, stopping];
                for (gauge, count) in room.metrics.program().instances.iter().zip(counts) {
                    gauge.set(count.into());
                }
            }
        }
    }

    /// Lets go of what a function has that is not current any more: it was deployed anew, removed, or its secrets changed.
    ///
    /// A program that runs, or always does, is started at its new revision at once.
    pub fn changed(&self, function: &FunctionRef) {
        let inner = &self.0;
        let Some(revision) = inner.catalog.resolve(function) else {
            if let Some(room) = inner.rooms.close(function) {
                room.close();
            }
            return;
        };
        if let Some(room) = inner.rooms.get(function) {
            let starts = inner.rooms.starts(&inner.runtime);
            match &*room.current_pool() {
                Pool::Wasm(instances) => {
                    drop(instances.idle.take_all());
                    room.program(&revision, &starts);
                }
                Pool::Program(program) if !Arc::ptr_eq(program.revision(), &revision) => {
                    if room.program(&revision, &starts).is_none() {
                        room.instances(&revision, &inner.runtime);
                    }
                }
                Pool::Program(program) if program.fleet().start().secrets_changed() => {
                    room.renew(&revision, &starts);
                }
                Pool::Program(_) => {}
            }
        } else {
            self.warm([revision]);
        }
    }

    /// Runs a call in an instance of a program, and lets the instance go when the call is over.
    pub(crate) async fn call_program(
        &self,
        room: &Room,
        revision: &Arc<Revision>,
        work: Work,
        mut recorder: Recorder,
        held: Held,
    ) -> Outcome {
        let (mut work, function) = (work, &revision.function);
        if revision.contract == Contract::Watchdog
            && let Some(outcome) = self.probed(function, &work.request)
        {
            recorder.started(false);
            if let Ok(reply) = &outcome {
                recorder.answered(reply.status().as_u16());
            }
            recorder.end(outcome.as_ref().err().map(|problem| &**problem), Usage::default());
            return outcome;
        }
        // Nearly always what the call was resolved to is current still, and nobody need look it up again.
        let mut program = room.program_at(revision);
        let (lease, Answer { reply, running }) = loop {
            let (lease, revision) = match self.lease(function, program.take(), work.deadline).await {
                Ok(leased) => leased,
                Err(problem) => {
                    recorder.end(Some(&problem), Usage::default());
                    return Err(problem);
                }
            };
            recorder.serves(revision.number);
            recorder.started(lease.is_cold);
            match lease.member().serve(work).await {
                Ok(answer) => break (lease, answer),
                // It ended before it heard of the call: the fleet is about to know, and has another, or says why not.
                Err(untouched) => work = untouched,
            }
            lease.until_gone().await;
        };
        if let Ok(reply) = &reply {
            recorder.answered(reply.status().as_u16());
        }
        let over = move |recorder: Recorder, ended: coracle_runtime::Ended| {
            let usage = Usage {
                bytes_in: ended.bytes_in,
                bytes_out: ended.bytes_out,
                memory_bytes: ended.memory_bytes,
            };
            recorder.end(ended.problem.as_deref(), usage);
            drop((lease, held));
        };
        match running {
            Running::Over(ended) => over(recorder, ended),
            Running::Still(guest) => {
                tokio::spawn(async move {
                    // A task that panicked has no usage to tell; its record says the client is gone.
                    if let Ok(ended) = guest.await {
                        over(recorder, ended);
                    }
                });
            }
        }
        reply
    }

    /// What is answered to a question after the instances of a function, where its contract has such.
    fn probed(
        &self,
        function: &FunctionRef,
        request: &http::Request<coracle_model::Body>,
    ) -> Option<Outcome> {
        let current = self.0.catalog.resolve(function)?;
        let program = self.room_of(&current).program(&current, &self.0.rooms.starts(&self.0.runtime))?;
        program.fleet().start().probed(request, || program.standing())
    }

    /// Stops the instances of all programs, and waits for their end.
    pub(crate) async fn stop_programs(&self, at_most: Duration) {
        let rooms = self.0.rooms.all();
        rooms.iter().for_each(|room| room.close());
        let all_gone = async {
            for room in &rooms {
                if let Pool::Program(program) = &*room.current_pool() {
                    program.fleet().until_gone().await;
                }
            }
        };
        // What is there still ends with the server: the spawner sees to it.
        let _ = tokio::time::timeout(at_most.max(LAST_GRACE), all_gone).await;
    }

    async fn lease(
        &self,
        function: &FunctionRef,
        mut program: Option<Arc<Program>>,
        deadline: Instant,
    ) -> Result<(crate::fleet::Lease<crate::program::Launcher>, Arc<Revision>), Box<Problem>> {
        loop {
            let program = match program.take() {
                Some(program) => program,
                None => self.current_program(function)?,
            };
            match program.lease(deadline).await {
                Ok(leased) => return Ok(leased),
                Err(Refusal::Problem(problem)) => return Err(problem),
                // Another took its place, unless nothing does any more.
                Err(Refusal::Retired) if self.is_stopping() => return Err(Box::new(stopping())),
                Err(Refusal::Retired) => tokio::task::yield_now().await,
            }
        }
    }

    fn current_program(&self, function: &FunctionRef) -> Result<Arc<Program>, Box<Problem>> {
        let inner = &self.0;
        let current =
            inner.catalog.resolve(function).ok_or_else(|| Box::new(Problem::no_function(function)))?;
        // Not the room that the call was admitted in: the function may have been removed and deployed anew since.
        let program = self.room_of(&current).program(&current, &inner.rooms.starts(&inner.runtime));
        program.ok_or_else(|| Box::new(became_other_code(function)))
    }

    fn room_of(&self, revision: &Arc<Revision>) -> Arc<Room> {
        let inner = &self.0;
        inner.rooms.of(revision, &inner.runtime, &inner.observe.metrics)
    }
}

fn is_program(revision: &Revision) -> bool {
    !matches!(revision.code, Code::Wasm(_))
}

fn became_other_code(function: &FunctionRef) -> Problem {
    Problem::new(
        &code::SERVER_BUSY,
        format!("`{function}` was deployed anew as WebAssembly while the call waited"),
    )
    .hint("try again")
    .retry_after(1)
}
