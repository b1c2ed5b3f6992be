//! What Redis says on a pin: bytes that go on to the client, and what they tell of the connection.

use bytes::Bytes;
use command::SubscriptionKind;
use resp::{DecodeError, Frame, Protocol};

use super::state::{Learned, is_error};
use super::subscriptions::{Announcement, Confirmation, Glimpse};
use super::usage::{Fate, Looks};
use super::{Pinned, ReplyMeaning};
use crate::lanes::{Destination, Elsewhere, may_be_elsewhere};
use crate::session::expect::{Expect, Feed};
use crate::session::reply::put;
use crate::session::tracking::may_name_target;

/// The reply or push at hand, as far as it is here.
#[derive(Default)]
pub(super) struct Passing {
    showing: Showing,
    /// What of it is looked into before its client sees it.
    held: Vec<u8>,
    /// An error that may send its reader elsewhere, as far as it is here.
    doubtful: Vec<u8>,
    pub(super) glimpse: Glimpse,
    /// Where it sends a command on, behind ASKING or not.
    sent_on: Option<(Destination, bool)>,
    /// Whether it has been heard for what it is: an answer to what has gone through a tunnel, or none.
    pub(super) is_heard: bool,
}

/// Whether the client is to see it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Showing {
    /// Nothing of it is here.
    #[default]
    Undecided,
    Shown,
    Hidden,
}

/// A piece of it.
#[derive(Clone, Copy)]
struct Piece<'a> {
    bytes: &'a [u8],
    /// The first byte of all of it.
    kind: u8,
    /// Whether it ends here.
    whole: bool,
}

impl Piece<'_> {
    fn is_push(&self) -> bool {
        self.kind == b'>'
    }

    fn is_error(&self) -> bool {
        is_error(self.kind)
    }
}

