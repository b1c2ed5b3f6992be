//! One RESP client: what its commands are sent on, what is due for it, and what it has seen. Its bytes come and go by the
//! loop of a client ([`Client`](crate::front::client::Client)), for which [`RespDialect`] stands.
//!
//! **Order.** Replies leave in the order of the commands ([`Replies`]). A command that must not go yet, because another way owes
//! replies (`false` from [`Connection::command`]), stays in the input and is parsed again.
//!
//! **Room.** While an answer cannot be written, nothing is taken up; `window` bounds the commands on their way, and falls
//! to one after a large reply, because replies of a shared lane that the client does not read are memory.

mod admission;
mod busy;
mod commands;
mod deadline;
mod dialect;
mod parts;
mod pins;
mod proving;
mod reads;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use resp::RequestError;
use tokio::sync::futures::OwnedNotified;

pub(super) use self::busy::{Busy, Heard};
pub(crate) use self::dialect::serve;
use self::reads::Pending;
use super::RespFront;
use super::registry::{Entry, Registry};
use super::rights::UserRights;
use super::session::Session;
use crate::clock::now_ns;
use crate::front::client::{Ending, Output};
use crate::front::seen::SeenKeys;
use crate::lanes::{Identity, KeptOut, LARGE_REPLY, LaneHandle, LaneKey, Mailbox, Pace};
use crate::readthrough::ReadThrough;
use crate::session::pin::Pinned;
use crate::session::replies::{NodeId, Replies};
use crate::session::steward::Steward;
use crate::session::tracking::Target;
pub(super) use crate::session::words::{client_name, number};

/// Where a connection starts: the size of its replies is not known yet.
const FIRST_WINDOW: usize = 32;
/// Bytes that are read ahead of the command at hand.
const READ_AHEAD: usize = 64 * 1024;

pub(super) struct Connection {
    front: Rc<RespFront>,
    output: Output,
    mailbox: Rc<Mailbox>,
    session: Session,
    /// The shared lanes of the session's key, once used.
    lanes: [Option<LaneHandle>; 2],
    pinned: Option<Box<Pinned>>,
    /// Whether it may empty the cache.
    is_admin: bool,
    /// Something that the next command waits for.
    busy: Option<Box<Busy>>,
    /// Why the client is not let in, for the command at hand.
    kept_out: Option<KeptOut>,
    /// The client that the command at hand names has a connection, for now.
    target: Option<Target>,
    /// Why the client gets no pin for the command at hand.
    refused: Option<Bytes>,
    /// Why the transaction that it has begun will not be.
    doomed: Option<Bytes>,
    /// Where its requests stopped making sense: told once all before is answered.
    broken: Option<RequestError>,
    /// What is cached for the session's key, once asked for; when it was found that nothing is.
    reader: Option<Result<Rc<ReadThrough>, u64>>,
    /// What is known of its user's rights, once asked for.
    rights: Option<Rc<UserRights>>,
    /// When it was last asked for, the round of [`Recall`](super::recall::Recall) that was seen, and what wakes for the next.
    read_ns: u64,
    round: u64,
    recalled: Option<Pin<Box<OwnedNotified>>>,
    /// What is due, in its order. Of the reads among it the first may be on a lane, which owes nothing else then.
    replies: Replies<Pending>,
    /// Whether Redis has sent the value that is being written for this client, so that it counts as unread.
    tail_is_fetched: bool,
    steward: Rc<Steward>,
    seen_keys: SeenKeys,
    window: usize,
    /// No more requests are taken; so the connection ends when all is answered.
    ending: Option<Ending>,
    /// When its bytes were last read.
    turn_ns: u64,
    /// When it last sent something, or was given what it waited for.
    active_ns: u64,
    was_owed: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Whoever has killed it is told that both its connections are closed: the client's own is by now.
        self.pinned = None;
        self.mailbox.leave();
        self.front.registry.leave(&self.session.entry);
        // Nobody takes what was fetched for it.
        self.replies = Replies::default();
        self.front.readers.released();
    }
}

