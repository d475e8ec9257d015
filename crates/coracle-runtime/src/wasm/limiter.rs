//! The bound on what an instance allocates, and the memory of having hit it.
//! A guest that was refused memory usually crashes next: the flag tells why.

use wasmtime::ResourceLimiter;

/// Elements of all tables of an instance: as many as the pool has room for.
const TABLE_ELEMENTS_MAX: usize = 100_000;

#[derive(Debug)]
pub(super) struct Limiter {
    memory_bytes_max: usize,
    /// What the instance has now, over all its memories; they never shrink, so it is the peak too.
    memory_bytes: usize,
    refused: bool,
}

impl Limiter {
    pub(super) fn new(memory_bytes_max: u64) -> Self {
        Self {
            memory_bytes_max: usize::try_from(memory_bytes_max).unwrap_or(usize::MAX),
            memory_bytes: 0,
            refused: false,
        }
    }

    /// The most memory it had, in bytes.
    pub(super) fn peak(&self) -> u64 {
        self.memory_bytes as u64
    }

    /// Whether it asked for more memory than it may have.
    pub(super) fn was_refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        let own_bound = maximum.is_none_or(|maximum| desired <= maximum);
        if total > self.memory_bytes_max {
            self.refused = true;
            return Ok(false);
        }
        if own_bound {
            self.memory_bytes = total;
        }
        Ok(own_bound)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX && maximum.is_none_or(|maximum| desired <= maximum))
    }

    // The pool bounds these for each component; a store holds one.
    fn instances(&self) -> usize {
        usize::MAX
    }

    fn tables(&self) -> usize {
        usize::MAX
    }

    fn memories(&self) -> usize {
        usize::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_on_all_memories_together() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(!limiter.was_refused());
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert!(limiter.was_refused());
        assert_eq!(limiter.peak(), 100);
    }

    #[test]
    fn a_memory_at_its_own_maximum_is_not_blamed_on_the_bound() {
        let mut limiter = Limiter::new(100);
        assert!(!limiter.memory_growing(0, 60, Some(50)).unwrap());
        assert!(!limiter.was_refused());
        assert_eq!(limiter.peak(), 0);
    }
}
