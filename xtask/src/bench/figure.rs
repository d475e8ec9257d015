//! A figure: what was measured, what it stands beside, what it must be, and what we aim at.
//! The parts of the benchmark make them; the table of the results shows them.

use std::fmt::Write as _;

/// What was measured, or was to be.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    what: String,
    unit: Unit,
    seen: Seen,
    bound: Bound,
}

/// What there is to judge by.
#[derive(Debug, Clone)]
enum Seen {
    Alone(f64),
    /// The floor's is the second, and the bound is on how the two compare.
    Beside(f64, f64, By),
    /// Why there is nothing.
    Nothing(String),
}

/// How ours is compared with the floor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Ours as a part of the floor's.
    Ratio,
    /// How often ours goes into the floor's.
    Speed,
    /// What ours has more.
    Excess,
}

/// What a number counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Microseconds,
    Milliseconds,
    PerSecond,
    Count,
    KiB,
    MiB,
}

/// On which side of which number a figure must be, and where we aim.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost {
        must: f64,
        aim: f64,
    },
    AtLeast {
        must: f64,
        aim: f64,
    },
    /// It may be anything, and we aim at this or less.
    AimAtMost(f64),
    /// Nowhere: it is there to compare with.
    None,
}

impl Figure {
    /// A figure by itself.
    pub(crate) fn alone(what: impl Into<String>, unit: Unit, ours: f64, bound: Bound) -> Self {
        Self { what: what.into(), unit, seen: Seen::Alone(ours), bound }
    }

    /// A figure beside the floor's: the bound is on the ratio.
    pub(crate) fn beside(what: impl Into<String>, unit: Unit, ours: f64, floor: f64, bound: Bound) -> Self {
        Self { what: what.into(), unit, seen: Seen::Beside(ours, floor, By::Ratio), bound }
    }

    /// A time beside another's: the bound is on how many times faster ours is.
    pub(crate) fn faster(what: impl Into<String>, unit: Unit, ours: f64, other: f64, bound: Bound) -> Self {
        Self { what: what.into(), unit, seen: Seen::Beside(ours, other, By::Speed), bound }
    }

    /// A figure beside the floor's: the bound is on what it has more, in the same unit.
    pub(crate) fn above(what: impl Into<String>, unit: Unit, ours: f64, floor: f64, bound: Bound) -> Self {
        Self { what: what.into(), unit, seen: Seen::Beside(ours, floor, By::Excess), bound }
    }

    /// A figure that could not be measured here, and why.
    pub(crate) fn unmeasured(what: impl Into<String>, unit: Unit, why: impl Into<String>) -> Self {
        Self { what: what.into(), unit, seen: Seen::Nothing(why.into()), bound: Bound::None }
    }

    /// What was measured, in words.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Whether it is what it must be; of what was not measured, nobody knows.
    pub(crate) fn is_met(&self) -> bool {
        let Some(judged) = self.judged() else { return false };
        match self.bound {
            Bound::AtMost { must, .. } => judged <= must,
            Bound::AtLeast { must, .. } => judged >= must,
            Bound::AimAtMost(_) | Bound::None => true,
        }
    }

    fn is_aim_met(&self) -> bool {
        let Some(judged) = self.judged() else { return false };
        match self.bound {
            Bound::AtMost { aim, .. } | Bound::AimAtMost(aim) => judged <= aim,
            Bound::AtLeast { aim, .. } => judged >= aim,
            Bound::None => true,
        }
    }

    /// The number that the bound is about.
    fn judged(&self) -> Option<f64> {
        match self.seen {
            Seen::Alone(ours) => Some(ours),
            Seen::Beside(ours, floor, By::Ratio) => Some(ours / floor),
            Seen::Beside(ours, floor, By::Speed) => Some(floor / ours),
            Seen::Beside(ours, floor, By::Excess) => Some(ours - floor),
            Seen::Nothing(_) => None,
        }
    }

    /// It as a row of the table.
    pub(crate) fn row(&self) -> String {
        let unit = self.unit;
        let (ours, floor, by) = match &self.seen {
            Seen::Alone(ours) => (unit.show(*ours), String::new(), None),
            Seen::Beside(ours, floor, by) => (unit.show(*ours), unit.show(*floor), Some(*by)),
            Seen::Nothing(why) => return format!("| {} | not measured: {why} |  |  |  |  |  |", self.what),
        };
        let compared = match (by, self.judged()) {
            (Some(By::Ratio), Some(judged)) => format!("{judged:.2} ×"),
            (Some(By::Speed), Some(judged)) => format!("{judged:.1} × faster"),
            (Some(By::Excess), Some(judged)) if judged < 0.0 => format!("− {}", unit.show(-judged)),
            (Some(By::Excess), Some(judged)) => format!("+ {}", unit.show(judged)),
            _ => String::new(),
        };
        let limit = |sign: char, number: f64| match by {
            Some(By::Ratio) => format!("{sign} {number} ×"),
            Some(By::Speed) => format!("{sign} {number} × faster"),
            Some(By::Excess) => format!("{sign} + {}", unit.show(number)),
            None => format!("{sign} {}", unit.show(number)),
        };
        let (must, aim) = match self.bound {
            Bound::AtMost { must, aim } => (limit('≤', must), limit('≤', aim)),
            Bound::AtLeast { must, aim } => (limit('≥', must), limit('≥', aim)),
            Bound::AimAtMost(aim) => (String::new(), limit('≤', aim)),
            Bound::None => Default::default(),
        };
        let met = match (self.bound, self.is_met(), self.is_aim_met()) {
            (Bound::None, ..) => "",
            (Bound::AimAtMost(_), _, false) => "not the aim",
            (Bound::AimAtMost(_), _, true) => "the aim",
            (_, true, true) => "yes, and the aim",
            (_, true, false) => "yes",
            (_, false, _) => "**no**",
        };
        format!("| {} | {ours} | {floor} | {compared} | {must} | {aim} | {met} |", self.what)
    }
}

