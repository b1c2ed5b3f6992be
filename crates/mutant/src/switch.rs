//! The mutants, and which of them is on.

use std::sync::atomic::{AtomicU8, Ordering};

macro_rules! mutants {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A rule that is broken while this is on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$doc])* $variant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$variant),*];

            /// The name by which a test asks for it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Mutant::$variant => $name,)*
                }
            }
        }
    };
}

mutants! {
    /// Values are stored by a task that waits for the reply, some time after the reader has gone on.
    InsertInWaiter = "insert-in-waiter",
    /// `invalidate` without keys, which means all keys, is passed over.
    IgnoreNullPush = "ignore-null-push",
    /// An invalidation, by a push or by a write, removes the entry and leaves the key's fills registered.
    PushKeepsFills = "push-keeps-fills",
    /// An entry is served whether its lease proves it or not.
    NoLease = "no-lease",
    /// A strict read is answered like any other.
    NoBarrier = "no-barrier",
    /// A key's deadline counts from the reply, not from the command.
    DeadlineFromReceive = "deadline-from-receive",
    /// PTTL is sent behind GET, so that GET's reply is stored with what the PTTL before it said.
    PttlAfterGet = "pttl-after-get",
    /// A reader joins a fill however long ago that was sent.
    JoinWithoutSent = "join-without-sent",
    /// A reply proves what was true when it came, not when its command was sent.
    SentAfterWrite = "sent-after-write",
    /// The lease is looked at after the shard is unlocked.
    LookupBeforeSync = "lookup-before-sync",
    /// The flush epoch is looked at before the lease.
    FlushBeforeSync = "flush-before-sync",
    /// A new connection renews the lease of the one that was lost.
    LeaseNotRenewed = "lease-not-renewed",
    /// A key uses whichever link comes next.
    TwoLinksAKey = "two-links-a-key",
    /// Nothing is asked of the role that a heartbeat tells.
    RoleIgnored = "role-ignored",
    /// A write through the proxy leaves what is held of its keys.
    WriteKeepsEntry = "write-keeps-entry",
    /// What a connection has seen of Redis does not count for its next reads.
    NoMinSync = "no-min-sync",
    /// A fetch that is held counts as sent when it was registered.
    HeldStampedEarly = "held-stamped-early",
    /// All users share what was read by one.
    UserIgnored = "user-ignored",
    /// All databases share what was read in one.
    DbIgnored = "db-ignored",
    /// The number of a reader that has gone is given to the next one while answers of the former are still held.
    EarlyNumber = "early-number",
    /// Where Redis is elsewhere by now, or doubted, a lease ends as with any connection that is lost: what it proved still counts.
    LeaseFrozen = "lease-frozen",
    /// A pin goes on where Redis was before.
    PinStays = "pin-stays",
    /// Nothing follows from a witness that says it is a primary.
    WitnessIgnored = "witness-ignored",
    /// Once the place that Redis has left is taken for the one where it is.
    OldAddress = "old-address",
    /// What a node of a cluster has brought is served whether it still has the slot or not.
    NoSlotLease = "no-slot-lease",
    /// That a node of a cluster has no such key is proven for as long as what it has.
    NegativeRenewed = "negative-renewed",
    /// What another node has answered than the one that was asked first, behind ASKING or not, is kept for good.
    AskAnswerKept = "ask-answer-kept",
    /// A node of a cluster proves that it serves by a heartbeat that names no key.
    BeatWithoutKey = "beat-without-key",
    /// Whether a lease has ended is looked at before those that it stands under.
    EndedBeforeParents = "ended-before-parents",
    /// A slot is taken for watched once that was asked for.
    WatchedWhenAsked = "watched-when-asked",
    /// The leases of slots outlive the connection that watched them.
    WatchLossIgnored = "watch-loss-ignored",
    /// A command that a node of a cluster has sent on is sent twice.
    SentOnTwice = "sent-on-twice",
    /// Lookups go by a purged prefix for good.
    PurgesStay = "purges-stay",
}

/// One more than the place in [`Mutant::ALL`]; 0 is none.
static ON: AtomicU8 = AtomicU8::new(0);

#[inline]
pub(crate) fn is_on(mutant: Mutant) -> bool {
    cfg!(debug_assertions) && ON.load(Ordering::Relaxed) == mutant as u8 + 1
}

/// Switches on the mutant of this name, for as long as the process lives. Returns whether there is one, and whether this
/// build has mutants at all.
pub fn switch_on(name: &str) -> bool {
    let Some(mutant) = Mutant::ALL.iter().find(|mutant| mutant.name() == name) else {
        return false;
    };
    ON.store(*mutant as u8 + 1, Ordering::Relaxed);
    cfg!(debug_assertions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_on_at_a_time_and_none_by_an_unknown_name() {
        assert!(!Mutant::ALL.iter().any(|mutant| is_on(*mutant)));
        assert!(!switch_on("no-such-mutant"));
        for mutant in Mutant::ALL {
            assert_eq!(switch_on(mutant.name()), cfg!(debug_assertions));
            let on: Vec<_> = Mutant::ALL.iter().filter(|mutant| is_on(**mutant)).collect();
            assert_eq!(on, if cfg!(debug_assertions) { vec![mutant] } else { vec![] });
        }
    }
}
