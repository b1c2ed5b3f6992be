//! Faults that the schedules must find: each is switched on in a process of its own.

use std::env;
use std::process::Command;
use std::time::Instant;

use mutant::Mutant;

use super::{MUTANT, ROUNDS};

const MODES: [&str; 3] = [
    "tracked_reads_are_within_the_bound_in_every_schedule",
    "strict_reads_are_linearizable_in_every_schedule",
    "a_herd_is_two_fetches_and_one_that_waits_in_every_schedule",
];

/// How a broken rule is told.
const RULES: [&str; 9] =
    ["C0:", "C1:", "C3:", "C4:", "C5:", "held and proven", "the last word", "unanswered", "a herd:"];

/// The schedules of each kind that a fault may take. Most need some hundred; the worst (`flush-before-sync`) needed
/// tens of thousands once.
const MUTANT_ROUNDS: &str = "200000";

fn assert_found(mutant: Mutant) {
    assert_found_in(mutant, module_path!(), &MODES[..2]);
}

/// That a fault is found by one of the tests `modes`, which stand in the module above `module`.
pub(in crate::readthrough) fn assert_found_in(mutant: Mutant, module: &str, modes: &[&str]) {
    if !cfg!(debug_assertions) {
        return; // nothing of them is in this build
    }
    let started = Instant::now();
    let module = module.strip_suffix("::mutants").and_then(|path| path.split_once("::"));
    let (_, module) = module.expect("a crate, and a module above this one");
    for mode in modes {
        let output = Command::new(env::current_exe().expect("this program"))
            .args([&format!("{module}::{mode}"), "--exact", "--nocapture"])
            .env_remove("SCHEDULE")
            .env(MUTANT, mutant.name())
            .env(ROUNDS, MUTANT_ROUNDS)
            .output()
            .expect("this program runs");
        if output.status.success() {
            continue;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let rule = said.lines().find(|line| RULES.iter().any(|rule| line.contains(rule)));
        let rule = rule.unwrap_or_else(|| panic!("{} failed for no rule:\n{said}", mutant.name()));
        let rule: String = rule.chars().take(100).collect();
        eprintln!("{} was found in {:?}, {mode}: {rule}", mutant.name(), started.elapsed());
        return;
    }
    panic!("{} was not found in {:?}", mutant.name(), started.elapsed());
}

/// It breaks no read, so that the herd alone shows it.
#[test]
fn held_stamped_early_is_found() {
    assert_found_in(Mutant::HeldStampedEarly, module_path!(), &MODES[2..]);
}

#[test]
fn push_keeps_fills_is_found() {
    assert_found(Mutant::PushKeepsFills);
}

#[test]
fn insert_in_waiter_is_found() {
    assert_found(Mutant::InsertInWaiter);
}

#[test]
fn ignore_null_push_is_found() {
    assert_found(Mutant::IgnoreNullPush);
}

#[test]
fn no_lease_is_found() {
    assert_found(Mutant::NoLease);
}

#[test]
fn no_barrier_is_found() {
    assert_found(Mutant::NoBarrier);
}

#[test]
fn join_without_sent_is_found() {
    assert_found(Mutant::JoinWithoutSent);
}

#[test]
fn sent_after_write_is_found() {
    assert_found(Mutant::SentAfterWrite);
}

#[test]
fn lookup_before_sync_is_found() {
    assert_found(Mutant::LookupBeforeSync);
}

#[test]
fn flush_before_sync_is_found() {
    assert_found(Mutant::FlushBeforeSync);
}

#[test]
fn lease_not_renewed_is_found() {
    assert_found(Mutant::LeaseNotRenewed);
}

#[test]
fn deadline_from_receive_is_found() {
    assert_found(Mutant::DeadlineFromReceive);
}

#[test]
fn pttl_after_get_is_found() {
    assert_found(Mutant::PttlAfterGet);
}

#[test]
fn lease_frozen_is_found() {
    assert_found(Mutant::LeaseFrozen);
}
