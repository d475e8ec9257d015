//! What `coracle top` shows and what each key does to it: no terminal, no server, no clock.
//! `screen.rs` feeds it with keys and answers, `view.rs` draws it.

use std::collections::VecDeque;

use coracle_api::{CallView, FunctionActivity, LogLine, StatsSort, StatsView};
use coracle_model::FunctionRef;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Rates that are kept for the curve in the header.
pub(super) const HISTORY_MAX: usize = 64;
/// Rows that one of the page keys moves by.
const PAGE_ROWS: usize = 10;
/// Letters of a filter; no name is longer.
const FILTER_MAX: usize = 64;

/// All that is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) url: String,
    /// The last answer of the server.
    pub(super) stats: StatsView,
    /// Calls a second in the answers so far, oldest first.
    pub(super) history: VecDeque<f64>,
    pub(super) sort: StatsSort,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) typing: bool,
    /// By name and not by place, so that it stays on its function while the order changes.
    pub(super) selected: Option<FunctionRef>,
    pub(super) opened: Option<Opened>,
    /// Why the server does not answer.
    pub(super) lost: Option<String>,
}

/// A function that is looked at closely.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) function: FunctionRef,
    /// Its numbers, unless it is gone.
    pub(super) activity: Option<FunctionActivity>,
    /// Newest first.
    pub(super) calls: Vec<CallView>,
    /// Oldest first.
    pub(super) lines: Vec<LogLine>,
}

/// What the server is asked for next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) sort: StatsSort,
    pub(super) contains: String,
    pub(super) opened: Option<FunctionRef>,
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Told {
    Stats(Box<Answer>),
    /// None; why.
    Lost(String),
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Where it was: one that was started anew may be elsewhere.
    pub(super) url: String,
    pub(super) stats: StatsView,
    /// A closer look, where one was asked for.
    pub(super) opened: Option<Opened>,
}

/// What a key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Leave,
}

impl Model {
    /// A screen with a first answer.
    pub(super) fn new(url: &str, sort: StatsSort, stats: StatsView) -> Self {
        let history = VecDeque::from([stats.totals.calls_per_s]);
        Self {
            url: url.to_owned(),
            stats,
            history,
            sort,
            filter: String::new(),
            typing: false,
            selected: None,
            opened: None,
            lost: None,
        }
    }

    pub(super) fn question(&self) -> Question {
        Question {
            sort: self.sort,
            contains: self.filter.clone(),
            opened: self.opened.as_ref().map(|opened| opened.function.clone()),
        }
    }

    /// Takes what the server said.
    pub(super) fn told(&mut self, told: Told) {
        let Answer { url, stats, opened: looked } = match told {
            Told::Lost(why) => {
                self.lost = Some(why);
                return;
            }
            Told::Stats(answer) => *answer,
        };
        self.lost = None;
        self.url = url;
        self.history.push_back(stats.totals.calls_per_s);
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
        self.stats = stats;
        // An answer that was on its way when another function was opened, or this one closed, is of no use.
        if let (Some(opened), Some(looked)) = (&mut self.opened, looked)
            && opened.function == looked.function
        {
            *opened = looked;
        }
    }

    /// Does what a key asks for.
    pub(super) fn key(&mut self, key: KeyEvent) -> Next {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Next::Leave } else { Next::Stay };
        }
        if self.typing {
            self.type_key(key.code);
            return Next::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Next::Leave,
            KeyCode::Esc => return self.back(),
            KeyCode::Char('/') if self.opened.is_none() => self.typing = true,
            KeyCode::Up | KeyCode::Char('k') => self.step(|place, _| place.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.step(|place, _| place + 1),
            KeyCode::PageUp => self.step(|place, _| place.saturating_sub(PAGE_ROWS)),
            KeyCode::PageDown => self.step(|place, _| place + PAGE_ROWS),
            KeyCode::Home => self.step(|_, _| 0),
            KeyCode::End => self.step(|_, last| last),
            KeyCode::Right | KeyCode::Tab => self.turn_sort(1),
            KeyCode::Left | KeyCode::BackTab => self.turn_sort(StatsSort::ALL.len() - 1),
            KeyCode::Enter => self.open(),
            KeyCode::Char(letter) => self.sort = sort_of(letter).unwrap_or(self.sort),
            _ => {}
        }
        Next::Stay
    }

    /// Where the selected function stands now.
    pub(super) fn selected_place(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.stats.items.iter().position(|item| is_of(item, selected))
    }

    fn type_key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char(letter) if self.filter.len() < FILTER_MAX && letter.is_ascii_graphic() => {
                self.filter.push(letter);
            }
            KeyCode::Backspace if self.filter.is_empty() => self.typing = false,
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Up | KeyCode::Down => self.typing = false,
            _ => {}
        }
    }

    /// One step back: out of a function, out of a filter, out of the program.
    fn back(&mut self) -> Next {
        if self.opened.take().is_some() {
            return Next::Stay;
        }
        if !self.filter.is_empty() {
            self.filter.clear();
            return Next::Stay;
        }
        Next::Leave
    }

    fn step(&mut self, to: impl Fn(usize, usize) -> usize) {
        let Some(last) = self.stats.items.len().checked_sub(1) else { return };
        if self.opened.is_some() {
            return;
        }
        // The first step selects the first row.
        let place = self.selected_place().map_or(0, |place| to(place, last).min(last));
        self.selected = self.stats.items.get(place).map(function_of);
    }

    fn turn_sort(&mut self, by: usize) {
        let place = StatsSort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        self.sort = StatsSort::ALL[(place + by) % StatsSort::ALL.len()];
    }

    fn open(&mut self) {
        let place = self.selected_place().unwrap_or(0);
        let Some(activity) = self.stats.items.get(place) else { return };
        let function = function_of(activity);
        self.selected = Some(function.clone());
        let activity = Some(activity.clone());
        self.opened = Some(Opened { function, activity, calls: Vec::new(), lines: Vec::new() });
    }
}

