//! A client's own connection to Redis: what its replies mean for how long the client must keep it.
//!
//! Requests go through as bytes and so do replies. What is remembered is, for each command on its way, what its reply will
//! change ([`Expect`]), and the state that replies have told so far. Once nothing is on its way and no state is left, the
//! connection is free.
//!
//! A client may bring its connection into a state that is not followed here (HELLO within MULTI, CLIENT REPLY while it is
//! subscribed). Then the pin becomes a *tunnel*: bytes go both ways unread until either side closes.

use std::collections::VecDeque;
use std::rc::Rc;

use resp::{DecodeError, Protocol};

use super::exec::{Executed, Later, Laters};
use super::pause::Pause;
use super::registry::Tunnel;
use super::subscriptions::{Glimpse, Said, Subscriptions, What};
use super::tracking::{Redirect, Target, may_name_target};
use crate::lanes::{Answer, Duty, LaneKey, PinStream, sent_elsewhere, unfit_line};
use crate::session::expect::Expect;
use crate::session::plan::Stage;

/// What the session is to learn from a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    Nothing,
    Selected(u32),
    /// A queued command, which waits in [`Pinned::carried_out`].
    CarriedOut,
    Tracking(bool, Option<Redirect>),
    Pause(Pause),
    /// From here on it is fed.
    Feed(Tunnel),
    /// Redis has said RESET, as the last of its replies.
    Reset,
    /// Whether Redis has granted what HELLO or AUTH asks for.
    Granted(bool),
}

/// A pin in use.
pub(super) struct Pinned {
    pub(super) stream: PinStream,
    pub(super) key: LaneKey,
    expects: VecDeque<Expect>,
    owed: Owed,
    /// As of the commands sent: whether the next one is queued by Redis.
    pub(super) in_multi: bool,
    /// As of the replies.
    multi: bool,
    /// Commands since MULTI.
    queued: usize,
    /// What follows from queued commands: sent; queued, by their places; and now.
    pub(super) sent_laters: VecDeque<Later>,
    laters: Laters,
    pub(super) carried_out: Option<Later>,
    /// Commands that Redis has queued.
    places: usize,
    /// The reply to EXEC at hand, if something follows from it.
    executed: Option<Executed>,
    watching: bool,
    subscriptions: Subscriptions,
    tracking: bool,
    /// Whom invalidations go to: by our number and by that of Redis.
    redirect: Option<Redirect>,
    /// That client, which keeps its connection for it; and what the CLIENT TRACKING ONs on their way name.
    target: Option<Target>,
    pub(super) targets: VecDeque<Option<(Redirect, Target)>>,
    /// A reply that is looked into before its client sees it.
    held: Vec<u8>,
    /// It has state that no reply undoes: it ends with its client.
    pub(super) kept: bool,
    /// No other client may have it afterwards.
    pub(super) used: bool,
    /// A request is being streamed to it.
    pub(super) uploading: bool,
    pub(super) tunnel: bool,
    /// Whether replies pass through the tunnel that end where one can see it: those of MONITOR.
    pub(super) is_monitor: bool,
    /// Redis was sent a RESET that ends it.
    pub(super) resetting: bool,
    /// Whether what goes through the tunnel may change anything. Which answer is whose is not known there.
    pub(super) may_write: bool,
    /// Our side of it is shut: nothing can be sent any more.
    pub(super) shut: bool,
    /// Whether subscriptions are in play: only then replies are looked into.
    pub(super) pubsub: bool,
    glimpse: Glimpse,
    /// Whether the client is not to see the reply at hand.
    hidden: Option<bool>,
    /// The error of a probe, to be given in place of the next reply.
    probe_failed: bool,
    /// Nothing has been sent on it yet.
    pub(super) fresh: bool,
}

/// What must be done before replies are passed on.
#[derive(Default)]
struct Owed {
    /// One a command on its way, in their order.
    duties: VecDeque<Option<Duty>>,
    /// Of the commands that Redis queues: once more, before EXEC's reply.
    queued: Vec<Duty>,
}

impl Owed {
    /// One for all that is queued.
    fn take_queued(&mut self) -> Option<Duty> {
        let queued = std::mem::take(&mut self.queued);
        (!queued.is_empty())
            .then(|| Rc::new(move |answer| queued.iter().for_each(|duty| duty(answer))) as Duty)
    }
}

impl Drop for Owed {
    /// What was sent may have been executed, whether its reply came or not; but what is queued was not.
    fn drop(&mut self) {
        self.duties.iter().flatten().for_each(|duty| duty(Answer::Other));
    }
}

