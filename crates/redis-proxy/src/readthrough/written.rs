//! What a command that went past the cache has changed: its keys leave before anybody hears its answer.
//!
//! A fill that was sent before the command ran may bring the old value after it. So the keys' fills are unregistered too,
//! and only now, when the answer is here: a fill sent from now on reads what the command has left.

use super::ReadThrough;
use crate::clock::now_ns;

impl ReadThrough {
    /// The answer to a command that may have changed this key is here, or will never come. For all who read it.
    pub(crate) fn written(&self, key: &[u8]) {
        mutant::written(|| {
            if self.store.invalidate(key) && self.samples.chooses_invalidation() {
                self.samples.invalidated(key, now_ns());
            }
        });
    }

    /// The same of a command that may have changed everything.
    pub(crate) fn everything_written(&self) {
        mutant::written(|| self.store.flush());
    }
}
