//! An answer as those see it who asked: nothing of it is the cache's own.

use cache::{Entry, Outcome, Stored};

use super::link::time_left_ns;
use super::question::{Kind, Words};
use crate::failure::Failure;

/// What is known of a key: its value, that it has none, or the reply to a command about it. Shared with the cache, so that a
/// clone costs a counter.
#[derive(Clone)]
pub(crate) struct KnownAnswer(pub(super) Entry);

impl KnownAnswer {
    pub(crate) fn key(&self) -> &[u8] {
        self.0.key()
    }

    /// The value, or the encoded reply; empty of a key without one.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.0.value()
    }

    /// 128 bits that no other value has.
    pub(crate) fn etag(&self) -> &[u8; 16] {
        self.0.etag()
    }

    pub(crate) fn is_utf8(&self) -> bool {
        self.0.is_utf8()
    }

    /// Whether there is no such key.
    #[inline]
    pub(crate) fn is_missing(&self) -> bool {
        self.0.is_missing()
    }

    /// Whether it is the key's value, and not the reply to a command.
    #[inline]
    pub(crate) fn is_value(&self) -> bool {
        self.words().is_value()
    }

    /// Whether it is the reply to HGETALL.
    pub(crate) fn is_whole_hash(&self) -> bool {
        self.words().is_whole_hash()
    }

    /// Whether it tells how long the key has left.
    pub(crate) fn answers_ttl(&self) -> bool {
        self.words().kind() != Kind::Time
    }

    /// The time its key has left; `None` if that has no end.
    pub(crate) fn time_left_ns(&self, now_ns: u64) -> Option<u64> {
        time_left_ns(&self.0, now_ns)
    }

    /// What it answers.
    pub(crate) fn words(&self) -> Words<'_> {
        Words::of(self.0.view())
    }

    /// When it was asked for, on the clock of [`now_ns`](crate::clock::now_ns).
    pub(crate) fn sent_ns(&self) -> u64 {
        self.0.sent_ns()
    }

    /// Up to when it is proven; 0 if its proof was taken back.
    pub(crate) fn proven_ns(&self) -> u64 {
        self.0.proven_ns()
    }

    /// The same, or at less cost an instant before that which is not before `since_ns`; 0 if its proof was taken back.
    pub(crate) fn proven_if_since(&self, since_ns: u64) -> u64 {
        self.0.proven_if_since(since_ns)
    }
}

/// How a wait ended.
pub(crate) struct Answered {
    pub(crate) found: Found,
    /// From memory, after it was proven.
    pub(crate) hit: bool,
    /// Somebody else had asked first.
    pub(crate) collapsed: bool,
    stored: Stored,
}

/// What was found.
pub(crate) enum Found {
    Answer(KnownAnswer),
    /// There is no such key.
    Missing,
    Failed(Failure),
    /// Whoever fetched it has gone without a word.
    Abandoned,
}

impl Answered {
    pub(super) fn fetched(outcome: Outcome<Failure>, collapsed: bool) -> Self {
        let (found, stored) = match outcome {
            Outcome::Found { entry, stored } => (Found::Answer(KnownAnswer(entry)), stored),
            Outcome::Missing { stored } => (Found::Missing, stored),
            Outcome::Failed(failure) => (Found::Failed(failure), Stored::No),
            Outcome::Abandoned => (Found::Abandoned, Stored::No),
        };
        Answered { found, hit: false, collapsed, stored }
    }

    pub(super) fn proven(entry: Entry) -> Self {
        let found = if entry.is_missing() { Found::Missing } else { Found::Answer(KnownAnswer(entry)) };
        Answered { found, hit: true, collapsed: false, stored: Stored::Yes }
    }

    /// Whether it is in the cache now.
    pub(crate) fn is_kept(&self) -> bool {
        self.stored.is_kept()
    }

    /// Whether who is shown this may later be shown something older of its key, unless the connection takes care. `keeps_order`:
    /// what is held is held under leases.
    pub(crate) fn may_be_newest(&self, keeps_order: bool) -> bool {
        match (&self.found, self.stored) {
            (Found::Answer(_) | Found::Missing, Stored::Yes) => false,
            // By its age a key has one answer, and that has left. Under leases it has several, and those of a lost connection
            // are in no order with this one.
            (Found::Answer(_) | Found::Missing, Stored::No) => keeps_order,
            (Found::Answer(_) | Found::Missing, Stored::Overtaken) => true,
            (Found::Failed(Failure::WrongType(_) | Failure::Redis(_)), _) => keeps_order,
            (Found::Failed(_) | Found::Abandoned, _) => false,
        }
    }
}
