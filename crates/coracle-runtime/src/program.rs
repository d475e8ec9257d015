//! Programs in sandboxes: a skeleton of what invoke calls, which the sandbox takes the place of.
//! Nothing starts here yet; [`Runtime::launch`] says so.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::{Problem, Revision, code};

use crate::{Answer, Runtime, Work};

/// What instances of a program are made by: its revision, and what is known of its code.
#[derive(Debug)]
pub struct Blueprint {
    revision: Arc<Revision>,
}

/// One running copy of a program.
#[derive(Debug)]
pub struct Process(Infallible);

/// A process that is ready, and where the time of its start went.
#[derive(Debug)]
pub struct Launched {
    /// The instance.
    pub process: Process,
    /// Until its files were there.
    pub image: Duration,
    /// Until its sandbox stood.
    pub sandbox: Duration,
    /// Until its program ran.
    pub program: Duration,
    /// Until it was ready for calls.
    pub ready: Duration,
}

impl Runtime {
    /// What instances of this revision are made by.
    pub fn blueprint(&self, revision: Arc<Revision>) -> Arc<Blueprint> {
        Arc::new(Blueprint { revision })
    }

    /// Starts an instance: over when it is ready for calls.
    ///
    /// # Errors
    /// Always, until there is a sandbox.
    pub async fn launch(&self, blueprint: &Arc<Blueprint>) -> Result<Launched, Box<Problem>> {
        let function = &blueprint.revision.function;
        Err(Box::new(Problem::new(
            &code::INTERNAL,
            format!("no sandbox can run the program of `{function}`"),
        )))
    }
}

impl Process {
    /// Serves a call, as far as the head of its response.
    pub async fn serve(&self, _work: Work) -> Answer {
        match self.0 {}
    }

    /// Closes the connections that nobody uses, and freezes it.
    pub async fn freeze(&self) {
        match self.0 {}
    }

    /// Lets it go on.
    pub async fn thaw(&self) {
        match self.0 {}
    }

    /// Whether it is well.
    pub async fn is_healthy(&self) -> bool {
        match self.0 {}
    }

    /// How it ended by itself; pending while it lives.
    pub async fn ended(&self) -> String {
        match self.0 {}
    }

    /// Ends it.
    pub async fn stop(&self, _grace: Duration) {
        match self.0 {}
    }
}
