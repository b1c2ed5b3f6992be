//! How fresh an answer a reader needs.

/// What a reader asks of an answer beside its being alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// The answer was true in Redis at this instant or later, nanoseconds of the caller's clock. With 0 an entry's own
    /// age is all that counts.
    pub since_ns: u64,
    /// The reader would rather wait for the proof of an entry that is held than for a fetch.
    pub waits: bool,
}

impl Need {
    /// Whatever is held and alive.
    pub const NOTHING: Need = Need { since_ns: 0, waits: false };

    /// Proven up to `since_ns`, else fetched. An entry whose lease was never renewed proves nothing, so the least is 1.
    pub fn since(since_ns: u64) -> Need {
        Need { since_ns: since_ns.max(1), waits: false }
    }

    /// Proven up to `since_ns`, for a reader that will wait for a proof.
    pub fn proven_since(since_ns: u64) -> Need {
        Need { waits: true, ..Need::since(since_ns) }
    }
}
