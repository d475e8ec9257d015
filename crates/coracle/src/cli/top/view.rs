//! How the model of `coracle top` looks: cells of a buffer, of any size, with or without colours.
//! `screen.rs` draws with it; tests read the buffer as text.

use coracle_api::{FunctionActivity, LogStream, StatsSort};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::ago::{bytes, micros, millis, span};
use super::super::call::shown;
use super::super::logs::visible;
use super::columns::{self, Column};
use super::model::{Model, Opened, key_of};

/// With fewer rows than this, only one line stands above the table.
const ROWS_FOR_HEADER: u16 = 9;
/// Columns from which on the curve of the last rates stands in the header.
const COLUMNS_FOR_CURVE: u16 = 64;

/// What stands out, and how; without colours by weight alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) colours: bool,
}

impl Theme {
    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn lively(self) -> Style {
        self.coloured(Color::Cyan)
    }

    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn warning(self) -> Style {
        self.coloured(Color::Yellow)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }
}

/// Draws all of it.
pub(super) fn draw(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let mut page = Page { area, buffer, theme };
    let (head, footer) = (header(model, theme, area), keys(model, theme));
    for line in head {
        page.top(&line);
    }
    if page.area.height > 2 {
        page.bottom(&footer);
    }
    match &model.opened {
        Some(opened) => draw_opened(opened, &mut page),
        None => draw_table(model, &mut page),
    }
}

/// What is left of the screen.
struct Page<'a> {
    area: Rect,
    buffer: &'a mut Buffer,
    theme: Theme,
}

impl Page<'_> {
    /// Takes a line from above.
    fn top(&mut self, line: &Line<'_>) {
        if self.area.height > 0 {
            self.buffer.set_line(self.area.x, self.area.y, line, self.area.width);
            self.area.y += 1;
            self.area.height -= 1;
        }
    }

    /// Takes a line from below.
    fn bottom(&mut self, line: &Line<'_>) {
        if self.area.height > 0 {
            self.area.height -= 1;
            let y = self.area.y + self.area.height;
            self.buffer.set_line(self.area.x, y, line, self.area.width);
        }
    }

    /// A line that is marked from side to side.
    fn marked(&mut self, line: &Line<'_>, style: Style) {
        let row = Rect { height: self.area.height.min(1), ..self.area };
        self.top(line);
        self.buffer.set_style(row, style);
    }

    fn rows(&self) -> usize {
        usize::from(self.area.height)
    }
}

fn header(model: &Model, theme: Theme, area: Rect) -> Vec<Line<'static>> {
    let stats = &model.stats;
    let mut first = vec![
        Span::styled(format!("{} calls/s", columns::rate(stats.totals.calls_per_s)), theme.strong()),
        Span::raw("  "),
    ];
    if stats.totals.errors_per_s > 0.0 {
        let errors = columns::rate(stats.totals.errors_per_s);
        first.push(Span::styled(format!("{errors} errors/s"), theme.bad()));
        first.push(Span::raw("  "));
    }
    if area.width >= COLUMNS_FOR_CURVE {
        let room = usize::from(area.width / 5);
        let skipped = model.history.len().saturating_sub(room);
        let last: Vec<_> = model.history.iter().skip(skipped).copied().collect();
        first.push(Span::styled(curve(&last), theme.lively()));
    }
    let mut lines = vec![Line::from(first)];
    if area.height >= ROWS_FOR_HEADER {
        // Who it is stands to the right, where there is room for it.
        let place = format!("{}  up {}", model.url, span(stats.uptime_s));
        let gap = usize::from(area.width).saturating_sub(lines[0].width());
        let wanted = place.chars().count();
        if gap > wanted {
            lines[0].push_span(Span::styled(format!("{place:>gap$}"), theme.quiet()));
        }
        lines.push(Line::styled(fitting(inside(model), area.width), theme.quiet()));
    }
    if let Some(why) = &model.lost {
        let lost = Line::styled(format!("no answer, trying again: {why}"), theme.bad());
        // Where there is one line only, it is the one that matters.
        if area.height >= ROWS_FOR_HEADER { lines.push(lost) } else { lines = vec![lost] }
    } else if area.height >= ROWS_FOR_HEADER {
        lines.push(Line::default());
    }
    lines
}

fn inside(model: &Model) -> Vec<String> {
    let stats = &model.stats;
    let mut parts = vec![
        format!("functions {}", columns::whole(stats.functions as u64)),
        format!("running {}", stats.totals.in_flight),
        format!("waiting {}", stats.totals.waiting),
    ];
    if let Some(server) = &stats.server {
        parts.push(format!("instances {} ({} idle)", server.instances, server.instances_idle));
        if server.resident_bytes > 0 {
            parts.push(format!("memory {}", bytes(server.resident_bytes)));
        }
        parts.push(format!("code {} of {}", bytes(server.code_bytes), bytes(server.code_bytes_max)));
    }
    parts
}