impl Connection {
    fn new(front: Rc<RespFront>, entry: Arc<Entry>, is_admin: bool) -> Self {
        let steward = Steward::new(front.effects.clone());
        Connection {
            output: Output::default(),
            mailbox: Rc::new(Mailbox::new(front.settings.output_limit_bytes, &front.bounds, steward.clone())),
            session: Session::new(front.identity.clone(), front.settings.as_proxy, entry),
            lanes: [None, None],
            pinned: None,
            is_admin,
            busy: None,
            kept_out: None,
            target: None,
            refused: None,
            doomed: None,
            broken: None,
            reader: None,
            rights: None,
            read_ns: 0,
            round: 0,
            recalled: None,
            replies: Replies::default(),
            tail_is_fetched: false,
            steward,
            seen_keys: SeenKeys::default(),
            window: FIRST_WINDOW.min(front.settings.pipeline),
            ending: None,
            turn_ns: now_ns(),
            active_ns: now_ns(),
            was_owed: false,
            front,
        }
    }

    pub(super) fn steward(&self) -> &Steward {
        &self.steward
    }

    pub(super) fn is_admin(&self) -> bool {
        self.is_admin
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.front.registry
    }

    /// Who a client is that has not logged in, whether it is let in so, and its user's name.
    pub(super) fn stranger(&self) -> (Identity, bool, Bytes) {
        let settings = &self.front.settings;
        (self.front.identity.clone(), settings.as_proxy, settings.user.clone())
    }

    pub(super) fn lane_of(&self, key: &LaneKey) -> LaneHandle {
        self.front.lanes.shared(key, Pace::Quick, None)
    }

    /// Whether it has a connection to Redis, which tells by itself when it ends.
    fn is_connected(&self) -> bool {
        self.pinned.is_some() || self.lanes.iter().flatten().any(|lane| lane.is_open())
    }

    /// The session's key has changed.
    pub(super) fn forget_lanes(&mut self) {
        self.lanes = [None, None];
        (self.reader, self.rights) = (None, None);
    }

    pub(super) fn wait_for(&mut self, busy: Busy) {
        self.busy = Some(Box::new(busy));
    }

    pub(super) fn unmute(&mut self) {
        self.mailbox.mute(false);
    }

    /// What was said last is the last.
    pub(super) fn end(&mut self) {
        self.ending.get_or_insert(Ending::Answered);
    }

    /// Not even that.
    pub(super) fn vanish(&mut self) {
        self.ending = Some(Ending::Gone);
    }

    pub(super) fn front(&self) -> &RespFront {
        &self.front
    }

    /// Whether all that was sent along shared lanes is answered.
    pub(super) fn is_answered(&self) -> bool {
        self.mailbox.waiting() == 0
    }

    /// Takes what has come on a shared lane.
    fn collect(&mut self) {
        let Some((mut bytes, whole)) = self.mailbox.take() else { return };
        if let Some(Busy::Heard(_, reply)) = self.busy.as_deref_mut() {
            self.replies.came(NodeId::FIRST, &mut bytes, whole, reply);
        } else {
            self.collected(&mut bytes, whole);
        }
        self.front.buffers.give_output(bytes);
    }

    fn collected(&mut self, bytes: &mut Vec<u8>, whole: usize) {
        let start = self.output.bytes.len();
        // A read that went to the lane is still what it was in the queue.
        let is_read = self.replies.read_at_head().is_some();
        let whole = if is_read { 0 } else { whole };
        self.replies.came(NodeId::FIRST, bytes, whole, &mut self.output.bytes);
        if is_read && !self.note_said(start) {
            return;
        }
        self.has_seen_redis();
        self.window = match self.mailbox.was_large() {
            true => 1,
            false => (self.window * 2).min(self.front.settings.pipeline),
        };
    }

    /// An answer of Redis is about to be delivered: from now on this client is shown nothing older. In mode `ttl` that is
    /// promised only after commands of which it is not known what they change.
    pub(super) fn has_seen_redis(&self) {
        if self.front.readers.keeps_order() {
            self.steward.sees_redis();
        }
    }

    /// Answers that are due, wherever from.
    fn waiting(&self) -> usize {
        self.replies.len()
    }

    /// Whether no command may be taken up now.
    fn must_wait(&self) -> bool {
        self.ending.is_some()
            || self.broken.is_some()
            || self.busy.is_some()
            || self.pinned.is_none() && self.session.entry.is_pin_wanted()
            || self.output.is_full(self.front.settings.output_bytes)
            || self.waiting() >= self.window && !self.is_unread()
            || self.pinned.as_ref().is_some_and(|pinned| pinned.awaits_feed() || pinned.may_end())
            || self.pinned.as_ref().is_some_and(|pinned| pinned.stream.backlog() > READ_AHEAD)
    }
}
