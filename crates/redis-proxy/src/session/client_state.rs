//! What a client has said about itself: identity, database, protocol, name.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use resp::Protocol;

use super::registry::{Details, Entry};
use crate::clock::now_ns;
use crate::lanes::{Destination, Identity, LaneKey};
use crate::live::SessionLimits;

/// A client's state that is not tied to a connection to Redis.
pub(crate) struct ClientState {
    /// Key of its lanes.
    pub(crate) key: LaneKey,
    /// Whether it may do anything but log in: it has, or it was proven that it need not. Holds to the client's end.
    pub(crate) admitted: bool,
    /// When it came, or came anew by RESET.
    pub(crate) came_ns: u64,
    /// When it was last proven who it is.
    pub(crate) proven_ns: u64,
    /// As the other clients see it.
    pub(crate) entry: Arc<Entry>,
    /// Its own address; none of one on this machine that has none.
    pub(crate) ip: Option<IpAddr>,
    /// CLIENT REPLY.
    pub(crate) replies: ReplyMode,
    /// The command that it called last, as `entry` has it.
    called: String,
}

/// What CLIENT REPLY has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyMode {
    On,
    Off,
    /// The next command has no reply.
    SkipNext,
    /// The command on its way has none.
    Skipping,
}

impl ClientState {
    pub(crate) fn new(identity: Identity, admitted: bool, entry: Arc<Entry>, ip: Option<IpAddr>) -> Self {
        ClientState {
            key: LaneKey { to: Destination::home(), identity, db: 0, protocol: Protocol::Resp2 },
            admitted,
            came_ns: now_ns(),
            proven_ns: now_ns(),
            entry,
            ip,
            replies: ReplyMode::On,
            called: String::new(),
        }
    }

    /// Whether it may empty the cache, and see what is of others.
    pub(crate) fn is_admin(&self, limits: SessionLimits) -> bool {
        limits.admin.allows(self.ip)
    }

    /// It calls a command. Others hear of it only if it is another one than the time before.
    pub(crate) fn calls(&mut self, command: &str) {
        if self.called != command {
            command.clone_into(&mut self.called);
            self.note(|details| command.clone_into(&mut details.command));
        }
    }

    /// As after RESET.
    pub(crate) fn reset(&mut self, identity: Identity, admitted: bool, user: Bytes) {
        self.key = LaneKey { to: Destination::home(), identity, db: 0, protocol: Protocol::Resp2 };
        (self.admitted, self.came_ns) = (admitted, now_ns());
        self.proven_ns = self.came_ns;
        self.replies = ReplyMode::On;
        let came_ns = self.came_ns;
        self.note(|details| {
            (details.user, details.logged_in_ns) = (user, came_ns);
            details.db = 0;
            details.protocol = Protocol::Resp2;
            details.name = Bytes::new();
        });
    }

    pub(crate) fn resp3(&self) -> bool {
        self.key.protocol == Protocol::Resp3
    }

    pub(crate) fn select(&mut self, db: u32) {
        self.key.db = db;
        self.note(|details| details.db = db);
    }

    pub(crate) fn speak(&mut self, protocol: Protocol) {
        self.key.protocol = protocol;
        self.note(|details| details.protocol = protocol);
    }

    pub(crate) fn log_in(&mut self, identity: Identity, user: Bytes) {
        self.key.identity = identity;
        self.admitted = true;
        let proven_ns = now_ns();
        self.proven_ns = proven_ns;
        self.note(|details| (details.user, details.logged_in_ns) = (user, proven_ns));
    }

    pub(crate) fn rename(&self, name: Bytes) {
        self.note(|details| details.name = name);
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Details)) {
        change(&mut self.entry.details.lock());
    }
}
