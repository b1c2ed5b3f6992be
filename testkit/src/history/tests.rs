//! Histories made by hand: each rule broken, and the borderline that is not.

use std::time::Duration;

use super::{Cause, Contract, ContractRule, Deadline, History, ReadRecord, SeenValue, Write, WriteOutcome};

const MS: u64 = 1_000_000;
/// D in these histories.
const BOUND: Duration = Duration::from_millis(100);

/// Everything promised.
const TRACKING: Contract = Contract {
    bound: BOUND,
    strict: Some(Duration::ZERO),
    monotonic: true,
    deadlines: true,
    may_vanish: false,
};

/// A write from `begin` to `ack`, in milliseconds.
fn write(begin: u64, ack: u64, value: impl Into<Option<u64>>) -> Write {
    Write {
        begin: begin * MS,
        outcome: WriteOutcome::Done(ack * MS),
        value: value.into(),
        deadline: None,
        cause: Cause::Direct,
    }
}

/// A write with a time to live.
fn write_px(begin: u64, ack: u64, value: u64, px: u64) -> Write {
    let deadline = Deadline { earliest: (begin + px) * MS, latest: (ack + px) * MS };
    Write { deadline: Some(deadline), ..write(begin, ack, value) }
}

fn open(begin: u64, settled: u64, value: impl Into<Option<u64>>) -> Write {
    Write { outcome: WriteOutcome::Open(settled * MS), ..write(begin, settled, value) }
}

/// A read from `start` to `end`, in milliseconds, on connection 0.
fn read(start: u64, end: u64, number: impl Into<Option<u64>>) -> ReadRecord {
    let seen = number.into().map_or(SeenValue::Nothing, SeenValue::Number);
    ReadRecord { start: start * MS, end: end * MS, key: 0, connection: 0, strict: false, after: 0, seen }
}

fn strict(start: u64, end: u64, number: impl Into<Option<u64>>) -> ReadRecord {
    ReadRecord { strict: true, connection: 1, ..read(start, end, number) }
}

#[track_caller]
fn broken(writes: &[Write], reads: &[ReadRecord], promise: &Contract) -> Vec<ContractRule> {
    History { writes: vec![writes.to_vec()], reads: reads.to_vec() }.check(promise).broken()
}

#[track_caller]
fn assert_broken(writes: &[Write], reads: &[ReadRecord], rules: &[ContractRule]) {
    assert_eq!(broken(writes, reads, &TRACKING), rules);
}

#[test]
fn a_value_that_was_never_written_breaks_integrity() {
    let writes = [write(10, 11, 1)];
    assert_broken(&writes, &[read(20, 21, 2)], &[ContractRule::Integrity]);
    assert_broken(
        &writes,
        &[ReadRecord { seen: SeenValue::Foreign, ..read(20, 21, 1) }],
        &[ContractRule::Integrity],
    );
}

#[test]
fn a_value_from_the_future_breaks_integrity() {
    let writes = [write(10, 20, 1)];
    assert_broken(&writes, &[read(5, 9, 1)], &[ContractRule::Integrity]);
    assert_broken(&writes, &[read(5, 10, 1)], &[]);
}

#[test]
fn a_read_is_behind_from_the_acknowledgement_of_any_newer_write() {
    let writes = [write(0, 1, 1), write(10, 20, 2), write(50, 51, 3)];
    assert_broken(&writes, &[read(120, 121, 1)], &[]);
    assert_broken(&writes, &[read(121, 122, 1)], &[ContractRule::Bound]);
    // The newest write alone would say 70 ms.
    let history = History { writes: vec![writes.to_vec()], reads: vec![read(121, 122, 1)] };
    assert_eq!(history.check(&TRACKING).plain.max_ns(), 101 * MS);
    assert_broken(&writes, &[read(151, 152, 2)], &[]);
    assert_broken(&writes, &[read(5000, 5001, 3)], &[]);
}

#[test]
fn the_bound_is_that_of_the_mode() {
    let writes = [write(0, 1, 1), write(10, 20, 2)];
    let ttl = Contract { bound: Duration::from_secs(1), strict: None, monotonic: false, ..TRACKING };
    assert_eq!(broken(&writes, &[read(1020, 1021, 1)], &ttl), []);
    assert_eq!(broken(&writes, &[read(1021, 1022, 1)], &ttl), [ContractRule::Bound]);
}

#[test]
fn nothing_is_explained_by_the_newest_deletion() {
    let writes =
        [write(0, 1, 1), write(10, 11, None), write(20, 21, 2), write(30, 31, None), write(40, 41, 3)];
    assert_broken(&writes, &[read(141, 142, None)], &[]);
    assert_broken(&writes, &[read(142, 143, None)], &[ContractRule::Bound]);
    // What was there before all writes.
    assert_broken(&[write(0, 1, 1)], &[read(101, 102, None)], &[]);
    assert_broken(&[write(0, 1, 1)], &[read(102, 103, None)], &[ContractRule::Bound]);
}

