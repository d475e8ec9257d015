//! The columns of `coracle top`: what stands in each, how wide it is, and which give way on a narrow screen.
//! `view.rs` draws them; without a screen they are the columns of a plain table.

use coracle_api::{FunctionActivity, StatsSort};

use super::super::ago::{bytes, millis};
use super::super::call::shown;
use super::model::function_of;

/// Between two columns.
pub(super) const GAP: &str = " ";
/// A name is not cut below this, and a column that would need it to be is left out.
const NAME_MIN: usize = 10;
/// Nor is it wider.
const NAME_MAX: usize = 40;
/// The bar of a row is this wide, if there is room for one.
const BAR: usize = 16;

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Function,
    Calls,
    Bar,
    P50,
    P99,
    Errors,
    Running,
    Waiting,
    Idle,
    Memory,
}

/// All but the name and the bar, in the order in which they are given room.
const BY_WORTH: [Column; 8] = [
    Column::Calls,
    Column::P99,
    Column::Errors,
    Column::P50,
    Column::Running,
    Column::Waiting,
    Column::Idle,
    Column::Memory,
];

/// In the order in which they stand.
const ALL: [Column; 10] = [
    Column::Function,
    Column::Calls,
    Column::Bar,
    Column::P50,
    Column::P99,
    Column::Errors,
    Column::Running,
    Column::Waiting,
    Column::Idle,
    Column::Memory,
];

/// The columns that fit, from left to right, and how wide each is.
pub(super) fn fitting(width: u16, items: &[FunctionActivity]) -> Vec<(Column, usize)> {
    let width = usize::from(width);
    let longest = items.iter().map(|item| shown(&function_of(item)).len()).max().unwrap_or(0);
    let wanted = longest.clamp(NAME_MIN, NAME_MAX);
    let mut chosen = vec![Column::Function];
    let mut left = width.saturating_sub(NAME_MIN);
    for column in BY_WORTH {
        let takes = column.width() + GAP.len();
        if left < takes {
            break;
        }
        left -= takes;
        chosen.push(column);
    }
    let name = (NAME_MIN + left).min(wanted).min(width);
    if NAME_MIN + left >= name + GAP.len() + BAR {
        chosen.push(Column::Bar);
    }
    let width_of = |column: Column| if column == Column::Function { name } else { column.width() };
    let stands = ALL.into_iter().filter(|column| chosen.contains(column));
    stands.map(|column| (column, width_of(column))).collect()
}

impl Column {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Function => "FUNCTION",
            Self::Calls => "CALLS/S",
            Self::Bar => "",
            Self::P50 => "P50",
            Self::P99 => "P99",
            Self::Errors => "ERR/S",
            Self::Running => "RUN",
            Self::Waiting => "WAIT",
            Self::Idle => "IDLE",
            Self::Memory => "MEMORY",
        }
    }

    /// What is sorted by when this column is.
    pub(super) fn sorts(self) -> Option<StatsSort> {
        match self {
            Self::Function => Some(StatsSort::Name),
            Self::Calls => Some(StatsSort::Calls),
            Self::P50 => Some(StatsSort::P50),
            Self::P99 => Some(StatsSort::P99),
            Self::Errors => Some(StatsSort::Errors),
            Self::Running => Some(StatsSort::Running),
            Self::Waiting => Some(StatsSort::Waiting),
            Self::Memory => Some(StatsSort::Memory),
            Self::Bar | Self::Idle => None,
        }
    }

    /// What stands in it, for a row of a screen on which the busiest function has so many calls a second.
    pub(super) fn cell(self, item: &FunctionActivity, busiest: f64, width: usize) -> String {
        match self {
            Self::Bar => bar(if busiest > 0.0 { item.calls_per_s / busiest } else { 0.0 }, width),
            _ => self.text(item),
        }
    }

    /// What stands in it.
    pub(super) fn text(self, item: &FunctionActivity) -> String {
        match self {
            Self::Function => shown(&function_of(item)),
            Self::Calls => rate(item.calls_per_s),
            Self::Bar => String::new(),
            Self::P50 => item.p50_ms.map_or_else(|| "-".to_owned(), millis),
            Self::P99 => item.p99_ms.map_or_else(|| "-".to_owned(), millis),
            Self::Errors => rate(item.errors_per_s),
            Self::Running => whole(item.in_flight),
            Self::Waiting => whole(item.waiting),
            Self::Idle => whole(item.instances_idle as u64),
            Self::Memory if item.memory_bytes == 0 => "-".to_owned(),
            Self::Memory => bytes(item.memory_bytes),
        }
    }

    /// Whether it says that there is nothing.
    pub(super) fn is_zero(self, item: &FunctionActivity) -> bool {
        matches!(self.text(item).as_str(), "0" | "-")
    }

    /// Cut or filled to a width, leaning to its side.
    pub(super) fn padded(self, text: &str, width: usize) -> String {
        let letters = text.chars().count();
        let text: String = if letters > width {
            text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
        } else {
            text.to_owned()
        };
        match self {
            Self::Function | Self::Bar => format!("{text:<width$}"),
            _ => format!("{text:>width$}"),
        }
    }

    /// How wide all but the name are.
    fn width(self) -> usize {
        match self {
            Self::Function => NAME_MIN,
            Self::Calls | Self::P50 | Self::P99 => 8,
            Self::Bar => BAR,
            Self::Errors => 6,
            Self::Running | Self::Waiting | Self::Idle => 5,
            Self::Memory => 9,
        }
    }
}

/// How many a second, in as few letters as tell it.
pub(in super::super) fn rate(per_second: f64) -> String {
    match per_second {
        ..=0.0 => "0".to_owned(),
        ..9.95 => format!("{per_second:.1}"),
        ..99_999.5 => whole(rounded(per_second)),
        _ => format!("{}k", whole(rounded(per_second / 1_000.0))),
    }
}

/// A number with its thousands apart.
pub(super) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A bar that is so full, in eighths of a cell.
fn bar(share: f64, width: usize) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = step(share, width * 8);
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(PARTS[eighths % 8]);
    }
    bar
}

/// The step, of so many, that a share from 0 to 1 stands on; what is not nothing is at least the first.
pub(super) fn step(share: f64, steps: usize) -> usize {
    let step = usize::try_from(rounded(share.clamp(0.0, 1.0) * steps as f64)).unwrap_or(steps);
    if share > 0.0 { step.clamp(1, steps.max(1)) } else { 0 }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and shares are small and not negative"
)]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        let rates = [0.0, 0.04, 0.16, 9.94, 9.96, 1_234.4, 99_999.0, 250_000.0].map(rate);
        assert_eq!(rates, ["0", "0.0", "0.2", "9.9", "10", "1,234", "99,999", "250k"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(whole), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_bar_shows_eighths_and_never_nothing_for_something() {
        assert_eq!([0.0, 0.001, 0.5, 1.0].map(|share| bar(share, 3)), ["", "▏", "█▌", "███"]);
    }

    #[test]
    fn columns_give_way_until_the_name_alone_is_left() {
        for width in 0..200 {
            let columns = fitting(width, &[]);
            let takes = columns.iter().map(|(_, width)| width + GAP.len()).sum::<usize>() - GAP.len();
            assert!(takes <= usize::from(width), "{width}: {columns:?}");
            assert_eq!(columns[0].0, Column::Function);
        }
        assert_eq!(fitting(18, &[]).len(), 1);
        assert_eq!(fitting(19, &[]).len(), 2);
    }
}
