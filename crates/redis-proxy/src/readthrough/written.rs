//! What a command that went past the cache has changed: its keys leave before anybody hears its answer.
//!
//! A fill that was sent before the command ran may bring the old value after it. So the keys' fills are unregistered too,
//! and only now, when the answer is here: a fill sent from now on reads what the command has left.

use mutant::Mutant;

use crate::store::Store;

/// What must leave the cache before the answer to a command is delivered, whatever that answer is.
pub(crate) struct Written {
    store: Store,
    what: What,
}

enum What {
    Keys(Box<[u8]>, Vec<Box<[u8]>>),
    Everything,
}

impl Written {
    /// A command that may have changed this key, and perhaps others.
    pub(super) fn keys(store: Store, key: Box<[u8]>, others: Vec<Box<[u8]>>) -> Self {
        Written { store, what: What::Keys(key, others) }
    }

    /// One that may have changed everything.
    pub(super) fn everything(store: Store) -> Self {
        Written { store, what: What::Everything }
    }

    /// The answer is here, or will never come.
    pub(crate) fn answered(&self) {
        if mutant::is_on(Mutant::WriteKeepsEntry) {
            return;
        }
        match &self.what {
            What::Keys(key, others) => {
                self.store.invalidate(key);
                for key in others {
                    self.store.invalidate(key);
                }
            }
            What::Everything => self.store.flush(),
        }
    }
}
