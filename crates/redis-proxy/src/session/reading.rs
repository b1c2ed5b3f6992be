//! What one client may see of the cache: the way to it, what is known of its user's rights, and what it has seen of Redis, so
//! that it is shown nothing older.

use std::hash::BuildHasher;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;

use command::Read;
use tokio::sync::futures::OwnedNotified;

use super::client_state::ClientState;
use super::rights::UserRights;
use super::seen::SeenKeys;
use super::sessions::Sessions;
use super::steward::Steward;
use crate::clock::{nanos, now_ns};
use crate::readthrough::{Answered, ReadOptions, ReadThrough};

/// A client for whom nothing is cached is looked at again after so long: others may have gone.
const NO_READER_NS: u64 = 1_000_000_000;

/// One client's side of the cache. Of its reads each is one of [`Pending`](super::pending::Pending), and due as any answer is.
pub(super) struct Reading {
    pub(super) sessions: Rc<Sessions>,
    steward: Rc<Steward>,
    /// What is cached for the client's key, once asked for; when it was found that nothing is.
    reader: Option<Result<Rc<ReadThrough>, u64>>,
    /// What is known of its user's rights, once asked for.
    rights: Option<Rc<UserRights>>,
    /// When it was last asked for, the round of [`Recall`](super::recall::Recall) that was seen, and what wakes for the next.
    read_ns: u64,
    round: u64,
    recalled: Option<Pin<Box<OwnedNotified>>>,
    seen_keys: SeenKeys,
    /// When the client's bytes were last looked at.
    pub(super) turn_ns: u64,
}

impl Reading {
    pub(super) fn new(sessions: Rc<Sessions>, steward: Rc<Steward>) -> Self {
        Reading {
            sessions,
            steward,
            reader: None,
            rights: None,
            read_ns: 0,
            round: 0,
            recalled: None,
            seen_keys: SeenKeys::default(),
            turn_ns: now_ns(),
        }
    }

    /// The client's key is another one.
    pub(super) fn forget(&mut self) {
        (self.reader, self.rights) = (None, None);
    }

    /// The way to what this client may see, if anything is cached for it.
    pub(super) fn reader(&mut self, client: &ClientState) -> Option<Rc<ReadThrough>> {
        self.read_ns = self.turn_ns;
        match &self.reader {
            Some(Ok(reader)) => return Some(reader.clone()),
            Some(Err(since_ns)) if self.turn_ns.saturating_sub(*since_ns) < NO_READER_NS => return None,
            _ => {}
        }
        let ClientState { key, proven_ns, .. } = client;
        let reader = self.sessions.readers.of(key.identity.login(), *proven_ns, key.db);
        self.reader = Some(reader.clone().ok_or(self.turn_ns));
        // A round that nobody has seen: so it is woken for the next one.
        self.round = u64::MAX;
        reader
    }

    /// Gives the way to what is cached back if nothing was read for RESP_LANE_IDLE, and nothing `is_read` now; else looks again
    /// in the next round. Cheap within one.
    #[inline]
    pub(super) fn look_back(&mut self, is_read: impl FnOnce() -> bool, cx: &mut Context<'_>) {
        if self.round != self.sessions.recall.round() {
            self.look_back_once(is_read, cx);
        }
    }

    fn look_back_once(&mut self, is_read: impl FnOnce() -> bool, cx: &mut Context<'_>) {
        self.round = self.sessions.recall.round();
        self.recalled = None;
        let Some(Ok(reader)) = &self.reader else { return };
        let idle_ns = nanos(self.sessions.limits.get().lanes.idle);
        if self.sessions.readers.links_follow_reads()
            && !is_read()
            && now_ns().saturating_sub(self.read_ns) >= idle_ns
        {
            self.sessions.readers.given_back(reader, self.read_ns);
            self.reader = None;
            return;
        }
        let mut recalled = self.sessions.recall.told();
        let _ = recalled.as_mut().poll(cx); // it wakes this task; the round is what is read
        self.recalled = Some(recalled);
    }

    /// What is known of its user's rights.
    pub(super) fn rights(&mut self, client: &ClientState) -> &UserRights {
        let sessions = &self.sessions;
        self.rights.get_or_insert_with(|| sessions.rights.of(&client.key.identity))
    }

    /// Whether a read may be answered by what others have brought, as far as that is its user's right.
    #[inline]
    pub(super) fn may(&mut self, read: Read, client: &ClientState, now_ns: u64) -> bool {
        !read.is_derived() || self.rights(client).may(read, now_ns)
    }

    /// What is asked of an answer about a key: nothing older than what the client has seen.
    #[inline]
    pub(super) fn asked(&self, key: &[u8], arrived_ns: u64, now_ns: u64) -> ReadOptions {
        let since_ns = self.seen_keys.since_ns(|| self.sessions.hasher.hash_one(key));
        let min_sync_ns = self.steward.min_sync_ns().max(since_ns);
        ReadOptions { now_ns, arrived_ns, min_sync_ns, no_cache: false }
    }

    /// An answer of Redis is about to be delivered: from now on this client is shown nothing older. In mode `ttl` that is
    /// promised only after commands of which it is not known what they change.
    pub(super) fn has_seen_redis(&self) {
        if self.sessions.readers.keeps_order() {
            self.steward.sees_redis();
        }
    }

    /// An answer that is not held may be newer than others that are held about its key.
    pub(super) fn has_seen(&mut self, answered: &Answered, key_hash: u64) {
        if answered.may_be_newest(self.sessions.readers.keeps_order()) {
            self.seen_keys.note(key_hash, now_ns());
        }
    }
}
