//! The one Redis that is written to, and what happens to all of its keys at once.
//!
//! Writers hold the gate open during a write. What concerns all keys (a flush, another primary) shuts it, so that it
//! has its place in the order of every key's writes.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::history::Cause;
use crate::{RedisServer, now_ns};

/// Where writers write; it can be flushed and replaced while they do.
pub struct Primary {
    state: RwLock<PrimaryState>,
}

pub(super) struct PrimaryState {
    pub(super) socket: PathBuf,
    /// Another one for another server.
    pub(super) generation: u64,
    /// The start and the end of each flush, and how it came about.
    pub(super) flushes: Vec<(u64, u64, Cause)>,
}

impl Primary {
    /// Starts with this server, whose keys do not exist yet.
    pub fn new(redis: &RedisServer) -> Primary {
        let state = PrimaryState { socket: redis.socket_path(), generation: 0, flushes: Vec::new() };
        Primary { state: RwLock::new(state) }
    }

    /// Deletes all keys by `flush`, between the writes.
    pub fn flush(&self, flush: impl FnOnce()) {
        self.flush_for(Cause::Flush, flush);
    }

    /// Flushes through the program.
    pub fn flush_through(&self, flush: impl FnOnce()) {
        self.flush_for(Cause::FlushThrough, flush);
    }

    fn flush_for(&self, cause: Cause, flush: impl FnOnce()) {
        let mut state = self.shut();
        let begin = now_ns();
        flush();
        state.flushes.push((begin, now_ns(), cause));
    }

    /// Makes `next` the primary by `promote`, between the writes. It has all that was acknowledged.
    pub fn replace(&self, next: &RedisServer, promote: impl FnOnce()) {
        let mut state = self.shut();
        promote();
        state.socket = next.socket_path();
        state.generation += 1;
    }

    /// During a write.
    pub(super) fn open(&self) -> RwLockReadGuard<'_, PrimaryState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shut(&self) -> RwLockWriteGuard<'_, PrimaryState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
