//! What a client's command means for that client, apart from the socket it came on.
//!
//! A front turns bytes into requests and answers into bytes; what a request is for, where it goes and what its answer changes
//! is decided here. This layer names `readthrough` and `lanes`, and neither a socket nor HTTP nor a front.
//!
//! **Three things are asked of a [`Session`]**: to take a request up ([`Session::command`]: it must wait if that is `false`), to go
//! on with what is under way ([`Session::go_on`]), and what may leave now ([`Session::output`]).
//!
//! **Order.** Replies leave in the order of the commands ([`Replies`]). A command that must not go yet, because another way owes
//! replies, stays with the front.
//!
//! **Room.** While an answer cannot be written, nothing is taken up; `window` bounds the commands on their way, and falls
//! to one after a large reply, because replies of a shared lane that the client does not read are memory.

mod admission;
mod answers;
mod busy;
mod changes;
mod client_state;
mod clients;
mod commands;
mod exec;
mod expect;
mod local;
mod login;
mod output;
mod parts;
mod pause;
mod pending;
mod pin;
mod pins;
mod plan;
mod progress;
mod proving;
mod read_queue;
mod reads;
mod recall;
mod registry;
mod replies;
mod reply;
mod rights;
mod seen;
mod sessions;
mod steward;
mod tracking;
mod unread;
mod uploads;
mod visibility;
mod ways;
mod words;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use resp::RequestError;
use tokio::sync::futures::OwnedNotified;

pub(crate) use self::output::{Output, Unwritten};
pub(crate) use self::progress::{SessionEnd, Untaken};
pub(crate) use self::registry::Registry;
pub(crate) use self::replies::{NodeId, Replies};
pub(crate) use self::seen::SeenKeys;
pub(crate) use self::sessions::{SessionSettings, Sessions};

use self::busy::Busy;
use self::client_state::ClientState;
use self::pending::Pending;
use self::pin::Pinned;
use self::registry::Entry;
use self::rights::UserRights;
use self::steward::Steward;
use self::tracking::Target;
use crate::clock::now_ns;
use crate::lanes::{KeptOut, LaneHandle, Mailbox};
use crate::readthrough::ReadThrough;

/// Where a session starts: the size of its replies is not known yet.
const FIRST_WINDOW: usize = 32;
/// Bytes that are taken ahead of the command at hand.
pub(crate) const READ_AHEAD: usize = 64 * 1024;

/// One client: who it is, what its commands are sent on, what is due for it, and what it has seen. Of one worker, and owned by
/// whoever has its socket. Dropped once that is closed: then others are told that it is gone.
pub(crate) struct Session {
    sessions: Rc<Sessions>,
    output: Output,
    mailbox: Rc<Mailbox>,
    client: ClientState,
    /// The shared lanes of the client's key, once used.
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
    /// What is cached for the client's key, once asked for; when it was found that nothing is.
    reader: Option<Result<Rc<ReadThrough>, u64>>,
    /// What is known of its user's rights, once asked for.
    rights: Option<Rc<UserRights>>,
    /// When it was last asked for, the round of [`Recall`](recall::Recall) that was seen, and what wakes for the next.
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
    /// No more requests are taken; so the session ends when all is answered.
    ending: Option<SessionEnd>,
    /// When its bytes were last looked at.
    turn_ns: u64,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whoever has killed it is told that both its connections are closed: the client's own is by now.
        self.pinned = None;
        self.mailbox.leave();
        self.sessions.registry.leave(&self.client.entry);
        // Nobody takes what was fetched for it.
        self.replies = Replies::default();
        self.sessions.readers.released();
    }
}

impl Session {
    /// For a client that has just come, and is on the register.
    pub(crate) fn new(sessions: Rc<Sessions>, entry: Arc<Entry>, is_admin: bool) -> Self {
        let steward = Steward::new(sessions.effects.clone());
        let settings = &sessions.settings;
        Session {
            output: Output::default(),
            mailbox: Rc::new(Mailbox::new(settings.output_limit_bytes, &sessions.bounds, steward.clone())),
            client: ClientState::new(sessions.identity.clone(), settings.as_proxy, entry),
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
            window: FIRST_WINDOW.min(settings.pipeline),
            ending: None,
            turn_ns: now_ns(),
            sessions,
        }
    }

    /// The client's key has changed.
    fn forget_lanes(&mut self) {
        self.lanes = [None, None];
        (self.reader, self.rights) = (None, None);
    }

    fn wait_for(&mut self, busy: Busy) {
        self.busy = Some(Box::new(busy));
    }

    /// What was said last is the last.
    pub(crate) fn end(&mut self) {
        self.ending.get_or_insert(SessionEnd::Answered);
    }

    /// Not even that.
    fn vanish(&mut self) {
        self.ending = Some(SessionEnd::Gone);
    }

    /// An answer of Redis is about to be delivered: from now on this client is shown nothing older. In mode `ttl` that is
    /// promised only after commands of which it is not known what they change.
    fn has_seen_redis(&self) {
        if self.sessions.readers.keeps_order() {
            self.steward.sees_redis();
        }
    }

    /// Answers that are due, wherever from.
    fn waiting(&self) -> usize {
        self.replies.len()
    }
}
