//! `redis-proxy top`: what a running program counts, and what is hot in it, each second on a terminal.
//!
//! `terminal` takes the terminal and gives it back, `screen` is what is looked at and what keys change of it, `lists` the tables, `rates` what
//! counters say of the last second, `draw` puts all of it into cells. Nothing here asks: a task does, and sends what it was told.

mod draw;
mod lists;
mod rates;
mod screen;
mod terminal;

use std::io;
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Inquiry, ServerClient};
use crate::error::CliError;
use crate::insight::ProgramState;
use crate::{INSIGHT, MOST_ANSWER_BYTES};
use screen::{AfterKey, Screen};
use terminal::TakenTerminal;

/// From one question to the next, and from one picture to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// Keys that were pressed and not looked at.
const MOST_EVENTS: usize = 64;
/// Lines of each list.
const LINES: usize = 200;

/// Shows what `client` is told until a key or a signal ends it.
///
/// # Errors
/// There is no terminal, it cannot be written, or a signal came.
pub(crate) async fn show(client: ServerClient) -> Result<(), CliError> {
    let mut terminal = TakenTerminal::take()?;
    let mut signals = signals().map_err(CliError::Output)?;
    let (tell, mut told) = channel(1);
    let mut screen = Screen::new(client.server().to_string());
    tokio::spawn(ask(client, tell));
    let mut events = events().map_err(CliError::Output)?;
    loop {
        terminal.draw(|frame| draw::screen(frame, &screen)).map_err(CliError::Output)?;
        tokio::select! {
            Some(answer) = told.recv() => screen.learn(answer),
            event = events.recv() => match event {
                Some(Event::Key(key)) if screen.press(key) == AfterKey::End => return Ok(()),
                // A picture is drawn in whatever size there is.
                Some(_) => {}
                None => return Err(CliError::Output(io::Error::other("the terminal is gone"))),
            },
            Some(number) = signals.recv() => return Err(CliError::Signalled(number)),
            // How long ago something was goes on while nothing happens.
            () = sleep(PERIOD) => {}
        }
    }
}

/// Asks each second, and once more a second after an answer that did not come. Ends when nobody listens.
async fn ask(client: ServerClient, tell: Sender<Result<ProgramState, CliError>>) {
    let target = format!("{INSIGHT}?count={LINES}");
    loop {
        let due = Instant::now() + PERIOD;
        let answer = match client.ask(Inquiry::get(&target)).await {
            Ok(answer) => answer.text(MOST_ANSWER_BYTES).await,
            Err(error) => Err(error),
        };
        let state = answer.and_then(|text| ProgramState::parse(&text).map_err(CliError::Unreachable));
        if tell.send(state).await.is_err() {
            return;
        }
        sleep_until(due).await;
    }
}

/// What happens at the terminal. Its thread waits there until the process ends; that it has ended says that nothing more will come.
fn events() -> io::Result<Receiver<Event>> {
    let (tell, events) = channel(MOST_EVENTS);
    thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(event) = event::read() {
            if tell.blocking_send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(events)
}

/// The numbers of signals that end us.
fn signals() -> io::Result<Receiver<u8>> {
    let (tell, numbers) = channel(1);
    for (kind, number) in [
        (SignalKind::hangup(), 1),
        (SignalKind::interrupt(), 2),
        (SignalKind::quit(), 3),
        (SignalKind::terminate(), 15),
    ] {
        let (mut signal, tell) = (signal(kind)?, tell.clone());
        tokio::spawn(async move {
            if signal.recv().await.is_some() {
                // Whoever ends for another one needs no second.
                let _ = tell.send(number).await;
            }
        });
    }
    Ok(numbers)
}