/// The key that sorts by this.
pub(super) fn key_of(sort: StatsSort) -> char {
    match sort {
        StatsSort::Calls => 'c',
        StatsSort::P50 => '5',
        StatsSort::P99 => '9',
        StatsSort::Errors => 'e',
        StatsSort::Running => 'r',
        StatsSort::Waiting => 'w',
        StatsSort::Memory => 'm',
        StatsSort::Name => 'n',
    }
}

fn sort_of(letter: char) -> Option<StatsSort> {
    StatsSort::ALL.into_iter().find(|sort| key_of(*sort) == letter)
}

pub(super) fn function_of(activity: &FunctionActivity) -> FunctionRef {
    FunctionRef { namespace: activity.namespace.clone(), name: activity.name.clone() }
}

fn is_of(activity: &FunctionActivity, function: &FunctionRef) -> bool {
    activity.name == function.name && activity.namespace == function.namespace
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::stats;
    use super::*;

    fn model() -> Model {
        Model::new("http://127.0.0.1:8080", StatsSort::Calls, stats(&["a", "b", "c"]))
    }

    fn answer(stats: StatsView, opened: Option<Opened>) -> Told {
        Told::Stats(Box::new(Answer { url: "http://127.0.0.1:9090".into(), stats, opened }))
    }

    fn press(model: &mut Model, keys: &str) -> Next {
        let mut next = Next::Stay;
        for key in keys.chars() {
            let code = match key {
                '⏎' => KeyCode::Enter,
                '⎋' => KeyCode::Esc,
                '↓' => KeyCode::Down,
                '↑' => KeyCode::Up,
                '←' => KeyCode::Left,
                '⌫' => KeyCode::Backspace,
                letter => KeyCode::Char(letter),
            };
            next = model.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        next
    }

    fn selected(model: &Model) -> Option<String> {
        model.selected.as_ref().map(|function| function.name.to_string())
    }

    #[test]
    fn a_selection_stays_on_its_function_while_the_order_changes() {
        let mut model = model();
        press(&mut model, "↓↓");
        assert_eq!((selected(&model).as_deref(), model.selected_place()), (Some("b"), Some(1)));
        model.told(answer(stats(&["b", "c", "a"]), None));
        assert_eq!(model.selected_place(), Some(0));
        press(&mut model, "↑");
        assert_eq!(selected(&model).as_deref(), Some("b"));
        model.told(answer(stats(&["c"]), None));
        assert_eq!(model.selected_place(), None);
        press(&mut model, "↓↓↓");
        assert_eq!(selected(&model).as_deref(), Some("c"));
    }

    #[test]
    fn a_filter_is_typed_and_asked_for() {
        let mut model = model();
        assert_eq!(press(&mut model, "/qx⌫ "), Next::Stay, "no key but a letter while typing");
        assert_eq!((model.question().contains.as_str(), model.typing), ("q", true));
        press(&mut model, "⏎e");
        let question = model.question();
        assert_eq!((question.contains.as_str(), question.sort), ("q", StatsSort::Errors));
        assert_eq!(press(&mut model, "⎋"), Next::Stay);
        assert_eq!(model.question().contains, "");
        assert_eq!(press(&mut model, "⎋"), Next::Leave);
    }

    #[test]
    fn a_function_is_opened_and_left_again() {
        let mut model = model();
        press(&mut model, "↓↓⏎");
        let function = model.question().opened.expect("a function");
        assert_eq!(function.to_string(), "b.default");
        let late = |name: &str| Opened {
            function: FunctionRef::parse(name).unwrap(),
            activity: None,
            calls: Vec::new(),
            lines: Vec::new(),
        };
        model.told(answer(stats(&["a", "b"]), Some(late("a"))));
        assert!(model.opened.as_ref().is_some_and(|opened| opened.activity.is_some()), "a late answer");
        model.told(answer(stats(&["a"]), Some(late("b"))));
        assert!(model.opened.as_ref().is_some_and(|opened| opened.activity.is_none()));
        assert_eq!(press(&mut model, "⎋"), Next::Stay);
        assert_eq!(model.question().opened, None);
    }

    #[test]
    fn the_order_turns_round() {
        let mut model = model();
        press(&mut model, "←");
        assert_eq!(model.sort, StatsSort::Name);
        for sort in StatsSort::ALL {
            press(&mut model, &key_of(sort).to_string());
            assert_eq!(model.sort, sort);
        }
    }

    #[test]
    fn a_server_that_is_gone_leaves_its_numbers_and_comes_back() {
        let mut model = model();
        model.told(Told::Lost("connection refused".into()));
        assert_eq!((model.stats.items.len(), model.lost.as_deref()), (3, Some("connection refused")));
        for _ in 0..2 * HISTORY_MAX {
            model.told(answer(stats(&[]), None));
        }
        assert_eq!((model.lost.as_deref(), model.history.len()), (None, HISTORY_MAX));
        assert_eq!(model.url, "http://127.0.0.1:9090", "it listens elsewhere now");
        assert_eq!(press(&mut model, "↓⏎"), Next::Stay, "nothing to select");
    }

    #[test]
    fn control_c_leaves_whatever_is_typed() {
        let mut model = model();
        press(&mut model, "/abc");
        assert_eq!(model.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Next::Leave);
    }
}
