//! Answers that go out together: each waits until the calls that came with it have been run.
//! A client that sleeps is woken once for all of them, where waking it for each is up to a fifth of what a small call costs.
//!
//! Only what is short is waited for: where calls take long, answers go out at once, as they do when there is one call alone.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use coracle_model::Clock;

use crate::after::{Afterwards, Chore};

/// How long an answer may wait for each step of another meanwhile, which are two for a whole call: it is run, and it is answered.
///
/// More than small calls take, and much less than a turn of a guest that computes.
const WAIT_PER_STEP_MAX: Duration = Duration::from_micros(100);

/// How long answers go out at once after one waited for too long; each time it happens again, twice as long.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(10);

/// Where the answers of a server wait for each other.
#[derive(Debug)]
pub(crate) struct Together {
    made: Instant,
    /// Answers that wait now.
    waiting: AtomicU64,
    /// Whether any had to wait for another since one was alone last.
    has_company: AtomicBool,
    /// How often an answer began to wait, or went out, ever.
    steps: AtomicU64,
    /// Until when answers go out at once, and how long they do so the next time; in microseconds, the first since `made`.
    rests_until: AtomicU64,
    rest: AtomicU64,
}

impl Together {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            made: now,
            waiting: AtomicU64::new(0),
            has_company: AtomicBool::new(false),
            steps: AtomicU64::new(0),
            rests_until: AtomicU64::new(0),
            rest: AtomicU64::new(us(REST_MIN)),
        }
    }

    /// Leaves a chore of a call that ended now, and returns when its answer may go out.
    ///
    /// An answer that is alone has its chore done behind it, one that waits for others has it done meanwhile.
    pub(crate) async fn leave(&self, chore: Chore, after: &Afterwards, clock: &dyn Clock) {
        let begun = clock.instant();
        if !after.is_connection || self.rests(begun) {
            after.leave(chore);
            return;
        }
        let before = self.steps.fetch_add(1, Relaxed);
        let waits = Waits::begin(&self.waiting);
        if !waits.is_first {
            self.has_company.store(true, Relaxed);
            after.leave(chore);
            behind_the_others().await;
        } else if self.has_company.swap(false, Relaxed) {
            behind_the_others().await;
            after.leave(chore);
        } else {
            // It is likely to be alone: no idle worker is woken to help it, as a task that wakes itself does.
            tokio::task::yield_now().await;
            after.leave(chore);
        }
        drop(waits);
        let steps = self.steps.fetch_add(1, Relaxed) - before;
        self.judge(begun, clock.instant(), steps);
    }

    fn rests(&self, now: Instant) -> bool {
        self.since(now) < self.rests_until.load(Relaxed)
    }

    /// Whether an answer that waited since `begun` did so for much: for so many steps, its own first one among them.
    fn judge(&self, begun: Instant, now: Instant, steps: u64) {
        let took = us(now.saturating_duration_since(begun));
        if took <= steps.saturating_mul(us(WAIT_PER_STEP_MAX)) {
            self.rest.store(us(REST_MIN), Relaxed);
        } else if !self.rests(now) {
            let rest = self.rest.load(Relaxed);
            self.rests_until.store(self.since(now) + rest, Relaxed);
            self.rest.store((rest * 2).min(us(REST_MAX)), Relaxed);
        }
    }

    fn since(&self, now: Instant) -> u64 {
        us(now.saturating_duration_since(self.made))
    }
}

/// One more answer that waits, for as long as this lives.
struct Waits<'a> {
    waiting: &'a AtomicU64,
    is_first: bool,
}

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicU64) -> Self {
        Self { waiting, is_first: waiting.fetch_add(1, Relaxed) == 0 }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Relaxed);
    }
}

