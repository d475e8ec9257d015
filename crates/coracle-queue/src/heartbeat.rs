//! Says that this server is alive, so that its leases last, and gives back what servers held that are not.
//! One row for all leases: a thousand calls that run long cost no more than one. Where no other server is, and nothing
//! happens, it does nothing.

use std::sync::Arc;
use std::time::Duration;

use coracle_store::{Batch, CommitError, Committed};
use serde_json::json;

use crate::engine::Engine;
use crate::gauges::Mirror;

/// How often.
const EVERY: Duration = Duration::from_secs(3);
/// How long a server is believed to live that says nothing more.
const TIME: Duration = Duration::from_secs(15);
/// The same where there is no other server that could take over: longer than clocks are set forward, or laptops sleep.
const TIME_ALONE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Names that leave in one commit.
pub(crate) const LEAVE_AT_ONCE: usize = 500;

/// Says so for as long as it runs.
pub(crate) async fn run(engine: Arc<Engine>) {
    let (mut since, mut mirror) = (0u32, Mirror::default());
    loop {
        if since == 0 {
            rest(&engine, &mirror).await;
        }
        tokio::time::sleep(EVERY).await;
        // One that failed was due, though others may have said it since.
        if since > 0 || is_due(&engine) {
            match beat(&engine).await {
                Ok(committed) => {
                    since = 0;
                    if committed.reclaimed > 0 {
                        engine.board.watch();
                        tracing::info!(
                            calls = committed.reclaimed,
                            "took over calls of a server that is gone"
                        );
                    }
                }
                Err(error) => {
                    since += 1;
                    if is_shared(&engine) && EVERY * since > TIME {
                        tracing::warn!(%error, "others may take over the calls that run here: the database does not hear of this server");
                    }
                }
            }
        }
        if since == 0 {
            leave(&engine).await;
        }
        engine.depths.refresh(&engine).await;
        mirror.update(&engine).await;
        engine.board.tidy();
    }
}

/// While nothing waits or runs, and nobody else can change that, until something happens: nothing is to be looked after
/// then, but for the name, which lasts.
async fn rest(engine: &Engine, mirror: &Mirror) {
    let (Some(mut edition), Some(still)) = (engine.database.edition(), mirror.still_at()) else { return };
    let has_one_name = engine.sessions.all().len() == 1;
    if has_one_name && !is_due(engine) {
        // Whichever ends it.
        let _ = tokio::time::timeout(TIME_ALONE / 4, edition.wait_for(|edition| *edition != still)).await;
    }
}

/// Others want to hear of this server every time; without any, its name must only never be over.
fn is_due(engine: &Engine) -> bool {
    let soon = engine.observe.clock.instant() + TIME_ALONE / 2;
    is_shared(engine) || !engine.sessions.lasts_until(soon)
}

/// Whether there may be other servers.
fn is_shared(engine: &Engine) -> bool {
    engine.database.edition().is_none()
}

/// Says so once.
pub(crate) async fn beat(engine: &Engine) -> Result<Committed, CommitError> {
    let (info, begun) = (info(engine), engine.observe.clock.instant());
    let mut batch = Batch::new();
    let before = engine.sessions.current();
    let names = engine.sessions.to_keep(begun);
    if engine.sessions.current() != before {
        // It gives back what was leased under the one before.
        engine.board.nudge();
    }
    let time = if is_shared(engine) { TIME } else { TIME_ALONE };
    for holder in &names {
        batch = batch.keep(holder.clone(), info.clone(), time);
    }
    let committed = engine.database.commit(batch.reclaim()).await?;
    engine.sessions.kept(&names, begun + time, engine.observe.clock.instant());
    Ok(committed)
}

/// Lets go of names that have nothing left to do.
async fn leave(engine: &Engine) {
    let leaving = engine.sessions.leaving();
    for some in leaving.chunks(LEAVE_AT_ONCE) {
        let batch = some.iter().cloned().fold(Batch::new(), Batch::leave);
        if engine.database.commit(batch).await.is_err() {
            some.iter().cloned().for_each(|holder| engine.sessions.not_left(holder));
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
