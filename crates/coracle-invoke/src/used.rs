//! What the instances of a function use: memory, and processor time as a rate.
//! The gateway asks for it when somebody looks; nothing is measured for those that nobody looks at.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::FunctionRef;
use coracle_runtime::Process;
use tokio::time::Instant;

use crate::call::Invoke;
use crate::fleet::member::Berth;
use crate::room::Pool;

/// How long processor time is watched for a rate.
///
/// Nothing is kept from one look to the next: two that look would spoil each other's figure, and the first would have none.
const LOOK_FOR: Duration = Duration::from_millis(250);

/// What the instances of a function use together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Used {
    /// Bytes of memory; of Wasm, as if each instance were as large as that of the last call.
    pub memory_bytes: u64,
    /// Cores that they keep busy; nothing for Wasm, whose guests share the server's threads, and where nobody counts.
    pub cores: Option<f64>,
}

impl Invoke {
    /// What the instances of a function use; of a program, as seen over a quarter of a second.
    pub async fn used_by(&self, function: &FunctionRef) -> Used {
        let Some(room) = self.0.rooms.get(function) else { return Used::default() };
        match &*room.current_pool() {
            Pool::Wasm(instances) => {
                let count = room.metrics.in_flight.get() + instances.idle.len() as u64;
                Used { memory_bytes: room.metrics.memory_bytes.get().saturating_mul(count), cores: None }
            }
            Pool::Program(program) => watched(&program.berths()).await,
        }
    }

    /// The memory of the largest instance of a program, in bytes; nothing of Wasm, and where none runs.
    pub fn memory_of_largest(&self, function: &FunctionRef) -> Option<u64> {
        match &*self.0.rooms.get(function)?.current_pool() {
            Pool::Wasm(_) => None,
            Pool::Program(program) => {
                program.berths().iter().map(|berth| berth.member.used().memory_bytes).max()
            }
        }
    }
}

async fn watched(berths: &[Arc<Berth<Process>>]) -> Used {
    let begun = Instant::now();
    let first: Vec<_> = berths.iter().map(|berth| berth.member.used().processor_time).collect();
    if first.iter().any(Option::is_some) {
        tokio::time::sleep(LOOK_FOR).await;
    }
    let took = begun.elapsed();
    let mut used = Used::default();
    for (berth, before) in berths.iter().zip(first) {
        let now = berth.member.used();
        used.memory_bytes += now.memory_bytes;
        // One that ended meanwhile has no group to read any more.
        if let (Some(before), Some(after)) = (before, now.processor_time) {
            let cores = after.saturating_sub(before).div_duration_f64(took);
            used.cores = Some(used.cores.unwrap_or_default() + cores);
        }
    }
    used
}
