//! The same promise in front of Valkey 9.1.

use testkit::Server;

use crate::fault::Fault;
use crate::stand::{Enough, Mode, Setup, workload};

#[track_caller]
fn assert_kept_while(fault: Fault) {
    let Some(redis) = Server::Valkey91.builder() else { return };
    let mut setup = Setup::new(Mode::Tracking, fault);
    setup.redis = redis;
    setup.start().run(&workload(), Enough::for_a_fault()).assert_kept();
}

#[test]
fn kept_before_valkey_while_all_is_calm() {
    assert_kept_while(Fault::Calm);
}

#[test]
fn kept_before_valkey_while_the_network_stalls() {
    assert_kept_while(Fault::Stall);
}

#[test]
fn kept_before_valkey_while_it_is_killed_and_starts_again() {
    assert_kept_while(Fault::KillRedis);
}

#[test]
fn kept_before_valkey_while_everything_is_flushed() {
    assert_kept_while(Fault::Flush);
}
