//! Holds the reads of a history against a promise, key by key.

use std::collections::HashMap;

use super::timeline::Timeline;
use super::{Contract, ContractRule, History, ReadRecord, SeenValue, Verdict, Violation, millis};
use crate::clock::nanos;

pub(super) fn judge(history: &History, promise: &Contract) -> Verdict {
    let mut verdict = Verdict::default();
    let mut by_key = vec![Vec::new(); history.writes.len()];
    for (index, read) in history.reads.iter().enumerate() {
        by_key[read.key as usize].push(index);
    }
    for (writes, reads) in history.writes.iter().zip(by_key) {
        let key = Key { timeline: Timeline::new(writes), reads: &history.reads, promise };
        let explained: Vec<Explained> =
            reads.into_iter().filter_map(|index| key.explain(index, &mut verdict)).collect();
        if promise.monotonic {
            key.check_sessions(&explained, &mut verdict);
        }
        if promise.strict.is_some_and(|bound| bound.is_zero()) {
            key.check_order(&explained, &mut verdict);
        }
    }
    verdict.violations.sort_by_key(|violation| (violation.read.end, violation.index));
    verdict
}

/// One key's part of the question.
struct Key<'a> {
    timeline: Timeline,
    reads: &'a [ReadRecord],
    promise: &'a Contract,
}

/// A read that some state explains, and the newest that does.
struct Explained {
    index: usize,
    newest: usize,
}

impl Key<'_> {
    /// Judges a read by itself (C0, C1, C3, C5, C7, C8). `None` for one that the order among reads says nothing about.
    fn explain(&self, index: usize, verdict: &mut Verdict) -> Option<Explained> {
        let read = self.reads[index];
        let mut broken = |rule, why| verdict.violations.push(Violation { rule, index, read, why });
        let Some(undated) = self.timeline.newest(read.seen, read.end, None) else {
            broken(
                ContractRule::Integrity,
                "no write of this key that began before the read ended".to_owned(),
            );
            return None;
        };
        if self.promise.may_vanish && read.seen == SeenValue::Nothing {
            return None;
        }
        let alive_at = Some(read.start).filter(|_| self.promise.deadlines);
        let Some(newest) = self.timeline.newest(read.seen, read.end, alive_at) else {
            let dead = self.timeline.state(undated).dead;
            broken(ContractRule::Deadline, format!("its deadline had passed by {}", millis(dead)));
            return Some(Explained { index, newest: undated });
        };
        let state = self.timeline.state(newest);
        let behind = read.start.saturating_sub(state.end());
        let is_strict = read.strict && self.promise.strict.is_some();
        let bound = self.promise.strict.filter(|_| is_strict).unwrap_or(self.promise.bound);
        if behind > nanos(bound) {
            let rule = match state.flushed && state.until <= state.dead {
                // Known to have no deadline yet, or another, too long ago to excuse it.
                _ if newest != undated => ContractRule::Deadline,
                _ if is_strict => ContractRule::Strict,
                true => ContractRule::Flush,
                false => ContractRule::Bound,
            };
            let why = format!(
                "over since {}, {} ms before: {bound:?} is allowed",
                millis(state.end()),
                millis(behind)
            );
            broken(rule, why);
        }
        if read.start > state.own_until {
            broken(
                ContractRule::OwnWrites,
                format!("written through the program by {}", millis(state.own_until)),
            );
        } else if read.after > state.write {
            let why = format!("its connection had made write {} of this key before it", read.after);
            broken(ContractRule::OwnWrites, why);
        }
        let staleness = if is_strict { &mut verdict.strict } else { &mut verdict.plain };
        staleness.add(behind);
        Some(Explained { index, newest })
    }

    /// C4. Each read takes the oldest state that explains it and is not before its connection's last: if that fails,
    /// no choice of states is in order.
    fn check_sessions(&self, explained: &[Explained], verdict: &mut Verdict) {
        // For each connection, the state and the read it stands for.
        let mut floors: HashMap<u32, (usize, usize)> = HashMap::new();
        for &Explained { index, .. } in explained {
            let read = self.reads[index];
            let floor = floors.entry(read.connection).or_default();
            if let Some(at) = self.timeline.oldest(read.seen, read.end, floor.0) {
                *floor = (at, index);
                continue;
            }
            let ReadRecord { start, end, seen, .. } = self.reads[floor.1];
            let (start, end) = (millis(start), millis(end));
            let why = format!("its connection had seen {seen:?}, which is newer, from {start} to {end}");
            verdict.violations.push(Violation { rule: ContractRule::Monotonic, index, read, why });
        }
    }

    /// The rest of C7: a strict read is not behind what any read had seen that ended before it began.
    fn check_order(&self, explained: &[Explained], verdict: &mut Verdict) {
        let mut ended: Vec<(u64, usize)> = explained
            .iter()
            .filter_map(|&Explained { index, .. }| {
                let read = self.reads[index];
                let bound = if read.strict { 0 } else { nanos(self.promise.bound) };
                let first = self.timeline.first_at(read.start.saturating_sub(bound));
                Some((read.end, self.timeline.oldest(read.seen, read.end, first)?))
            })
            .collect();
        ended.sort_unstable();
        let mut strict: Vec<&Explained> =
            explained.iter().filter(|explained| self.reads[explained.index].strict).collect();
        strict.sort_unstable_by_key(|explained| self.reads[explained.index].start);
        let (mut ended, mut floor) = (ended.into_iter().peekable(), 0);
        for &&Explained { index, newest } in &strict {
            let read = self.reads[index];
            while let Some((_, at)) = ended.next_if(|&(end, _)| end < read.start) {
                floor = floor.max(at);
            }
            if newest < floor {
                let before = self.timeline.state(floor);
                let why = format!(
                    "a read that had ended saw {:?}, newer, from {}",
                    before.value,
                    millis(before.from)
                );
                verdict.violations.push(Violation { rule: ContractRule::Strict, index, read, why });
            }
        }
    }
}
