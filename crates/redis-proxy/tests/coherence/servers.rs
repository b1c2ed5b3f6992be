//! The same promise in front of every other server.

use testkit::Server;

use crate::fault::Fault;
use crate::stand::{Enough, Mode, Setup, workload};

#[track_caller]
fn assert_kept(server: Server) {
    for fault in [Fault::Calm, Fault::Stall, Fault::KillRedis, Fault::Flush] {
        let Some(redis) = server.builder() else { return };
        let mut setup = Setup::new(Mode::Tracking, fault);
        setup.redis = redis;
        let mut workload = workload();
        if server == Server::Redis62 {
            // It has no EVAL_RO.
            workload.script_percent = 0;
        }
        setup.start().run(&workload, Enough::for_a_fault()).assert_kept();
    }
}

#[test]
fn kept_before_redis_6_2() {
    assert_kept(Server::Redis62);
}

#[test]
fn kept_before_redis_8_2() {
    assert_kept(Server::Redis82);
}

#[test]
fn kept_before_valkey_8_1() {
    assert_kept(Server::Valkey81);
}

#[test]
fn kept_before_valkey_9_1() {
    assert_kept(Server::Valkey91);
}
