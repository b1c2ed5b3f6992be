//! The one Redis that is written to, or the cluster, and what happens to many of its keys at once.
//!
//! Writers hold the gate open during a write. What concerns many keys (a flush, another primary) shuts it, so that it
//! has its place in the order of every key's writes.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::history::Cause;
use crate::{Cluster, RedisServer, now_ns};

/// Where writers write; it can be flushed and replaced while they do.
pub struct Primary {
    cluster: Option<Arc<Cluster>>,
    state: RwLock<PrimaryState>,
}

pub(super) struct PrimaryState {
    pub(super) first: First,
    /// Another one for another server.
    pub(super) generation: u64,
    pub(super) flushes: Vec<Flush>,
}

/// Whom writers ask first.
pub(super) enum First {
    /// The only one.
    Socket(PathBuf),
    /// The node of the cluster at this place.
    Node(usize),
}

/// Keys that have gone at once.
pub(super) struct Flush {
    pub(super) begin: u64,
    pub(super) end: u64,
    /// How it came about.
    pub(super) cause: Cause,
    /// Which; all without a word.
    pub(super) keys: Option<Vec<usize>>,
}

impl Primary {
    /// Starts with this server, whose keys do not exist yet.
    pub fn new(redis: &RedisServer) -> Primary {
        Primary::starting(None, First::Socket(redis.socket_path()))
    }

    /// Writes go to whichever node has the key; none has any yet.
    pub fn of_cluster(cluster: &Arc<Cluster>) -> Primary {
        Primary::starting(Some(cluster.clone()), First::Node(0))
    }

    fn starting(cluster: Option<Arc<Cluster>>, first: First) -> Primary {
        let state = PrimaryState { first, generation: 0, flushes: Vec::new() };
        Primary { cluster, state: RwLock::new(state) }
    }

    /// Deletes all keys by `flush`, between the writes.
    pub fn flush(&self, flush: impl FnOnce()) {
        self.flush_for(Cause::Flush, None, flush);
    }

    /// Flushes through the program.
    pub fn flush_through(&self, flush: impl FnOnce()) {
        self.flush_for(Cause::FlushThrough, None, flush);
    }

    /// Deletes the keys with these numbers by `flush`, between the writes.
    pub fn flush_keys(&self, keys: Vec<usize>, flush: impl FnOnce()) {
        self.flush_for(Cause::Flush, Some(keys), flush);
    }

    fn flush_for(&self, cause: Cause, keys: Option<Vec<usize>>, flush: impl FnOnce()) {
        self.shut().flush(cause, keys, flush);
    }

    /// Makes `next` the primary by `promote`, between the writes. It has all that was acknowledged.
    pub fn replace(&self, next: &RedisServer, promote: impl FnOnce()) {
        let mut state = self.shut();
        promote();
        state.first = First::Socket(next.socket_path());
        state.generation += 1;
    }

    /// Makes the node `next` of the cluster the owner of what another had by `promote`, between the writes, which ask it first from then
    /// on. The keys with these numbers are lost; the others are those of all acknowledged writes.
    ///
    /// # Panics
    /// If it is no node of the cluster.
    pub fn replace_owner(&self, next: &RedisServer, lost: Vec<usize>, promote: impl FnOnce()) {
        let nodes = self.cluster.as_ref().expect("a cluster").nodes();
        let place = nodes.iter().position(|node| node.port() == next.port()).expect("a node of the cluster");
        let mut state = self.shut();
        state.flush(Cause::Flush, Some(lost), promote);
        state.first = First::Node(place);
        state.generation += 1;
    }

    /// If it is one.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// During a write.
    pub(super) fn open(&self) -> RwLockReadGuard<'_, PrimaryState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shut(&self) -> RwLockWriteGuard<'_, PrimaryState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PrimaryState {
    fn flush(&mut self, cause: Cause, keys: Option<Vec<usize>>, flush: impl FnOnce()) {
        let begin = now_ns();
        flush();
        self.flushes.push(Flush { begin, end: now_ns(), cause, keys });
    }
}