#[test]
fn what_a_connection_saw_it_never_goes_behind() {
    let writes = [write(0, 1, 1), write(10, 11, 2)];
    assert_broken(&writes, &[read(20, 21, 2), read(22, 23, 1)], &[ContractRule::Monotonic]);
    assert_broken(&writes, &[read(20, 21, 1), read(22, 23, 2), read(24, 25, 2)], &[]);
    let other = ReadRecord { connection: 2, ..read(22, 23, 1) };
    assert_broken(&writes, &[read(20, 21, 2), other], &[]);
    let ttl = Contract { monotonic: false, ..TRACKING };
    assert_eq!(broken(&writes, &[read(20, 21, 2), read(22, 23, 1)], &ttl), []);
}

#[test]
fn a_deletion_between_two_values_is_a_place_in_the_order() {
    let writes = [write(0, 1, 1), write(10, 11, None), write(20, 21, 2)];
    assert_broken(&writes, &[read(30, 31, 1), read(32, 33, None), read(34, 35, 2)], &[]);
    assert_broken(&writes, &[read(30, 31, None), read(32, 33, 1)], &[]);
    // Before all writes there was nothing, but the connection has seen 1 since.
    assert_broken(&writes[..1], &[read(0, 1, 1), read(2, 3, None)], &[ContractRule::Monotonic]);
}

#[test]
fn nothing_is_read_after_its_deadline() {
    let writes = [write_px(0, 1, 1, 50)];
    assert_broken(&writes, &[read(52, 53, 1)], &[]);
    assert_broken(&writes, &[read(53, 54, 1)], &[ContractRule::Deadline]);
    // Without this promise it may be read for the bound after it.
    let ttl = Contract { deadlines: false, ..TRACKING };
    assert_eq!(broken(&writes, &[read(153, 154, 1)], &ttl), []);
    assert_eq!(broken(&writes, &[read(154, 155, 1)], &ttl), [ContractRule::Bound]);
}

#[test]
fn a_deadline_that_was_taken_away_does_not_count() {
    let persisted = [write_px(0, 1, 1, 50), write(30, 31, 1)];
    assert_broken(&persisted, &[read(5000, 5001, 1)], &[]);
    assert_broken(&persisted, &[read(40, 41, None)], &[]);
    assert_broken(&persisted, &[read(500, 501, None)], &[ContractRule::Bound]);
}

#[test]
fn an_earlier_deadline_may_be_unknown_for_the_bound() {
    let shortened = [write(0, 1, 1), write_px(10, 11, 1, 20)];
    assert_broken(&shortened, &[read(111, 112, 1)], &[]);
    assert_broken(&shortened, &[read(112, 113, 1)], &[ContractRule::Deadline]);
    // A value whose own deadline has passed is not excused by a write that nobody saw.
    let replaced = [write_px(0, 1, 1, 50), write(45, 46, 2)];
    assert_broken(&replaced, &[read(53, 54, 1)], &[ContractRule::Deadline]);
}

#[test]
fn nothing_is_seen_from_the_deadline_on_and_not_before() {
    let writes = [write(0, 1, 1), write_px(200, 201, 2, 300)];
    assert_broken(&writes, &[read(490, 497, None)], &[ContractRule::Bound]);
    assert_broken(&writes, &[read(490, 498, None)], &[]);
    assert_broken(&writes, &[read(9000, 9001, None)], &[]);
    // Overwritten in time: the deadline never passed.
    let kept = [write_px(200, 201, 2, 300), write(400, 401, 3)];
    assert_broken(&kept, &[read(520, 521, None)], &[ContractRule::Bound]);
}

#[test]
fn a_strict_read_is_never_behind() {
    let writes = [write(0, 1, 1), write(10, 20, 2)];
    assert_broken(&writes, &[strict(20, 21, 1)], &[]);
    assert_broken(&writes, &[strict(21, 22, 1)], &[ContractRule::Strict]);
    let demoted = Contract { strict: Some(BOUND), ..TRACKING };
    assert_eq!(broken(&writes, &[strict(21, 22, 1)], &demoted), []);
}

#[test]
fn a_strict_read_is_not_behind_a_read_that_had_ended() {
    // The write is under way until 100; one connection has seen it.
    let writes = [write(0, 1, 1), write(10, 100, 2)];
    let plain = read(20, 21, 2);
    assert_broken(&writes, &[plain, strict(22, 23, 1)], &[ContractRule::Strict]);
    assert_broken(&writes, &[plain, strict(21, 23, 1)], &[]);
    assert_broken(&writes, &[plain, strict(22, 23, 2)], &[]);
}

#[test]
fn an_open_write_may_have_happened_or_not() {
    let writes = [write(0, 1, 1), open(10, 40, 2), write(50, 51, 3)];
    for seen in [1, 2, 3] {
        assert_broken(&writes, &[read(60, 61, seen)], &[]);
    }
    assert_broken(&writes, &[read(152, 153, 1)], &[ContractRule::Bound]);
    assert_broken(&writes, &[read(152, 153, 2)], &[ContractRule::Bound]);
    assert_broken(&writes, &[read(60, 61, 2), read(62, 63, 1)], &[ContractRule::Monotonic]);
    // A last one is open for ever.
    assert_broken(&writes[..2], &[strict(5000, 5001, 1)], &[]);
    assert_broken(&writes[..2], &[strict(5000, 5001, 2)], &[]);
}

