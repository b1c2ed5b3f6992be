//! A client's own connection to Redis: what its replies mean for how long the client must keep it.
//!
//! Requests go through as bytes and so do replies. What is remembered is, for each command on its way, what its reply will
//! change ([`ReplyMeaning`]), and the state that replies have told so far. Once nothing is on its way and no state is left, the
//! connection is free.
//!
//! A client may bring its connection into a state that is not followed here (HELLO within MULTI, CLIENT REPLY while it is
//! subscribed). Then the pin becomes a *tunnel*: bytes go both ways unread until either side closes.

mod drive;
mod expectations;
pub(crate) mod later;
mod receive;
mod state;
mod subscriptions;
mod tracked;
mod transaction;
mod tunnel;
mod usage;

use std::rc::Rc;

use bytes::Bytes;
use command::Slot;

pub(crate) use self::drive::{PinLost, Progress};
use self::expectations::Expectations;
pub(crate) use self::expectations::ReplyMeaning;
use self::receive::Passing;
pub(crate) use self::state::{Learned, PinState};
pub(crate) use self::tunnel::Monitored;
use self::usage::{Fate, Looks, Usage};
use crate::lanes::{Bounds, Discharge, Duty, InputRoom, LaneKey, PinStream};
use crate::session::deferred::Keyless;
use crate::session::expect::Expect;
use crate::session::kept::KeptCommand;
use crate::session::plan::Stage;

/// A pin in use.
pub(crate) struct Pinned {
    pub(crate) stream: PinStream,
    pub(crate) key: LaneKey,
    pub(crate) state: PinState,
    expectations: Expectations,
    usage: Usage,
    passing: Passing,
    /// At a node of a cluster: the command that alone is on its way, if it blocks, subscribes or is large.
    pub(crate) kept: Option<Box<KeptCommand>>,
    /// At a node of a cluster: the slot of the keys that its client watches or has sent to be queued.
    pub(crate) slot: Option<Slot>,
    /// There: a key that it watches.
    pub(crate) watched: Option<Bytes>,
    /// There: what is queued in a transaction without keys, as long as that may as well be at another node.
    pub(crate) keyless: Option<Box<Keyless>>,
}

impl Pinned {
    /// A pin for a client whose duties `discharge` does.
    pub(crate) fn new(stream: PinStream, key: LaneKey, discharge: Rc<dyn Discharge>) -> Box<Self> {
        Box::new(Pinned {
            stream,
            key,
            state: PinState::default(),
            expectations: Expectations::new(discharge),
            usage: Usage::Fresh,
            passing: Passing::default(),
            kept: None,
            slot: None,
            watched: None,
            keyless: None,
        })
    }

    /// A command goes out whose reply means this, with what must be done before that reply is passed on.
    pub(crate) fn expect(&mut self, awaited: ReplyMeaning, duty: Option<Duty>) {
        self.usage.begin();
        // The duties of a transaction that is followed are those of its commands.
        let ends = matches!(awaited, ReplyMeaning::Planned(Expect::Exec | Expect::Discard));
        let duty = duty.filter(|_| !ends || self.state.transaction.sent().is_none());
        self.state.sends(&awaited);
        self.expectations.push(awaited, duty);
    }

    /// Commands on their way.
    pub(crate) fn waiting(&self) -> usize {
        self.expectations.len()
    }

    /// Whether the client waits for something that its death would lose.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is_tunnel() || self.state.is_subscribed() || self.awaits_block()
    }

    /// Whether a blocking command is on its way.
    pub(crate) fn awaits_block(&self) -> bool {
        self.expectations.awaits_block()
    }

    /// What its client has begun on it; `resp3` if that is what the client speaks.
    pub(crate) fn stage(&self, resp3: bool) -> Stage {
        if self.stream.is_shut() { Stage::Shut } else { self.state.stage(resp3) }
    }

    /// Whether nothing is left on it.
    pub(crate) fn is_free(&self) -> bool {
        self.usage == Usage::Followed && self.expectations.is_empty() && self.state.is_none()
    }

    /// Whether nothing is on its way, and no state is there.
    pub(crate) fn is_unused(&self) -> bool {
        matches!(self.usage, Usage::Fresh | Usage::Followed)
            && self.expectations.is_empty()
            && self.state.is_none()
    }

    /// Whether a command is on its way behind which nothing may be sent before it is known what becomes of it: MONITOR and its
    /// kin, behind whose reply come no replies.
    pub(crate) fn awaits_feed(&self) -> bool {
        self.usage.looks() == Some(Looks::Reset) || matches!(self.expectations.last(), Some(Expect::Feed(_)))
    }

    /// Whether an EXEC is on its way that may be its client's end: what stands behind it is for nobody then.
    pub(crate) fn may_end(&self) -> bool {
        self.expectations.may_end(|| self.state.transaction.may_kill())
    }

    /// Another client needs this one to have it, whether it sends anything or not. What comes to it for that may come even
    /// later: it is for nobody else.
    pub(crate) fn set_aside(&mut self) {
        self.usage.begin();
        self.state.worsen(Fate::Dropped);
    }

    /// What is left of it for another client, once nothing of this one is: none if something may be.
    pub(crate) fn release(self) -> Option<(LaneKey, PinStream)> {
        let is_clean = self.state.is_clean() && !self.stream.is_shut();
        is_clean.then_some((self.key, self.stream))
    }

    /// A request is streamed to it from now on, which may change this.
    pub(crate) fn start_upload(&mut self, duty: Option<Duty>, bounds: &Bounds) {
        let is_kept = self.stream.is_of_cluster() && self.expectations.is_empty();
        self.kept = is_kept.then(|| Box::new(KeptCommand::of_parts(Some(InputRoom::new(bounds)))));
        self.expect(Expect::Reply.into(), duty);
        self.usage = Usage::Upload;
    }

    /// The next part of it.
    pub(crate) fn upload(&mut self, bytes: &[u8], last: bool) {
        self.stream.outbox().extend_from_slice(bytes);
        if self.usage == Usage::Upload && !self.kept.as_mut().is_none_or(|kept| kept.add(bytes, last)) {
            self.kept = None;
        }
        if last && self.usage == Usage::Upload {
            self.usage = Usage::Followed;
        }
    }

    /// Whether a request goes to it in parts.
    pub(crate) fn is_uploading(&self) -> bool {
        self.usage == Usage::Upload
    }
}

/// The client has its answer to what was sent last: it is not to see that of Redis.
pub(crate) fn answer_last(pinned: &mut Pinned) {
    pinned.expectations.answer_last();
}
