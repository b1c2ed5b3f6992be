//! The picture: what is known put into cells. It says everything in words too, for those who see no colours.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use super::lists::{HotList, ListCell};
use super::screen::{Screen, Trouble};
use crate::figures::{UNKNOWN, bytes, coherence, count, micros, percent, rate, redis, seconds, tracking};
use crate::insight::ProgramState;
use crate::printable;

/// In less nothing can be read.
const LEAST: (u16, u16) = (40, 8);
/// Where the words of a subject begin.
const INDENT: u16 = 11;
/// Between two figures.
const GAP: u16 = 3;
/// The most Redis that are named; a cluster may have hundreds.
const MOST_UPSTREAMS: usize = 3;

const PLAIN: Style = Style::new();
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

const HELP: [&str; 10] = [
    "Tab, 1 to 4   the next list; hot keys, hot misses, prefixes, slow log",
    "s             sort the list by its next column; its title is marked <",
    "Up, Down      move the list, as PgUp, PgDn and Home do",
    "?             this text, and back",
    "q             the end",
    "",
    "Keys are sampled: +- is the standard error of a rate. What is counted since the start",
    "is in `redis-proxy stats`, and docs/operations.md says what each word means.",
    "",
    "-             not known, or nothing was measured",
];

/// Draws all of it.
pub(super) fn screen(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let mut picture = Picture { buffer, area, row: 0 };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return picture.line(&[("too small a terminal", PLAIN)]);
    }
    picture.title(screen);
    if let Some((state, _)) = &screen.latest {
        picture.traffic(screen, state);
        picture.cache(screen, state);
        picture.standing(state);
    }
    picture.lists(screen);
    picture.row = area.height - 1;
    picture.line(&[("Tab 1-4 list   s sort   Up Down move   ? help   q quit", FAINT)]);
}

/// The cells, filled from the top.
struct Picture<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    row: u16,
}

