//! Tells invoke which servers share the database, so that each function's minimum is kept by one of them.
//! Started by `serve.rs` where there may be others.

use std::time::Duration;

use coracle_gateway::Nodes;
use coracle_invoke::{Invoke, Keepers};

/// How often to look.
const EVERY: Duration = Duration::from_secs(3);

/// Tells it for as long as it runs.
///
/// A change counts when it is seen twice: when the database comes back, all look dead that have not said yet that they
/// live, and one that starts sees itself alone.
pub(crate) async fn follow(nodes: Nodes, invoke: Invoke) {
    let mut before = None;
    loop {
        match nodes.alive().await {
            Ok(alive) => {
                let alive = alive.into_iter().map(|node| node.info.url).collect();
                let keepers = Keepers::Among { own: nodes.own().to_owned(), alive };
                if before.as_ref() == Some(&keepers) {
                    invoke.keep_among(keepers.clone());
                }
                before = Some(keepers);
            }
            // Until it answers again, everybody keeps what they kept.
            Err(error) => tracing::debug!(%error, "cannot look which servers are alive"),
        }
        // A pace: that a server is gone is not told, it shows in its silence.
        tokio::time::sleep(EVERY).await;
    }
}

/// Who keeps what before anything is known of the others: nobody.
pub(crate) fn unknown(own: &str) -> Keepers {
    Keepers::Among { own: own.to_owned(), alive: Vec::new() }
}
