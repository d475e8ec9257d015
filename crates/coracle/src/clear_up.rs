//! Artifacts that nobody needs any more are removed: uploads that were never deployed, what removed functions left, and large bodies of calls that ended.
//! Started by `serve.rs`; it looks when the server starts, and then every hour.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coracle_catalog::Catalog;
use coracle_model::{Clock, Digest};
use coracle_queue::Queue;
use coracle_runtime::Runtime;
use coracle_store::{ArtifactError, Artifacts};

/// How often to look.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// What was uploaded or asked for since then may be about to be deployed.
const SPARED: Duration = Duration::from_secs(60 * 60);

/// Removes, for as long as it runs, what nobody needs.
pub(crate) async fn clear_up(
    catalog: Catalog,
    queue: Queue,
    artifacts: Artifacts,
    runtime: Runtime,
    clock: Arc<dyn Clock>,
) {
    loop {
        let since = SystemTime::from(clock.now()) - SPARED;
        if let Err(why) = once(&catalog, &queue, &artifacts, &runtime, since).await {
            tracing::warn!(%why, "what nobody needs could not be removed");
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn once(
    catalog: &Catalog,
    queue: &Queue,
    artifacts: &Artifacts,
    runtime: &Runtime,
    since: SystemTime,
) -> Result<(), String> {
    // Listed before anybody is asked: what is deployed or queued in between is needed by then.
    let listed = blocking(artifacts, |artifacts| artifacts.list()).await?;
    // Bodies of queued calls that were too large for their message.
    let bodies = queue.bodies().await.map_err(|problem| problem.to_string())?;
    let needed = catalog.artifacts();
    let is_needed = |artifact: &Digest| needed.contains(artifact) || bodies.contains(artifact);
    let unneeded: Vec<_> = listed.into_iter().filter(|artifact| !is_needed(artifact)).collect();
    let runtime = runtime.clone();
    blocking(artifacts, move |artifacts| {
        for artifact in &unneeded {
            // Asked last, and of these few alone: it is a look at the disk, and nearly all are needed.
            if artifacts.remove_untouched(artifact, since)? {
                runtime.forget(artifact);
            }
        }
        Ok(())
    })
    .await
}

/// Does something with the disk where it may take its time.
async fn blocking<T: Send + 'static>(
    artifacts: &Artifacts,
    what: impl FnOnce(&Artifacts) -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, String> {
    let artifacts = artifacts.clone();
    match tokio::task::spawn_blocking(move || what(&artifacts)).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panicked) => Err(panicked.to_string()),
    }
}
