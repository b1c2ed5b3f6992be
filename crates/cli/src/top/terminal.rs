//! The terminal, taken for pictures and given back on every way out.

use std::io::{self, IsTerminal, Stdout, stdin, stdout};
use std::panic::{set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};

use crate::error::CliError;

/// Whether it is taken. The last word of a panic asks, which may be of any thread.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Given back when dropped, and before a panic says what it was.
pub(super) struct TakenTerminal(Terminal<CrosstermBackend<Stdout>>);

impl TakenTerminal {
    /// # Errors
    /// There is none, or it does not obey.
    pub(super) fn take() -> Result<TakenTerminal, CliError> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Err(CliError::Usage(
                "top draws on a terminal, and standard input or output is none: `redis-proxy stats` prints the numbers".into(),
            ));
        }
        let terminal = Terminal::new(CrosstermBackend::new(stdout())).map_err(CliError::Output)?;
        let told = take_hook();
        set_hook(Box::new(move |panic| {
            give_back();
            told(panic);
        }));
        // What is taken in part is given back by the drop.
        let taken = TakenTerminal(terminal);
        TAKEN.store(true, Ordering::SeqCst);
        enable_raw_mode()
            .and_then(|()| execute!(stdout(), EnterAlternateScreen))
            .map_err(CliError::Output)?;
        Ok(taken)
    }

    /// One picture.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(picture).map(drop)
    }
}

impl Drop for TakenTerminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone wants nothing back.
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
