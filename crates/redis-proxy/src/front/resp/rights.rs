//! What users may do that the proxy does for them in other words: MGET, which is made of GETs. Redis has said so, by answering
//! one; who has been told nothing yet, or not lately, asks in its own words.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Registry;
use crate::lanes::Identity;

/// Users of a worker of whom it is known; beyond, all are asked for anew.
const MOST: usize = 1_024;

/// What is known of the users of one worker.
pub(super) struct Rights {
    registry: Arc<Registry>,
    /// How long it is believed: rights may be taken away behind the proxy.
    life_ns: u64,
    /// Until when, and after how many changes of rights through the proxy.
    mget: RefCell<HashMap<Identity, (u64, u64)>>,
}

impl Rights {
    pub(super) fn new(registry: Arc<Registry>, life_ns: u64) -> Self {
        Rights { registry, life_ns, mget: RefCell::default() }
    }

    pub(super) fn may_mget(&self, identity: &Identity, now_ns: u64) -> bool {
        let known = self.mget.borrow().get(identity).copied();
        known.is_some_and(|(until_ns, changes)| now_ns < until_ns && changes == self.changes())
    }

    /// Redis has answered one.
    pub(super) fn learn_mget(&self, identity: &Identity, now_ns: u64) {
        let mut mget = self.mget.borrow_mut();
        if mget.len() >= MOST {
            mget.clear();
        }
        mget.insert(identity.clone(), (now_ns.saturating_add(self.life_ns), self.changes()));
    }

    fn changes(&self) -> u64 {
        // Stored before the answer to the change is delivered.
        self.registry.rights_changed.load(Ordering::Relaxed)
    }
}
