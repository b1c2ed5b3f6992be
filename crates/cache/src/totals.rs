//! How much is held, and by how much a step has changed that.

use std::ops::{Add, Sub};

/// What is held or what a step has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) entries: i64,
    pub(crate) bytes: i64,
    /// Of the entries, keys without a value.
    pub(crate) negatives: i64,
}

impl Totals {
    pub(crate) fn new(entries: usize, bytes: u64, negatives: usize) -> Totals {
        Totals { entries: entries as i64, bytes: bytes as i64, negatives: negatives as i64 }
    }
}

impl Add for Totals {
    type Output = Totals;

    fn add(self, other: Totals) -> Totals {
        Totals {
            entries: self.entries + other.entries,
            bytes: self.bytes + other.bytes,
            negatives: self.negatives + other.negatives,
        }
    }
}

impl Sub for Totals {
    type Output = Totals;

    fn sub(self, other: Totals) -> Totals {
        Totals {
            entries: self.entries - other.entries,
            bytes: self.bytes - other.bytes,
            negatives: self.negatives - other.negatives,
        }
    }
}
