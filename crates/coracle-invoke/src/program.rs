//! How the runtime's processes are instances of a fleet: the one file that knows both.
//! Room makes fleets with it, and `call.rs` runs calls in what they lease.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::{Body, FunctionRef, Outcome, Problem, Revision, Scale, code};
use coracle_observe::metrics::FunctionMetrics;
use coracle_runtime::{Blueprint, Launched, Process, Runtime, Standing};

use crate::fleet::house::House;
use crate::fleet::member::{Member, Start};
use crate::fleet::{Fleet, Terms};
use crate::keepers::Keepers;

/// What starts the processes of one revision.
#[derive(Debug)]
pub(crate) struct Launcher {
    runtime: Runtime,
    blueprint: Arc<Blueprint>,
    metrics: Arc<FunctionMetrics>,
}

impl Launcher {
    /// Whether what it starts now has other secrets than what it started first.
    pub(crate) fn secrets_changed(&self) -> bool {
        self.blueprint.secrets_changed()
    }

    /// What the platform answers for its instances, if a call asks after them.
    pub(crate) fn probed(
        &self,
        request: &http::Request<Body>,
        standing: impl FnOnce() -> Standing,
    ) -> Option<Outcome> {
        self.blueprint.probed(request, standing)
    }
}

/// The instances of a revision, none of which runs yet.
pub(crate) fn fleet(
    runtime: &Runtime,
    revision: &Arc<Revision>,
    metrics: &Arc<FunctionMetrics>,
    house: &Arc<House<Launcher>>,
    keepers: &Keepers,
) -> Fleet<Launcher> {
    let start = Launcher {
        runtime: runtime.clone(),
        blueprint: runtime.blueprint(Arc::clone(revision)),
        metrics: Arc::clone(metrics),
    };
    let scale = Scale { target: start.blueprint.calls_each(), ..revision.settings.scale.clone() };
    let terms = Terms {
        function: revision.function.clone(),
        full: start.blueprint.full().or_else(|| (!scale.grows).then(|| full(&revision.function))),
        scale,
        is_kept: keepers.has(&revision.function),
        is_checked: revision.settings.program.health.is_some(),
    };
    Fleet::new(start, terms, house)
}

fn full(function: &FunctionRef) -> Problem {
    Problem::new(
        &code::FUNCTION_BUSY,
        format!("every instance of `{function}` has as many calls as it takes"),
    )
    .hint("try again later, or raise `target` or `min` of the function's `scale`, or let it grow")
    .retry_after(1)
}

impl Start for Launcher {
    type Member = Process;

    async fn start(&self) -> Result<Process, Box<Problem>> {
        let Launched { process, image, sandbox, program, ready } =
            self.runtime.launch(&self.blueprint).await?;
        for (took, of_all) in [image, sandbox, program, ready].into_iter().zip(&self.metrics.program().starts)
        {
            of_all.observe(took);
        }
        Ok(process)
    }
}

impl Member for Process {
    async fn freeze(&self) {
        self.freeze().await;
    }

    async fn thaw(&self) {
        self.thaw().await;
    }

    async fn is_healthy(&self) -> bool {
        self.is_healthy().await
    }

    async fn ended(&self) -> String {
        self.ended().await
    }

    async fn stop(&self, grace: Duration) {
        self.stop(grace).await;
    }
}
