//! What one reader brings back.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::history::ReadRecord;

#[derive(Default)]
pub(super) struct Harvest {
    pub(super) reads: Vec<ReadRecord>,
    /// Answers that told whether they were from memory, and those that were.
    pub(super) told: usize,
    pub(super) hits: usize,
    /// Connections that the program ended: over HTTP, of Redis clients.
    pub(super) cut: usize,
    pub(super) closed: usize,
    /// Those that the reader ended.
    pub(super) given_up: usize,
    /// Refusals by status or code.
    pub(super) errors: BTreeMap<String, usize>,
    /// When each refused read began and ended.
    pub(super) refused: Vec<Range<u64>>,
}

impl Harvest {
    /// A read was refused.
    pub(super) fn refuse(&mut self, code: String, when: Range<u64>) {
        *self.errors.entry(code).or_default() += 1;
        self.refused.push(when);
    }
}