impl Picture<'_> {
    /// Words from the left edge on, as far as they fit, and the next line.
    fn line(&mut self, words: &[(&str, Style)]) {
        let mut column = 0;
        for (text, style) in words {
            column = self.put(column, text, *style);
        }
        self.row += 1;
    }

    /// Puts a text there, and gives the column behind it.
    fn put(&mut self, column: u16, text: &str, style: Style) -> u16 {
        let left = self.area.width.saturating_sub(column);
        if self.row >= self.area.height || left == 0 {
            return column;
        }
        let (x, y) = (self.area.x + column, self.area.y + self.row);
        let (behind, _) = self.buffer.set_stringn(x, y, text, usize::from(left), style);
        behind - self.area.x
    }

    fn title(&mut self, screen: &Screen) {
        let state = screen.latest.as_ref().map(|(state, _)| state);
        let version = state.and_then(|state| state.version.as_deref()).unwrap_or(UNKNOWN);
        let name = format!("redis-proxy {}", printable::line(version.as_bytes()));
        let up = state.map_or(String::new(), |state| {
            format!("   up {}, {} workers", seconds(state.uptime_s), count(state.workers))
        });
        self.line(&[(&name, STRONG), (&up, PLAIN), (&format!("   {}", screen.server), FAINT)]);
        match &screen.trouble {
            None if state.is_none() => self.line(&[("asking ...", FAINT)]),
            None => {}
            Some(trouble) => self.trouble(screen, trouble),
        }
    }

    fn trouble(&mut self, screen: &Screen, trouble: &Trouble) {
        if trouble.is_refusal {
            self.words("REFUSED:", &trouble.why);
            // Whatever else it is, the program's own words say it better.
            if trouble.wants_token {
                self.words(
                    "",
                    "Without it there are neither numbers nor keys: set ADMIN_TOKEN or ADMIN_TOKEN_FILE for top.",
                );
            }
            return;
        }
        self.words(&format!("AWAY for {}:", seconds(Some(trouble.since.elapsed().as_secs()))), &trouble.why);
        if let Some(age) = screen.age() {
            let age = seconds(Some(age.as_secs()));
            self.words("", &format!("Asking again each second. What stands below is {age} old."));
        }
    }

    /// A text that goes on in the next line where the width ends, behind a word that warns.
    fn words(&mut self, warning: &str, text: &str) {
        let mut column = self.put(0, warning, BAD);
        for word in text.split(' ') {
            let width = u16::try_from(Span::raw(word).width()).unwrap_or(u16::MAX);
            if column > 0 && column.saturating_add(1).saturating_add(width) > self.area.width {
                (self.row, column) = (self.row + 1, 0);
            }
            column = self.put(if column > 0 { column + 1 } else { 0 }, word, PLAIN);
        }
        self.row += 1;
    }

    /// A line or more on a subject: its name, and figures that break where the width ends.
    fn subject(&mut self, name: &str, figures: &[(&str, String)]) {
        self.put(0, name, FAINT);
        let mut column = INDENT;
        for (label, value) in figures {
            let width = Span::raw(*label).width() + Span::raw(value.as_str()).width() + 1;
            let width = u16::try_from(width).unwrap_or(u16::MAX);
            if column > INDENT && column.saturating_add(width) > self.area.width {
                (self.row, column) = (self.row + 1, INDENT);
            }
            let behind = self.put(column, label, FAINT);
            let begin = if label.is_empty() { behind } else { behind + 1 };
            let is_bad = value.contains("NOT ");
            column = self.put(begin, value, if is_bad { BAD } else { STRONG }) + GAP;
        }
        self.row += 1;
    }

    fn traffic(&mut self, screen: &Screen, state: &ProgramState) {
        let (rates, totals) = (&screen.rates, &state.totals);
        let ever = crate::figures::ratio(totals.hits, totals.misses);
        self.subject(
            "requests/s",
            &[
                ("http", rate(rates.http_per_s)),
                ("redis", rate(rates.resp_per_s)),
                ("errors", rate(rates.errors_per_s)),
            ],
        );
        self.subject(
            "hits",
            &[
                ("now", percent(rates.hit_ratio)),
                ("since the start", percent(ever)),
                ("coalesced/s", rate(rates.coalesced_per_s)),
            ],
        );
        // Of Redis clients no latency is counted.
        self.subject(
            "over HTTP",
            &[
                ("hit p50", micros(state.hit_us.p50)),
                ("p99", micros(state.hit_us.p99)),
                ("miss p50", micros(state.miss_us.p50)),
                ("p99", micros(state.miss_us.p99)),
            ],
        );
    }

    fn cache(&mut self, screen: &Screen, state: &ProgramState) {
        let rates = &screen.rates;
        let most = |number: String, most: Option<String>| {
            most.map_or(number.clone(), |most| format!("{number} of {most}"))
        };
        self.subject(
            "cache",
            &[
                ("keys", most(count(state.entries), state.capacity.map(|most| count(Some(most))))),
                ("memory", most(bytes(state.bytes), state.capacity_bytes.map(|most| bytes(Some(most))))),
                ("resident", bytes(state.resident_bytes)),
            ],
        );
        self.subject(
            "leave it/s",
            &[
                ("evicted", rate(rates.evictions_per_s)),
                ("expired", rate(rates.expirations_per_s)),
                ("invalidated", rate(rates.invalidations_per_s)),
            ],
        );
    }

    /// Who is there, and what holds.
    fn standing(&mut self, state: &ProgramState) {
        self.subject(
            "clients",
            &[
                ("http", count(state.http_clients)),
                ("redis", count(state.resp_clients)),
                ("waiting", count(state.waiting)),
                ("at most", count(state.max_clients)),
            ],
        );
        let shown = |text: String| printable::line(text.as_bytes());
        self.subject("coherence", &[("", shown(coherence(&state.coherence)))]);
        // Those in trouble first.
        let mut upstreams: Vec<_> = state.upstreams.iter().collect();
        upstreams.sort_by_key(|upstream| upstream.connected.unwrap_or(true));
        for upstream in upstreams.iter().take(MOST_UPSTREAMS) {
            self.subject("redis", &[("", shown(redis(upstream)))]);
        }
        if upstreams.len() > MOST_UPSTREAMS {
            self.subject("", &[("", format!("and {} more", upstreams.len() - MOST_UPSTREAMS))]);
        }
        if let Some(table) = state.tracking_table {
            self.subject("tracking", &[("", tracking(table))]);
        }
    }

    fn lists(&mut self, screen: &Screen) {
        self.row += 1;
        let mut column = 0;
        for (number, list) in (1..).zip(HotList::ALL) {
            let is_chosen = list == screen.list;
            let text = if is_chosen {
                format!("[{number} {}]", list.title())
            } else {
                format!(" {number} {} ", list.title())
            };
            column = self.put(column, &text, if is_chosen { CHOSEN } else { PLAIN }) + 1;
        }
        self.row += 1;
        if screen.shows_help {
            return HELP.iter().for_each(|line| self.line(&[(*line, PLAIN)]));
        }
        let Some((state, _)) = &screen.latest else { return };
        self.columns(screen);
        let lines = screen.list.lines(state, screen.sorted_by());
        if lines.is_empty() {
            return self.line(&[("nothing yet", FAINT)]);
        }
        // The last line tells which keys there are.
        let room = usize::from((self.area.height - 1).saturating_sub(self.row));
        lines.iter().skip(screen.skipped).take(room).for_each(|line| self.cells(screen.list, line));
    }

    fn columns(&mut self, screen: &Screen) {
        let mut column = 0;
        for (number, title) in screen.list.columns().iter().enumerate() {
            let is_sorted = number == screen.sorted_by();
            let text = if is_sorted { format!("{}<", title.title) } else { title.title.to_owned() };
            column = self.cell(column, title.width, &text, if is_sorted { STRONG } else { FAINT });
        }
        self.row += 1;
    }

    fn cells(&mut self, list: HotList, line: &[ListCell]) {
        let mut column = 0;
        for (title, cell) in list.columns().iter().zip(line) {
            column = self.cell(column, title.width, &cell.text, PLAIN);
        }
        self.row += 1;
    }

    /// A text in a column of this width, at its right end; of width 0 is what is left, and the text at its left end. One that does
    /// not fit ends with dots.
    fn cell(&mut self, column: u16, width: u16, text: &str, style: Style) -> u16 {
        let room = if width == 0 { self.area.width.saturating_sub(column + 1) } else { width };
        let begin = if width == 0 { column + 1 } else { column };
        let has = Span::raw(text).width();
        if has <= usize::from(room) {
            let pad = if width == 0 { 0 } else { room - u16::try_from(has).unwrap_or(room) };
            self.put(begin + pad, text, style);
        } else if self.row < self.area.height && room > 2 {
            let (x, y) = (self.area.x + begin, self.area.y + self.row);
            self.buffer.set_stringn(x, y, text, usize::from(room - 2), style);
            self.put(begin + room - 2, "..", style);
        }
        column + width
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::error::CliError;
    use crate::insight::tests::LISTS;

    /// The lines of a picture of this size.
    fn drawn(shown: &Screen, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen(frame, shown)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    fn looked_at() -> Screen {
        let mut screen = Screen::new("http://h".into());
        screen.learn(ProgramState::parse(LISTS).map_err(CliError::Unreachable));
        screen
    }

    #[test]
    fn every_size_has_a_picture() {
        let mut screen = looked_at();
        for list in HotList::ALL {
            screen.list = list;
            for (width, height) in
                [(1, 1), (39, 8), (40, 7), (40, 8), (80, 24), (200, 50), (500, 3), (3, 500)]
            {
                drawn(&screen, width, height);
            }
        }
        assert_eq!(drawn(&screen, 30, 2)[0], "too small a terminal");
    }

    #[test]
    fn a_list_is_whole_at_80_by_24_and_nothing_of_a_key_moves_the_cursor() {
        let picture = drawn(&looked_at(), 80, 24);
        let text = picture.join("\n");
        for expected in [
            "[1 hot keys]",
            "reads/s<",
            "over HTTP  hit p50 12us   p99 40us   miss p50 -   p99 -",
            "left  part key",
            "coherence  tracking, NOT in force for 12s",
            "b\\x1b[2J\\xe2\\x80\\xae",
        ] {
            assert!(text.contains(expected), "{expected}:\n{text}");
        }
        assert!(picture[23].starts_with("Tab 1-4 list"), "{text}");
        assert!(text.bytes().all(|byte| byte >= b' ' || byte == b'\n'), "{text}");
    }

    #[test]
    fn a_token_is_advised_only_where_one_is_wanted() {
        for (status, is_advised) in [
            (StatusCode::UNAUTHORIZED, true),
            (StatusCode::FORBIDDEN, false),
            (StatusCode::MISDIRECTED_REQUEST, false),
        ] {
            let mut screen = looked_at();
            screen.learn(Err(CliError::Status(status, "its own words".into())));
            let text = drawn(&screen, 80, 24).join("\n");
            assert!(text.contains("REFUSED: ") && text.contains("its own words"), "{text}");
            assert_eq!(text.contains("ADMIN_TOKEN"), is_advised, "{status}:\n{text}");
        }
    }

    #[test]
    fn what_is_too_long_ends_with_dots() {
        let mut screen = looked_at();
        if let Some((state, _)) = &mut screen.latest {
            state.hot_keys[0].key = "k".repeat(500);
        }
        let picture = drawn(&screen, 80, 24);
        let line = picture.iter().find(|line| line.contains("kkk")).unwrap();
        assert!(line.len() == 80 && line.ends_with("k.."), "{line}");
    }
}
