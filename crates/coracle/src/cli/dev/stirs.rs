//! The news that something happened in a folder, as the system tells it: inotify on Linux, a look every second elsewhere.
//! What happened is for `watch.rs` to find out.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// How often is looked where the system tells nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Folders that are listened to.
#[derive(Debug)]
pub(super) enum Stirs {
    #[cfg(target_os = "linux")]
    Told(Box<told::Told>),
    /// The system tells nothing, or its watches are used up.
    Untold,
}

impl Stirs {
    /// Listens to nothing yet. Call it within Tokio.
    pub(super) fn new() -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(told) = told::Told::new() {
            return Self::Told(Box::new(told));
        }
        Self::Untold
    }

    /// Listens to these folders, and to no others any more.
    pub(super) fn listen(&mut self, folders: &BTreeSet<PathBuf>) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Told(told) => {
                if told.listen(folders).is_err() {
                    *self = Self::Untold;
                }
            }
            Self::Untold => {}
        }
    }

    /// Waits for news. May be dropped and asked again: nothing is missed.
    pub(super) async fn heard(&mut self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Told(told) => told.heard().await,
            Self::Untold => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

#[cfg(target_os = "linux")]
mod told {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io;
    use std::path::PathBuf;

    use futures_util::StreamExt as _;
    use inotify::{EventStream, Inotify, WatchDescriptor, WatchMask};

    /// Events that are read at once, in bytes.
    const NEWS_BYTES: usize = 4 << 10;

    pub(in crate::cli::dev) struct Told {
        news: EventStream<[u8; NEWS_BYTES]>,
        watches: BTreeMap<PathBuf, WatchDescriptor>,
    }

    impl Told {
        pub(super) fn new() -> io::Result<Self> {
            let news = Inotify::init()?.into_event_stream([0; NEWS_BYTES])?;
            Ok(Self { news, watches: BTreeMap::new() })
        }

        pub(super) fn listen(&mut self, folders: &BTreeSet<PathBuf>) -> io::Result<()> {
            let mut all = self.news.watches();
            self.watches.retain(|folder, watch| {
                let stays = folders.contains(folder);
                if !stays {
                    // With a folder that is gone its watch is gone as well.
                    let _ = all.remove(watch.clone());
                }
                stays
            });
            let what = WatchMask::CREATE
                | WatchMask::DELETE
                | WatchMask::MODIFY
                | WatchMask::MOVE
                | WatchMask::DELETE_SELF
                | WatchMask::MOVE_SELF;
            // Those that are listened to already as well: another folder may have taken the name.
            for folder in folders {
                match all.add(folder, what | WatchMask::ONLYDIR) {
                    Ok(watch) => match self.watches.insert(folder.clone(), watch.clone()) {
                        Some(old) if old != watch => drop(all.remove(old)),
                        _ => {}
                    },
                    Err(error) if folder.exists() => return Err(error),
                    // It is gone again, which the next look sees.
                    Err(_) => {}
                }
            }
            Ok(())
        }

        pub(super) async fn heard(&mut self) {
            // What the news is does not matter, nor whether some were lost: there is something to look at.
            let _ = self.news.next().await;
        }
    }

    impl std::fmt::Debug for Told {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Told").field("watches", &self.watches.len()).finish_non_exhaustive()
        }
    }
}
