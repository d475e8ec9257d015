//! The end: nothing more is begun, what has not begun is given back, and what runs is waited for.
//! Called by `serve.rs` when the server is to stop.

use std::time::Duration;

use coracle_store::{Batch, Lease, Message};

use crate::board::Leased;
use crate::heartbeat::LEAVE_AT_ONCE;
use crate::queue::Drained;
use crate::settle::Settled;
use crate::{Queue, State};
use coracle_model::CallId;

/// The least time for what is settled to be written, however long calls took.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// A message that was leased and not begun, on its way back.
pub(crate) fn released(lease: Lease, message: &Message) -> Settled {
    let id = message.id.as_ref().and_then(|id| CallId::parse(id.as_str()));
    let id = id.unwrap_or_else(|| CallId::from_bits(message.position.0.into()));
    let batch = Batch::new().release(lease.clone());
    Settled { lease, topic: message.topic.clone(), id, state: State::Waiting, batch }
}

impl Queue {
    /// Takes no more calls from the database, gives back what has not begun, and waits for what runs, or for the time.
    ///
    /// What still runs then is stopped, and is run again by whoever opens the database next.
    pub async fn drain(&self, at_most: Duration) -> Drained {
        let engine = self.engine();
        for Leased { lease, message } in engine.board.stop() {
            // The worker that is gone took the leases with it.
            let _ = engine.settled.send(released(lease, &message)).await;
        }
        engine.board.nudge();
        // Whether it was in time shows in the count.
        let _ = tokio::time::timeout(at_most, engine.board.idle()).await;
        let left = engine.board.running();
        engine.board.abandon();
        // What is not written then is run again.
        let _ = tokio::time::timeout(LAST_WRITES, engine.sessions.until_over()).await;
        for some in engine.sessions.all().chunks(LEAVE_AT_ONCE) {
            let batch = some.iter().cloned().fold(Batch::new(), Batch::leave);
            if let Err(error) = engine.database.commit(batch).await {
                tracing::warn!(%error, "calls that this server held wait until it is believed to be gone");
            }
        }
        Drained { left }
    }
}