impl Unit {
    fn show(self, number: f64) -> String {
        match self {
            Self::Microseconds if number >= 10_000.0 => format!("{:.1} ms", number / 1_000.0),
            Self::Microseconds => format!("{number:.0} µs"),
            Self::Milliseconds => format!("{number:.0} ms"),
            Self::PerSecond => format!("{number:.0} /s"),
            Self::Count => number.to_string(),
            Self::KiB => format!("{number:.0} KiB"),
            Self::MiB => format!("{number:.1} MiB"),
        }
    }
}

/// All figures, as Markdown.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut table =
        "| figure | ours | floor | ratio | must | aim | met? |\n|---|---|---|---|---|---|---|\n".to_owned();
    for figure in figures {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{}", figure.row());
    }
    table
}

/// The middle of what was measured.
///
/// # Panics
/// When nothing was measured.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    assert!(!numbers.is_empty(), "a median of nothing");
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// What `percent` of all that was measured stayed within.
///
/// # Panics
/// When nothing was measured.
pub(crate) fn percentile(numbers: &[f64], percent: usize) -> f64 {
    assert!(!numbers.is_empty(), "a percentile of nothing");
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_beside_a_floor_is_judged_by_its_ratio() {
        let bound = Bound::AtMost { must: 2.2, aim: 1.5 };
        let figure = |ours| Figure::beside("p50", Unit::Microseconds, ours, 20.0, bound);
        assert_eq!(figure(40.0).row(), "| p50 | 40 µs | 20 µs | 2.00 × | ≤ 2.2 × | ≤ 1.5 × | yes |");
        assert_eq!(
            figure(30.0).row(),
            "| p50 | 30 µs | 20 µs | 1.50 × | ≤ 2.2 × | ≤ 1.5 × | yes, and the aim |"
        );
        assert!(!figure(45.0).is_met());
    }

    #[test]
    fn a_figure_alone_is_judged_by_itself() {
        let bound = Bound::AtMost { must: 500.0, aim: 100.0 };
        let figure = Figure::alone("start", Unit::Milliseconds, 700.0, bound);
        assert_eq!(figure.row(), "| start | 700 ms |  |  | ≤ 500 ms | ≤ 100 ms | **no** |");
    }

    #[test]
    fn a_figure_that_is_only_aimed_at_misses_nothing_else() {
        let figure = |ours| Figure::alone("p99", Unit::Microseconds, ours, Bound::AimAtMost(3_000.0));
        assert_eq!(figure(3_500.0).row(), "| p99 | 3500 µs |  |  |  | ≤ 3000 µs | not the aim |");
        assert_eq!(figure(300.0).row(), "| p99 | 300 µs |  |  |  | ≤ 3000 µs | the aim |");
        assert!(figure(3_500.0).is_met());
    }

    #[test]
    fn throughput_has_to_be_high() {
        let bound = Bound::AtLeast { must: 0.25, aim: 0.45 };
        let figure = Figure::beside("16", Unit::PerSecond, 20_000.0, 50_000.0, bound);
        assert_eq!(
            table(&[figure]).lines().nth(2),
            Some("| 16 | 20000 /s | 50000 /s | 0.40 × | ≥ 0.25 × | ≥ 0.45 × | yes |")
        );
    }

    #[test]
    fn a_figure_may_be_judged_by_how_often_it_fits_or_by_what_it_has_more() {
        let bound = Bound::AtLeast { must: 6.0, aim: 15.0 };
        let faster = Figure::faster("start", Unit::Microseconds, 20_000.0, 200_000.0, bound);
        assert_eq!(
            faster.row(),
            "| start | 20.0 ms | 200.0 ms | 10.0 × faster | ≥ 6 × faster | ≥ 15 × faster | yes |"
        );
        let bound = Bound::AtMost { must: 1_000.0, aim: 300.0 };
        let above = |ours| Figure::above("thawed", Unit::Microseconds, ours, 200.0, bound);
        assert_eq!(
            above(400.0).row(),
            "| thawed | 400 µs | 200 µs | + 200 µs | ≤ + 1000 µs | ≤ + 300 µs | yes, and the aim |"
        );
        assert!(above(190.0).row().contains("| − 10 µs |"));
        assert!(!above(1_300.0).is_met());
    }

    #[test]
    fn what_was_not_measured_says_why_and_is_not_met() {
        let figure = Figure::unmeasured("start", Unit::Microseconds, "there is no runc");
        assert_eq!(figure.row(), "| start | not measured: there is no runc |  |  |  |  |  |");
        assert!(!figure.is_met());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_percentile_is_one_of_the_measured() {
        let numbers: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let of = |percent| percentile(&numbers, percent) as u32;
        assert_eq!((of(0), of(50), of(99), of(100)), (1, 100, 198, 200));
        assert_eq!(percentile(&[7.0], 99) as u32, 7);
    }
}
