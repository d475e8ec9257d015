//! Says that this server is alive, so that its leases last, and gives back what servers held that are not.
//! One row for all leases: a thousand calls that run long cost no more than one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_store::{Batch, CommitError, Committed};
use serde_json::json;

use crate::engine::Engine;
use crate::gauges;

/// How often.
const EVERY: Duration = Duration::from_secs(3);
/// How long a server is believed to live that says nothing more.
pub(crate) const TIME: Duration = Duration::from_secs(15);

/// Says so for as long as it runs.
pub(crate) async fn run(engine: Arc<Engine>) {
    let mut since = 0u32;
    loop {
        tokio::time::sleep(EVERY).await;
        match beat(&engine).await {
            Ok(committed) => {
                since = 0;
                if committed.reclaimed > 0 {
                    engine.board.watch();
                    tracing::info!(calls = committed.reclaimed, "took over calls of a server that is gone");
                }
                leave(&engine).await;
            }
            Err(error) => {
                since += 1;
                if EVERY * since > TIME {
                    tracing::warn!(%error, "others may take over the calls that run here: the database does not hear of this server");
                }
            }
        }
        engine.depths.refresh(&engine).await;
        gauges::mirror(&engine).await;
        engine.board.tidy();
    }
}

/// How long the database believes that this server lives, by what it heard last.
#[derive(Debug)]
pub(crate) struct Life {
    until: Instant,
    /// How often it has believed that it was gone.
    gaps: u64,
}

impl Life {
    /// Over: nothing was heard of it yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { until: now, gaps: 0 }
    }

    /// To be remembered with a lease, from before it was asked for.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Whether a lease may have gone to another server: this one was stopped for long since, or the database is away.
    pub(crate) fn may_have_lost(&self, gaps: u64, now: Instant) -> bool {
        gaps != self.gaps || now >= self.until
    }

    /// It was heard of, by what was begun then.
    fn goes_on(&mut self, begun: Instant) {
        self.gaps += u64::from(begun >= self.until);
        self.until = self.until.max(begun + TIME);
    }
}

/// Says so once.
pub(crate) async fn beat(engine: &Engine) -> Result<Committed, CommitError> {
    let (info, begun) = (info(engine), engine.observe.clock.instant());
    let mut batch = Batch::new();
    for holder in engine.sessions.all() {
        batch = batch.keep(holder, info.clone(), TIME);
    }
    let committed = engine.database.commit(batch.reclaim()).await?;
    engine.life().goes_on(begun);
    Ok(committed)
}

/// Lets go of names that have nothing left to do.
async fn leave(engine: &Engine) {
    for holder in engine.sessions.leaving() {
        if engine.database.commit(Batch::new().leave(holder.clone())).await.is_err() {
            engine.sessions.not_left(holder);
        }
    }
}

fn info(engine: &Engine) -> String {
    json!({
        "name": engine.options.node,
        "url": engine.options.url,
        "version": env!("CARGO_PKG_VERSION"),
        "started": engine.started,
    })
    .to_string()
}
