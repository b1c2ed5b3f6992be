//! The lists as tables: columns, lines, and the order of these.

use std::cmp::Ordering;

use crate::figures::{UNKNOWN, bytes, count, millis, percent, rate, seconds};
use crate::insight::{ProgramState, ShownSlow};
use crate::printable;

/// A list that can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HotList {
    Keys,
    Misses,
    Prefixes,
    Slow,
}

/// A column; the last one of a list has what is left of the width.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) width: u16,
}

const fn column(title: &'static str, width: u16) -> Column {
    Column { title, width }
}

const KEYS: &[Column] = &[
    column("reads/s", 10),
    column("+-", 8),
    column("share", 7),
    column("hits", 7),
    column("size", 9),
    column("left", 8),
    column("part", 6),
    column("key", 0),
];
const MISSES: &[Column] =
    &[column("misses/s", 10), column("+-", 8), column("reason", 17), column("part", 6), column("key", 0)];
const PREFIXES: &[Column] = &[
    column("reads/s", 10),
    column("+-", 8),
    column("hits", 7),
    column("held", 9),
    column("invalidated/s", 14),
    column("prefix", 0),
];
const SLOW: &[Column] = &[
    column("ago", 8),
    column("total", 8),
    column("queued", 8),
    column("redis", 8),
    column("delivered", 10),
    column("client", 22),
    column("command", 0),
];

impl HotList {
    pub(super) const ALL: [HotList; 4] = [HotList::Keys, HotList::Misses, HotList::Prefixes, HotList::Slow];

    pub(super) fn title(self) -> &'static str {
        match self {
            HotList::Keys => "hot keys",
            HotList::Misses => "hot misses",
            HotList::Prefixes => "prefixes",
            HotList::Slow => "slow log",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            HotList::Keys => KEYS,
            HotList::Misses => MISSES,
            HotList::Prefixes => PREFIXES,
            HotList::Slow => SLOW,
        }
    }

    /// Its lines by the column of this number: numbers from the largest on, times from the shortest ago, words by the alphabet, and
    /// last what is not known.
    pub(super) fn lines(self, state: &ProgramState, sorted_by: usize) -> Vec<Vec<ListCell>> {
        let mut lines: Vec<Vec<ListCell>> = match self {
            HotList::Keys => state
                .hot_keys
                .iter()
                .map(|key| {
                    vec![
                        number(rate(key.reads_per_s), key.reads_per_s),
                        number(rate(key.error_per_s), key.error_per_s),
                        number(percent(key.share), key.share),
                        number(percent(key.hit_ratio), key.hit_ratio),
                        number(bytes(key.bytes), key.bytes.map(|bytes| bytes as f64)),
                        number(millis(key.left_ms), key.left_ms.map(|left| left as f64)),
                        number(count(key.partition), key.partition.map(|partition| partition as f64)),
                        word(&key.key),
                    ]
                })
                .collect(),
            HotList::Misses => state
                .hot_misses
                .iter()
                .map(|miss| {
                    vec![
                        number(rate(miss.misses_per_s), miss.misses_per_s),
                        number(rate(miss.error_per_s), miss.error_per_s),
                        word(miss.reason.as_deref().unwrap_or(UNKNOWN)),
                        number(count(miss.partition), miss.partition.map(|partition| partition as f64)),
                        word(&miss.key),
                    ]
                })
                .collect(),
            HotList::Prefixes => state
                .prefixes
                .iter()
                .map(|prefix| {
                    vec![
                        number(rate(prefix.reads_per_s), prefix.reads_per_s),
                        number(rate(prefix.error_per_s), prefix.error_per_s),
                        number(percent(prefix.hit_ratio), prefix.hit_ratio),
                        number(bytes(prefix.bytes), prefix.bytes.map(|bytes| bytes as f64)),
                        number(rate(prefix.invalidations_per_s), prefix.invalidations_per_s),
                        word(&prefix.prefix),
                    ]
                })
                .collect(),
            HotList::Slow => state.slow_log.iter().map(|slow| slow_line(state, slow)).collect(),
        };
        lines.sort_by(|a, b| match (a.get(sorted_by), b.get(sorted_by)) {
            (Some(a), Some(b)) => a.order.compare(&b.order),
            _ => Ordering::Equal,
        });
        lines
    }
}

fn slow_line(state: &ProgramState, slow: &ShownSlow) -> Vec<ListCell> {
    let time = |micros: Option<u64>| {
        let micros = micros.map(|micros| micros as f64);
        number(crate::figures::micros(micros), micros)
    };
    let ago_ms = state.at_ms.zip(slow.at_ms).map(|(now, then)| now.saturating_sub(then));
    vec![
        ListCell {
            text: seconds(ago_ms.map(|ago| ago / 1000)),
            order: SortKey::Number(ago_ms.map(|ago| -(ago as f64))),
        },
        time(slow.total_us),
        time(slow.queued_us),
        time(slow.redis_us),
        time(slow.delivered_us),
        word(slow.client.as_deref().unwrap_or(UNKNOWN)),
        word(&slow.arguments.join(" ")),
    ]
}

/// One cell of a line.
pub(super) struct ListCell {
    /// What a terminal shows.
    pub(super) text: String,
    order: SortKey,
}

enum SortKey {
    Number(Option<f64>),
    Word(String),
}

impl SortKey {
    fn compare(&self, other: &SortKey) -> Ordering {
        let order = |number: &Option<f64>| number.unwrap_or(f64::NEG_INFINITY);
        match (self, other) {
            (SortKey::Number(a), SortKey::Number(b)) => order(b).total_cmp(&order(a)),
            (SortKey::Word(a), SortKey::Word(b)) => a.cmp(b),
            // Cells of one column are of one kind.
            _ => Ordering::Equal,
        }
    }
}

fn number(text: String, order: Option<f64>) -> ListCell {
    ListCell { text, order: SortKey::Number(order) }
}

/// Anybody's text: a key may hold whatever a terminal would obey.
fn word(text: &str) -> ListCell {
    ListCell { text: printable::line(text.as_bytes()), order: SortKey::Word(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::tests::LISTS;

    fn column_of(list: HotList, sorted_by: usize, column: usize) -> Vec<String> {
        let state = ProgramState::parse(LISTS).unwrap();
        list.lines(&state, sorted_by).into_iter().map(|mut line| line.swap_remove(column).text).collect()
    }

    #[test]
    fn lines_are_in_the_order_of_a_column() {
        assert_eq!(column_of(HotList::Keys, 0, 0), ["900.0", "50.5", "-"]);
        assert_eq!(column_of(HotList::Keys, 4, 4), ["2.0KiB", "12B", "-"]);
        assert_eq!(column_of(HotList::Keys, 7, 7), ["a:1", "b\\x1b[2J\\xe2\\x80\\xae", "c"]);
        assert_eq!(column_of(HotList::Misses, 2, 2), ["evicted", "first"]);
        assert_eq!(column_of(HotList::Prefixes, 4, 5), ["item:", "user:"]);
        assert_eq!(column_of(HotList::Slow, 0, 0), ["1s", "10s"]);
        assert_eq!(column_of(HotList::Slow, 1, 1), ["25.0ms", "11.0ms"]);
    }

    #[test]
    fn every_line_has_a_cell_for_every_column() {
        let state = ProgramState::parse(LISTS).unwrap();
        for list in HotList::ALL {
            let lines = list.lines(&state, 0);
            assert!(
                !lines.is_empty() && lines.iter().all(|line| line.len() == list.columns().len()),
                "{list:?}"
            );
        }
    }
}
