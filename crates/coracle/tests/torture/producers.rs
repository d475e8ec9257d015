//! Those who send calls, cancel some, and ask how others stand, while nodes come and go.
//! Each is a thread; what they were told is what the checker holds against what ran.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::asked::{self, Cancelled, Sent};
use crate::checker::Told;
use crate::choices::{self, Choice};
use crate::guests::now;
use crate::nodes::Places;
use crate::recorder::Recorder;

/// How many send.
pub(crate) const PRODUCERS: u32 = 4;
/// The numbers of a producer's calls begin at so many times its own.
const CALLS_MAX: u32 = 1 << 20;
/// How long a call is sent again that nobody has taken: nodes come back sooner.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many groups a producer may name.
const GROUPS_MAX: u32 = 1 << 8;

/// What is shared by those who ask.
pub(crate) struct Asking<'a> {
    pub(crate) seed: u64,
    pub(crate) places: &'a Places,
    pub(crate) recorder: &'a Recorder,
    /// Everything that was told of calls.
    pub(crate) told: &'a Mutex<Vec<Told>>,
    /// Whether it is over.
    pub(crate) is_over: &'a AtomicBool,
}

impl Asking<'_> {
    /// Sends calls, one after the other, until it is over.
    pub(crate) fn produce(&self, producer: u32) {
        let mut rng = choices::rng(self.seed, u64::from(producer) << 32);
        for number in producer * CALLS_MAX.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let choice = Choice::of(self.seed, number);
            let group = choice.group.map(|group| producer * GROUPS_MAX + u32::from(group));
            let told = Told { number, group, ..Told::default() };
            let told = Told { id: self.send(&mut rng, &choice, &told), ..told };
            let told = if choice.is_cancelled { self.cancel(&mut rng, told) } else { told };
            self.lock().push(told);
            // The pace of a producer, which is chosen too: nothing is waited for.
            std::thread::sleep(choice.pause);
        }
    }

    /// Asks how calls stand that were not seen to end yet, until it is over.
    pub(crate) fn watch(&self) {
        let mut rng = choices::rng(self.seed, u64::MAX / 2);
        while !self.is_over.load(Ordering::Relaxed) {
            let place = self.places.wait(&mut rng);
            let Some((index, id)) = self.open(&mut rng) else {
                std::thread::yield_now();
                continue;
            };
            // Who is not there says nothing.
            if let Ok(Some(last)) = asked::show(&place, &id)
                && asked::is_ended(&last.state)
            {
                let moment = self.recorder.moment();
                self.lock()[index].seen_ended = Some((moment, last.state));
            }
        }
    }

    /// One of the calls that were not seen to end; none if those that were looked at were.
    fn open(&self, rng: &mut fastrand::Rng) -> Option<(usize, String)> {
        const TRIES: u32 = 20;
        let told = self.lock();
        if told.is_empty() {
            return None;
        }
        let mut any = (0..TRIES).map(|_| rng.usize(..told.len()));
        any.find_map(|index| {
            let Told { id, seen_ended, .. } = &told[index];
            id.clone().filter(|_| seen_ended.is_none()).map(|id| (index, id))
        })
    }

    /// Who it is, once it is acknowledged; a call without a key is sent once, and perhaps nobody knows of it.
    fn send(&self, rng: &mut fastrand::Rng, choice: &Choice, told: &Told) -> Option<String> {
        let (url, begun) = (self.recorder.url_of(told.number), now());
        loop {
            assert!(begun.elapsed() < PATIENCE, "nobody takes call {}", told.number);
            let place = self.places.wait(rng);
            match asked::send(&place, told.number, &url, choice, told.group) {
                Ok(Sent::Taken { id }) => return Some(id),
                Ok(Sent::Refused) => {}
                Err(_) if choice.has_key => {}
                Err(_) => return None,
            }
            std::thread::yield_now();
        }
    }

    fn cancel(&self, rng: &mut fastrand::Rng, told: Told) -> Told {
        let Some(id) = &told.id else { return told };
        let answer = asked::cancel(&self.places.wait(rng), id);
        let cancelled = matches!(answer, Ok(Cancelled::BeforeItRan)).then(|| self.recorder.moment());
        Told { cancelled, was_to_be_cancelled: true, ..told }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
