//! What one key held, as states in their order: what each write left, and what a passed deadline left.
//!
//! The end of a state is never known exactly. `until` is the latest instant at which it can still have held: the
//! earliest instant by which any later state was certainly there. So it never decreases from state to state, and open
//! writes, which may never have happened, end nothing.

use super::{Cause, DEADLINE_GRAIN, SeenValue, Write, WriteOutcome};
use crate::clock::nanos;

/// One key's states.
pub(super) struct Timeline {
    states: Vec<HeldValue>,
    /// The start of each write.
    begins: Vec<u64>,
    /// Each number with a state that shows it, in order.
    numbered: Vec<(u64, usize)>,
    /// For each state, the nearest one without a value: it or one before it; it or one after it.
    nothing_before: Vec<usize>,
    nothing_after: Vec<Option<usize>>,
}

/// What the key held for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldValue {
    /// The number of writes up to and with the one it comes from; 0 is what was there before all.
    pub(super) write: usize,
    pub(super) value: Option<u64>,
    /// It cannot have begun before.
    pub(super) from: u64,
    /// It cannot have held after, by the acknowledgements of what followed.
    pub(super) until: u64,
    /// As `until`, by the writes through the program alone.
    pub(super) own_until: u64,
    /// It cannot have held after, by its deadline.
    pub(super) dead: u64,
    /// Whether what ended it, by `until`, was a flush.
    pub(super) flushed: bool,
    /// By then it was certainly there, or over already.
    certain_by: u64,
    cause: Cause,
}

impl HeldValue {
    /// The latest instant at which it can have held.
    pub(super) fn end(&self) -> u64 {
        self.until.min(self.dead)
    }
}

impl Timeline {
    /// The states that these writes, of one key, lead through; before them there is nothing.
    pub(super) fn new(writes: &[Write]) -> Timeline {
        let mut states = states(writes);
        let (mut until, mut own_until, mut flushed) = (u64::MAX, u64::MAX, false);
        for state in states.iter_mut().rev() {
            (state.until, state.own_until, state.flushed) = (until, own_until, flushed);
            if state.certain_by < until {
                (until, flushed) = (state.certain_by, state.cause.is_flush());
            }
            if state.cause.is_known() {
                own_until = own_until.min(state.certain_by);
            }
        }
        // A deadline that a write overtook never passed.
        states.retain(|state| state.from <= state.until);

        let mut numbered: Vec<(u64, usize)> =
            states.iter().enumerate().filter_map(|(at, state)| Some((state.value?, at))).collect();
        numbered.sort_unstable();
        let mut nothing_before = vec![0; states.len()];
        for at in 1..states.len() {
            nothing_before[at] = if states[at].value.is_none() { at } else { nothing_before[at - 1] };
        }
        let mut nothing_after = vec![None; states.len()];
        for at in (0..states.len()).rev() {
            let next = nothing_after.get(at + 1).copied().flatten();
            nothing_after[at] = if states[at].value.is_none() { Some(at) } else { next };
        }
        let begins = writes.iter().map(|write| write.begin).collect();
        Timeline { states, begins, numbered, nothing_before, nothing_after }
    }

    pub(super) fn state(&self, at: usize) -> &HeldValue {
        &self.states[at]
    }

    /// The newest state that explains what a read saw that ended at `end`. With `alive_at`, only one whose deadline
    /// had not passed then.
    pub(super) fn newest(&self, seen: SeenValue, end: u64, alive_at: Option<u64>) -> Option<usize> {
        match seen {
            SeenValue::Foreign => None,
            SeenValue::Number(number) => self.showing(number).iter().rev().map(|&(_, at)| at).find(|&at| {
                self.states[at].from <= end && alive_at.is_none_or(|start| start < self.states[at].dead)
            }),
            SeenValue::Nothing => {
                let mut at = self.nothing_before[self.last_begun(end)];
                while self.states[at].from > end {
                    at = self.nothing_before[at.checked_sub(1)?];
                }
                Some(at)
            }
        }
    }

    /// The oldest state from `floor` on that explains what a read saw that ended at `end`.
    pub(super) fn oldest(&self, seen: SeenValue, end: u64, floor: usize) -> Option<usize> {
        match seen {
            SeenValue::Foreign => None,
            SeenValue::Number(number) => self
                .showing(number)
                .iter()
                .map(|&(_, at)| at)
                .find(|&at| at >= floor && self.states[at].from <= end),
            SeenValue::Nothing => {
                let last = self.last_begun(end);
                let mut next = self.nothing_after.get(floor).copied().flatten();
                while let Some(at) = next.filter(|&at| at <= last) {
                    if self.states[at].from <= end {
                        return Some(at);
                    }
                    next = self.nothing_after.get(at + 1).copied().flatten();
                }
                None
            }
        }
    }

    /// The first state that may still have held at `instant`, by the acknowledgements of what followed.
    pub(super) fn first_at(&self, instant: u64) -> usize {
        self.states.partition_point(|state| state.until < instant)
    }

    /// The states that show this number: a write and the changes of its deadline.
    fn showing(&self, number: u64) -> &[(u64, usize)] {
        let first = self.numbered.partition_point(|&(other, _)| other < number);
        let last = self.numbered.partition_point(|&(other, _)| other <= number);
        &self.numbered[first..last]
    }

    /// The last state of a write that had begun at `instant`.
    fn last_begun(&self, instant: u64) -> usize {
        let writes = self.begins.partition_point(|&begin| begin <= instant);
        self.states.partition_point(|state| state.write <= writes) - 1
    }
}

/// All states that there may have been, those never reached too, without their ends.
fn states(writes: &[Write]) -> Vec<HeldValue> {
    let nothing = HeldValue {
        write: 0,
        value: None,
        from: 0,
        until: 0,
        own_until: 0,
        dead: u64::MAX,
        flushed: false,
        certain_by: 0,
        cause: Cause::Direct,
    };
    let mut states = vec![nothing];
    let mut shown: (Option<u64>, u64) = (None, u64::MAX);
    for (before, write) in writes.iter().enumerate() {
        let deadline = write.deadline.filter(|_| write.value.is_some());
        let dead =
            deadline.map_or(u64::MAX, |deadline| deadline.latest.saturating_add(nanos(DEADLINE_GRAIN)));
        // A change of the deadline that may never have happened: the number may live on to the deadline before.
        let unsure = matches!(write.outcome, WriteOutcome::Open(_)) && shown.0 == write.value;
        let dead = if unsure { dead.max(shown.1) } else { dead };
        shown = (write.value, dead);
        let (certain_by, gone_by) = match write.outcome {
            WriteOutcome::Done(ack) => (ack, dead),
            WriteOutcome::Open(_) => (u64::MAX, u64::MAX),
        };
        let state = HeldValue { write: before + 1, dead, certain_by, cause: write.cause, ..nothing };
        states.push(HeldValue { value: write.value, from: write.begin, ..state });
        if let Some(deadline) = deadline {
            // Where the deadline passed is nobody's write: `own_until` must not take it for one.
            let passed = HeldValue { certain_by: gone_by, dead: u64::MAX, cause: Cause::Direct, ..state };
            let from = deadline.earliest.saturating_sub(nanos(DEADLINE_GRAIN)).max(write.begin);
            states.push(HeldValue { from, ..passed });
        }
    }
    states
}
