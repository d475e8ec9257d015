//! The files of a sandbox's control groups that the server itself reads and writes: to freeze it, and to see what it uses.
//! The worker opened them (`cgroup`), `sandboxes` holds them.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::cgroup::{oom_kills, processor_time};
use super::wire::{Handles, Version};

/// The files of a sandbox's group that the server uses itself.
#[derive(Debug, Default)]
pub(super) struct GroupFiles {
    freezer: Option<(Version, File)>,
    memory: Option<File>,
    oom: Option<File>,
    processor: Option<(Version, File)>,
}

impl GroupFiles {
    pub(super) fn of(what: Handles, files: Vec<OwnedFd>) -> Self {
        let mut files = files.into_iter().map(File::from);
        Self {
            freezer: what.freezer.and_then(|version| Some((version, files.next()?))),
            memory: if what.memory { files.next() } else { None },
            oom: if what.oom { files.next() } else { None },
            processor: what.processor.and_then(|version| Some((version, files.next()?))),
        }
    }

    /// Freezes or thaws it; whether that is possible here.
    pub(super) fn freeze(&self, frozen: bool) -> bool {
        let Some((version, mut file)) = self.freezer.as_ref().map(|(version, file)| (version, file)) else {
            return false;
        };
        let word: &[u8] = match (version, frozen) {
            (Version::V1, true) => b"FROZEN",
            (Version::V1, false) => b"THAWED",
            (Version::V2, true) => b"1",
            (Version::V2, false) => b"0",
        };
        file.write_all(word).is_ok()
    }

    pub(super) fn memory_bytes(&self) -> Option<u64> {
        read(self.memory.as_ref()?).ok()?.trim().parse().ok()
    }

    pub(super) fn processor_time(&self) -> Option<Duration> {
        let (version, file) = self.processor.as_ref()?;
        processor_time(*version, &read(file).ok()?)
    }

    pub(super) fn oom_kills(&self) -> u64 {
        self.oom.as_ref().and_then(|file| read(file).ok()).map_or(0, |text| oom_kills(&text))
    }
}

fn read(mut file: &File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}
