//! A pin whose bytes go both ways unread.

use resp::{Parsed, RequestLimits, RequestParser};

use super::usage::{Looks, Passage, Usage};
use super::{Passing, Pinned};
use crate::session::expect::Feed;
use crate::session::words::is;

/// What the bytes of a client that watches by MONITOR are.
pub(crate) enum Monitored {
    /// A request of so many bytes, which Redis has got.
    Request(usize),
    /// The beginning of one.
    Half,
    /// They are not looked at.
    No,
}

impl Pinned {
    /// From here on its bytes are not looked at, but for what `feed` shows of its end. What is on its way is read as before; the
    /// tunnel begins behind it.
    pub(crate) fn become_tunnel(&mut self, feed: Option<Feed>) {
        let may_write = self.expectations.goes_unread() | self.usage.may_write();
        let looks = match feed {
            Some(Feed::Monitor) => Looks::Replies,
            // A snapshot and a stream of commands, in which no reply is to be told.
            Some(Feed::Replica) => Looks::Nothing,
            None => Looks::Answers,
        };
        self.usage = Usage::Tunnel(Passage { may_write, looks });
    }

    /// Sends bytes through the tunnel, which may change something or not.
    pub(crate) fn send_unread(&mut self, bytes: &[u8], may_change: bool) {
        self.stream.outbox().extend_from_slice(bytes);
        if let Usage::Tunnel(passage) = &mut self.usage {
            passage.may_write |= may_change;
        }
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self.usage, Usage::Tunnel(_))
    }

    /// Passes on what Redis says as it is, behind all that was on its way.
    pub(super) fn pass_unread(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while self.usage.looks() == Some(Looks::Answers) && !rest.is_empty() {
            let Ok(scanned) = self.stream.scanner.scan(rest) else {
                self.usage.look(Looks::Nothing);
                break;
            };
            self.passing.glimpse.add(&rest[..scanned.len]);
            self.hear(scanned.whole);
            if scanned.whole {
                self.passing = Passing::default();
            }
            rest = &rest[scanned.len..];
        }
        if !rest.is_empty() && self.usage.may_write() {
            self.expectations.answers_anything();
        }
        out.extend_from_slice(bytes);
    }

    /// More of a reply is about to be passed on, or all of it: it may answer anything that has gone through the tunnel. What comes
    /// unasked answers nothing. It comes as often as others publish, or say a command that MONITOR shows.
    pub(super) fn hear(&mut self, whole: bool) {
        if self.passing.is_heard || !self.usage.may_write() {
            return;
        }
        let comes_unasked = self.passing.glimpse.comes_unasked().or(whole.then_some(false));
        self.passing.is_heard = comes_unasked.is_some();
        if comes_unasked == Some(false) {
            self.expectations.answers_anything();
        }
    }

    /// The next request of a client that watches by MONITOR: Redis answers it, among the rest that it tells. RESET ends that
    /// once Redis has said so, behind all that was due. Half a request is waited for up to `most` bytes.
    pub(crate) fn monitor(
        &mut self,
        bytes: &[u8],
        limits: RequestLimits,
        most: usize,
        may_change: impl FnOnce(&[u8]) -> bool,
    ) -> Monitored {
        if self.usage.looks() != Some(Looks::Replies) {
            return Monitored::No;
        }
        let mut parser = RequestParser::new(limits);
        let len = match parser.parse(bytes) {
            Ok(Parsed::Request { len, .. }) => len,
            Ok(Parsed::Nothing { len }) => return Monitored::Request(len),
            Ok(Parsed::Partial { .. }) if bytes.len() < most => return Monitored::Half,
            _ => {
                self.usage.look(Looks::Answers);
                return Monitored::No;
            }
        };
        let arguments = parser.arguments(bytes);
        let second = arguments.get(1);
        if is(arguments, b"CLIENT") && second.is_some_and(|word| word.eq_ignore_ascii_case(b"REPLY")) {
            // It may silence the answer to RESET.
            self.usage.look(Looks::Answers);
            return Monitored::No;
        }
        self.send_unread(&bytes[..len], may_change(&bytes[..len]));
        if is(arguments, b"RESET") && arguments.len() == 1 {
            self.usage.look(Looks::Reset);
        }
        Monitored::Request(len)
    }
}
