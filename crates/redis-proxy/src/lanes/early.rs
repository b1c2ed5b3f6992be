//! Replies that came before their turn: those of one client whose commands are on several lanes, or were sent on.

use std::collections::BTreeMap;

/// What is kept of them until all before has come, as stretches of replies that follow each other, each by the number of its
/// first command.
#[derive(Default)]
pub(super) struct EarlyReplies {
    stretches: BTreeMap<u64, Stretch>,
    bytes: usize,
}

/// Replies one behind the other, and perhaps the beginning of one more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) bytes: Vec<u8>,
    /// Replies that end in it.
    pub(super) whole: usize,
}

impl EarlyReplies {
    pub(super) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the replies from number `first` on, in which `whole` of them end. What is here already of the first is before
    /// them.
    pub(super) fn keep(&mut self, first: u64, bytes: &[u8], whole: usize) {
        self.bytes += bytes.len();
        let before = self.stretches.range_mut(..=first).next_back();
        match before.filter(|(start, stretch)| **start + stretch.whole as u64 == first) {
            Some((_, stretch)) => {
                stretch.bytes.extend_from_slice(bytes);
                stretch.whole += whole;
            }
            None => {
                self.stretches.insert(first, Stretch { bytes: bytes.to_vec(), whole });
            }
        }
    }

    /// Takes those from number `turn` on, up to the next that is missing or was kept apart.
    pub(super) fn take(&mut self, turn: u64) -> Option<Stretch> {
        let stretch = self.stretches.remove(&turn)?;
        self.bytes -= stretch.bytes.len();
        Some(stretch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(early: &mut EarlyReplies, turn: u64) -> Option<(String, usize)> {
        early.take(turn).map(|taken| (String::from_utf8(taken.bytes).unwrap(), taken.whole))
    }

    #[test]
    fn what_follows_each_other_is_one_stretch_and_what_does_not_is_apart() {
        let mut early = EarlyReplies::default();
        early.keep(5, b"five six ", 2);
        early.keep(3, b"thr", 0);
        early.keep(7, b"sev", 0);
        early.keep(3, b"ee ", 1);
        early.keep(7, b"en ", 1);
        early.keep(9, b"nine ", 1);
        assert_eq!(early.bytes(), 26);
        assert_eq!(taken(&mut early, 4), None);
        assert_eq!(taken(&mut early, 3), Some(("three ".into(), 1)));
        assert_eq!(taken(&mut early, 5), Some(("five six seven ".into(), 3)));
        early.keep(8, b"eight ", 1);
        assert_eq!(taken(&mut early, 8), Some(("eight ".into(), 1)));
        assert_eq!(taken(&mut early, 9), Some(("nine ".into(), 1)));
        assert!(early.is_empty() && early.bytes() == 0);
    }

    #[test]
    fn more_of_a_reply_goes_to_what_is_here_of_it() {
        let mut early = EarlyReplies::default();
        early.keep(2, b"tw", 0);
        early.keep(1, b"one ", 1);
        early.keep(2, b"o ", 1);
        assert_eq!(taken(&mut early, 1), Some(("one ".into(), 1)));
        assert_eq!(taken(&mut early, 2), Some(("two ".into(), 1)));
    }
}
