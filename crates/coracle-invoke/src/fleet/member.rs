//! What a fleet asks of an instance, and how one is frozen and thawed while calls come and go.
//! Sandboxed processes are such instances (`program.rs`), and so is the scripted one of the tests.

use std::time::Duration;

use coracle_model::Problem;
use tokio::sync::Mutex;

/// One running copy of a program, as a fleet sees it.
///
/// Freezing and thawing are asked for one at a time; either may be dropped half-way, and is then asked for again.
pub(crate) trait Member: Send + Sync + 'static {
    /// Closes the connections that nobody uses, and freezes it.
    fn freeze(&self) -> impl Future<Output = ()> + Send;
    /// Lets it go on, well under a millisecond; one that is not frozen does go on.
    fn thaw(&self) -> impl Future<Output = ()> + Send;
    /// Whether it is well.
    fn is_healthy(&self) -> impl Future<Output = bool> + Send;
    /// How it ended by itself, in the user's words, as in "exited with code 1"; pending while it lives.
    fn ended(&self) -> impl Future<Output = String> + Send;
    /// Ends it, thawed as it is: asks it to, and makes it after the grace. Over when nothing of it is left.
    fn stop(&self, grace: Duration) -> impl Future<Output = ()> + Send;
}

/// What starts the instances of one revision.
pub(crate) trait Start: Send + Sync + 'static {
    /// What it starts.
    type Member: Member;
    /// Starts an instance: over when it is ready for calls, or will not be within its time.
    ///
    /// Dropping the future leaves nothing of the instance.
    fn start(&self) -> impl Future<Output = Result<Self::Member, Box<Problem>>> + Send;
}

/// An instance that is ready, with its number within the fleet.
#[derive(Debug)]
pub(crate) struct Berth<M> {
    pub(crate) number: u64,
    pub(crate) member: M,
    /// Whether it may be frozen. Held while it is being frozen or thawed, so that the two never meet.
    frozen: Mutex<bool>,
}

impl<M: Member> Berth<M> {
    pub(crate) fn new(number: u64, member: M) -> Self {
        Self { number, member, frozen: Mutex::new(false) }
    }

    /// Makes sure that it is not frozen.
    pub(crate) async fn thaw(&self) {
        let mut frozen = self.frozen.lock().await;
        if *frozen {
            self.member.thaw().await;
            *frozen = false;
        }
    }

    /// Freezes it, unless it is not idle any more by the time its turn comes.
    pub(crate) async fn freeze(&self, is_idle: impl FnOnce() -> bool) {
        let mut frozen = self.frozen.lock().await;
        if is_idle() {
            // Before it is: one whose freezing was cut off must be thawed too.
            *frozen = true;
            self.member.freeze().await;
        }
    }
}
