//! What a client's command means for that client, apart from the socket it came on.
//!
//! A front turns bytes into requests and answers into bytes; what a request is for, where it goes and what its answer changes
//! is decided here. This layer names `readthrough` and `lanes`, and neither a socket nor HTTP nor a front.
//!
//! **Three things are asked of a [`Session`]**: to take a request up ([`Session::command`]: it must wait if that is `false`), to go
//! on with what is under way ([`Session::go_on`]), and what may leave now ([`Session::outgoing`]).
//!
//! **Its parts.** Each owns what it decides by, and names only those below it here:
//!
//! | part | holds |
//! | --- | --- |
//! | [`Session`] | a request, from its plan to whoever carries it out; when the session goes on, waits, ends |
//! | [`AtHand`] | what the command at hand waits for, and what was found out for it: logins, CLIENT, replies that are heard |
//! | [`Ways`] | the parts below, and what needs several of them: to send on a way that is free, to become somebody else |
//! | `Reading` | what it may see of the cache, and its reads on their way |
//! | [`Outgoing`] | the answers that are due, in order; what may leave; the end |
//! | [`OwnPin`] | the client's own connection to Redis |
//! | `ClientLanes` | its places on shared lanes |
//! | `ClientState` | what it has said of itself |
//!
//! **Order.** Replies leave in the order of the commands ([`Replies`]). A command that must not go yet, because another way owes
//! replies, stays with the front.
//!
//! **Room.** While an answer cannot be written, nothing is taken up, and only so many commands are on their way at once.

mod admission;
mod answers;
mod at_hand;
mod begin;
mod busy;
mod changes;
mod channels;
mod client_command;
mod client_lanes;
mod client_state;
mod clients;
mod clustered;
mod command_times;
mod commands;
mod deferred;
mod emulated;
mod exec;
mod expect;
mod findings;
mod hearing;
mod hello;
mod hidden;
mod kept;
mod latencies;
mod local;
mod logged_in;
mod login;
mod outgoing;
mod output;
mod own_pin;
mod parts;
mod pause;
mod pending;
mod pin;
mod pins;
mod plain_gets;
mod plan;
mod progress;
mod proving;
mod read_queue;
mod reading;
mod reads;
mod recall;
mod registry;
mod replies;
mod reply;
mod rights;
mod scan;
mod seen;
mod sessions;
mod shown_lists;
mod shown_slow;
mod spread;
mod steward;
mod totals;
mod tracking;
mod unread;
mod visibility;
mod ways;
mod words;

use std::net::IpAddr;
use std::rc::Rc;

pub(crate) use self::outgoing::SessionEnd;
pub(crate) use self::output::{Output, Unwritten};
pub(crate) use self::plain_gets::PlainGets;
pub(crate) use self::registry::Registry;
pub(crate) use self::replies::Replies;
pub(crate) use self::seen::SeenKeys;
pub(crate) use self::sessions::{SessionSettings, Sessions};
pub(crate) use self::spread::hold_room;

pub(crate) use crate::lanes::InputRoom;

use self::at_hand::AtHand;
use self::outgoing::Outgoing;
use self::own_pin::OwnPin;
use self::ways::Ways;

/// Bytes that are taken ahead of the command at hand.
pub(crate) const READ_AHEAD: usize = 64 * 1024;

/// One client: who it is and the ways that its commands go, and what the command at hand waits for. Of one worker, and owned by
/// whoever has its socket. Dropped once that is closed: then others are told that it is gone.
pub(crate) struct Session {
    ways: Ways,
    at_hand: AtHand,
}

/// What its client has sent and the session has not taken yet.
pub(crate) struct Untaken<'a> {
    pub(crate) bytes: &'a mut Vec<u8>,
    /// Nothing follows: the client has shut its side.
    pub(crate) is_last: bool,
}

impl Session {
    /// For a client that has come from an address to one of ours, as Redis writes them. It is on the register until its session goes.
    /// `ip` is the client's own address, where it has one.
    pub(crate) fn new(sessions: Rc<Sessions>, from_to: [String; 2], ip: Option<IpAddr>) -> Self {
        let entry = sessions.registry.enter(from_to, sessions.settings.user.clone());
        Session { ways: Ways::new(sessions, entry, ip), at_hand: AtHand::default() }
    }

    /// What is due to its client, and what may leave now.
    #[inline]
    pub(crate) fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.ways.out
    }

    /// Its client's own connection to Redis, for bytes that are no whole requests.
    #[inline]
    pub(crate) fn pin(&mut self) -> &mut OwnPin {
        &mut self.ways.pin
    }

    /// The ways of its commands, where no command is taken up.
    pub(crate) fn ways(&mut self) -> &mut Ways {
        &mut self.ways
    }
}
