//! Code that no function needs any more is removed: uploads that were never deployed, and what removed functions left.
//! Started by `serve.rs`; it looks when the server starts, and then every hour.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coracle_catalog::Catalog;
use coracle_model::Clock;
use coracle_runtime::Runtime;
use coracle_store::{ArtifactError, Artifacts};

/// How often to look.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// What was uploaded or asked for since then may be about to be deployed.
const SPARED: Duration = Duration::from_secs(60 * 60);

/// Removes, for as long as it runs, what nobody needs.
pub(crate) async fn clear_up(
    catalog: Catalog,
    artifacts: Artifacts,
    runtime: Runtime,
    clock: Arc<dyn Clock>,
) {
    loop {
        let (catalog, artifacts, runtime) = (catalog.clone(), artifacts.clone(), runtime.clone());
        let since = SystemTime::from(clock.now()) - SPARED;
        let cleared = tokio::task::spawn_blocking(move || once(&catalog, &artifacts, &runtime, since)).await;
        // A panic has printed itself.
        if let Ok(Err(error)) = cleared {
            tracing::warn!(%error, "code that nobody needs could not be removed");
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn once(
    catalog: &Catalog,
    artifacts: &Artifacts,
    runtime: &Runtime,
    since: SystemTime,
) -> Result<(), ArtifactError> {
    // Listed before the catalog is asked: what is deployed in between is needed by then.
    let listed = artifacts.list()?;
    let needed = catalog.artifacts();
    for artifact in listed.iter().filter(|artifact| !needed.contains(*artifact)) {
        // Asked last, and of these few alone: it is a look at the disk, and nearly all are needed.
        if artifacts.remove_untouched(artifact, since)? {
            runtime.forget(artifact);
        }
    }
    Ok(())
}
