//! The same judgement by trying everything with everything, and random histories on which both must agree.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::{
    Cause, Contract, ContractRule, DEADLINE_GRAIN, Deadline, History, ReadRecord, SeenValue, Write,
    WriteOutcome,
};
use crate::clock::nanos;

const MS: u64 = 1_000_000;

/// A place in a key's order: how many writes, and whether the last one's deadline has passed.
type Place = (usize, bool);

struct Naive<'a> {
    writes: &'a [Write],
    promise: &'a Contract,
}

impl Naive<'_> {
    fn places(&self) -> impl Iterator<Item = Place> {
        (0..=self.writes.len()).flat_map(|writes| [(writes, false), (writes, true)])
    }

    fn write(&self, place: Place) -> Option<&Write> {
        self.writes.get(place.0.checked_sub(1)?)
    }

    fn dead(&self, place: Place) -> u64 {
        let deadline =
            self.write(place).filter(|write| write.value.is_some()).and_then(|write| write.deadline);
        let dead = deadline.map_or(u64::MAX, |deadline| deadline.latest + nanos(DEADLINE_GRAIN));
        let before = (place.0.saturating_sub(1), false);
        match (self.write(place), self.write(before)) {
            // A change of the deadline that may never have happened.
            (Some(write), Some(shown))
                if matches!(write.outcome, WriteOutcome::Open(_)) && write.value == shown.value =>
            {
                dead.max(self.dead(before))
            }
            _ => dead,
        }
    }

    fn from(&self, place: Place) -> Option<u64> {
        match (self.write(place), place.1) {
            (None, passed) => Some(0).filter(|_| !passed),
            (Some(write), false) => Some(write.begin),
            (Some(write), true) => {
                write.value?;
                Some(write.begin.max(write.deadline?.earliest - nanos(DEADLINE_GRAIN)))
            }
        }
    }

    /// By then it was there or over, if that is certain.
    fn certain(&self, place: Place) -> Option<u64> {
        match self.write(place)?.outcome {
            WriteOutcome::Open(_) => None,
            WriteOutcome::Done(_) if place.1 => {
                Some(self.dead((place.0, false))).filter(|&dead| dead != u64::MAX)
            }
            WriteOutcome::Done(ack) => Some(ack),
        }
    }

    fn until(&self, place: Place, counts: impl Fn(Place) -> bool) -> u64 {
        let later = self.places().filter(|&other| other > place && counts(other));
        later.filter_map(|other| self.certain(other)).min().unwrap_or(u64::MAX)
    }

    fn explanations(&self, read: &ReadRecord) -> Vec<Place> {
        let shows = |place: &Place| match read.seen {
            SeenValue::Foreign => false,
            SeenValue::Number(number) => {
                !place.1 && self.write(*place).is_some_and(|write| write.value == Some(number))
            }
            SeenValue::Nothing => place.1 || self.write(*place).is_none_or(|write| write.value.is_none()),
        };
        let possible = |place: &Place| {
            self.from(*place).is_some_and(|from| from <= read.end && from <= self.until(*place, |_| true))
        };
        self.places().filter(shows).filter(possible).collect()
    }

    fn behind(&self, read: &ReadRecord, place: Place) -> u64 {
        let dead = if place.1 { u64::MAX } else { self.dead(place) };
        read.start.saturating_sub(self.until(place, |_| true).min(dead))
    }

    fn bound(&self, read: &ReadRecord) -> u64 {
        nanos(self.promise.strict.filter(|_| read.strict).unwrap_or(self.promise.bound))
    }

    fn rule_of_one(&self, read: &ReadRecord) -> BTreeSet<ContractRule> {
        let all = self.explanations(read);
        if all.is_empty() {
            return [ContractRule::Integrity].into();
        }
        if self.promise.may_vanish && read.seen == SeenValue::Nothing {
            return BTreeSet::new();
        }
        let alive = |place: &&Place| !self.promise.deadlines || place.1 || read.start < self.dead(**place);
        let Some(best) = all.iter().filter(alive).max() else { return [ContractRule::Deadline].into() };
        let mut rules = BTreeSet::new();
        if self.behind(read, *best) > self.bound(read) {
            let is_strict = read.strict && self.promise.strict.is_some();
            let dated = all.iter().max() != Some(best);
            rules.insert(match is_strict {
                _ if dated => ContractRule::Deadline,
                true => ContractRule::Strict,
                false => ContractRule::Bound,
            });
        }
        let through =
            |place: Place| !place.1 && self.write(place).is_some_and(|write| write.cause.is_known());
        if read.start > self.until(*best, through) || read.after > best.0 {
            rules.insert(ContractRule::OwnWrites);
        }
        rules
    }

    fn counts_for_order(&self, read: &ReadRecord) -> bool {
        let vanished = self.promise.may_vanish && read.seen == SeenValue::Nothing;
        !vanished && !self.explanations(read).is_empty()
    }

    /// All places in order that the reads of one connection can stand for.
    fn breaks_sessions(&self, reads: &[(usize, &ReadRecord)]) -> BTreeSet<usize> {
        let mut broken = BTreeSet::new();
        for connection in 0..3 {
            let mut reached: BTreeSet<Place> = [(0, false)].into();
            for (index, read) in reads.iter().filter(|(_, read)| read.connection == connection) {
                let next: BTreeSet<Place> = self
                    .explanations(read)
                    .into_iter()
                    .filter(|place| reached.iter().any(|before| before <= place))
                    .collect();
                match next.is_empty() {
                    true => _ = broken.insert(*index),
                    false => reached = next,
                }
            }
        }
        broken
    }

    fn breaks_order(&self, reads: &[(usize, &ReadRecord)]) -> BTreeSet<usize> {
        let mut broken = BTreeSet::new();
        for (index, read) in reads.iter().filter(|(_, read)| read.strict) {
            let all = self.explanations(read);
            let alive =
                |place: &&Place| !self.promise.deadlines || place.1 || read.start < self.dead(**place);
            let newest = *all.iter().filter(alive).max().or(all.iter().max()).unwrap();
            let behind = reads.iter().filter(|(_, other)| other.end < read.start).any(|(_, other)| {
                let allowed = if other.strict { 0 } else { nanos(self.promise.bound) };
                let since = other.start.saturating_sub(allowed);
                let held = |place: &&Place| self.until(**place, |_| true) >= since;
                self.explanations(other).iter().filter(held).min().is_some_and(|seen| *seen > newest)
            });
            if behind {
                broken.insert(*index);
            }
        }
        broken
    }
}

