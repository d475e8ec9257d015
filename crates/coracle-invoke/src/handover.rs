//! From one revision of a program to the next: the old fleet serves until the new one can.
//! Room has one for each function whose code is a program, and makes the next one when the function is deployed anew.

use std::sync::{Arc, Mutex, PoisonError};

use coracle_model::Revision;
use tokio::time::Instant;

use crate::fleet::member::Start;
use crate::fleet::{Fleet, InstanceCounts, Lease, Refusal};

/// A program at one revision, and the one before until this one is ready.
///
/// No call fails because of a deploy: a new revision that does not start is tried again and again, and shown as failing, while the old one serves.
/// That ends when the old one has no instance left, because it was idle or crashed: then calls get what the new one has to say.
#[derive(Debug)]
pub(crate) struct Program<S: Start> {
    served: Served<S>,
    // Std mutex: held to look or to take, never over an await.
    before: Mutex<Option<Served<S>>>,
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
        Arc::new(Self { served: Served { revision, fleet }, before: Mutex::default() })
    }

    /// The program that takes the place of this one as soon as it is ready; at once, if this one does not run.
    pub(crate) fn next(&self, revision: Arc<Revision>, fleet: Fleet<S>) -> Arc<Self> {
        let next = Self::first(revision, fleet);
        let running = self.running();
        if let Some(served) = &running {
            // Nobody calls it before it is ready, so that somebody else has to want it.
            next.served.fleet.hold(1);
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

impl<S: Start> Clone for Served<S> {
    fn clone(&self) -> Self {
        Self { revision: Arc::clone(&self.revision), fleet: self.fleet.clone() }
    }
}
