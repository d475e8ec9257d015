//! Answers that go out together: each waits until the calls that came with it have been run.
//! A client that sleeps is woken once for all of them, where waking it for each is up to a fifth of what a small call costs.
//!
//! Only what is short is waited for: where calls take long, answers go out at once, as they do when there is one call alone.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
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

/// Threads that run calls, beyond which some share a line.
const LINES: usize = 64;

/// Where the answers of a server wait for each other.
#[derive(Debug)]
pub(crate) struct Together {
    made: Instant,
    lines: [Line; LINES],
}

/// The answers of one thread: those of others are no reason to wait.
// A cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Line {
    /// Answers that wait now.
    waiting: AtomicU64,
    /// How often an answer began to wait, or went out, ever.
    steps: AtomicU64,
    /// Until when answers go out at once, and how long they do so the next time; in microseconds, the first since `made`.
    rests_until: AtomicU64,
    rest: AtomicU64,
}

impl Together {
    pub(crate) fn new(now: Instant) -> Self {
        Self { made: now, lines: std::array::from_fn(|_| Line::new()) }
    }

    /// Leaves a chore of a call that ended, and returns when its answer may go out.
    ///
    /// The first answer of several has its chore done after it; those behind it wait in any case, and let go of their instances meanwhile.
    pub(crate) async fn leave(&self, mut chore: Chore, after: &Afterwards, clock: &dyn Clock) {
        if after.is_connection {
            let begun = self.since(chore.ended);
            let line = &self.lines[line_of_this_thread()];
            if let Some(waits) = line.stand(begun, one_more_here()) {
                let before = line.steps.fetch_add(1, Relaxed);
                waits.for_others(&mut chore).await;
                let steps = line.steps.fetch_add(1, Relaxed) - before;
                line.judge(begun, self.since(clock.instant()), steps);
            }
        }
        if !chore.is_done() {
            after.leave(chore);
        }
    }

    fn since(&self, now: Instant) -> u64 {
        us(now.saturating_duration_since(self.made))
    }
}

impl Line {
    fn new() -> Self {
        Self {
            waiting: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            rests_until: AtomicU64::new(0),
            rest: AtomicU64::new(us(REST_MIN)),
        }
    }

    /// A place in the line, unless it is better to go at once. Times are in microseconds.
    fn stand(&self, now: u64, has_company: bool) -> Option<Waits<'_>> {
        let is_behind = self.waiting.load(Relaxed) > 0;
        if self.rests(now) || !(is_behind || has_company) {
            return None;
        }
        self.waiting.fetch_add(1, Relaxed);
        Some(Waits { line: self, is_behind })
    }

    fn rests(&self, now: u64) -> bool {
        now < self.rests_until.load(Relaxed)
    }

    /// Whether an answer that waited since `begun`, when its call ended, did so for much: for so many steps, its own first one among them.
    fn judge(&self, begun: u64, now: u64, steps: u64) {
        if now.saturating_sub(begun) <= steps.saturating_mul(us(WAIT_PER_STEP_MAX)) {
            // One that began before the rest tells nothing of what comes after it.
            if !self.rests(begun) {
                self.rest.store(us(REST_MIN), Relaxed);
            }
        } else if !self.rests(now) {
            let rest = self.rest.load(Relaxed);
            self.rests_until.store(now + rest, Relaxed);
            self.rest.store((rest * 2).min(us(REST_MAX)), Relaxed);
        }
    }
}

/// One more answer that waits, for as long as this lives.
struct Waits<'a> {
    line: &'a Line,
    /// Whether others waited already.
    is_behind: bool,
}

impl Waits<'_> {
    async fn for_others(self, chore: &mut Chore) {
        if self.is_behind {
            chore.let_go();
        }
        behind_the_others().await;
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.line.waiting.fetch_sub(1, Relaxed);
    }
}

/// Which line the calls of this thread stand in.
fn line_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LINE: usize = NEXT.fetch_add(1, Relaxed) % LINES;
    }
    LINE.with(|line| *line)
}

