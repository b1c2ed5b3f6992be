//! What leaves the cache, and why.

use crate::entry::Entry;
use crate::moment::Death;

/// What has left: to be dropped after the lock.
pub(crate) struct Gone {
    pub(crate) first: Entry,
    /// What stood beside it.
    pub(crate) others: Option<Vec<Entry>>,
}

/// Why an entry leaves.
#[derive(Clone, Copy)]
pub(crate) enum Departure {
    Replaced,
    Evicted,
    Expired,
    Invalidated,
    Flushed,
    Purged,
}

impl From<Death> for Departure {
    fn from(death: Death) -> Departure {
        match death {
            Death::Expired => Departure::Expired,
            Death::Flushed => Departure::Flushed,
            Death::Purged => Departure::Purged,
        }
    }
}
