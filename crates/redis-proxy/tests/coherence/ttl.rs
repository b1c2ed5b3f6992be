//! Nothing older than GLOBAL_EXPIRY is read in mode `ttl`, while things happen.

use crate::fault::Fault;
use crate::stand::{Enough, Mode, Setup, workload};

#[track_caller]
fn assert_kept_while(fault: Fault) {
    let workload = workload();
    let mut setup = Setup::new(Mode::Ttl, fault);
    setup.lazy_expiry = workload.seed.is_multiple_of(2);
    setup.start().run(&workload, Enough::for_a_fault()).assert_kept();
}

#[test]
fn kept_while_all_is_calm() {
    assert_kept_while(Fault::Calm);
}

#[test]
fn kept_while_every_byte_is_delayed() {
    assert_kept_while(Fault::Delay);
}

#[test]
fn kept_while_the_network_stalls() {
    assert_kept_while(Fault::Stall);
}

#[test]
fn kept_while_connections_are_refused() {
    assert_kept_while(Fault::Outage);
}

#[test]
fn kept_while_redis_is_stopped_and_continued() {
    assert_kept_while(Fault::StopRedis);
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
