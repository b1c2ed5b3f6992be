//! Commands of one client that go to several nodes in pieces, and come back as one reply.
//!
//! **Numbers.** A piece is a command of its client as any other: it has a number, waits for its turn, is sent on, is lost. A spread takes one
//! number before its pieces and one behind them, which no lane gets. So the commands before and behind it are in other runs of a
//! journal than its pieces, and what is delivered is either all of pieces or none of it.

use std::collections::VecDeque;

use super::merge::{Merge, Merger};

/// Those of a mailbox, in their order.
#[derive(Default)]
pub(super) struct Spreads {
    queue: VecDeque<Spread>,
}

struct Spread {
    /// Its own number; the first piece has the next.
    head: u64,
    /// How many pieces have been answered.
    answered: u64,
    /// How many there are, once all are sent.
    pieces: Option<u64>,
    merger: Merger,
}

/// All pieces of a spread are answered.
pub(super) struct Merged {
    /// Its own number.
    pub(super) head: u64,
    /// The number of the next command.
    pub(super) next: u64,
    pub(super) reply: Vec<u8>,
    /// Whether no node has begun it.
    pub(super) is_refused: bool,
    /// So many bytes were held of it.
    pub(super) held: usize,
}

impl Spreads {
    /// One more, of this number.
    pub(super) fn begin(&mut self, head: u64, how: Merge) {
        self.queue.push_back(Spread { head, answered: 0, pieces: None, merger: Merger::new(how) });
    }

    /// All pieces of the last have been sent: the next command would have the number `next`.
    pub(super) fn end(&mut self, next: u64) {
        if let Some(spread) = self.queue.back_mut() {
            spread.pieces = Some(next - spread.head - 1);
        }
    }

    /// The number of the first; `u64::MAX` if there is none.
    pub(super) fn first(&self) -> u64 {
        self.queue.front().map_or(u64::MAX, |spread| spread.head)
    }

    /// Bytes that are held of all.
    pub(super) fn held(&self) -> usize {
        self.queue.iter().map(|spread| spread.merger.held()).sum()
    }

    /// Bytes of the replies to the pieces of the first, in their order, with so many ends. How many more bytes are held of it.
    pub(super) fn take(&mut self, bytes: &[u8], whole: usize) -> usize {
        let Some(spread) = self.queue.front_mut() else { return 0 };
        let before = spread.merger.held();
        spread.merger.take(bytes);
        spread.answered += whole as u64;
        // It may be less: then nothing is said, and counted with what is let go of at its end.
        spread.merger.held().saturating_sub(before)
    }

    /// The first, if all of it is answered.
    pub(super) fn take_merged(&mut self) -> Option<Merged> {
        let is_whole = |spread: &Spread| spread.pieces == Some(spread.answered);
        let Spread { head, answered, merger, .. } = self.queue.pop_front_if(|spread| is_whole(spread))?;
        let held = merger.held();
        let (reply, is_refused) = merger.finish();
        Some(Merged { head, next: head + answered + 2, reply, is_refused, held })
    }
}
