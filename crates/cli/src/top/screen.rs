//! What is looked at, and what keys change of it.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::lists::HotList;
use super::rates::Rates;
use crate::error::CliError;
use crate::insight::ProgramState;

/// Lines that a page up or down leaves behind.
const PAGE: usize = 10;

/// What is shown.
pub(super) struct Screen {
    /// Whom it is about.
    pub(super) server: String,
    /// The last answer, and when it came.
    pub(super) latest: Option<(ProgramState, Instant)>,
    pub(super) rates: Rates,
    /// Why there has been none since, and from when on.
    pub(super) trouble: Option<Trouble>,
    pub(super) list: HotList,
    /// By which column each list is sorted.
    sorted_by: [usize; HotList::ALL.len()],
    /// Lines of the list above those that are seen.
    pub(super) skipped: usize,
    pub(super) shows_help: bool,
}

/// Why there is no answer.
pub(super) struct Trouble {
    pub(super) why: String,
    pub(super) since: Instant,
    /// Whether it is ours to mend: the program answers, and does not answer us.
    pub(super) is_refusal: bool,
    /// Whether a token would help.
    pub(super) wants_token: bool,
}

/// What a key has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterKey {
    GoesOn,
    End,
}

impl Screen {
    pub(super) fn new(server: String) -> Screen {
        Screen {
            server,
            latest: None,
            rates: Rates::default(),
            trouble: None,
            list: HotList::Keys,
            sorted_by: [0; HotList::ALL.len()],
            skipped: 0,
            shows_help: false,
        }
    }

    /// Takes over what the program has answered, or why it has not. Of a refusal nothing of before is left: what was seen then is no
    /// longer for us to see.
    pub(super) fn learn(&mut self, answer: Result<ProgramState, CliError>) {
        let now = Instant::now();
        match answer {
            Ok(state) => {
                let before = self.latest.as_ref().filter(|_| self.trouble.is_none());
                self.rates = before.map_or(Rates::default(), |(before, then)| {
                    Rates::between(before, &state, now.saturating_duration_since(*then))
                });
                self.latest = Some((state, now));
                self.trouble = None;
            }
            Err(error) => {
                let is_refusal = error.exit_code() == 4;
                if is_refusal {
                    self.latest = None;
                }
                self.rates = Rates::default();
                let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
                let wants_token = error.status() == Some(StatusCode::UNAUTHORIZED);
                self.trouble = Some(Trouble { why: error.to_string(), since, is_refusal, wants_token });
            }
        }
    }

    /// By which column the list is sorted.
    pub(super) fn sorted_by(&self) -> usize {
        self.sorted_by[self.list as usize]
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> AfterKey {
        if key.kind == KeyEventKind::Release {
            return AfterKey::GoesOn;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return AfterKey::End,
            KeyCode::Char('q') => return AfterKey::End,
            KeyCode::Esc => self.shows_help = false,
            KeyCode::Char('?') => self.shows_help = !self.shows_help,
            KeyCode::Char(digit @ '1'..='4') => self.choose(digit as usize - '1' as usize),
            KeyCode::Tab => self.choose(self.list as usize + 1),
            KeyCode::BackTab => self.choose(self.list as usize + HotList::ALL.len() - 1),
            KeyCode::Char('s') => {
                let columns = self.list.columns().len();
                let sorted_by = &mut self.sorted_by[self.list as usize];
                *sorted_by = (*sorted_by + 1) % columns;
                self.skipped = 0;
            }
            KeyCode::Down | KeyCode::Char('j') => self.skipped += 1,
            KeyCode::Up | KeyCode::Char('k') => self.skipped = self.skipped.saturating_sub(1),
            KeyCode::PageDown => self.skipped += PAGE,
            KeyCode::PageUp => self.skipped = self.skipped.saturating_sub(PAGE),
            KeyCode::Home => self.skipped = 0,
            _ => {}
        }
        let lines = self.latest.as_ref().map_or(0, |(state, _)| self.list.lines(state, 0).len());
        self.skipped = self.skipped.min(lines.saturating_sub(1));
        AfterKey::GoesOn
    }

    /// How old what is shown is.
    pub(super) fn age(&self) -> Option<Duration> {
        self.latest.as_ref().map(|(_, came)| came.elapsed())
    }

    fn choose(&mut self, number: usize) {
        self.list = HotList::ALL[number % HotList::ALL.len()];
        (self.skipped, self.shows_help) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::tests::LISTS;

    fn press(screen: &mut Screen, code: KeyCode) -> AfterKey {
        screen.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_choose_a_list_sort_it_and_end_it() {
        let mut screen = Screen::new("http://h".into());
        screen.learn(ProgramState::parse(LISTS).map_err(CliError::Unreachable));
        press(&mut screen, KeyCode::Char('s'));
        press(&mut screen, KeyCode::Char('3'));
        assert_eq!((screen.list, screen.sorted_by()), (HotList::Prefixes, 0));
        press(&mut screen, KeyCode::Tab);
        press(&mut screen, KeyCode::Tab);
        assert_eq!((screen.list, screen.sorted_by()), (HotList::Keys, 1));
        press(&mut screen, KeyCode::BackTab);
        assert_eq!(screen.list, HotList::Slow);
        for _ in 0..SLOW_COLUMNS {
            press(&mut screen, KeyCode::Char('s'));
        }
        assert_eq!(screen.sorted_by(), 0);
        press(&mut screen, KeyCode::PageDown);
        assert_eq!(screen.skipped, 1, "the last of two lines");
        assert_eq!(press(&mut screen, KeyCode::Char('?')), AfterKey::GoesOn);
        assert!(screen.shows_help);
        assert_eq!(press(&mut screen, KeyCode::Char('q')), AfterKey::End);
        assert_eq!(screen.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), AfterKey::End);
    }

    const SLOW_COLUMNS: usize = 7;

    #[test]
    fn what_is_refused_is_not_shown_and_what_is_away_is_shown_as_it_was() {
        let mut screen = Screen::new("http://h".into());
        screen.learn(ProgramState::parse(LISTS).map_err(CliError::Unreachable));
        screen.learn(Err(CliError::Unreachable("nobody".into())));
        assert!(
            screen.latest.is_some() && screen.trouble.as_ref().is_some_and(|trouble| !trouble.is_refusal)
        );
        screen.learn(Err(CliError::Refused("a token".into())));
        assert!(screen.latest.is_none() && screen.trouble.as_ref().is_some_and(|trouble| trouble.is_refusal));
        screen.learn(ProgramState::parse(LISTS).map_err(CliError::Unreachable));
        assert!(screen.trouble.is_none());
    }
}
