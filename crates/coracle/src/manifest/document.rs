//! A TOML text whose every key and value knows where it stands.
//! The readers of `coracle.toml` ask it for typed values, and get errors that point.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use coracle_model::{Problem, code, nearest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A text and its name in errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

/// One `key = value`.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a str,
    document: Document<'a>,
    key_span: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
}

/// The longest line that an error repeats, in characters.
const LINE_SHOWN_MAX: usize = 500;

/// A place in a document, as an error shows it.
#[derive(Debug, Clone)]
pub(super) struct Position {
    /// `FILE:LINE:COLUMN`.
    place: String,
    /// The line itself, and a caret below what is meant.
    excerpt: String,
}

impl<'a> Document<'a> {
    pub(super) fn parse(self) -> Result<Spanned<DeTable<'a>>, Problem> {
        DeTable::parse(self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            // The parser may say more than one thing, a line each.
            self.position(span).problem(&error.message().replace('\n', ", "))
        })
    }

    /// The entries of a table, in the order of the text: the first mistake is the first one shown.
    pub(super) fn entries(self, table: &'a Spanned<DeTable<'a>>) -> Vec<Entry<'a>> {
        self.entries_of(table.get_ref())
    }

    fn entries_of(self, table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| Entry { key: key.get_ref(), document: self, key_span: key.span(), value })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        entries
    }

    fn position(self, span: Range<usize>) -> Position {
        let start = self.text.floor_char_boundary(span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        let number = self.text[..line_start].matches('\n').count() + 1;
        let before = self.text[line_start..start].chars().count();
        let end = self.text.floor_char_boundary(span.end).clamp(start, line_end);
        let width = self.text[start..end].chars().count();
        Position::of_line(self.file, &self.text[line_start..line_end], (number, before + 1), width)
    }
}

impl Position {
    /// A place in a line that is shown, with as many characters marked.
    pub(super) fn of_line(file: &str, line: &str, (number, column): (usize, usize), width: usize) -> Self {
        let place = format!("{file}:{number}:{column}");
        let line = line.trim_end();
        if line.chars().count() > LINE_SHOWN_MAX {
            return Self { place, excerpt: "(the line is too long to be shown)".to_owned() };
        }
        let caret = "^".repeat(width.max(1));
        // Tabs stay tabs, so that the caret stands below what it means.
        let blank = |c| if c == '\t' { '\t' } else { ' ' };
        let indent: String = line.chars().chain(std::iter::repeat(' ')).take(column - 1).map(blank).collect();
        let gutter = " ".repeat(number.to_string().len());
        Self { place, excerpt: format!("{gutter} |\n{number} | {line}\n{gutter} | {indent}{caret}") }
    }

    pub(super) fn problem(&self, what: &str) -> Problem {
        Problem::new(&code::INVALID_MANIFEST, format!("{}: {what}\n{}", self.place, self.excerpt))
    }
}

impl<'a> Entry<'a> {
    /// Where its value stands.
    pub(super) fn position(&self) -> Position {
        self.document.position(self.value.span())
    }

    pub(super) fn key_problem(&self, what: &str) -> Problem {
        self.document.position(self.key_span.clone()).problem(what)
    }

    pub(super) fn unknown_key(&self, known: &[&str]) -> Problem {
        let problem = self.key_problem(&format!("unknown key `{}`", self.key));
        match nearest(self.key, known.iter().copied()) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None => problem.hint(format!("known here: {}", known.join(", "))),
        }
    }

    pub(super) fn text(&self) -> Result<&'a str, Problem> {
        self.text_of(self.value, "a text, in quotes")
    }

    /// A text that must be understood as a `T`.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self) -> Result<T, Problem> {
        self.parse(self.value, self.text()?)
    }

    /// One text, or several in an array.
    pub(super) fn one_or_several<T: FromStr<Err: Display>>(&self) -> Result<Vec<T>, Problem> {
        let Some(array) = self.value.get_ref().as_array() else {
            let text = self.text_of(self.value, "a text in quotes, or several: [\"…\", \"…\"]")?;
            return Ok(vec![self.parse(self.value, text)?]);
        };
        array.iter().map(|item| self.parse(item, self.text_of(item, "a text, in quotes")?)).collect()
    }

    /// The words that a program is started with. One text is refused: nothing here would take it apart as a shell does.
    pub(super) fn words(&self) -> Result<Vec<String>, Problem> {
        let wanted = "an array of words, as [\"./server\", \"--verbose\"]";
        let array = self.value.get_ref().as_array().ok_or_else(|| {
            self.wrong_type(self.value, wanted)
                .hint("for what a shell would do, write [\"sh\", \"-c\", \"…\"]")
        })?;
        array.iter().map(|item| Ok(self.text_of(item, "a text, in quotes")?.to_owned())).collect()
    }

    pub(super) fn port(&self) -> Result<u16, Problem> {
        let port = self.number(1..=u32::from(u16::MAX))?;
        Ok(u16::try_from(port).expect("the range is that of a port"))
    }

    pub(super) fn flag(&self) -> Result<bool, Problem> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong_type(self.value, "true or false"))
    }

    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Result<u32, Problem> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let integer =
            self.value.get_ref().as_integer().ok_or_else(|| self.wrong_type(self.value, &wanted))?;
        u32::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.problem(&format!("`{}` must be {wanted}", self.key)))
    }

    /// A quantity within bounds, both of which are shown as they would be written, as the example is.
    pub(super) fn quantity<T>(&self, range: RangeInclusive<T>, example: &str) -> Result<T, Problem>
    where
        T: FromStr<Err: Display> + PartialOrd + Display,
    {
        let text = self.text_of(self.value, &format!("a text, as \"{example}\""))?;
        let quantity: T = self.parse(self.value, text)?;
        if range.contains(&quantity) {
            return Ok(quantity);
        }
        let (least, most) = (range.start(), range.end());
        Err(self.problem(&format!("`{}` must be from {least} to {most}, as \"{example}\"", self.key)))
    }

    /// A table of names of the writer's own, with texts.
    pub(super) fn texts(&self) -> Result<BTreeMap<String, String>, Problem> {
        self.table()?.iter().map(|entry| Ok((entry.key.to_owned(), entry.text()?.to_owned()))).collect()
    }

    pub(super) fn table(&self) -> Result<Vec<Entry<'a>>, Problem> {
        let table = self.value.get_ref().as_table();
        let table = table.ok_or_else(|| self.wrong_type(self.value, "a table"))?;
        Ok(self.document.entries_of(table))
    }

    pub(super) fn problem(&self, what: &str) -> Problem {
        self.position().problem(what)
    }

    fn text_of(&self, value: &'a Spanned<DeValue<'a>>, wanted: &str) -> Result<&'a str, Problem> {
        value.get_ref().as_str().ok_or_else(|| self.wrong_type(value, wanted))
    }

    fn parse<T: FromStr<Err: Display>>(
        &self,
        value: &Spanned<DeValue<'a>>,
        text: &str,
    ) -> Result<T, Problem> {
        text.parse().map_err(|error: T::Err| self.document.position(value.span()).problem(&error.to_string()))
    }

    fn wrong_type(&self, value: &Spanned<DeValue<'a>>, wanted: &str) -> Problem {
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let what = format!("`{}` must be {wanted}, and is {found}", self.key);
        self.document.position(value.span()).problem(&what)
    }
}