impl Pinned {
    pub(super) fn new(stream: PinStream, key: LaneKey) -> Box<Self> {
        Box::new(Pinned {
            stream,
            key,
            expects: VecDeque::new(),
            owed: Owed::default(),
            in_multi: false,
            multi: false,
            queued: 0,
            sent_laters: VecDeque::new(),
            laters: Laters::new(),
            carried_out: None,
            places: 0,
            executed: None,
            watching: false,
            subscriptions: Subscriptions::default(),
            tracking: false,
            redirect: None,
            target: None,
            targets: VecDeque::new(),
            held: Vec::new(),
            kept: false,
            used: false,
            uploading: false,
            tunnel: false,
            is_monitor: false,
            resetting: false,
            may_write: false,
            shut: false,
            pubsub: false,
            glimpse: Glimpse::default(),
            hidden: None,
            probe_failed: false,
            fresh: true,
        })
    }

    /// A command goes out whose reply means this, with what must be done before that reply is passed on.
    pub(super) fn expect(&mut self, expect: Expect, duty: Option<Duty>) {
        self.fresh = false;
        let duty = match expect {
            // The duty of DISCARD is done if it fails.
            Expect::Exec | Expect::Discard if self.in_multi => self.owed.take_queued(),
            _ => {
                if self.in_multi {
                    self.owed.queued.extend(duty.clone());
                }
                duty
            }
        };
        self.owed.duties.push_back(duty);
        match expect {
            Expect::Multi => (self.in_multi, self.queued) = (true, 0),
            Expect::Exec | Expect::Discard => self.in_multi = false,
            Expect::Subscribed(_) | Expect::UnsubscribedAll(_) => self.pubsub = true,
            _ if self.in_multi => self.queued += 1,
            _ => {}
        }
        self.expects.push_back(expect);
    }

    /// From here on its bytes are not looked at.
    pub(super) fn become_tunnel(&mut self) {
        self.tunnel = true;
        // Its EXEC may be among what is not looked at.
        let queued = self.owed.take_queued();
        self.may_write = queued.is_some() || self.owed.duties.iter().any(Option::is_some);
        self.owed.duties.push_back(queued);
    }

    /// How many commands the transaction has, if one is open.
    pub(super) fn queued(&self) -> Option<usize> {
        self.in_multi.then_some(self.queued)
    }

    /// Commands on their way.
    pub(super) fn waiting(&self) -> usize {
        self.expects.len()
    }

    /// Whether the client waits for something that its death would lose.
    pub(super) fn is_blocked(&self) -> bool {
        self.tunnel || self.subscriptions.any() || self.awaits_block()
    }

    /// Whether a blocking command is on its way.
    pub(super) fn awaits_block(&self) -> bool {
        self.expects.contains(&Expect::Blocked)
    }

    /// Whether Redis must see at once that its client has shut its side; `all_sent` if it has asked for nothing more.
    pub(super) fn must_end_with_its_client(&self, all_sent: bool) -> bool {
        self.awaits_block() || all_sent && (self.tunnel || self.uploading)
    }

    /// What its client has begun on it; `resp3` if that is what the client speaks.
    pub(super) fn stage(&self, resp3: bool) -> Stage {
        match () {
            () if self.shut => Stage::Shut,
            () if self.in_multi && !self.multi => Stage::MultiAsked,
            () if self.in_multi => Stage::Multi,
            () if resp3 || !self.pubsub => Stage::Plain,
            () if self.subscriptions.any() => Stage::Subscribed,
            () => Stage::Subscribing,
        }
    }

    /// Subscriptions to channels, patterns and shard channels.
    pub(super) fn subscriptions(&self) -> [i64; 3] {
        [self.subscriptions.channels, self.subscriptions.patterns, self.subscriptions.shards]
    }

    /// Whether nothing is left on it.
    pub(super) fn is_free(&self) -> bool {
        let state = self.multi || self.in_multi || self.watching || self.subscriptions.any();
        let state = state || self.tracking || self.kept;
        !self.fresh && self.expects.is_empty() && !state && !self.uploading && !self.tunnel
    }

    /// Whether a command is on its way behind which nothing may be sent before it is known what becomes of it: MONITOR and its
    /// kin, behind whose reply come no replies.
    pub(super) fn awaits_feed(&self) -> bool {
        self.resetting || matches!(self.expects.back(), Some(Expect::Feed(_)))
    }

    /// Whether an EXEC is on its way that may be its client's end: what stands behind it is for nobody then.
    pub(super) fn may_end(&self) -> bool {
        let queued = self.sent_laters.iter().chain(self.laters.iter().map(|(_, later)| later));
        self.executed.as_ref().is_some_and(Executed::may_kill)
            || queued.into_iter().any(Later::may_kill) && self.expects.contains(&Expect::Exec)
    }