thread_local! {
    /// Calls that ended on this thread since it had nothing to do last, and those between that time and the one before.
    static ENDED: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// Counts a call that ended on this thread, and says whether others are likely to come with it.
fn one_more_here() -> bool {
    let (now, before) = ENDED.get();
    ENDED.set((now.saturating_add(1), before));
    now > 0 || before > 1
}

/// To be called when a thread that runs calls has nothing to do: calls that came together end between two such times.
pub fn thread_idles() {
    let (now, _) = ENDED.get();
    ENDED.set((0, now));
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
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};

    use coracle_observe::clock::Simulated;
    use tokio::sync::Semaphore;

    use super::*;

    /// This thread had two calls before.
    fn came_together() {
        thread_idles();
        one_more_here();
        one_more_here();
        thread_idles();
    }

    /// Polls it once.
    async fn waits(leaving: &mut Pin<Box<impl Future<Output = ()>>>) -> bool {
        poll_fn(|cx| Poll::Ready(leaving.as_mut().poll(cx).is_pending())).await
    }

    fn chore(clock: &dyn Clock) -> Chore {
        chore_at(&Arc::new(Semaphore::new(1)), clock)
    }

    fn chore_at(places: &Arc<Semaphore>, clock: &dyn Clock) -> Chore {
        let ended = clock.instant();
        let permit = Arc::clone(places).try_acquire_owned().unwrap();
        Chore { ended, spent: None, given_up: Vec::new(), permit: Some(permit), ahead: None }
    }

    #[tokio::test]
    async fn answers_wait_until_all_that_came_together_have_been_run() {
        let clock = Arc::new(Simulated::default());
        let together = Arc::new(Together::new(clock.instant()));
        came_together();
        let told = Arc::new(Mutex::new(Vec::new()));
        let calls = ["a", "b", "c"].map(|name| {
            let (clock, together, told) = (Arc::clone(&clock), Arc::clone(&together), Arc::clone(&told));
            tokio::spawn(async move {
                told.lock().unwrap().push(format!("{name} ran"));
                together.leave(chore(&*clock), &Afterwards::of_connection(), &*clock).await;
                told.lock().unwrap().push(format!("{name} answers"));
            })
        });
        let calls_made = calls.len();
        for call in calls {
            call.await.unwrap();
        }
        let told = told.lock().unwrap();
        let (ran, answered) = told.split_at(calls_made);
        assert!(ran.iter().all(|step| step.ends_with("ran")), "{ran:?}");
        assert!(answered.iter().all(|step| step.ends_with("answers")), "{answered:?}");
    }

    #[tokio::test]
    async fn the_first_lets_go_of_its_instance_behind_its_answer_and_others_before() {
        let clock = Simulated::default();
        let together = Together::new(clock.instant());
        came_together();
        let places = Arc::new(Semaphore::new(2));
        let after = Afterwards::of_connection();
        let mut first = Box::pin(together.leave(chore_at(&places, &clock), &after, &clock));
        let mut second = Box::pin(together.leave(chore_at(&places, &clock), &after, &clock));
        assert!(waits(&mut first).await && waits(&mut second).await);
        assert_eq!(places.available_permits(), 1);
        second.await;
        first.await;
        while after.take().is_some() {}
        assert_eq!(places.available_permits(), 2);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_while_its_answer_waits_leaves_nothing() {
        let clock = Simulated::default();
        let together = Together::new(clock.instant());
        came_together();
        let places = Arc::new(Semaphore::new(1));
        let after = Afterwards::of_connection();
        let mut leaving = Box::pin(together.leave(chore_at(&places, &clock), &after, &clock));
        assert!(waits(&mut leaving).await);
        drop(leaving);
        assert_eq!(places.available_permits(), 1);
        assert!(together.lines.iter().all(|line| line.waiting.load(Relaxed) == 0));
    }

    #[tokio::test]
    async fn an_answer_that_waits_for_a_guest_that_computes_is_the_last_one_to_do_so() {
        let clock = Simulated::default();
        let together = Together::new(clock.instant());
        came_together();
        let after = Afterwards::of_connection();
        let mut leaving = Box::pin(together.leave(chore(&clock), &after, &clock));
        assert!(waits(&mut leaving).await);
        clock.advance(Duration::from_millis(5));
        leaving.await;
        let line = &together.lines[line_of_this_thread()];
        assert!((0..99).all(|ms| line.stand(together.since(clock.instant()) + ms * 1_000, true).is_none()));
    }

    #[tokio::test]
    async fn without_a_client_nothing_waits() {
        let clock = Simulated::default();
        let together = Together::new(clock.instant());
        came_together();
        let of_the_queue = Afterwards::default();
        let mut leaving = Box::pin(together.leave(chore(&clock), &of_the_queue, &clock));
        assert!(!waits(&mut leaving).await && of_the_queue.take().is_some());
    }

    #[test]
    fn who_is_alone_waits_for_nobody_and_who_had_company_waits_for_it_again() {
        let line = Line::new();
        // Calls that end between two times at which their thread has nothing to do, and how many of them wait.
        let table = [(1, 0), (1, 0), (3, 2), (3, 3), (1, 1), (1, 0), (2, 1), (0, 0), (1, 0)];
        thread_idles();
        thread_idles();
        for (at, (calls, expected)) in table.into_iter().enumerate() {
            let waits: Vec<_> = (0..calls).filter_map(|_| line.stand(0, one_more_here())).collect();
            assert_eq!(waits.len(), expected, "row {at}");
            assert!(waits.iter().skip(1).all(|waits| waits.is_behind));
            assert!(waits.first().is_none_or(|waits| !waits.is_behind));
            thread_idles();
        }
    }

    #[test]
    fn where_calls_take_long_answers_go_out_at_once_and_ever_longer_so() {
        let line = Line::new();
        // How long an answer waited, for how many steps, and for how long answers go out at once then; in milliseconds.
        let table = [(1, 32, 0), (5, 32, 100), (5, 1, 200), (5, 1, 400), (0, 1, 0), (5, 1, 100), (1, 10, 0)];
        let mut now = 0;
        for (waited, steps, rest) in table {
            let begun = now;
            now += waited * 1_000;
            line.judge(begun, now, steps);
            let (last, over) =
                (line.rests(now + rest * 1_000 - u64::from(rest > 0)), line.rests(now + rest * 1_000));
            assert_eq!((last, over), (rest > 0, false), "{waited} ms for {steps}");
            now += rest * 1_000;
        }
        for _ in 0..20 {
            line.judge(now, now + 1_000_000, 1);
            now += 1_000_000 + us(REST_MAX);
            assert!(!line.rests(now));
        }
    }

    #[test]
    fn answers_that_waited_too_long_together_are_one_reason_to_rest() {
        let line = Line::new();
        (0..16).for_each(|_| line.judge(0, 50_000, 1));
        // One that came when the others nearly were through says nothing against it.
        line.judge(49_990, 50_000, 1);
        assert_eq!(line.rest.load(Relaxed), 2 * us(REST_MIN));
        assert!(!line.rests(50_000 + us(REST_MIN)));
        assert!(line.rests(50_000) && line.stand(50_000, true).is_none());
    }
}
