//! A value while a client is being sent it.

use super::known::KnownAnswer;
use crate::store::Store;

/// A value with a client. When the client is done with it, or gone, its room is looked for at once by those who wait for some.
pub(crate) struct Lent {
    // Dropped in this order.
    answer: KnownAnswer,
    _released: Released,
}

struct Released(Store);

impl Lent {
    pub(super) fn new(answer: KnownAnswer, store: Store) -> Self {
        Lent { answer, _released: Released(store) }
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.answer.value()
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        self.0.released();
    }
}
