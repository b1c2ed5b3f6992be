//! A value while a client is being sent it.

use std::ops::Deref;

use super::Entry;
use crate::store::Store;

/// A value with a client. When the client is done with it, or gone, its room is looked for at once by those who wait for some.
pub(crate) struct Lent {
    // Dropped in this order.
    entry: Entry,
    _released: Released,
}

struct Released(Store);

impl Lent {
    pub(super) fn new(entry: Entry, store: Store) -> Self {
        Lent { entry, _released: Released(store) }
    }
}

impl Deref for Lent {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        self.0.released();
    }
}