    /// Takes bytes from Redis, up to the end of a reply that tells something, and appends what the client is to see to `out`.
    /// How many bytes that used, and what they tell.
    ///
    /// # Errors
    /// It is unknown where the next reply starts.
    pub(super) fn receive(
        &mut self,
        all: &[u8],
        muted: bool,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Learned), DecodeError> {
        let mut bytes = all;
        while !bytes.is_empty() {
            if self.tunnel && self.expects.is_empty() && !self.is_monitor {
                out.extend_from_slice(bytes);
                break;
            }
            // What makes a replica has a reply of another form, if it is no error.
            if let Some(Expect::Feed(feed @ Tunnel::Replica)) = self.expects.front().copied()
                && self.hidden.is_none()
                && bytes[0] != b'-'
            {
                self.pop();
                return Ok((all.len() - bytes.len(), Learned::Feed(feed)));
            }
            let is_exec = self.expects.front() == Some(&Expect::Exec) && self.hidden.is_none();
            if self.executed.is_some() || is_exec && !self.laters.is_empty() && bytes[0] == b'*' {
                let (used, learned) = self.look_into_exec(bytes, out)?;
                bytes = &bytes[used..];
                if learned != Learned::Nothing {
                    return Ok((all.len() - bytes.len(), learned));
                }
                continue;
            }
            let scanned = self.stream.scanner.scan(bytes)?;
            let (piece, rest) = bytes.split_at(scanned.len);
            let kind = self.stream.scanner.kind().unwrap_or_default();
            let is_error = matches!(kind, b'-' | b'!');
            if self.pubsub || self.resetting {
                self.glimpse.add(piece);
            }
            // HELLO and INFO would have told of a node of a cluster. Without them its answer must not leave, whole or in parts.
            if kind == b'-'
                && self.hidden.is_none()
                && self.stream.facts.hello.is_err()
                && let Some(why) = sent_elsewhere(&piece[1..])
            {
                out.extend_from_slice(&unfit_line(why));
                self.hidden = Some(true);
            }
            // In RESP3 they are pushes, and all else is a reply.
            let may_tell = self.key.protocol == Protocol::Resp2
                && (self.subscriptions.any() || self.awaits_confirmation());
            let hidden = *self.hidden.get_or_insert_with(|| match self.expects.front() {
                _ if kind == b'>' => false,
                // An error of a probe goes out, and the reply behind it does not.
                Some(Expect::Probe | Expect::Granted) => muted || !is_error,
                // What CLIENT REPLY silences are replies; messages and confirmations are none, nor in RESP2.
                _ if may_tell && kind == b'*' && !self.glimpse.is_pong() => false,
                _ => muted || self.probe_failed,
            });
            if kind != b'>' {
                self.do_duty(is_error, piece);
            }
            let is_reset = self.resetting && self.glimpse.is(b"+RESET\r\n");
            if !hidden && !is_reset {
                self.give(piece, kind, scanned.whole, out);
            }
            bytes = rest;
            if scanned.whole {
                let learned = self.replied(kind, is_error);
                self.glimpse = Glimpse::default();
                self.hidden = None;
                let learned = if is_reset { Learned::Reset } else { learned };
                if learned != Learned::Nothing {
                    return Ok((all.len() - bytes.len(), learned));
                }
            }
        }
        Ok((all.len(), Learned::Nothing))
    }