/// Lets all run that its worker has to run by now, without a look for new events.
async fn behind_the_others() {
    let mut is_behind = false;
    poll_fn(|cx| {
        if is_behind {
            return Poll::Ready(());
        }
        is_behind = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use coracle_observe::clock::Simulated;
    use tokio::sync::Semaphore;

    use super::*;

    fn chore() -> Chore {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Chore { spent: Vec::new(), permit, ahead: None }
    }

    #[tokio::test]
    async fn answers_wait_until_all_that_came_together_have_been_run() {
        let clock = Arc::new(Simulated::default());
        let together = Arc::new(Together::new(clock.instant()));
        let told = Arc::new(Mutex::new(Vec::new()));
        let calls = ["a", "b", "c"].map(|name| {
            let (clock, together, told) = (Arc::clone(&clock), Arc::clone(&together), Arc::clone(&told));
            tokio::spawn(async move {
                told.lock().unwrap().push(format!("{name} ran"));
                together.leave(chore(), &Afterwards::of_connection(), &*clock).await;
                told.lock().unwrap().push(format!("{name} answers"));
            })
        });
        for call in calls {
            call.await.unwrap();
        }
        let (ran, answered) = (&told.lock().unwrap()[..3], &told.lock().unwrap()[3..]);
        assert!(ran.iter().all(|step| step.ends_with("ran")), "{ran:?}");
        assert!(answered.iter().all(|step| step.ends_with("answers")), "{answered:?}");
        assert_eq!(together.waiting.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn the_chore_of_the_first_is_done_behind_its_answer_and_those_of_others_before() {
        let clock = Simulated::default();
        let together = Together::new(clock.instant());
        let (first, second) = (Afterwards::of_connection(), Afterwards::of_connection());
        let mut of_first = Box::pin(together.leave(chore(), &first, &clock));
        let mut of_second = Box::pin(together.leave(chore(), &second, &clock));
        let waiting = poll_fn(|cx| {
            Poll::Ready((of_first.as_mut().poll(cx).is_pending(), of_second.as_mut().poll(cx).is_pending()))
        });
        assert_eq!(waiting.await, (true, true));
        assert!(first.take().is_none());
        assert!(second.take().is_some());
        of_second.await;
        of_first.await;
        assert!(first.take().is_some());
    }

    #[tokio::test]
    async fn without_a_client_nothing_waits() {
        let clock = Simulated::default();
        let together = Together::new(clock.instant());
        let of_the_queue = Afterwards::default();
        let mut leaving = Box::pin(together.leave(chore(), &of_the_queue, &clock));
        let is_over = poll_fn(|cx| Poll::Ready(leaving.as_mut().poll(cx).is_ready())).await;
        assert!(is_over && of_the_queue.take().is_some());
    }

    #[test]
    fn a_caller_that_goes_away_while_its_answer_waits_is_forgotten() {
        let together = Together::new(Simulated::default().instant());
        let waits = Waits::begin(&together.waiting);
        assert!(waits.is_first && !Waits::begin(&together.waiting).is_first);
        drop(waits);
        assert!(Waits::begin(&together.waiting).is_first);
    }

    #[test]
    fn where_calls_take_long_answers_go_out_at_once_and_ever_longer_so() {
        let clock = Simulated::default();
        let together = Together::new(clock.instant());
        // How long an answer waited in milliseconds, for how many steps, and for how many answers go out at once then.
        let table = [(1, 32, 0), (5, 32, 100), (5, 1, 200), (5, 1, 400), (0, 1, 0), (5, 1, 100), (1, 10, 0)];
        for (waited, steps, rest) in table {
            let begun = clock.instant();
            clock.advance(Duration::from_millis(waited));
            together.judge(begun, clock.instant(), steps);
            let rests = |after: u64| together.rests(clock.instant() + Duration::from_millis(after));
            assert_eq!(
                (rest > 0, false),
                (rest > 0 && rests(rest - 1), rests(rest)),
                "{waited} ms for {steps}"
            );
            clock.advance(Duration::from_millis(rest));
        }
        for _ in 0..20 {
            let begun = clock.instant();
            clock.advance(Duration::from_secs(1));
            together.judge(begun, clock.instant(), 1);
            clock.advance(REST_MAX);
            assert!(!together.rests(clock.instant()));
        }
    }

    #[test]
    fn answers_that_waited_too_long_together_are_one_reason_to_rest() {
        let clock = Simulated::default();
        let together = Together::new(clock.instant());
        let begun = clock.instant();
        clock.advance(Duration::from_millis(50));
        (0..16).for_each(|_| together.judge(begun, clock.instant(), 1));
        assert!(!together.rests(clock.instant() + REST_MIN));
    }
}