/// As many of the parts as fit beside each other; half a number would be another one.
fn fitting(parts: Vec<String>, width: u16) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() && text.len() + 2 + part.len() > usize::from(width) {
            break;
        }
        if !text.is_empty() {
            text.push_str("  ");
        }
        text.push_str(&part);
    }
    text
}

/// The rates so far as blocks of eight heights; the highest of them is full.
fn curve(rates: &[f64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = rates.iter().copied().fold(0.0, f64::max);
    let block = |rate: &f64| {
        let share = if highest > 0.0 { rate / highest } else { 0.0 };
        HEIGHTS[columns::step(share, HEIGHTS.len() - 1)]
    };
    rates.iter().map(block).collect()
}

fn keys(model: &Model, theme: Theme) -> Line<'static> {
    if model.typing {
        return Line::from(vec![
            Span::styled(format!("/{}", model.filter), theme.strong()),
            Span::styled("▏", theme.lively()),
            Span::styled("  enter keeps it, esc clears it", theme.quiet()),
        ]);
    }
    let mut line = Line::default();
    let mut key = |key: &str, what: &str| {
        line.push_span(Span::styled(key.to_owned(), theme.strong()));
        line.push_span(Span::styled(format!(" {what}  "), theme.quiet()));
    };
    key("q", "leave");
    if model.opened.is_some() {
        key("esc", "back");
        return line;
    }
    key("↑↓", "select");
    key("enter", "open");
    match model.filter.as_str() {
        "" => key("/", "filter"),
        filter => key(&format!("/{filter}"), "(esc clears)"),
    }
    key("←→", "or underlined letter: sort");
    line
}

fn draw_table(model: &Model, page: &mut Page<'_>) {
    let theme = page.theme;
    let items = &model.stats.items;
    if items.is_empty() {
        let lines = match model.filter.as_str() {
            "" => ["no functions yet", "deploy one: coracle deploy FILE --name NAME"],
            _ => ["no function has that in its name", "esc clears the filter"],
        };
        page.top(&Line::styled(lines[0], theme.strong()));
        page.top(&Line::styled(lines[1], theme.quiet()));
        return;
    }
    let columns = columns::fitting(page.area.width, items);
    page.top(&titles(&columns, model.sort, theme));
    let selected = model.selected_place();
    let busiest = items.iter().map(|item| item.calls_per_s).fold(0.0, f64::max);
    // The last row says how many there are below it, if there are and there is room to say so.
    let rows = page.rows();
    let known = if model.filter.is_empty() { model.stats.functions.max(items.len()) } else { items.len() };
    let shown = if known > rows.min(items.len()) && rows > 2 { items.len().min(rows - 1) } else { rows };
    let first = selected.map_or(0, |place| (place + 1).saturating_sub(shown));
    for (place, item) in items.iter().enumerate().skip(first).take(shown) {
        let row = row(item, &columns, busiest, theme);
        if selected == Some(place) { page.marked(&row, theme.chosen()) } else { page.top(&row) }
    }
    if known > shown && rows > 2 {
        let more = columns::whole((known - shown) as u64);
        page.top(&Line::styled(format!("… {more} more; / finds one by its name"), theme.quiet()));
    }
}

fn titles(columns: &[(Column, usize)], sort: StatsSort, theme: Theme) -> Line<'static> {
    let titles = columns.iter().map(|&(column, width)| {
        let (title, sorted) = (column.title(), column.sorts() == Some(sort));
        let style = if sorted { theme.lively().add_modifier(Modifier::BOLD) } else { theme.strong() };
        let mark = if sorted && title.len() < width { "▾" } else { "" };
        titled(&column.padded(&format!("{title}{mark}"), width), column.sorts().map(key_of), style)
    });
    spread(titles)
}

/// A title with the letter underlined that sorts by it.
fn titled(title: &str, key: Option<char>, style: Style) -> Vec<Span<'static>> {
    let is_key = |letter: char| Some(letter.to_ascii_lowercase()) == key;
    let Some((place, letter)) = title.char_indices().find(|(_, letter)| is_key(*letter)) else {
        return vec![Span::styled(title.to_owned(), style)];
    };
    let (before, behind) = (&title[..place], &title[place + letter.len_utf8()..]);
    vec![
        Span::styled(before.to_owned(), style),
        Span::styled(letter.to_string(), style.add_modifier(Modifier::UNDERLINED)),
        Span::styled(behind.to_owned(), style),
    ]
}

