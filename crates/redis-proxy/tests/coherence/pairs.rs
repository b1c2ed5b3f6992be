//! Each front keeps its own promise where the two differ, while things happen.

use crate::fault::Fault;
use crate::stand::{Clients, Enough, Mode, Setup, workload};

#[track_caller]
fn assert_kept(http: Mode, clients: Clients, faults: &[Fault]) {
    for fault in faults {
        let mut setup = Setup::new(http, *fault);
        setup.clients = Some(clients);
        let mut workload = workload();
        setup.lazy_expiry = workload.seed.is_multiple_of(2);
        if http == Mode::Strict || clients == Clients::In(Mode::Strict) {
            workload.depth = if workload.mixed { workload.depth } else { 1 };
        }
        let enough = Enough::for_a_fault();
        // Reads that take a round trip each are fewer.
        setup.start().run(&workload, Enough { reads: enough.reads / 10, ..enough }).assert_kept();
    }
}

#[test]
fn age_over_http_and_tracking_for_redis_clients() {
    let faults = [Fault::Calm, Fault::Stall, Fault::Reset, Fault::KillRedis, Fault::Flush, Fault::StopProxy];
    assert_kept(Mode::Ttl, Clients::In(Mode::Tracking), &faults);
}

#[test]
fn age_over_http_and_strict_for_redis_clients() {
    assert_kept(Mode::Ttl, Clients::In(Mode::Strict), &[Fault::Calm, Fault::Stall, Fault::Flush]);
}

#[test]
fn tracking_over_http_and_age_for_redis_clients() {
    assert_kept(Mode::Tracking, Clients::In(Mode::Ttl), &[Fault::Calm, Fault::Reset, Fault::Flush]);
}

#[test]
fn strict_over_http_and_age_for_redis_clients() {
    assert_kept(Mode::Strict, Clients::In(Mode::Ttl), &[Fault::Calm, Fault::Flush]);
}

#[test]
fn tracking_over_http_and_strict_for_redis_clients() {
    assert_kept(Mode::Tracking, Clients::In(Mode::Strict), &[Fault::Calm, Fault::Reset]);
}

#[test]
fn strict_over_http_and_tracking_for_redis_clients() {
    assert_kept(Mode::Strict, Clients::In(Mode::Tracking), &[Fault::Calm, Fault::Flush]);
}

#[test]
fn each_over_http_while_reads_of_redis_clients_go_to_redis() {
    for mode in [Mode::Ttl, Mode::Tracking, Mode::Strict] {
        assert_kept(mode, Clients::Off, &[Fault::Calm]);
    }
}
