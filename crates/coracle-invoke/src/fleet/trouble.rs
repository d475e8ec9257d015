//! What went wrong with the instances of a fleet, and how long it waits before it tries again.
//! A crash loop must neither burn the machine nor keep calls waiting for what will not come.

use std::time::Duration;

use coracle_model::Problem;
use tokio::time::Instant;

/// The first pause of a crash loop; each one is twice as long as the one before.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// The longest pause after a crash that calls wait out: the next instance may well serve them.
pub(crate) const WAITED_OUT_MAX: Duration = Duration::from_millis(500);
/// An instance that lived for so long shows that the trouble is over.
pub(crate) const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The failures of a fleet in a row.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    failures: u32,
    until: Option<Instant>,
    last: Option<(Problem, Instant)>,
    /// Whether the last one had been ready.
    was_ready: bool,
}

impl Trouble {
    /// An instance did not start.
    pub(crate) fn start_failed(&mut self, problem: Problem, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause(self.failures));
        self.last = Some((problem, now));
        self.was_ready = false;
    }

    /// An instance that was ready ended by itself, or was not well.
    ///
    /// The first in a row is replaced at once: most crashes are the only one.
    pub(crate) fn crashed(&mut self, problem: Problem, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.until = (self.failures > 1).then(|| now + pause(self.failures - 1));
        self.last = Some((problem, now));
        self.was_ready = true;
    }

    /// An instance proved that it can live.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }

    /// Tries again at once, because somebody asked for it.
    pub(crate) fn try_again(&mut self) {
        self.until = None;
    }

    /// Until when no instance is started.
    pub(crate) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// What went wrong last.
    pub(crate) fn last(&self) -> Option<&Problem> {
        self.last.as_ref().map(|(problem, _)| problem)
    }

    /// Since when nothing went wrong, after something did.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        self.last.as_ref().map(|(_, at)| *at)
    }

    /// What a call is told that comes during a pause; nothing, if it waits for the end of it.
    pub(crate) fn refusal(&self, now: Instant) -> Option<Problem> {
        let until = self.until(now)?;
        if self.was_ready && until - now <= WAITED_OUT_MAX {
            return None;
        }
        let seconds = (until - now).as_millis().div_ceil(1_000);
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX).max(1);
        self.last().map(|problem| problem.clone().retry_after(seconds))
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    BACK_OFF_MIN.saturating_mul(doubled).min(BACK_OFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_model::code;

    fn problem() -> Problem {
        Problem::new(&code::GUEST_EXITED, "exited with code 1")
    }

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let ms: Vec<_> = (1..=11).map(|failures| pause(failures).as_millis()).collect();
        assert_eq!(ms, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(pause(u32::MAX), BACK_OFF_MAX);
    }

    #[test]
    fn a_call_is_told_what_failed_and_when_to_come_back() {
        let now = Instant::now();
        let mut trouble = Trouble::default();
        assert!(trouble.refusal(now).is_none());
        for _ in 0..7 {
            trouble.start_failed(problem(), now);
        }
        let refusal = trouble.refusal(now).expect("a refusal");
        assert_eq!((refusal.message.as_str(), refusal.retry_after_s), ("exited with code 1", Some(7)));
        assert!(trouble.refusal(now + Duration::from_millis(6_400)).is_none());
        assert!(trouble.last().is_some(), "it is still shown");
    }

    #[test]
    fn a_short_pause_after_a_crash_is_waited_out() {
        let now = Instant::now();
        let mut trouble = Trouble::default();
        for crashes in 1..=6 {
            trouble.crashed(problem(), now);
            assert_eq!(trouble.refusal(now).is_some(), crashes > 4, "{crashes}");
        }
    }

    #[test]
    fn only_the_second_crash_in_a_row_is_a_loop() {
        let now = Instant::now();
        let mut trouble = Trouble::default();
        trouble.crashed(problem(), now);
        assert_eq!(trouble.until(now), None);
        trouble.crashed(problem(), now);
        assert_eq!(trouble.until(now), Some(now + BACK_OFF_MIN));
        trouble.over();
        trouble.crashed(problem(), now);
        assert_eq!(trouble.until(now), None);
    }
}
