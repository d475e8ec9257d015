//! The answers of a function by their status codes, as the client saw them, and how long those of each took.
//! A function's numbers hold them; `/metrics` and whoever speaks Prometheus in other names read them.

use std::sync::OnceLock;
use std::time::Duration;

use super::Histogram;

/// Status codes that one function's answers are counted by; it chooses them, and the text grows with each.
pub const STATUSES_MAX: usize = 32;

/// Counted by status code, each made when it is seen first: a function that was never called has none.
///
/// A chain that only grows, so that counting takes no lock: the first code seen is the usual one, and stands first.
#[derive(Debug, Default)]
pub struct Answers(Link);

type Link = OnceLock<Box<Counted>>;

#[derive(Debug)]
struct Counted {
    /// `None` for all those that came when there were [`STATUSES_MAX`] already.
    status: Option<u16>,
    took: Histogram,
    next: Link,
}

impl Answers {
    /// Counts an answer with this status, and how long it took until its body ended.
    pub fn count(&self, status: u16, took: Duration) {
        self.of(status).observe(took);
    }

    /// Each status that was seen, in the order in which they were, and how long its answers took.
    ///
    /// No status stands for all those that came after the first [`STATUSES_MAX`].
    pub fn iter(&self) -> impl Iterator<Item = (Option<u16>, &Histogram)> {
        let first = self.0.get();
        std::iter::successors(first, |counted| counted.next.get())
            .map(|counted| (counted.status, &counted.took))
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, took)| took.count()).sum()
    }

    fn of(&self, status: u16) -> &Histogram {
        let mut link = &self.0;
        for _ in 0..STATUSES_MAX {
            // Of two that come first at once, one makes it; the other finds that, and goes on if it is another's.
            let counted = link.get_or_init(|| Counted::boxed(Some(status)));
            if counted.status == Some(status) {
                return &counted.took;
            }
            link = &counted.next;
        }
        &link.get_or_init(|| Counted::boxed(None)).took
    }
}

impl Counted {
    fn boxed(status: Option<u16>) -> Box<Self> {
        Box::new(Self { status, took: Histogram::default(), next: Link::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(answers: &Answers) -> Vec<(Option<u16>, u64)> {
        answers.iter().map(|(status, took)| (status, took.count())).collect()
    }

    #[test]
    fn answers_are_counted_by_their_status_in_the_order_in_which_each_was_seen_first() {
        let answers = Answers::default();
        for status in [200, 500, 200, 429, 200] {
            answers.count(status, Duration::from_millis(1));
        }
        assert_eq!(counts(&answers), [(Some(200), 3), (Some(500), 1), (Some(429), 1)]);
        assert_eq!(answers.total(), 5);
    }

    #[test]
    fn a_function_that_was_never_called_has_none() {
        let answers = Answers::default();
        assert_eq!((counts(&answers), answers.total()), (vec![], 0));
        assert!(size_of::<Answers>() <= 16, "{}", size_of::<Answers>());
    }

    #[test]
    fn a_function_that_answers_with_whatever_comes_to_its_mind_is_counted_in_bounds() {
        let answers = Answers::default();
        for _ in 0..2 {
            (100..1_000).for_each(|status| answers.count(status, Duration::ZERO));
        }
        let counted = counts(&answers);
        assert_eq!(counted.len(), STATUSES_MAX + 1);
        assert!(counted[..STATUSES_MAX].iter().all(|&(_, count)| count == 2), "{counted:?}");
        assert_eq!(counted[STATUSES_MAX], (None, 2 * (900 - STATUSES_MAX as u64)));
    }

    #[test]
    fn no_answer_is_lost_when_many_are_the_first_of_their_status() {
        const THREADS: usize = 8;
        let answers = Answers::default();
        let gate = std::sync::Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (answers, gate) = (&answers, &gate);
                scope.spawn(move || {
                    gate.wait();
                    for round in 0..1_000 {
                        answers.count([200, 404, 500, 502][(thread + round) % 4], Duration::ZERO);
                    }
                });
            }
        });
        let mut counted = counts(&answers);
        counted.sort_unstable();
        let each = THREADS as u64 * 250;
        assert_eq!(counted, [200, 404, 500, 502].map(|status| (Some(status), each)));
    }
}
