//! What answers of Redis do beyond the client that gets them: before one reaches anybody, what is cached of what it has changed
//! leaves. All duties are done here, of commands on lanes and on pins.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::now_ns;
use crate::lanes::{Answer, Discharge, Duty, Lanes};
use crate::readthrough::ReadThrough;

/// What answers of Redis change for the clients of a worker, and through what they share for all.
pub(crate) struct Effects {
    /// The way to the whole cache.
    own: Rc<ReadThrough>,
    lanes: Rc<Lanes>,
    /// How often Redis has changed what users may do, of the process.
    rights_changed: Arc<AtomicU64>,
}

impl Effects {
    pub(crate) fn new(own: Rc<ReadThrough>, lanes: Rc<Lanes>, rights_changed: Arc<AtomicU64>) -> Rc<Self> {
        Rc::new(Effects { own, lanes, rights_changed })
    }

    fn anything(&self) {
        // Stored before the answer is delivered: whoever has it finds its rights anew.
        self.rights_changed.fetch_add(1, Ordering::Relaxed);
        self.own.everything_written();
        self.lanes.void_admissions();
    }
}

/// Does the duties of one client's commands, and knows up to when that client has seen Redis: its reads show nothing older.
pub(crate) struct Steward {
    seen_ns: Cell<u64>,
    effects: Rc<Effects>,
}

impl Steward {
    pub(crate) fn new(effects: Rc<Effects>) -> Rc<Self> {
        Rc::new(Steward { seen_ns: Cell::new(0), effects })
    }

    /// An answer of Redis is about to be delivered.
    pub(crate) fn sees_redis(&self) {
        self.seen_ns.set(mutant::seen(now_ns()));
    }

    pub(crate) fn min_sync_ns(&self) -> u64 {
        self.seen_ns.get()
    }
}

impl Discharge for Steward {
    fn discharge(&self, duty: &Duty, answer: Answer) {
        let Effects { own, lanes, .. } = &*self.effects;
        match (duty, answer) {
            (Duty::Script(keys), _) => {
                keys.iter().for_each(|key| own.written(key));
                self.sees_redis();
            }
            (Duty::Seen, _) | (Duty::Unnamed, Answer::Refused) => self.sees_redis(),
            // What has not begun has changed nothing.
            (_, Answer::Refused) => {}
            (Duty::Unnamed, Answer::Other) => {
                self.sees_redis();
                lanes.void_admissions();
            }
            (Duty::Written(keys), Answer::Other) => keys.iter().for_each(|key| own.written(key)),
            (Duty::Everything, Answer::Other) => own.everything_written(),
            (Duty::Admission, Answer::Other) => lanes.void_admissions(),
            (Duty::Anything, Answer::Other) => self.effects.anything(),
            (Duty::EndsUsers, Answer::Other) => {
                self.effects.anything();
                lanes.note_ended_users();
            }
        }
    }
}
