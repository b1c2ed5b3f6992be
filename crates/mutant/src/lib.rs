//! Faults that a test can switch on in a running program, to see that the checker of coherence catches them.
//!
//! A checker that never failed proves nothing. Each variant of [`Mutant`] breaks one rule of the coherent modes, at the
//! place in the code that keeps it: a call of a hook, which does nothing there but for its mutant. They exist in builds with
//! debug assertions alone: in a release build no mutant is on at compile time and nothing of the hooks is left.
//!
//! A line that calls a hook says what is meant: read it as if the call were not there. A hook gives back what it is given, or does
//! it, unless its mutant is on. Its name is the rule that the line keeps; what becomes of that is the mutant's own doc.

mod switch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use switch::{Mutant, switch_on};

use switch::is_on;

/// From when on a fill must have been sent that a reader may join. [`Mutant::JoinWithoutSent`].
#[inline]
#[must_use]
pub fn joined_since(since_ns: u64) -> u64 {
    if is_on(Mutant::JoinWithoutSent) { 0 } else { since_ns }
}

/// When a fetch was sent, which one that is held was not; `held_since_ns` of such. [`Mutant::HeldStampedEarly`].
#[inline]
#[must_use]
pub fn sent(sent_ns: Option<u64>, held_since_ns: Option<u64>) -> Option<u64> {
    if is_on(Mutant::HeldStampedEarly) { sent_ns.or(held_since_ns) } else { sent_ns }
}

/// A key's fills leave the register with its entry. [`Mutant::PushKeepsFills`].
#[inline]
pub fn unregistered(unregister: impl FnOnce()) {
    if !is_on(Mutant::PushKeepsFills) {
        unregister();
    }
}

/// Whether a fill has been overtaken, so that its answer is not kept. [`Mutant::InsertInWaiter`].
#[inline]
#[must_use]
pub fn overtaken(is_overtaken: bool) -> bool {
    is_overtaken && !is_on(Mutant::InsertInWaiter)
}

/// An answer is stored before the next reply is looked at. [`Mutant::InsertInWaiter`].
#[inline]
pub fn stored_at_once(store: impl FnOnce() + Send + 'static) {
    if is_on(Mutant::InsertInWaiter) { sync::later(store) } else { store() }
}

/// Whether an entry and its lease are looked at in one step. [`Mutant::LookupBeforeSync`] takes the two of [`still_locked`].
#[inline]
#[must_use]
pub fn in_one_look(is_one: bool) -> bool {
    is_one && !is_on(Mutant::LookupBeforeSync)
}

/// A shard that stays locked until the lease has been looked at. [`Mutant::LookupBeforeSync`].
#[inline]
#[must_use]
pub fn still_locked<L>(locked: L, lock: impl FnOnce() -> L) -> L {
    if !is_on(Mutant::LookupBeforeSync) {
        return locked;
    }
    drop(locked);
    sync::pause();
    lock()
}

/// Whether the lease of an entry proves it. [`Mutant::NoLease`], and [`Mutant::FlushBeforeSync`] together with [`after_flushes`].
#[inline]
#[must_use]
pub fn proven(is_proven: impl FnOnce() -> bool) -> bool {
    if is_on(Mutant::FlushBeforeSync) {
        sync::pause();
    }
    is_proven() || is_on(Mutant::NoLease)
}

/// Whether no flush has come since an entry was stored, as of now. [`Mutant::FlushBeforeSync`].
#[inline]
#[must_use]
pub fn after_flushes(is_after: bool) -> bool {
    is_after || is_on(Mutant::FlushBeforeSync)
}

/// Whether a read waits for a proof of its own. [`Mutant::NoBarrier`].
#[inline]
#[must_use]
pub fn needs_barrier(is_strict: bool) -> bool {
    is_strict && !is_on(Mutant::NoBarrier)
}

/// The instant as of which a reply proves something: that of its command. [`Mutant::SentAfterWrite`].
#[inline]
#[must_use]
pub fn proves_as_of(sent_ns: u64, now_ns: impl FnOnce() -> u64) -> u64 {
    if is_on(Mutant::SentAfterWrite) { now_ns() } else { sent_ns }
}

/// The instant from which a key's time to live counts: that of its command. [`Mutant::DeadlineFromReceive`].
#[inline]
#[must_use]
pub fn lives_from(sent_ns: u64, now_ns: impl FnOnce() -> u64) -> u64 {
    if is_on(Mutant::DeadlineFromReceive) { now_ns() } else { sent_ns }
}

/// What is sent first and what behind it: PTTL, if it is sent, in front of what a fill asks. [`Mutant::PttlAfterGet`].
#[inline]
#[must_use]
pub fn pttl_first<C>(pttl: Option<C>, asked: C) -> (Option<C>, C) {
    match pttl {
        Some(pttl) if is_on(Mutant::PttlAfterGet) => (Some(asked), pttl),
        pttl => (pttl, asked),
    }
}

/// All that Redis has flushed is forgotten. [`Mutant::IgnoreNullPush`].
#[inline]
pub fn flushed(forget: impl FnOnce()) {
    if !is_on(Mutant::IgnoreNullPush) {
        forget();
    }
}

/// Whether a server must be a primary. [`Mutant::RoleIgnored`].
#[inline]
#[must_use]
pub fn wants_primary(is_wanted: bool) -> bool {
    is_wanted && !is_on(Mutant::RoleIgnored)
}

/// Nothing that was proven before this instant counts: Redis was elsewhere then, or doubted. [`Mutant::LeaseFrozen`].
#[inline]
#[must_use]
pub fn void_before(void_ns: u64) -> u64 {
    if is_on(Mutant::LeaseFrozen) { 0 } else { void_ns }
}

