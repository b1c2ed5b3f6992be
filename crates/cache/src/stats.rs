//! What the cache counts, a line of meaning each. Text formats are made elsewhere.

/// One reading of the counters and gauges. Counters only grow; they are sums over the shards, taken one after the other.
///
/// Every entry that was stored left in exactly one way, so once nothing runs:
/// `entries + others == stored - replaced - others_left - evictions - expiries - invalidations - flushed - purged`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Lookups answered by an entry.
    pub hits: u64,
    /// Lookups that registered a fill.
    pub misses: u64,
    /// Lookups that joined a fill in flight.
    pub collapsed: u64,
    /// Lookups that found an entry which was not proven as late as the reader needed.
    pub unproven: u64,
    /// Fills whose value, or whose lack of one, was kept.
    pub stored: u64,
    /// Values not kept: the key was invalidated in flight.
    pub unkept_invalidated: u64,
    /// Values not kept: the cache was flushed in flight.
    pub unkept_flushed: u64,
    /// Values not kept: larger than the limit of a value, or than the whole budget.
    pub unkept_too_large: u64,
    /// Values not kept: older than the expiry when they arrived.
    pub unkept_expired: u64,
    /// Values not kept: nothing would have proven them.
    pub unkept_unproven: u64,
    /// Values not kept: a fetch that was sent later had brought its answer already.
    pub unkept_outdated: u64,
    /// Fills that ended with "no such key", where that is not kept.
    pub unkept_missing: u64,
    /// Fills that ended with an error.
    pub unkept_failed: u64,
    /// Fills that were dropped without an answer.
    pub unkept_abandoned: u64,
    /// Entries that left because a newer fill of their key brought another answer.
    pub replaced: u64,
    /// Answers that left with another one about their key.
    pub others_left: u64,
    /// Live entries that left for room.
    pub evictions: u64,
    /// Entries that left for age.
    pub expiries: u64,
    /// Entries that left because their key was invalidated.
    pub invalidations: u64,
    /// Entries that left because of a flush.
    pub flushed: u64,
    /// Entries that left because their prefix was purged.
    pub purged: u64,
    /// Flushes of the whole cache.
    pub flushes: u64,
    /// Purges of a prefix.
    pub purges: u64,
    /// Of them, those that lookups still go by.
    pub live_purges: u64,
    /// Entries held now, with those that are dead and not yet reclaimed.
    pub entries: u64,
    /// Of them, keys that are known to have no value.
    pub negatives: u64,
    /// Answers held beside the first ones of their keys.
    pub others: u64,
    /// Fills in flight that are still registered.
    pub fills_in_flight: u64,
    /// The limit of entries.
    pub capacity: u64,
    /// Bytes charged for the entries, the tables and the lists.
    pub accounted_bytes: u64,
    /// Bytes of values that are arriving, or that readers hold and the cache does not; 0 if there is no budget.
    pub in_flight_bytes: u64,
    /// Fetches that wait until there is room for what they bring.
    pub waiting_for_room: u64,
    /// The budget that was asked for, 0 if none.
    pub budget_bytes: u64,
    /// The limit of `accounted_bytes` that the closed loop holds now, 0 if there is no budget.
    pub effective_budget_bytes: u64,
    /// The resident size that was last observed, 0 if never.
    pub resident_bytes: u64,
    /// Time since the last use of the entry that would be evicted next, 0 when empty: "is the cache big enough?"
    pub oldest_use_age_ns: u64,
}

impl Stats {
    /// Adds another's counters; gauges are the reader's business.
    pub(crate) fn add_counters(&mut self, other: &Stats) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.collapsed += other.collapsed;
        self.unproven += other.unproven;
        self.stored += other.stored;
        self.unkept_invalidated += other.unkept_invalidated;
        self.unkept_flushed += other.unkept_flushed;
        self.unkept_too_large += other.unkept_too_large;
        self.unkept_expired += other.unkept_expired;
        self.unkept_unproven += other.unkept_unproven;
        self.unkept_outdated += other.unkept_outdated;
        self.unkept_missing += other.unkept_missing;
        self.unkept_failed += other.unkept_failed;
        self.unkept_abandoned += other.unkept_abandoned;
        self.replaced += other.replaced;
        self.others_left += other.others_left;
        self.evictions += other.evictions;
        self.expiries += other.expiries;
        self.invalidations += other.invalidations;
        self.flushed += other.flushed;
        self.purged += other.purged;
    }

    pub(crate) fn count_unkept(&mut self, why: Unkept) {
        let counter = match why {
            Unkept::Invalidated => &mut self.unkept_invalidated,
            Unkept::Flushed => &mut self.unkept_flushed,
            Unkept::TooLarge => &mut self.unkept_too_large,
            Unkept::Expired => &mut self.unkept_expired,
            Unkept::Unproven => &mut self.unkept_unproven,
            Unkept::Outdated => &mut self.unkept_outdated,
            Unkept::Missing => &mut self.unkept_missing,
            Unkept::Failed => &mut self.unkept_failed,
            Unkept::Abandoned => &mut self.unkept_abandoned,
        };
        *counter += 1;
    }
}

/// Why the answer of a fill was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unkept {
    Invalidated,
    Flushed,
    TooLarge,
    Expired,
    Unproven,
    Outdated,
    Missing,
    Failed,
    Abandoned,
}
