//! The terminal of `coracle top`: taken over, drawn on, listened to, and given back however it ends.
//! What is shown and what keys do is decided elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use coracle_api::{Client, StatsQuery, StatsView};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{Event, EventStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::model::{Model, Next};
use super::poll::poll;
use super::view::{Theme, draw};
use crate::options::Common;
use crate::stop::{Done, Stop};

/// Whether there is a screen to draw on, and somebody to press keys.
pub(super) fn is_possible() -> bool {
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

/// Shows what the server does until somebody has seen enough.
pub(super) async fn show(
    client: Client,
    common: &Common,
    query: StatsQuery,
    first: StatsView,
    interval: Duration,
) -> Done {
    let mut model = Model::new(client.url(), query.sort.unwrap_or_default(), first);
    let (ask, questions) = watch::channel(model.question());
    // One answer at a time: the next is asked for when this one was taken.
    let (tell, mut answers) = mpsc::channel(1);
    tokio::spawn(poll(client, common.clone(), query, interval, questions, tell));

    let failed = |error: std::io::Error| Stop::of_output(&error);
    let mut end = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut screen = Screen::open().map_err(failed)?;
    let mut events = EventStream::new();
    loop {
        screen.draw(&model).map_err(failed)?;
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) if key.is_press() => {
                    if model.key(key) == Next::Leave {
                        return Ok(());
                    }
                }
                // A new size, too: the next drawing has it.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(failed(error)),
                None => return Ok(()),
            },
            answer = answers.recv() => match answer {
                Some(answer) => model.told(answer?),
                None => return Ok(()),
            },
            _ = end.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        ask.send_if_modified(|asked| {
            let question = model.question();
            let is_new = *asked != question;
            *asked = question;
            is_new
        });
    }
}

/// The terminal while it is ours. Dropped, it is as it was; a panic gives it back before it speaks.
struct Screen {
    terminal: DefaultTerminal,
    theme: Theme,
}

impl Screen {
    fn open() -> std::io::Result<Self> {
        let colours = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        Ok(Self { terminal: ratatui::try_init()?, theme: Theme { colours } })
    }

    fn draw(&mut self, model: &Model) -> std::io::Result<()> {
        let theme = self.theme;
        self.terminal.draw(|frame| draw(model, theme, frame.area(), frame.buffer_mut())).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}
