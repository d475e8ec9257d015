//! How much an image may be: the bounds, and what is left of them while its layers are unpacked.
//! Whatever is unpacked takes from a [`Budget`] first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_model::{ByteSize, Problem, code};

/// The bounds on an image; all layers of one together.
#[derive(Debug, Clone, Copy)]
pub struct ImageBounds {
    /// Bytes of all that is unpacked.
    pub unpacked_bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
    /// How many times its size something may unpack to, beyond [`ImageBounds::ratio_free_bytes`].
    pub ratio: u64,
    /// What may be unpacked whatever the ratio.
    pub ratio_free_bytes: u64,
    /// The longest silence of a registry.
    pub silence: Duration,
    /// The longest time that one pull may take.
    pub pull_time: Duration,
}

impl ImageBounds {
    /// Those of every server.
    pub const DEFAULT: Self = Self {
        unpacked_bytes: 16 << 30,
        entries: 1_000_000,
        ratio: 200,
        ratio_free_bytes: 256 << 20,
        silence: Duration::from_secs(30),
        pull_time: Duration::from_secs(2 * 60 * 60),
    };
}

/// What one image may still take; its layers share it, on several threads.
#[derive(Debug)]
pub(super) struct Budget {
    bounds: ImageBounds,
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Budget {
    pub(super) fn new(bounds: ImageBounds) -> Self {
        Self { bounds, bytes: AtomicU64::new(bounds.unpacked_bytes), entries: AtomicU64::new(bounds.entries) }
    }

    /// Takes room for bytes that are unpacked.
    pub(super) fn take_bytes(&self, bytes: u64) -> Result<(), Problem> {
        take(&self.bytes, bytes).ok_or_else(|| {
            too_large(format!("it unpacks to more than {}", ByteSize(self.bounds.unpacked_bytes)))
        })
    }

    /// Takes room for a file, a folder or a link.
    pub(super) fn take_entry(&self) -> Result<(), Problem> {
        take(&self.entries, 1)
            .ok_or_else(|| too_large(format!("it has more than {} files and folders", self.bounds.entries)))
    }

    /// That what came out is not out of all proportion to what went in.
    pub(super) fn check_ratio(&self, packed: u64, unpacked: u64) -> Result<(), Problem> {
        let ImageBounds { ratio, ratio_free_bytes, .. } = self.bounds;
        if unpacked > ratio_free_bytes.saturating_add(packed.saturating_mul(ratio)) {
            let message = format!(
                "it unpacks to more than {ratio} times its size, beyond {}",
                ByteSize(ratio_free_bytes)
            );
            return Err(too_large(message));
        }
        Ok(())
    }
}

pub(super) fn too_large(message: String) -> Problem {
    Problem::new(&code::IMAGE_TOO_LARGE, message)
}

fn take(left: &AtomicU64, wanted: u64) -> Option<()> {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(wanted)).ok().map(drop)
}