impl Pinned {
    /// Takes bytes from Redis, up to the end of a reply that tells something, and appends what the client is to see to `out`.
    /// How many bytes that used, and what they tell. A `muted` client is to see no reply.
    ///
    /// # Errors
    /// It is unknown where the next reply starts.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        muted: bool,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Learned), DecodeError> {
        let mut used = 0;
        while used < bytes.len() {
            let (more, learned) = self.take_piece(&bytes[used..], muted, out)?;
            used += more;
            if !matches!(learned, Learned::Nothing) {
                return Ok((used, learned));
            }
        }
        Ok((used, Learned::Nothing))
    }

    /// Takes the next piece of what Redis says.
    fn take_piece(
        &mut self,
        bytes: &[u8],
        muted: bool,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Learned), DecodeError> {
        // What a node of a cluster says must be looked at as long as it can be.
        let is_unread = match self.usage.looks() {
            Some(Looks::Nothing) => true,
            Some(Looks::Answers) => !self.stream.is_of_cluster(),
            _ => false,
        };
        if is_unread && self.expectations.is_empty() {
            self.pass_unread(bytes, out);
            return Ok((bytes.len(), Learned::Nothing));
        }
        let begins = self.passing.showing == Showing::Undecided;
        match self.expectations.next() {
            // What makes a replica has a reply of another form, if it is no error.
            Some(Expect::Feed(Feed::Replica)) if begins && bytes[0] != b'-' => {
                self.expectations.pop();
                return Ok((0, Learned::Feed(Feed::Replica)));
            }
            Some(Expect::Exec) if begins && bytes[0] == b'*' && self.state.transaction.executes() => {
                self.expectations.answers(bytes, false, true);
            }
            _ => {}
        }
        match self.state.transaction.is_executing() {
            true => self.look_into_exec(bytes, out),
            false => self.pass(bytes, muted, out),
        }
    }

    /// Bytes of the reply to an EXEC from which something follows.
    fn look_into_exec(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(usize, Learned), DecodeError> {
        let Some(executed) = self.state.transaction.executed() else { return Ok((0, Learned::Nothing)) };
        let looked = executed.look(bytes, &mut self.stream.scanner, out)?;
        if looked.whole {
            self.expectations.pop();
            self.state.transaction.ends();
            self.state.transaction.settles(self.expectations.is_empty());
        }
        // A name given to it stays, and more may.
        self.state.worsen(Fate::Dropped);
        Ok((looked.used, looked.later.map_or(Learned::Nothing, Learned::CarriedOut)))
    }

    /// Bytes of any other reply, or of a push.
    fn pass(
        &mut self,
        bytes: &[u8],
        muted: bool,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Learned), DecodeError> {
        let scanned = self.stream.scanner.scan(bytes)?;
        let kind = self.stream.scanner.kind().unwrap_or_default();
        let mut piece = Piece { bytes: &bytes[..scanned.len], kind, whole: scanned.whole };
        let error;
        if piece.is_error() && self.passing.showing == Showing::Undecided && self.stream.may_send_elsewhere()
        {
            self.passing.doubtful.extend_from_slice(piece.bytes);
            if !piece.whole && may_be_elsewhere(&self.passing.doubtful) {
                return Ok((scanned.len, Learned::Nothing));
            }
            error = std::mem::take(&mut self.passing.doubtful);
            piece.bytes = &error;
        }
        let resets = self.usage.looks() == Some(Looks::Reset);
        if self.state.has_subscribed() || self.is_tunnel() {
            self.passing.glimpse.add(piece.bytes);
        }
        if self.is_tunnel() && self.expectations.is_empty() {
            self.hear(piece.whole);
        }
        self.decide(piece, muted, out);
        if !piece.is_push() {
            self.expectations.answers(piece.bytes, piece.is_error(), self.state.transaction.is_open());
        }
        let is_reset = resets && self.passing.glimpse.is(b"+RESET\r\n");
        if self.passing.showing == Showing::Shown && !is_reset {
            self.give(piece, out);
        } else if self.expectations.next() == Some(Expect::Begun) && piece.is_error() {
            self.passing.held.extend_from_slice(piece.bytes);
        }
        if !piece.whole {
            return Ok((scanned.len, Learned::Nothing));
        }
        let learned = self.replied(piece);
        self.passing = Passing::default();
        Ok((scanned.len, if is_reset { Learned::Reset } else { learned }))
    }

    /// Whether the client is to see what begins with this piece.
    fn decide(&mut self, piece: Piece<'_>, muted: bool, out: &mut Vec<u8>) {
        if self.passing.showing != Showing::Undecided {
            return;
        }
        // Of a node of a cluster; HELLO and INFO would have told of one that is not to be. It must not leave, whole or in parts.
        let elsewhere = (piece.kind == b'-' && self.stream.may_send_elsewhere())
            .then(|| self.stream.elsewhere(piece.bytes))
            .flatten();
        if let Some(Elsewhere { words, next }) = &elsewhere {
            // One that is kept, and that nothing stands behind.
            let may_be_sent_on = self
                .kept
                .as_ref()
                .is_some_and(|kept| kept.may_be_sent_on() && self.expectations.next() == Some(kept.expect));
            let is_alone = self.expectations.len() == 1;
            self.passing.sent_on = next.filter(|_| is_alone && may_be_sent_on && !self.is_tunnel());
            if self.passing.sent_on.is_none() && !muted && !self.expectations.is_answered() {
                out.extend_from_slice(words);
            }
        }
        if let Some(ReplyMeaning::Spoiled(words)) = self.expectations.front()
            && !piece.is_push()
            && !muted
            && !self.expectations.is_answered()
        {
            put(out, &Frame::Error(words.clone()), self.key.protocol);
        }
        let hidden = elsewhere.is_some() || self.is_hidden(piece, muted);
        self.passing.showing = if hidden { Showing::Hidden } else { Showing::Shown };
    }

    fn is_hidden(&self, piece: Piece<'_>, muted: bool) -> bool {
        // In RESP3 they are pushes, and all else is a reply.
        let may_tell = self.key.protocol == Protocol::Resp2
            && (self.state.is_subscribed() || self.expectations.awaits_confirmation())
            && piece.kind == b'*';
        match self.expectations.front() {
            _ if piece.is_push() => false,
            // An error of a probe goes out, and the reply behind it does not.
            Some(ReplyMeaning::Planned(Expect::Probe | Expect::Granted)) => muted || !piece.is_error(),
            Some(ReplyMeaning::Replaced | ReplyMeaning::Spoiled(_)) => true,
            Some(_) if self.expectations.is_answered() => true,
            // What CLIENT REPLY silences are replies; messages and confirmations are none, nor in RESP2.
            _ if may_tell && !self.passing.glimpse.is_pong() => false,
            _ => muted,
        }
    }

    /// Passes on a piece of a reply or push; but what names a client is held until it is whole.
    fn give(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) {
        let redirect = self.state.redirect();
        let holds = match self.expectations.next() {
            Some(Expect::Redirected) if !piece.is_push() => true,
            _ => piece.is_push() && redirect.is_some(),
        };
        if !holds {
            return out.extend_from_slice(piece.bytes);
        }
        let held = &mut self.passing.held;
        held.extend_from_slice(piece.bytes);
        if piece.is_push() && !may_name_target(held) {
            out.append(held);
        } else if piece.whole {
            if let Some(redirect) = redirect {
                redirect.translate(held);
            }
            out.append(&mut std::mem::take(held));
        }
    }

    /// One reply or push is whole.
    fn replied(&mut self, last: Piece<'_>) -> Learned {
        let awaited = self.expectations.awaits_confirmation();
        if let Some(announcement) = self.state.announcement(&self.passing.glimpse, last.is_push(), awaited) {
            if let Announcement::Confirmed(confirmation, left) = announcement {
                let subscriptions = self.state.confirmed(confirmation, left);
                self.expectations.confirmed(confirmation, |kind| subscriptions.of(kind));
                if confirmation == Confirmation::Unsubscribed(SubscriptionKind::Shard)
                    && self.stream.is_of_cluster()
                {
                    // Which of them come unasked is not known: one more may.
                    self.state.worsen(Fate::Dropped);
                    if !awaited {
                        self.stream.doubt();
                    }
                }
            }
            return Learned::Nothing;
        }
        if last.is_push() {
            return Learned::Nothing;
        }
        if let Some((to, asks)) = self.passing.sent_on {
            self.expectations.pop();
            return Learned::SentOn(to, asks);
        }
        self.kept = self.kept.take().filter(|kept| self.expectations.next() != Some(kept.expect));
        let learned = match self.expectations.pop() {
            Some(ReplyMeaning::Planned(Expect::Probe)) if last.is_error() => {
                self.expectations.replace_next();
                Learned::Nothing
            }
            Some(awaited @ ReplyMeaning::Planned(Expect::Begun)) => {
                self.state.learn(awaited, last.kind);
                Learned::Begun(last.is_error().then(|| text(&self.passing.held)))
            }
            Some(awaited) => self.state.learn(awaited, last.kind),
            None => Learned::Nothing,
        };
        self.state.transaction.settles(self.expectations.is_empty());
        learned
    }
}

/// What an error says, without what stands around it.
fn text(error: &[u8]) -> Bytes {
    let end = error.len().saturating_sub(2).max(1);
    Bytes::copy_from_slice(error.get(1..end).unwrap_or_default())
}
