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

#[cfg(test)]
mod tests {
    use std::env::{current_exe, var_os};
    use std::process::Command;

    use super::*;

    const NAME: &str = "top::terminal::tests::a_panic_is_told_where_it_can_be_read";

    /// It runs itself on a terminal, where it panics with that taken.
    #[test]
    fn a_panic_is_told_where_it_can_be_read() {
        if var_os("IS_ON_A_TERMINAL").is_some() {
            let taken = TakenTerminal::take();
            assert!(taken.is_err(), "the terminal was taken");
        }
        let tests = current_exe().expect("this program");
        let command = format!("{} --exact {NAME} --nocapture; stty -a", tests.display());
        let shown = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("IS_ON_A_TERMINAL", "1")
            .output()
            .expect("script, of bsdutils");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("no {text} in {shown:?}"));
        // The other screen is left before the panic is told, on which it would be lost.
        assert!(at("\x1b[?1049h") < at("\x1b[?1049l"), "{shown:?}");
        assert!(at("\x1b[?1049l") < at("the terminal was taken"), "{shown:?}");
        assert!(shown.contains(" icanon") && !shown.contains("-icanon"), "{shown:?}");
    }
}
