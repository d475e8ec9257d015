//! What is done now, and takes a while: on a terminal it moves below what is printed, elsewhere a line says it.
//! The verbs say what they do; `talk` and `print` write above it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::talk;

/// What is done sooner is not worth a word.
const MOMENT: Duration = Duration::from_millis(400);

/// How often what moves moves.
const TICK: Duration = Duration::from_millis(100);

/// There is one terminal, whoever writes to it.
// Std mutex: held while a line is written, so that none is torn.
static NOW: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Something is done until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy(tokio::task::JoinHandle<()>);

/// Shows that something is done, once it takes a while. Call it within Tokio.
pub(crate) fn busy(what: String) -> Busy {
    Busy(tokio::spawn(async move {
        tokio::time::sleep(MOMENT).await;
        if !talk::is_terminal() {
            return talk::say(what);
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        // The template is ours, and right.
        let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(TICK);
        *now() = Some(bar);
    }))
}

/// Does what writes to the terminal, above what moves there. Not to be called within itself.
pub(crate) fn above<T>(write: impl FnOnce() -> T) -> T {
    match &*now() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

fn now() -> MutexGuard<'static, Option<ProgressBar>> {
    NOW.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.abort();
        if let Some(bar) = now().take() {
            bar.finish_and_clear();
        }
    }
}
