//! What ends every header section, made once a second: an answer copies it in one piece.

use std::sync::Arc;

use super::policy::Policy;
use crate::clock::{Date, Notice};

/// The last header fields of one worker's answers, from the CR LF before them to the empty line behind them.
pub(super) struct Tail {
    date: Date,
    /// `Keep-Alive` (RFC 2068, section 19.7.1.1), with the CR LF before it; empty where the idle time-out is too short.
    keep_alive: Box<[u8]>,
    /// What stands before the date.
    common: Box<[u8]>,
    /// What is said of a hit up to its detail.
    hit: Box<[u8]>,
    bytes: Vec<u8>,
    /// Of `bytes`: up to the end of `Date`.
    date_end: usize,
    hits: Vec<u8>,
    /// What `hits` says of the mode.
    hits_detail: &'static [u8],
}

impl Tail {
    pub(super) fn new(notice: Arc<Notice>, policy: &Policy) -> Self {
        // A second less: a request that leaves the client at the last moment still finds the connection open.
        let seconds = (policy.timeouts().idle_ns / 1_000_000_000).saturating_sub(1);
        let keep_alive =
            if seconds > 0 { format!("\r\nKeep-Alive: timeout={seconds}") } else { String::new() };
        Tail {
            date: Date::new(notice),
            keep_alive: keep_alive.into_bytes().into(),
            common: policy.common.clone(),
            hit: policy.hit.clone(),
            bytes: Vec::new(),
            date_end: 0,
            hits: Vec::new(),
            hits_detail: b"",
        }
    }

    /// Brings it up to date, for answers made at `now_ns`. To be called first.
    #[inline]
    pub(super) fn refresh(&mut self, now_ns: u64) {
        if !self.date.is_at(now_ns) {
            self.make(now_ns);
        }
    }

    #[cold]
    fn make(&mut self, now_ns: u64) {
        let (date, crowded) = self.date.make(now_ns);
        self.hits.clear();
        self.bytes.clear();
        self.bytes.extend_from_slice(&self.common);
        self.bytes.extend_from_slice(b"\r\nDate: ");
        self.bytes.extend_from_slice(date.as_bytes());
        self.date_end = self.bytes.len();
        if !crowded {
            self.bytes.extend_from_slice(&self.keep_alive);
        }
        self.bytes.extend_from_slice(b"\r\n\r\n");
    }

    /// Of a connection that stays.
    pub(super) fn stays(&self) -> &[u8] {
        &self.bytes
    }

    /// Of a hit on a connection that stays, all that stands behind its age: what is said of a hit, and `detail`, first.
    #[inline]
    pub(super) fn of_hits(&mut self, detail: &'static [u8]) -> &[u8] {
        if self.hits.is_empty() || !std::ptr::eq(self.hits_detail, detail) {
            self.make_hits(detail);
        }
        &self.hits
    }

    #[cold]
    fn make_hits(&mut self, detail: &'static [u8]) {
        self.hits.clear();
        self.hits_detail = detail;
        for part in [&self.hit, detail, &self.bytes] {
            self.hits.extend_from_slice(part);
        }
    }

    /// Of one that stays where that must be said, in three pieces.
    pub(super) fn says_that_it_stays(&self) -> [&[u8]; 3] {
        let (before, after) = self.bytes.split_at(self.date_end);
        [before, b"\r\nConnection: keep-alive", after]
    }

    /// Of one that ends, in two pieces.
    pub(super) fn ends(&self) -> [&[u8]; 2] {
        [&self.bytes[..self.date_end], b"\r\nConnection: close\r\n\r\n"]
    }
}
