//! The one engine, and the ticker that interrupts what runs on it.
//! Settings that shape machine code are shared with the compile process: code of one must load in the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, UpdateDeadline,
};

/// How often a guest that computes must let others run, and how exactly its deadline is kept.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(5);

/// Ticks without a call after which the ticker sleeps until the next one.
const IDLE_TICKS_MAX: u32 = 100;

/// Memory of a slot that is cleared in place for its next instance, rather than given back to the kernel.
///
/// With `pagemap_scan` only the pages that were written are cleared, so a large bound costs nothing for a small guest.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 1 << 20;
const TABLE_KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// Linux has the `PAGEMAP_SCAN` ioctl from this version on; before it, keeping pages means clearing all of them.
const PAGEMAP_SCAN_SINCE: (u32, u32) = (6, 7);

/// The native stack of a running guest; Wasm itself may use half of it.
const STACK_BYTES: usize = 1 << 20;

/// Components are compositions of core modules; these many each, so that JavaScript and Python fit.
const CORE_INSTANCES_PER_INSTANCE: u32 = 4;
const TABLES_PER_INSTANCE: u32 = 2;

/// Core instances and tables of one component, at the most.
const CORE_INSTANCES_MAX: u32 = 100;
const TABLES_MAX: u32 = 100;
const MEMORIES_MAX: u32 = 16;
const TABLE_ELEMENTS_MAX: usize = 100_000;
const INSTANCE_BYTES_MAX: usize = 4 << 20;

/// The settings that shape machine code.
pub(super) fn code_config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .memory_init_cow(true)
        // The large heaps of JavaScript and Python stay images that are mapped, not segments that are copied.
        .memory_guaranteed_dense_image_size(64 << 20)
        // Only wasi:http 0.3 needs it, and every call would pay for its tasks.
        .concurrency_support(false)
        // No unwinder but ours reads this code; it only makes the files larger.
        .native_unwind_info(false)
        .max_wasm_stack(STACK_BYTES / 2)
        .async_stack_size(STACK_BYTES);
    config
}

/// The engine that runs guests, with room for `instances` at once.
///
/// # Errors
/// When the address space for them cannot be reserved.
pub(super) fn new(instances: u32) -> wasmtime::Result<Engine> {
    let scan = pagemap_scan_works();
    let (memory_kept, table_kept) =
        if scan { (MEMORY_KEEP_RESIDENT_BYTES, TABLE_KEEP_RESIDENT_BYTES) } else { (0, 0) };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_INSTANCE))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(TABLES_PER_INSTANCE))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_unused_warm_slots(instances.min(256))
        .linear_memory_keep_resident(memory_kept)
        .table_keep_resident(table_kept)
        .pagemap_scan(if scan { Enabled::Auto } else { Enabled::No });
    let mut config = code_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Makes a guest that computes let others run at every tick.
///
/// The engine's own yield wakes the guest at once, and a worker that always has work looks for new events only every 61st time:
/// three looping guests on two cores then held up their neighbours for 300 ms. This one comes back after the events.
pub(super) fn take_turns<T>(store: &mut Store<T>) {
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
}

/// Whether the kernel had no memory or no mapping left: some of the engine's errors carry that as a type, others as text.
pub(super) fn found_no_room(error: &wasmtime::Error) -> bool {
    let is_typed = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory)
    };
    error.chain().any(|cause| is_typed(cause) || cause.to_string().contains("Cannot allocate memory"))
}

/// Whether the kernel tells which pages of a memory were written.
pub(super) fn pagemap_scan_works() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= PAGEMAP_SCAN_SINCE)
}

/// Advances the engine's epoch while guests run, and sleeps while none does.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    handle: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    /// Calls that run, and in the upper half those that ever began, so that the ticker sees whether any did.
    calls: AtomicU64,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// One call that began, in `Shared::calls`; that half may run over, the other cannot.
const BEGUN: u64 = 1 << 32;

fn any_runs(calls: u64) -> bool {
    !calls.is_multiple_of(BEGUN)
}

impl Ticker {
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (engine, seen) = (engine.weak(), Arc::clone(&shared));
        let thread = thread::Builder::new().name("epoch".into()).spawn(move || {
            let (mut before, mut idle) = (0, 0);
            while !seen.stop.load(Ordering::Acquire) {
                thread::sleep(EPOCH_TICK);
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
                drop(engine);
                let now = seen.calls.load(Ordering::SeqCst);
                let quiet = now == before && !any_runs(now);
                idle = if quiet { idle + 1 } else { 0 };
                before = now;
                if idle >= IDLE_TICKS_MAX {
                    seen.sleep_until_a_call();
                    idle = 0;
                }
            }
        })?;
        let handle = thread.thread().clone();
        Ok(Self { shared, thread: Some(thread), handle })
    }

    /// Says that a guest runs, until the answer is dropped.
    pub(super) fn running(self: &Arc<Self>) -> Ticking {
        self.shared.calls.fetch_add(BEGUN + 1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.handle.unpark();
        }
        Ticking(Arc::clone(self))
    }
}

impl Shared {
    fn sleep_until_a_call(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        // `asleep` is set before `calls` is read, and a call does the reverse: one of the two sees the other.
        while !any_runs(self.calls.load(Ordering::SeqCst)) && !self.stop.load(Ordering::Acquire) {
            thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.handle.unpark();
        if let Some(thread) = self.thread.take() {
            // It ends within a tick; its only failure would be a panic, which it has printed.
            let _ = thread.join();
        }
    }
}

/// A guest runs as long as this lives.
#[derive(Debug)]
pub(super) struct Ticking(Arc<Ticker>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.shared.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_is_known_as_a_type_and_as_a_text() {
        let typed = wasmtime::Error::new(std::io::Error::from_raw_os_error(12)).context("map the code");
        assert!(found_no_room(&typed));
        assert!(found_no_room(&wasmtime::Error::msg("mmap failed: Cannot allocate memory (os error 12)")));
        assert!(!found_no_room(&wasmtime::Error::msg("unreachable")));
    }

    #[test]
    fn the_ticker_interrupts_a_guest_that_runs_after_it_slept() {
        let engine = new(4).unwrap();
        let ticker = Arc::new(Ticker::start(&engine).unwrap());
        while !ticker.shared.asleep.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let module = wasmtime::Module::new(&engine, b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b").unwrap();
        let mut store = wasmtime::Store::new(&engine, ());
        store.set_epoch_deadline(1);
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let forever = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
        let _ticking = ticker.running();
        let error = forever.call(&mut store, ()).unwrap_err();
        assert_eq!(error.downcast_ref::<wasmtime::Trap>(), Some(&wasmtime::Trap::Interrupt));
    }
}
