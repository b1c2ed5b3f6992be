//! What is told of reads to those who look for what is hot: whether memory has answered, and if not, why.
//!
//! A read that is not sampled costs a decrement and a branch (`insight`).

use cache::Absence;
use insight::Reason;

use super::question::Question;
use super::{ReadOptions, ReadThrough};

/// Memory has answered a read.
#[inline(always)]
pub(super) fn note_hit(read: &ReadThrough, key: &[u8], now_ns: u64) {
    if read.samples.chooses_read() {
        read.samples.read(read.partition.number(), key, true, now_ns);
    }
}

/// Memory has not answered a read that is fetched, or waits for a proof. To be called before its fetch may have ended.
pub(super) fn note_miss(read: &ReadThrough, question: Question<'_>, asked: ReadOptions) {
    note_missed(read, question.key, asked.now_ns, || reason(read, question, asked));
}

/// Memory has not answered a read that is passed on to Redis, because a fetch would bring nothing to keep.
pub(super) fn note_passed(read: &ReadThrough, key: &[u8], now_ns: u64) {
    let keeps = read.keeps_replies();
    note_missed(read, key, now_ns, || if keeps { Reason::Unproven } else { Reason::NotKept });
}

/// A read was passed on to Redis that is of no kind, or no size, that is kept.
pub(crate) fn note_not_kept(read: &ReadThrough, key: &[u8], now_ns: u64) {
    note_missed(read, key, now_ns, || Reason::NotKept);
}

/// A read was passed on to Redis of a user and a database that nothing is cached for; `read` is any way of the worker.
pub(crate) fn note_beyond(read: &ReadThrough, key: &[u8], now_ns: u64) {
    note_missed_in(read, insight::BEYOND_PARTITIONS, key, now_ns, || Reason::BeyondPartitions);
}

fn note_missed(read: &ReadThrough, key: &[u8], now_ns: u64, reason: impl FnOnce() -> Reason) {
    note_missed_in(read, read.partition.number(), key, now_ns, reason);
}

fn note_missed_in(
    read: &ReadThrough,
    partition: u8,
    key: &[u8],
    now_ns: u64,
    reason: impl FnOnce() -> Reason,
) {
    if read.samples.chooses_read() {
        read.samples.read(partition, key, false, now_ns);
    }
    if read.samples.chooses_miss() {
        read.samples.missed(partition, key, reason(), now_ns);
    }
}

/// Why a read is not answered.
fn reason(read: &ReadThrough, question: Question<'_>, asked: ReadOptions) -> Reason {
    let held = read.store.peek_view(question.key, question.view(read.partition), asked.now_ns);
    match held {
        Some(entry) if entry.proven_ns() < asked.min_sync_ns => Reason::BehindAWrite,
        Some(_) => Reason::Unproven,
        None => match read.store.absence(question.key, read.partition) {
            Absence::Unknown => Reason::First,
            Absence::Expired => Reason::Expired,
            Absence::Evicted => Reason::Evicted,
            Absence::Invalidated => Reason::Invalidated,
            Absence::NoSuchKey => Reason::NoSuchKey,
            Absence::TooLarge => Reason::TooLarge,
            Absence::OtherType => Reason::OtherType,
            Absence::Unproven => Reason::Unproven,
        },
    }
}
