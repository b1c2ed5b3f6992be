//! The numbers of one client's commands on lanes: which is sent next, and whose reply has its turn.

use std::cell::Cell;

/// So many pieces of one command may be on their way: more of them wait until half are answered.
const MOST_PIECES: u64 = 1024;

/// How far one client's commands have come.
pub(crate) struct Numbers {
    /// Of the command that is sent next.
    sent: Cell<u64>,
    /// Of the reply whose turn it is: all before it have come.
    turn: Cell<u64>,
    /// Of the first command that goes in pieces and is not whole; what has a higher one and has its turn is a piece of it.
    pub(super) spread_at: Cell<u64>,
    /// Whether the last of these gets more pieces.
    pub(super) is_spreading: Cell<bool>,
    /// How many commands wait for their next try at a node.
    detained: Cell<usize>,
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers {
            sent: Cell::new(0),
            turn: Cell::new(0),
            spread_at: Cell::new(u64::MAX),
            is_spreading: Cell::new(false),
            detained: Cell::new(0),
        }
    }
}

impl Numbers {
    /// The next command has this one.
    #[inline]
    pub(super) fn send(&self) -> u64 {
        let number = self.sent.get();
        self.sent.set(number + 1);
        number
    }

    /// That of the reply whose turn it is.
    #[inline]
    pub(super) fn turn(&self) -> u64 {
        self.turn.get()
    }

    /// It is the turn of this one; of what a lane does not have it is over at once.
    #[inline]
    pub(super) fn turn_is(&self, number: u64) {
        self.turn.set(number + u64::from(number == self.spread_at.get()));
    }

    /// How many commands lanes have.
    #[inline]
    pub(super) fn on_lanes(&self) -> u64 {
        self.sent.get() - self.turn.get()
    }

    /// Whether a lane has any.
    pub(crate) fn is_idle(&self) -> bool {
        self.on_lanes() == 0
    }

    /// Whether one more piece may be sent. If not, its client is woken once [`wants_pieces`](Self::wants_pieces).
    pub(crate) fn takes_piece(&self) -> bool {
        self.on_lanes() < MOST_PIECES
    }

    /// Whether there are more pieces, and much room for them.
    pub(super) fn wants_pieces(&self) -> bool {
        self.is_spreading.get() && self.on_lanes() <= MOST_PIECES / 2
    }

    /// Whether a command waits for its next try, which none behind it may overtake.
    pub(crate) fn is_detained(&self) -> bool {
        self.detained.get() > 0
    }

    /// One more command waits for its next try, or one less.
    pub(super) fn detain(&self, waits: bool) {
        let now = self.detained.get();
        self.detained.set(if waits { now + 1 } else { now.saturating_sub(1) });
    }
}
