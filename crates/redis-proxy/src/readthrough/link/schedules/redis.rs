//! The model of Redis: keys with versions and deadlines, one tracking table, and one wire on which everything is in order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use resp::{Frame, Protocol};
use tokio::sync::mpsc::UnboundedSender;

use super::super::sink::MS;
use crate::clock::now_ns;

/// The keys of a schedule.
pub(in crate::readthrough) const KEYS: [&str; 2] = ["a", "b"];

/// A time in which a key had one value, or none.
#[derive(Clone, Debug)]
pub(in crate::readthrough) struct KeyReign {
    pub(in crate::readthrough) from_ns: u64,
    /// The end of time while it lasts.
    pub(in crate::readthrough) to_ns: u64,
    /// No two are equal.
    pub(in crate::readthrough) value: Option<u64>,
    /// From when on Redis would find the key expired, whatever happens to it.
    pub(in crate::readthrough) deadline_ns: u64,
}

/// Everything that the one server knows.
#[derive(Default)]
pub(super) struct Redis {
    reigns: BTreeMap<&'static str, Vec<KeyReign>>,
    versions: u64,
    tracked: BTreeSet<&'static str>,
    /// What is on its way to the tracked connection.
    wire: Option<UnboundedSender<Bytes>>,
    connections: u64,
}

impl Redis {
    /// Accepts a tracked connection, whose number is returned; what was tracked for the one before is forgotten.
    pub(super) fn accept(&mut self, wire: UnboundedSender<Bytes>) -> u64 {
        self.tracked.clear();
        self.wire = Some(wire);
        self.connections += 1;
        self.connections
    }

    /// A replica that has all of this one, as the primary in its place.
    pub(super) fn promoted(&self) -> Redis {
        Redis { reigns: self.reigns.clone(), versions: self.versions, ..Redis::default() }
    }

    /// The program ends.
    pub(super) fn hang_up(&mut self) {
        self.wire = None;
    }

    /// Executes a command of connection number `connection` and sends the reply; a connection that is gone gets none.
    pub(super) fn execute(&mut self, connection: u64, command: &Frame) {
        if connection != self.connections {
            return;
        }
        let Frame::Array(words) = command else { panic!("not a command: {command:?}") };
        let word = |at: usize| match words.get(at) {
            Some(Frame::Bulk(bytes)) => std::str::from_utf8(bytes).expect("text"),
            _ => "",
        };
        let key = KEYS.into_iter().find(|key| *key == word(1));
        // A key that this very command finds expired is told of behind its reply (`tracking_pending_keys`).
        let expired =
            key.is_some_and(|key| self.expire(key)) && key.is_some_and(|key| self.tracked.remove(key));
        let reply = match (word(0), key) {
            ("GET", Some(key)) => match self.current(key).value {
                Some(value) => Frame::Bulk(value.to_string().into()),
                None => Frame::Null,
            },
            ("PTTL", Some(key)) => Frame::Integer(self.pttl(key)),
            ("PING", None) => Frame::Simple("PONG".into()),
            ("HELLO", None) => hello(),
            (name, _) => panic!("the model knows no {name}"),
        };
        self.tracked.extend(key);
        self.send(&reply);
        if let (true, Some(key)) = (expired, key) {
            self.send_invalidation(Some(key));
        }
    }

    /// Another client sets a key, for `px` milliseconds, or deletes it. When.
    pub(super) fn write(&mut self, key: &'static str, exists: bool, px: Option<u64>) -> u64 {
        self.expire(key);
        self.invalidate(key);
        self.versions += 1;
        let now_ns = now_ns();
        let deadline_ns = px.map_or(u64::MAX, |px| (now_ns / MS + px + 1) * MS);
        self.begin(key, exists.then_some(self.versions), now_ns, deadline_ns)
    }

    /// Another client flushes everything. When.
    pub(super) fn flush(&mut self) -> u64 {
        for key in KEYS {
            self.expire(key);
        }
        let now_ns = now_ns();
        for key in KEYS {
            self.begin(key, None, now_ns, u64::MAX);
        }
        self.tracked.clear();
        self.send_invalidation(None);
        now_ns
    }

    /// The active expire cycle comes by.
    pub(super) fn expire_all(&mut self) {
        for key in KEYS {
            if self.expire(key) {
                self.invalidate(key);
            }
        }
    }

    /// What another client reads.
    pub(super) fn read(&mut self, key: &'static str) -> Option<u64> {
        if self.expire(key) {
            self.invalidate(key);
        }
        self.current(key).value
    }

    /// What a key was, from the beginning of time on.
    pub(super) fn reigns(&mut self, key: &'static str) -> Vec<KeyReign> {
        self.list(key).clone()
    }

    /// Ends a key whose deadline has passed. Whether it had.
    fn expire(&mut self, key: &'static str) -> bool {
        let deadline_ns = self.current(key).deadline_ns;
        let over = now_ns() >= deadline_ns;
        if over {
            self.begin(key, None, deadline_ns, u64::MAX);
        }
        over
    }

    /// Milliseconds, as Redis counts them: a key is gone once its last one is over.
    fn pttl(&mut self, key: &'static str) -> i64 {
        match *self.current(key) {
            KeyReign { value: None, .. } => -2,
            KeyReign { deadline_ns: u64::MAX, .. } => -1,
            KeyReign { deadline_ns, .. } => {
                (deadline_ns / MS - 1).saturating_sub(now_ns() / MS).cast_signed()
            }
        }
    }

    fn begin(&mut self, key: &'static str, value: Option<u64>, from_ns: u64, deadline_ns: u64) -> u64 {
        self.current(key).to_ns = from_ns;
        self.list(key).push(KeyReign { from_ns, to_ns: u64::MAX, value, deadline_ns });
        from_ns
    }

    fn list(&mut self, key: &'static str) -> &mut Vec<KeyReign> {
        let nothing = KeyReign { from_ns: 0, to_ns: u64::MAX, value: None, deadline_ns: u64::MAX };
        self.reigns.entry(key).or_insert_with(|| vec![nothing])
    }

    fn current(&mut self, key: &'static str) -> &mut KeyReign {
        self.list(key).last_mut().expect("there is always one")
    }

    fn invalidate(&mut self, key: &'static str) {
        if self.tracked.remove(key) {
            self.send_invalidation(Some(key));
        }
    }

    fn send_invalidation(&self, key: Option<&str>) {
        let keys = key.map_or(Frame::Null, |key| Frame::Array(vec![bulk(key)]));
        self.send(&Frame::Push(vec![bulk("invalidate"), keys]));
    }

    fn send(&self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes, Protocol::Resp3);
        if let Some(wire) = &self.wire {
            // A wire that is cut takes nothing.
            let _ = wire.send(bytes.freeze());
        }
    }
}

pub(in crate::readthrough) fn bulk(text: &str) -> Frame {
    Frame::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

pub(in crate::readthrough) fn hello() -> Frame {
    let pair = |name, value| (bulk(name), value);
    Frame::Map(vec![
        pair("server", bulk("redis")),
        pair("version", bulk("7.0.15")),
        pair("proto", Frame::Integer(3)),
        pair("role", bulk("master")),
    ])
}