#[test]
fn a_change_of_the_deadline_that_may_never_have_happened_ends_nothing() {
    let expire = Write { outcome: WriteOutcome::Open(30 * MS), ..write_px(20, 30, 1, 10) };
    let reads = [read(60, 61, 1), strict(60, 61, 1)];
    assert_broken(&[write(10, 11, 1), expire], &reads, &[]);
    assert_broken(&[write_px(10, 11, 1, 60), expire, open(40, 45, 1)], &reads, &[]);
    assert_broken(&[write_px(10, 11, 1, 20), expire], &reads, &[ContractRule::Deadline]);
    assert_broken(&[write(10, 11, 1), write_px(20, 30, 1, 10)], &reads, &[ContractRule::Deadline]);
}

#[test]
fn a_flush_has_its_own_name() {
    let flush = Write { cause: Cause::Flush, ..write(10, 11, None) };
    let writes = [write(0, 1, 1), flush, write(20, 21, 2)];
    assert_broken(&writes, &[read(111, 112, 1)], &[]);
    assert_broken(&writes, &[read(112, 113, 1)], &[ContractRule::Flush]);
}

#[test]
fn a_write_through_the_program_is_seen_by_all() {
    let through = Write { cause: Cause::Through, ..write(10, 20, 2) };
    let writes = [write(0, 1, 1), through, write(30, 31, 3)];
    assert_broken(&writes, &[read(20, 21, 1)], &[]);
    assert_broken(&writes, &[read(21, 22, 1)], &[ContractRule::OwnWrites]);
    assert_broken(&writes, &[read(100, 101, 2)], &[]);
}

#[test]
fn a_flush_through_the_program_is_seen_by_all() {
    let flush = Write { cause: Cause::FlushThrough, ..write(10, 20, None) };
    let writes = [write(0, 1, 1), flush];
    assert_broken(&writes, &[read(20, 21, 1)], &[]);
    assert_broken(&writes, &[read(21, 22, 1)], &[ContractRule::OwnWrites]);
    assert_broken(&writes, &[read(121, 122, 1)], &[ContractRule::OwnWrites, ContractRule::Flush]);
}

#[test]
fn what_a_connection_wrote_before_it_reads() {
    let after = |after, read| ReadRecord { after, ..read };
    let writes = [write(0, 1, 1), write(10, 20, 2), write(30, 40, None)];
    // In one pipeline: the read began before the write was answered.
    assert_broken(&writes, &[after(2, read(10, 21, 1))], &[ContractRule::OwnWrites]);
    assert_broken(&writes, &[after(2, read(10, 21, 2)), after(2, read(22, 41, None))], &[]);
    assert_broken(&writes, &[after(3, read(30, 41, 2))], &[ContractRule::OwnWrites]);
    // Others are not concerned.
    assert_broken(&writes, &[read(10, 21, 1)], &[]);
    // A deadline that passed comes after the write that set it.
    let passing = [write(0, 1, 1), write_px(10, 11, 2, 20)];
    assert_broken(&passing, &[after(2, read(33, 34, None))], &[]);
}

#[test]
fn a_key_that_may_vanish_is_never_missed() {
    let vanishing = Contract { may_vanish: true, ..TRACKING };
    let writes = [write(0, 1, 1), write(10, 11, 2)];
    let reads = [read(20, 21, 2), read(500, 501, None), read(502, 503, 2)];
    assert_eq!(broken(&writes, &reads, &vanishing), []);
    assert_eq!(broken(&writes, &[read(500, 501, 1)], &vanishing), [ContractRule::Bound]);
}

#[test]
fn keys_and_connections_are_told_apart() {
    let history = History {
        writes: vec![vec![write(0, 1, 1), write(10, 11, 2)], vec![write(0, 1, 1)]],
        reads: vec![read(500, 501, 2), ReadRecord { key: 1, ..read(502, 503, 1) }],
    };
    let verdict = history.check(&TRACKING);
    assert_eq!(verdict.broken(), []);
    assert_eq!((verdict.plain.reads(), verdict.plain.behind()), (2, 0));
}

#[test]
fn a_violation_says_what_was_seen_and_since_when_it_was_over() {
    let history =
        History { writes: vec![vec![write(0, 1, 1), write(10, 20, 2)]], reads: vec![read(321, 322, 1)] };
    let told = history.check(&TRACKING).violations[0].to_string();
    let expected = "Bound: the read of key 0 on connection 0 saw Number(1) from 321.000000 to 322.000000: \
        over since 20.000000, 301.000000 ms before: 100ms is allowed";
    assert_eq!(told, expected);
}
