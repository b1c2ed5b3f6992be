//! Faults that the schedules of moving slots must find.

use mutant::Mutant;

use crate::readthrough::link::schedules::mutants::assert_found_in;

const TRACKED: &str = "tracked_reads_are_within_the_bound_while_slots_move";
const LEASE: &str = "lease::a_lease_proves_nothing_by_what_came_after_its_end";
const STRICT: &str = "strict_reads_are_linearizable_while_slots_move";

fn assert_found(mutant: Mutant) {
    assert_found_in(mutant, module_path!(), &[TRACKED, STRICT]);
}

#[test]
fn no_slot_lease_is_found() {
    assert_found(Mutant::NoSlotLease);
}

#[test]
fn negative_renewed_is_found() {
    assert_found(Mutant::NegativeRenewed);
}

#[test]
fn ask_answer_kept_is_found() {
    assert_found(Mutant::AskAnswerKept);
}

#[test]
fn beat_without_key_is_found() {
    assert_found(Mutant::BeatWithoutKey);
}

#[test]
fn ended_before_parents_is_found() {
    assert_found_in(Mutant::EndedBeforeParents, module_path!(), &[LEASE]);
}

#[test]
fn watched_when_asked_is_found() {
    assert_found(Mutant::WatchedWhenAsked);
}

#[test]
fn watch_loss_ignored_is_found() {
    assert_found(Mutant::WatchLossIgnored);
}