/// A connection to where Redis was before proves nothing more. [`Mutant::LeaseFrozen`].
#[inline]
#[must_use]
pub fn is_of_now(is_it: bool) -> bool {
    is_it || is_on(Mutant::LeaseFrozen)
}

/// A lease is revoked when Redis is elsewhere, and not only ended. [`Mutant::LeaseFrozen`].
#[inline]
pub fn revoked(revoke: impl FnOnce(), end: impl FnOnce()) {
    if is_on(Mutant::LeaseFrozen) { end() } else { revoke() }
}

/// Whether a pin leads to where Redis was before. [`Mutant::PinStays`].
#[inline]
#[must_use]
pub fn has_departed(has: bool) -> bool {
    has && !is_on(Mutant::PinStays)
}

/// Whether a witness says that it is a primary. [`Mutant::WitnessIgnored`].
#[inline]
#[must_use]
pub fn witnessed(is_primary: bool) -> bool {
    is_primary && !is_on(Mutant::WitnessIgnored)
}

/// Where Redis is now; `before` is where it was. [`Mutant::OldAddress`], once.
#[inline]
#[must_use]
pub fn moves_to<A>(now: A, before: Option<A>) -> A {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    match before {
        Some(before) if is_on(Mutant::OldAddress) && !IS_DONE.swap(true, Ordering::Relaxed) => before,
        _ => now,
    }
}

/// A lease ends with its connection. [`Mutant::LeaseNotRenewed`].
#[inline]
pub fn ended(end: impl FnOnce()) {
    if !is_on(Mutant::LeaseNotRenewed) {
        end();
    }
}

/// The hash of a key, which chooses its link. [`Mutant::TwoLinksAKey`].
#[inline]
#[must_use]
pub fn chooses_link(hash: u64) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if is_on(Mutant::TwoLinksAKey) { NEXT.fetch_add(1, Ordering::Relaxed) } else { hash }
}

/// What a write has changed leaves the cache. [`Mutant::WriteKeepsEntry`].
#[inline]
pub fn written<R>(remove: impl FnOnce() -> R) {
    if !is_on(Mutant::WriteKeepsEntry) {
        remove();
    }
}

/// The instant as of which a client has seen Redis. [`Mutant::NoMinSync`].
#[inline]
#[must_use]
pub fn seen(now_ns: u64) -> u64 {
    if is_on(Mutant::NoMinSync) { 0 } else { now_ns }
}

/// The user for whom an answer is held; `own` is that of the HTTP front. [`Mutant::UserIgnored`].
#[inline]
#[must_use]
pub fn held_for(user: String, own: &str) -> String {
    if is_on(Mutant::UserIgnored) { own.to_owned() } else { user }
}

/// The database of which an answer is held; `own` is that of the HTTP front. [`Mutant::DbIgnored`].
#[inline]
#[must_use]
pub fn held_of(db: u32, own: u32) -> u32 {
    if is_on(Mutant::DbIgnored) { own } else { db }
}

/// The number of a reader that has gone stays its own until nothing is held under it. [`Mutant::EarlyNumber`].
#[inline]
pub fn number_kept(keep: impl FnOnce()) {
    if !is_on(Mutant::EarlyNumber) {
        keep();
    }
}

/// Whether an answer of a node of a cluster is held under the lease of its slot. [`Mutant::NoSlotLease`].
#[inline]
#[must_use]
pub fn held_under_slot(is_held: bool) -> bool {
    is_held && !is_on(Mutant::NoSlotLease)
}

/// Whether a lease proves that there is no key. [`Mutant::NegativeRenewed`].
#[inline]
#[must_use]
pub fn proves_absence(proves: bool) -> bool {
    proves || is_on(Mutant::NegativeRenewed)
}

/// What becomes of an answer, also of one that was `kept` because it was sent on. [`Mutant::AskAnswerKept`].
#[inline]
pub fn not_kept_when_sent_on<K>(keep: K, kept: impl FnOnce() -> Option<K>) -> K {
    if is_on(Mutant::AskAnswerKept) { kept().unwrap_or(keep) } else { keep }
}

/// Whether a heartbeat names a key. [`Mutant::BeatWithoutKey`].
#[inline]
#[must_use]
pub fn names_key() -> bool {
    !is_on(Mutant::BeatWithoutKey)
}

/// What was looked at too early, if it was. [`Mutant::EndedBeforeParents`].
#[inline]
#[must_use]
pub fn looked_at_before<T>(look: impl FnOnce() -> T) -> Option<T> {
    if !is_on(Mutant::EndedBeforeParents) {
        return None;
    }
    let seen = look();
    sync::pause();
    Some(seen)
}

/// Whether a slot counts as watched once its watch is asked for. [`Mutant::WatchedWhenAsked`].
#[inline]
#[must_use]
pub fn watched_when_asked() -> bool {
    is_on(Mutant::WatchedWhenAsked)
}

/// What a watch that was lost has proven proves nothing more. [`Mutant::WatchLossIgnored`].
#[inline]
pub fn watch_ended(end: impl FnOnce()) {
    if !is_on(Mutant::WatchLossIgnored) {
        end();
    }
}

/// A command that was sent on is carried out once. [`Mutant::SentOnTwice`] does it `again`.
#[inline]
pub fn sent_on_once(again: impl FnOnce()) {
    if is_on(Mutant::SentOnTwice) {
        again();
    }
}

/// How many purges are done with once what they cover has been taken out. [`Mutant::PurgesStay`].
#[inline]
pub fn done_with(retire: impl FnOnce() -> usize) -> usize {
    if is_on(Mutant::PurgesStay) { 0 } else { retire() }
}
