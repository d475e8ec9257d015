//! The numbers of the server as a whole.
//! The gateway counts connections, and mirrors here before a scrape what the runtime counts for itself.

use std::time::Duration;

use super::{Counter, Gauge};

/// Atomics, like a function's.
#[derive(Debug, Default)]
pub struct ServerMetrics {
    /// Instances that exist now.
    pub instances: Gauge,
    /// Those of them that wait for a call.
    pub instances_idle: Gauge,
    /// Calls of all functions that wait for an instance.
    pub instances_waiting: Gauge,
    /// Connections of clients that are open.
    pub connections: Gauge,
    /// Bytes of compiled code that are mapped.
    pub code_bytes: Gauge,
    /// Starts of an instance that found their code mapped.
    pub code_hits: Counter,
    /// Those that did not.
    pub code_misses: Counter,
    /// Compiled code that was let go to make room.
    pub code_evictions: Counter,
    pub(super) compilations: Counter,
    pub(super) compile_us: Counter,
}

impl ServerMetrics {
    /// Mirrors how many compilations there were, and the time of all of them.
    pub fn compiled_so_far(&self, compilations: u64, took: Duration) {
        self.compilations.set(compilations);
        self.compile_us.set(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// The memory of this process that is in RAM, in bytes; zero where `/proc` is not there.
///
/// From `status` and not from `statm`: that one counts in pages, whose size would have to be asked for.
pub fn resident_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_in(&status)).unwrap_or(0)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_status_of_the_process() {
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t 1 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_in("Name:\tx\n"), None);
        assert!(resident_bytes() > 0);
    }
}
