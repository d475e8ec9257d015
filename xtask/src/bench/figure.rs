//! A figure: what was measured, what it stands beside, what it must be, and what we aim at.
//! The parts of the benchmark make them; the table of the results shows them.

use std::fmt::Write as _;

/// What was measured.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    what: String,
    unit: Unit,
    ours: f64,
    /// The same of the floor; then the bound is on the ratio.
    floor: Option<f64>,
    bound: Bound,
}

/// What a number counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Microseconds,
    Milliseconds,
    PerSecond,
    Count,
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
        Self { what: what.into(), unit, ours, floor: None, bound }
    }

    /// A figure beside the floor's.
    pub(crate) fn beside(what: impl Into<String>, unit: Unit, ours: f64, floor: f64, bound: Bound) -> Self {
        Self { what: what.into(), unit, ours, floor: Some(floor), bound }
    }

    /// What was measured, in words.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Whether it is what it must be.
    pub(crate) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost { must, .. } => self.judged() <= must,
            Bound::AtLeast { must, .. } => self.judged() >= must,
            Bound::AimAtMost(_) | Bound::None => true,
        }
    }

    fn is_aim_met(&self) -> bool {
        match self.bound {
            Bound::AtMost { aim, .. } | Bound::AimAtMost(aim) => self.judged() <= aim,
            Bound::AtLeast { aim, .. } => self.judged() >= aim,
            Bound::None => true,
        }
    }

    /// The number that the bound is about.
    fn judged(&self) -> f64 {
        self.floor.map_or(self.ours, |floor| self.ours / floor)
    }

    fn row(&self) -> String {
        let floor = self.floor.map_or_else(String::new, |floor| self.unit.show(floor));
        let ratio = self.floor.map_or_else(String::new, |_| format!("{:.2} ×", self.judged()));
        let limit = |sign: char, number: f64| match self.floor {
            Some(_) => format!("{sign} {number} ×"),
            None => format!("{sign} {}", self.unit.show(number)),
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
        let ours = self.unit.show(self.ours);
        format!("| {} | {ours} | {floor} | {ratio} | {must} | {aim} | {met} |", self.what)
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
