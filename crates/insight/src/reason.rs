//! Why a read was not answered from memory: the one list of words, which are told to operators as they stand here.

/// Why a read was not answered from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is known of it: it was not asked for before, or that is long ago.
    First,
    /// It was held, and has expired.
    Expired,
    /// It was held, and has left for others.
    Evicted,
    /// It was held, and has been changed, flushed or purged since; or was, while it was fetched.
    Invalidated,
    /// It was fetched before: there was no such key, and that is not kept.
    NoSuchKey,
    /// It was fetched before: it is too large to be kept.
    TooLarge,
    /// It was fetched before: it is no string.
    OtherType,
    /// It is held, but its reader has seen, or may have made, a later state of Redis.
    BehindAWrite,
    /// It is held, but not proven as late as it is promised; or nothing can be proven at the moment.
    Unproven,
    /// It was asked for by a command, or at a size, whose answers are not kept.
    NotKept,
    /// Its reader is of a user and database that nothing is cached for, because there are too many.
    BeyondPartitions,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 11] = [
        Reason::First,
        Reason::Expired,
        Reason::Evicted,
        Reason::Invalidated,
        Reason::NoSuchKey,
        Reason::TooLarge,
        Reason::OtherType,
        Reason::BehindAWrite,
        Reason::Unproven,
        Reason::NotKept,
        Reason::BeyondPartitions,
    ];

    /// Its name, as it is told.
    pub fn name(self) -> &'static str {
        match self {
            Reason::First => "first",
            Reason::Expired => "expired",
            Reason::Evicted => "evicted",
            Reason::Invalidated => "invalidated",
            Reason::NoSuchKey => "no-such-key",
            Reason::TooLarge => "too-large",
            Reason::OtherType => "other-type",
            Reason::BehindAWrite => "behind-a-write",
            Reason::Unproven => "unproven",
            Reason::NotKept => "not-kept",
            Reason::BeyondPartitions => "beyond-partitions",
        }
    }
}
