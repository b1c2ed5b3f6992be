//! What users may do that the proxy does for them in other words: MGET, which is made of GETs, or STRLEN, which a value
//! answers. Redis has said so, by answering that very command; of what it has not said, or not lately, it is asked in the
//! client's own words.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use command::Read;

use super::registry::Registry;
use crate::lanes::Identity;

/// Users of a worker of whom it is known; beyond, all are asked for anew.
const MOST: usize = 1_024;

/// What is known of the users of one worker.
pub(super) struct Rights {
    registry: Arc<Registry>,
    known: RefCell<HashMap<Identity, Rc<UserRights>>>,
}

impl Rights {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Rights { registry, known: RefCell::default() }
    }

    /// What is known of one user. Whoever keeps it sees what others learn.
    pub(super) fn of(&self, identity: &Identity) -> Rc<UserRights> {
        let mut known = self.known.borrow_mut();
        if known.len() >= MOST && !known.contains_key(identity) {
            known.clear();
        }
        let new = || Rc::new(UserRights::new(self.registry.clone()));
        known.entry(identity.clone()).or_insert_with(new).clone()
    }
}

/// What is known of one user of a worker.
pub(super) struct UserRights {
    registry: Arc<Registry>,
    /// Commands that Redis has answered, a bit each.
    reads: Cell<u64>,
    /// Since when that is believed, and after how many changes of rights through the proxy it was learnt.
    since_ns: Cell<u64>,
    changes: Cell<u64>,
    /// When GET was refused, of which its MGETs would be made.
    get_refused: Cell<Option<Asking>>,
}

/// When Redis is asked: what its answer shows is believed from then on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    since_ns: u64,
    changes: u64,
}

impl UserRights {
    fn new(registry: Arc<Registry>) -> Self {
        let (reads, since_ns, changes) = (Cell::new(0), Cell::new(0), Cell::new(0));
        UserRights { registry, reads, since_ns, changes, get_refused: Cell::new(None) }
    }

    /// Whether Redis has answered this command.
    #[inline]
    pub(super) fn may(&self, read: Read, now_ns: u64) -> bool {
        self.reads.get() & bit(read) != 0
            && self.is_believed(self.since_ns.get(), now_ns)
            && self.changes.get() == self.changes()
    }

    /// Redis is about to be asked.
    pub(super) fn asking(&self, now_ns: u64) -> Asking {
        Asking { since_ns: now_ns, changes: self.changes() }
    }

    /// Redis has answered this command, as one that the user may.
    pub(super) fn answered(&self, read: Read, asking: Asking) {
        if asking.changes != self.changes() {
            return;
        }
        if asking.changes != self.changes.get() || !self.is_believed(self.since_ns.get(), asking.since_ns) {
            self.reads.set(0);
            self.changes.set(asking.changes);
            self.since_ns.set(asking.since_ns);
        }
        self.reads.set(self.reads.get() | bit(read));
    }

    /// Redis has refused a GET for being one: it is not tried again for its user, because Redis logs that.
    pub(super) fn refuse_get(&self, now_ns: u64) {
        self.get_refused.set(Some(self.asking(now_ns)));
    }

    /// Whether that was so lately.
    pub(super) fn is_get_refused(&self, now_ns: u64) -> bool {
        let lately = |asking: Asking| self.is_believed(asking.since_ns, now_ns);
        self.get_refused.get().is_some_and(|asking| asking.changes == self.changes() && lately(asking))
    }

    /// Whether what Redis has shown at an instant is still believed: rights may be taken away behind the proxy.
    #[inline]
    fn is_believed(&self, since_ns: u64, now_ns: u64) -> bool {
        now_ns < since_ns.saturating_add(self.registry.rights_life_ns.load(Ordering::Relaxed))
    }

    fn changes(&self) -> u64 {
        // Stored before the answer to the change is delivered.
        self.registry.rights_changed.load(Ordering::Relaxed)
    }
}

fn bit(read: Read) -> u64 {
    1 << read as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_believed_for_its_life_and_not_beyond_a_change() {
        let registry = Arc::<Registry>::default();
        registry.rights_life_ns.store(100, Ordering::Relaxed);
        let known = UserRights::new(registry.clone());
        let first = known.asking(1_000);
        assert!(!known.may(Read::Strlen, 1_000));
        known.answered(Read::Strlen, first);
        assert!(known.may(Read::Strlen, 1_099) && !known.may(Read::Mget, 1_099), "each for itself");
        known.answered(Read::Mget, known.asking(1_050));
        assert!(known.may(Read::Mget, 1_099) && !known.may(Read::Strlen, 1_100), "from the first answer on");
        known.answered(Read::Mget, known.asking(1_100));
        assert!(known.may(Read::Mget, 1_199) && !known.may(Read::Strlen, 1_199));
        registry.rights_life_ns.store(50, Ordering::Relaxed);
        assert!(
            known.may(Read::Mget, 1_149) && !known.may(Read::Mget, 1_150),
            "for a shorter time from now on"
        );
        registry.rights_life_ns.store(100, Ordering::Relaxed);
        let asked_before = known.asking(1_150);
        registry.rights_changed.fetch_add(1, Ordering::Relaxed);
        assert!(!known.may(Read::Mget, 1_150));
        known.answered(Read::Mget, asked_before);
        assert!(!known.may(Read::Mget, 1_150), "it was answered before the change, perhaps");
    }
}