/// What each read broke, of a history with one key.
fn judge_naively(history: &History, promise: &Contract) -> BTreeSet<(usize, ContractRule)> {
    let naive = Naive { writes: &history.writes[0], promise };
    let mut broken = BTreeSet::new();
    for (index, read) in history.reads.iter().enumerate() {
        broken.extend(naive.rule_of_one(read).into_iter().map(|rule| (index, rule)));
    }
    let ordered: Vec<(usize, &ReadRecord)> =
        history.reads.iter().enumerate().filter(|(_, read)| naive.counts_for_order(read)).collect();
    if promise.monotonic {
        broken.extend(
            naive.breaks_sessions(&ordered).into_iter().map(|index| (index, ContractRule::Monotonic)),
        );
    }
    if promise.strict == Some(Duration::ZERO) {
        broken.extend(naive.breaks_order(&ordered).into_iter().map(|index| (index, ContractRule::Strict)));
    }
    broken
}

/// Gaps and spans in milliseconds, the kind of write, a time to live.
fn histories() -> impl Strategy<Value = History> {
    let writes = vec((1u64..40, 0u64..20, 0u8..10, 1u64..120, any::<bool>()), 0..12);
    let reads = vec((0u64..400, 0u64..20, 0u64..14, any::<bool>(), 0u32..3, 0usize..40), 0..24);
    (writes, reads).prop_map(|(writes, reads)| {
        let (mut now, mut number, mut history) =
            (100, 0, History { writes: vec![Vec::new()], ..History::default() });
        for (gap, span, kind, px, through) in writes {
            let (begin, end) = ((now + gap) * MS, (now + gap + span) * MS);
            now += gap + span;
            number += u64::from(kind < 6);
            let is_open = kind == 0 || kind == 9;
            let deadline = Deadline { earliest: begin + px * MS, latest: end + px * MS };
            history.writes[0].push(Write {
                begin,
                outcome: if is_open { WriteOutcome::Open(end) } else { WriteOutcome::Done(end) },
                // Kinds 6 and 9 change the deadline of what is there, 7 and 8 delete.
                value: Some(number).filter(|_| number > 0 && !(7..9).contains(&kind)),
                deadline: Some(deadline).filter(|_| kind % 2 == 0),
                cause: if through { Cause::Through } else { Cause::Direct },
            });
        }
        for (start, span, number, strict, connection, after) in reads {
            let seen = if number == 0 { SeenValue::Nothing } else { SeenValue::Number(number) };
            let (start, end) = ((100 + start) * MS, (100 + start + span) * MS);
            // Most are of connections that write nothing.
            let after = if after < 12 { after } else { 0 };
            history.reads.push(ReadRecord { start, end, key: 0, connection, strict, after, seen });
        }
        history
    })
}

fn promises() -> impl Strategy<Value = Contract> {
    let bound = prop_oneof![0u64..30, 50u64..150].prop_map(Duration::from_millis);
    let strict = prop_oneof![
        proptest::strategy::Just(Some(Duration::ZERO)),
        proptest::strategy::Just(None),
        proptest::strategy::Just(Some(Duration::from_millis(10))),
    ];
    (bound, strict, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(bound, strict, monotonic, deadlines, may_vanish)| Contract {
            bound,
            strict,
            monotonic,
            deadlines,
            may_vanish,
        },
    )
}

proptest! {
    #[test]
    fn both_judges_agree_on_every_read(history in histories(), promise in promises()) {
        let found: BTreeSet<(usize, ContractRule)> =
            history.check(&promise).violations.iter().map(|found| (found.index, found.rule)).collect();
        prop_assert_eq!(found, judge_naively(&history, &promise));
    }
}
