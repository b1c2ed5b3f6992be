//! Nothing older than MAX_STALENESS is read in mode `tracking`, while things happen.

use crate::fault::Fault;
use crate::stand::{Enough, Mode, Setup, workload};

#[track_caller]
fn assert_kept_while(fault: Fault) {
    let mut workload = workload();
    if fault == Fault::Demote {
        // What goes past the cache stays with the server that its lane has found, as any client of Redis does.
        (workload.through_percent, workload.script_percent) = (0, 0);
    }
    let mut setup = Setup::new(Mode::Tracking, fault);
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
fn kept_while_delays_vary() {
    assert_kept_while(Fault::Jitter);
}

#[test]
fn kept_while_bytes_come_one_by_one() {
    assert_kept_while(Fault::Chunks);
}

#[test]
fn kept_while_the_network_stalls() {
    assert_kept_while(Fault::Stall);
}

#[test]
fn kept_while_the_network_is_late_and_then_silent() {
    assert_kept_while(Fault::LateThenSilent);
}

#[test]
fn kept_while_replies_and_pushes_stall() {
    assert_kept_while(Fault::StallReplies);
}

#[test]
fn kept_while_commands_stall() {
    assert_kept_while(Fault::StallCommands);
}

#[test]
fn kept_while_connections_are_reset() {
    assert_kept_while(Fault::Reset);
}

#[test]
fn kept_while_connections_are_refused() {
    assert_kept_while(Fault::Outage);
}

#[test]
fn kept_while_redis_kills_the_link() {
    assert_kept_while(Fault::KillLink);
}

#[test]
fn kept_while_redis_pauses_its_clients() {
    assert_kept_while(Fault::PauseAll);
}

#[test]
fn kept_while_redis_pauses_writes() {
    assert_kept_while(Fault::PauseWrites);
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
fn kept_while_the_primary_is_demoted() {
    assert_kept_while(Fault::Demote);
}

#[test]
fn kept_while_redis_may_track_four_keys() {
    assert_kept_while(Fault::TinyTable);
}

#[test]
fn kept_while_everything_is_flushed() {
    assert_kept_while(Fault::Flush);
}

#[test]
fn kept_while_redis_evicts_everything() {
    assert_kept_while(Fault::Evict);
}
