//! Rows for people: columns as wide as what stands in them, and no wider than the terminal.
//! The verbs that list things print them.

use std::fmt::Write as _;

use crate::print;
use crate::stop::Done;
use crate::talk::{BOLD, styled};

/// Between two columns.
const GAP: &str = "  ";
/// No column is cut below this many characters.
const CUT_MIN: usize = 12;

/// Rows below titles.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<Row<N>>,
}

#[derive(Debug)]
struct Row<const N: usize> {
    cells: [String; N],
    /// What stands below it, over all columns.
    below: Option<String>,
}

/// The title of a column, and the side its cells lean to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    /// For words.
    Left(&'static str),
    /// For numbers.
    Right(&'static str),
    /// For words of which a part is of no use: never cut.
    Whole(&'static str),
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [Column; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(Row { cells, below: None });
    }

    /// A line below the last row, over all columns.
    pub(crate) fn below(&mut self, text: String) {
        if let Some(row) = self.rows.last_mut() {
            row.below = Some(text);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the rows; nothing when there are none.
    pub(crate) fn print(&self) -> Done {
        if self.is_empty() {
            return Ok(());
        }
        let text = self.render(print::columns());
        let (titles, rows) = text.split_once('\n').unwrap_or((&text, ""));
        print::line(styled(BOLD, titles))?;
        rows.lines().try_for_each(print::line)
    }

    pub(crate) fn render(&self, columns_max: Option<usize>) -> String {
        let titles = Row { cells: self.columns.map(|column| column.title().to_owned()), below: None };
        let widths = self.widths(columns_max);
        let mut text = String::new();
        for Row { cells, below } in std::iter::once(&titles).chain(&self.rows) {
            let cells: Vec<_> = cells.iter().zip(widths).zip(self.columns).map(cell).collect();
            // A String takes every write.
            let _ = writeln!(text, "{}", cells.join(GAP).trim_end());
            if let Some(below) = below {
                let width =
                    columns_max.map_or(usize::MAX, |most| most.saturating_sub(GAP.len()).max(CUT_MIN));
                let _ = writeln!(text, "{GAP}{}", fitting(below, width));
            }
        }
        text
    }

    /// As wide as the widest cell; when that is too much, the widest column gives way.
    fn widths(&self, columns_max: Option<usize>) -> [usize; N] {
        let mut widths = self.columns.map(|column| letters(column.title()));
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(letters(cell));
            }
        }
        let gaps = GAP.len() * N.saturating_sub(1);
        while columns_max.is_some_and(|most| widths.iter().sum::<usize>() + gaps > most) {
            let may_be_cut = widths.iter_mut().zip(self.columns).filter(|(_, column)| !column.is_whole());
            match may_be_cut.map(|(width, _)| width).max() {
                Some(widest) if *widest > CUT_MIN => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

impl Column {
    fn is_whole(self) -> bool {
        matches!(self, Self::Whole(_))
    }

    fn title(self) -> &'static str {
        let (Self::Left(title) | Self::Right(title) | Self::Whole(title)) = self;
        title
    }
}

fn cell(((text, width), column): ((&String, usize), Column)) -> String {
    let text = fitting(text, width);
    match column {
        Column::Left(_) | Column::Whole(_) => format!("{text:<width$}"),
        Column::Right(_) => format!("{text:>width$}"),
    }
}

fn fitting(text: &str, width: usize) -> String {
    if letters(text) > width {
        text.chars().take(width - 1).chain(['…']).collect()
    } else {
        text.to_owned()
    }
}

fn letters(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(columns_max: Option<usize>, expected: Expect) {
        let mut table = Table::new([Column::Left("NAME"), Column::Right("CALLS"), Column::Left("URL")]);
        table.row(["hello".into(), "7".into(), "http://127.0.0.1:8080/function/hello".into()]);
        table.row(["größer".into(), "1234".into(), "-".into()]);
        expected.assert_eq(&table.render(columns_max));
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        check(
            None,
            expect![[r#"
            NAME    CALLS  URL
            hello       7  http://127.0.0.1:8080/function/hello
            größer   1234  -
        "#]],
        );
    }

    #[test]
    fn the_widest_column_gives_way_to_a_narrow_terminal() {
        check(
            Some(40),
            expect![[r#"
            NAME    CALLS  URL
            hello       7  http://127.0.0.1:8080/fu…
            größer   1234  -
        "#]],
        );
    }

    #[test]
    fn what_stands_below_a_row_fits_as_well_and_moves_no_column() {
        let mut table = Table::new([Column::Left("NAME"), Column::Right("CALLS")]);
        table.row(["hello".into(), "7".into()]);
        table.below("it crashed while it greeted somebody".into());
        table.row(["again".into(), "1".into()]);
        expect![[r#"
            NAME   CALLS
            hello      7
              it crashed while …
            again      1
        "#]]
        .assert_eq(&table.render(Some(20)));
    }

    #[test]
    fn no_column_is_cut_to_nothing() {
        check(
            Some(5),
            expect![[r#"
            NAME    CALLS  URL
            hello       7  http://127.…
            größer   1234  -
        "#]],
        );
    }
}
