//! How many calls wait in a namespace, as far as it must be known to bound them.
//! `put.rs` asks and counts; the heartbeat counts anew, because others put and take as well.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coracle_model::NamespaceName;
use coracle_store::{MESSAGES_MAX, ReadError, Topics};

use crate::engine::Engine;
use crate::topics::Room;

/// Depths of the namespaces that calls were put in of late.
#[derive(Debug, Default)]
pub(crate) struct Depths {
    // Std mutex: held for a look-up, never over an await.
    known: Mutex<HashMap<NamespaceName, Depth>>,
}

#[derive(Debug, Clone, Copy)]
struct Depth {
    waiting: u64,
    counted: Instant,
    /// Whether anything was put since it was counted.
    is_used: bool,
}

/// How old a count may be when it says that there is no room.
const FRESH: Duration = Duration::from_millis(100);

impl Depths {
    /// Whether one more may wait; if so it is counted.
    pub(crate) async fn admit(&self, engine: &Engine, namespace: &NamespaceName) -> Result<bool, ReadError> {
        let depth_max = engine.options.depth_max;
        let now = engine.observe.clock.instant();
        match self.admit_known(namespace, depth_max) {
            Some((true, _)) => return Ok(true),
            Some((false, counted)) if now.saturating_duration_since(counted) < FRESH => return Ok(false),
            _ => {}
        }
        self.count(engine, namespace).await?;
        Ok(self.admit_known(namespace, depth_max).is_some_and(|(fits, _)| fits))
    }

    fn admit_known(&self, namespace: &NamespaceName, depth_max: u64) -> Option<(bool, Instant)> {
        let mut known = self.lock();
        let depth = known.get_mut(namespace)?;
        depth.is_used = true;
        let fits = depth.waiting < depth_max;
        depth.waiting += u64::from(fits);
        Some((fits, depth.counted))
    }

    /// Counts a namespace.
    async fn count(&self, engine: &Engine, namespace: &NamespaceName) -> Result<(), ReadError> {
        let (mut waiting, mut after) = (0, None);
        loop {
            let prefix = Room::prefix_of_calls(namespace);
            let page = engine.database.topics(Topics { prefix, after, limit: MESSAGES_MAX }).await?;
            waiting += page.iter().map(|count| count.waiting).sum::<u64>();
            match page.last() {
                Some(last) => after = Some(last.topic.clone()),
                None => break,
            }
        }
        self.lock().insert(
            namespace.clone(),
            Depth { waiting, counted: engine.observe.clock.instant(), is_used: false },
        );
        Ok(())
    }

    /// Counts those anew that are used, and forgets the others.
    pub(crate) async fn refresh(&self, engine: &Engine) {
        let used: Vec<NamespaceName> = {
            let mut known = self.lock();
            known.retain(|_, depth| depth.is_used);
            known.keys().cloned().collect()
        };
        for namespace in used {
            if let Err(error) = self.count(engine, &namespace).await {
                tracing::debug!(%error, %namespace, "the depth of the queue is not known anew");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NamespaceName, Depth>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