    /// Bytes of the reply to an EXEC from which something follows.
    fn look_into_exec(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(usize, Learned), DecodeError> {
        if self.executed.is_none() {
            self.do_duty(false, bytes);
            let later = std::mem::take(&mut self.laters);
            self.executed = Some(Executed::new(later));
        }
        let Some(executed) = self.executed.as_mut() else { return Ok((0, Learned::Nothing)) };
        let looked = executed.look(bytes, &mut self.stream.scanner, out)?;
        if looked.whole {
            self.executed = None;
            self.replied(b'*', false);
        }
        let learned = if looked.later.is_some() { Learned::CarriedOut } else { Learned::Nothing };
        self.carried_out = looked.later;
        // A name given to it stays, and more may.
        self.used = true;
        Ok((looked.used, learned))
    }

    /// What must be done before the reply at hand is passed on, of which this is the beginning.
    fn do_duty(&mut self, is_error: bool, piece: &[u8]) {
        let expect = self.expects.front();
        let ends = matches!(expect, Some(Expect::Exec | Expect::Discard));
        let is_discard = expect == Some(&Expect::Discard);
        let Some(duty) = self.owed.duties.front_mut().and_then(Option::take) else { return };
        match is_discard {
            // Queued, a command is as good as not sent.
            _ if self.multi && !ends => {}
            true if is_error => self.owed.queued.push(duty),
            true => {}
            false => duty(Answer::of(piece)),
        }
    }

    /// Passes on a piece of a reply or push; but what names a client is held until it is whole.
    fn give(&mut self, piece: &[u8], kind: u8, whole: bool, out: &mut Vec<u8>) {
        let is_push = kind == b'>';
        let holds = match self.expects.front() {
            Some(Expect::Redirected) if !is_push => true,
            _ => is_push && self.redirect.is_some(),
        };
        if !holds {
            return out.extend_from_slice(piece);
        }
        self.held.extend_from_slice(piece);
        if is_push && !may_name_target(&self.held) {
            out.append(&mut self.held);
        } else if whole {
            self.give_held(out);
        }
    }

    /// One reply or push is whole.
    fn replied(&mut self, kind: u8, is_error: bool) -> Learned {
        if self.pubsub {
            match self.glimpse.read() {
                Some(Said::Message) if kind == b'>' || self.subscriptions.any() => return Learned::Nothing,
                Some(Said::Confirmed(what, count)) if kind == b'>' || self.awaits_confirmation() => {
                    self.confirmed(what, count);
                    return Learned::Nothing;
                }
                _ => {}
            }
        }
        if kind == b'>' {
            return Learned::Nothing;
        }
        if std::mem::take(&mut self.probe_failed) {
            self.pop();
            return Learned::Nothing;
        }
        let expect = self.pop();
        let is_queued = self.multi && kind == b'+';
        let learned = match expect {
            Some(Expect::Queued) => {
                let later = self.sent_laters.pop_front();
                self.laters.extend(later.filter(|_| is_queued).map(|later| (self.places, later)));
                // It was carried out, then; what it has done is not known.
                self.kept |= !self.multi && !is_error;
                self.places += usize::from(is_queued);
                Learned::Nothing
            }
            Some(Expect::Reply) if is_queued => {
                self.places += 1;
                Learned::Nothing
            }
            Some(Expect::Probe) => {
                self.probe_failed = is_error;
                Learned::Nothing
            }
            Some(Expect::Multi) => {
                if !is_error {
                    (self.multi, self.places) = (true, 0);
                    self.laters.clear();
                }
                Learned::Nothing
            }
            // EXEC without MULTI leaves the watched keys watched; within it, any error discards all.
            Some(Expect::Exec) if !is_error || self.multi => {
                (self.multi, self.watching) = (false, false);
                Learned::Nothing
            }
            Some(Expect::Discard) if !is_error => {
                (self.multi, self.watching) = (false, false);
                Learned::Nothing
            }
            Some(Expect::Watch) => {
                self.watching |= !is_error;
                Learned::Nothing
            }
            Some(Expect::Unwatch) if !is_error => {
                self.watching = false;
                Learned::Nothing
            }
            Some(Expect::State) => {
                self.kept |= !is_error;
                Learned::Nothing
            }
            Some(Expect::Pause(pause)) if !is_error => Learned::Pause(pause),
            Some(Expect::Feed(feed)) if !is_error => Learned::Feed(feed),
            Some(Expect::Tracking(on)) => {
                let named = if on { self.targets.pop_front().flatten() } else { None };
                let (redirect, target) = named.unzip();
                if is_error {
                    return self.settled(Learned::Nothing);
                }
                (self.tracking, self.redirect, self.target) = (on, redirect, target);
                // Keys are still noted for the connection: it is not for another client.
                self.used |= on;
                Learned::Tracking(on, redirect)
            }
            Some(Expect::Granted) => Learned::Granted(!is_error),
            Some(Expect::Select(db)) if !is_error => {
                self.key.db = db;
                Learned::Selected(db)
            }
            _ => Learned::Nothing,
        };
        self.settled(learned)
    }

    /// Once nothing is on its way, what is queued is what Redis has said.
    fn settled(&mut self, learned: Learned) -> Learned {
        if self.expects.is_empty() {
            self.in_multi = self.multi;
        }
        learned
    }

    fn pop(&mut self) -> Option<Expect> {
        self.owed.duties.pop_front();
        self.expects.pop_front()
    }

    /// Hands out a reply in which Redis names a client.
    fn give_held(&mut self, out: &mut Vec<u8>) {
        let mut held = std::mem::take(&mut self.held);
        if let Some(redirect) = &self.redirect {
            redirect.translate(&mut held);
        }
        out.append(&mut held);
    }

    fn awaits_confirmation(&self) -> bool {
        matches!(self.expects.front(), Some(Expect::Subscribed(_) | Expect::UnsubscribedAll(_)))
    }

    fn confirmed(&mut self, what: What, count: i64) {
        self.subscriptions.count(what, count);
        let done = match self.expects.front_mut() {
            Some(Expect::Subscribed(left)) => {
                *left -= 1;
                *left == 0
            }
            Some(Expect::UnsubscribedAll(kind)) => self.subscriptions.of(*kind) == 0,
            _ => false,
        };
        if done {
            self.pop();
        }
    }
}