fn row(item: &FunctionActivity, columns: &[(Column, usize)], busiest: f64, theme: Theme) -> Line<'static> {
    let cells = columns.iter().map(|&(column, width)| {
        let style = match column {
            Column::Errors if item.errors_per_s > 0.0 => theme.bad(),
            Column::Waiting if item.waiting > 0 => theme.warning(),
            Column::Bar => theme.lively(),
            Column::Function if item.calls_per_s > 0.0 || item.in_flight > 0 => theme.strong(),
            _ if column.is_zero(item) => theme.quiet(),
            _ => Style::new(),
        };
        vec![Span::styled(column.padded(&column.cell(item, busiest, width), width), style)]
    });
    spread(cells)
}

/// Cells with a gap between them.
fn spread(cells: impl Iterator<Item = Vec<Span<'static>>>) -> Line<'static> {
    let mut line = Line::default();
    for cell in cells {
        if !line.spans.is_empty() {
            line.push_span(Span::raw(columns::GAP));
        }
        line.spans.extend(cell);
    }
    line
}

fn draw_opened(opened: &Opened, page: &mut Page<'_>) {
    let theme = page.theme;
    let name = shown(&opened.function);
    let room = page.area.width.saturating_sub(u16::try_from(name.len() + 2).unwrap_or(u16::MAX));
    let name = Span::styled(name, theme.strong());
    match &opened.activity {
        None => page.top(&Line::from(vec![name, Span::styled("  is not there any more", theme.bad())])),
        Some(activity) => {
            page.top(&Line::from(vec![name, Span::raw(format!("  {}", fitting(summary(activity), room)))]));
        }
    }
    page.top(&Line::default());
    page.top(&Line::styled("LAST CALLS", theme.strong()));
    // Half for what it answered, and half for what it printed.
    let calls = (page.rows() / 2).saturating_sub(1).min(opened.calls.len().max(1));
    if opened.calls.is_empty() {
        page.top(&Line::styled("none since the server started", theme.quiet()));
    }
    for call in opened.calls.iter().take(calls) {
        let failed = call.outcome != "ok";
        let ended =
            if failed { format!("{} {}", call.status, call.outcome) } else { call.status.to_string() };
        let style = if failed || call.status >= 500 { theme.bad() } else { Style::new() };
        let took = micros(call.total_us);
        page.top(&Line::from(vec![
            Span::styled(call.started.strftime("%H:%M:%S%.3f").to_string(), theme.quiet()),
            Span::raw(format!("  {took:>8}  ")),
            Span::styled(ended, style),
            Span::raw(format!("  {}", visible(&format!("{} {}", call.method, call.path)))),
            Span::styled(if call.cold { "  cold" } else { "" }, theme.quiet()),
        ]));
    }
    page.top(&Line::default());
    page.top(&Line::styled("LOG", theme.strong()));
    if opened.lines.is_empty() {
        page.top(&Line::styled("no lines", theme.quiet()));
    }
    let skipped = opened.lines.len().saturating_sub(page.rows());
    for line in opened.lines.iter().skip(skipped) {
        let style = match line.stream {
            LogStream::Stdout => Style::new(),
            LogStream::Stderr => theme.warning(),
            LogStream::Platform => theme.lively(),
        };
        page.top(&Line::from(vec![
            Span::styled(line.time.strftime("%H:%M:%S%.3f  ").to_string(), theme.quiet()),
            Span::styled(visible(&line.text), style),
        ]));
    }
}

fn summary(activity: &FunctionActivity) -> Vec<String> {
    let mut parts = vec![format!("{} calls/s", columns::rate(activity.calls_per_s))];
    if activity.errors_per_s > 0.0 {
        parts.push(format!("{} errors/s", columns::rate(activity.errors_per_s)));
    }
    parts.extend(activity.p50_ms.map(|ms| format!("p50 {}", millis(ms))));
    parts.extend(activity.p99_ms.map(|ms| format!("p99 {}", millis(ms))));
    parts.push(format!("{} running", activity.in_flight));
    if activity.waiting > 0 {
        parts.push(format!("{} waiting", activity.waiting));
    }
    parts.push(format!("{} idle", activity.instances_idle));
    if activity.memory_bytes > 0 {
        parts.push(bytes(activity.memory_bytes));
    }
    parts.push(format!("revision {}", activity.revision));
    let (calls, errors) = (columns::whole(activity.calls), columns::whole(activity.errors));
    parts.push(format!("{calls} calls, {errors} failed"));
    parts
}

#[cfg(test)]
pub(super) mod tests;
