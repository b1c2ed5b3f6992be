//! No read is behind at all in mode `strict`, while things happen.

use crate::fault::Fault;
use crate::stand::{Enough, Mode, Setup, workload};

#[track_caller]
fn assert_kept_while(fault: Fault) {
    let mut workload = workload();
    // The reads of a batch may be answered for different moments.
    workload.depth = if workload.mixed { workload.depth } else { 1 };
    workload.readers = 12;
    let mut setup = Setup::new(Mode::Strict, fault);
    setup.lazy_expiry = workload.seed.is_multiple_of(2);
    // Each takes a round trip to Redis.
    let enough = Enough::for_a_fault();
    setup.start().run(&workload, Enough { reads: enough.reads / 10, ..enough }).assert_kept();
}

#[test]
fn kept_while_all_is_calm() {
    assert_kept_while(Fault::Calm);
}

#[test]
fn kept_while_delays_vary() {
    assert_kept_while(Fault::Jitter);
}

#[test]
fn kept_while_the_network_stalls() {
    assert_kept_while(Fault::Stall);
}

#[test]
fn kept_while_replies_and_pushes_stall() {
    assert_kept_while(Fault::StallReplies);
}

#[test]
fn kept_while_connections_are_reset() {
    assert_kept_while(Fault::Reset);
}

#[test]
fn kept_while_the_program_is_stopped_and_continued() {
    assert_kept_while(Fault::StopProxy);
}

#[test]
fn kept_while_redis_is_killed_and_starts_again() {
    assert_kept_while(Fault::KillRedis);
}

#[test]
fn kept_while_everything_is_flushed() {
    assert_kept_while(Fault::Flush);
}
