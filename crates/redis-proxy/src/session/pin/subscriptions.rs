//! What a pin's client is subscribed to, read off the confirmations that pass through.
//!
//! A confirmation is three elements: a word, a channel, and how many subscriptions are left: of channels and patterns
//! together, or of shard channels (Redis 7.0, pubsub.c). Word and number are at its two ends, so neither the channel nor the
//! reply as a whole is ever held.

use command::SubscriptionKind;

const HEAD_BYTES: usize = 32;
const TAIL_BYTES: usize = 24;
/// How messages begin in RESP2.
const MESSAGES: &[&[u8]] =
    &[b"*3\r\n$7\r\nmessage\r\n$", b"*4\r\n$8\r\npmessage\r\n$", b"*3\r\n$8\r\nsmessage\r\n$"];

/// How many of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Subscriptions {
    pub(crate) channels: i64,
    pub(crate) patterns: i64,
    pub(crate) shards: i64,
}

/// What a confirmation confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmation {
    Subscribed(SubscriptionKind),
    Unsubscribed(SubscriptionKind),
}

/// What a reply or push says, as far as it is about subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announcement {
    Message,
    /// With the number that is left.
    Confirmed(Confirmation, i64),
}

impl Subscriptions {
    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        self.channels + self.patterns + self.shards > 0
    }

    pub(crate) fn of(&self, kind: SubscriptionKind) -> i64 {
        match kind {
            SubscriptionKind::Channel => self.channels,
            SubscriptionKind::Pattern => self.patterns,
            SubscriptionKind::Shard => self.shards,
        }
    }

    /// Applies a confirmation. A second subscription to the same channel leaves the number as it is.
    pub(crate) fn count(&mut self, what: Confirmation, left: i64) {
        let (Confirmation::Subscribed(kind) | Confirmation::Unsubscribed(kind)) = what;
        let change = match kind {
            SubscriptionKind::Shard => left - self.shards,
            SubscriptionKind::Channel | SubscriptionKind::Pattern => left - self.channels - self.patterns,
        };
        let of = match kind {
            SubscriptionKind::Channel => &mut self.channels,
            SubscriptionKind::Pattern => &mut self.patterns,
            SubscriptionKind::Shard => &mut self.shards,
        };
        *of += change;
    }
}

/// Both ends of a reply that passes in pieces.
#[derive(Default)]
pub(crate) struct Glimpse {
    head: [u8; HEAD_BYTES],
    tail: [u8; TAIL_BYTES],
    len: usize,
}

impl Glimpse {
    pub(crate) fn add(&mut self, piece: &[u8]) {
        if self.len < HEAD_BYTES {
            let take = piece.len().min(HEAD_BYTES - self.len);
            self.head[self.len..self.len + take].copy_from_slice(&piece[..take]);
        }
        self.len += piece.len();
        let end = &piece[piece.len().saturating_sub(TAIL_BYTES)..];
        self.tail.copy_within(end.len().., 0);
        self.tail[TAIL_BYTES - end.len()..].copy_from_slice(end);
    }

    /// Whether it looks like a subscribed client's PONG in RESP2: two elements, where all else has three or more.
    pub(crate) fn is_pong(&self) -> bool {
        self.len > 1 && self.head.starts_with(b"*2")
    }

    /// Whether it is these few bytes.
    pub(crate) fn is(&self, reply: &[u8]) -> bool {
        self.len == reply.len() && self.head.starts_with(reply)
    }

    /// Whether it is what Redis tells without being asked: a push, a message to a subscriber, a command that MONITOR shows. Nothing
    /// while too little of it is here.
    pub(crate) fn comes_unasked(&self) -> Option<bool> {
        let head = &self.head[..self.len.min(HEAD_BYTES)];
        match head.first()? {
            b'>' => Some(true),
            b'*' => {
                let is_one = MESSAGES.iter().any(|message| head.starts_with(message));
                let may_be_one = MESSAGES.iter().any(|message| message.starts_with(head));
                (is_one || !may_be_one).then_some(is_one)
            }
            b'+' => {
                // `+1700000000.123456 [0 127.0.0.1:50000] "GET" "k"`
                let time =
                    head[1..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
                match &head[1 + time..] {
                    [] | [b' '] => None,
                    behind => Some(time > 0 && behind.starts_with(b" [")),
                }
            }
            _ => Some(false),
        }
    }

    /// Once the reply is whole.
    pub(crate) fn read(&self) -> Option<Announcement> {
        let head = &self.head[..self.len.min(HEAD_BYTES)];
        // `*3 $9 subscribe` or, in RESP3, `>3 $9 subscribe`; a message has three or four elements.
        let mut lines =
            head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let (first, length, word) = (lines.next()?, lines.next()?, lines.next()?);
        if !matches!(first, [b'*' | b'>', b'3' | b'4' | b'5']) || !length.starts_with(b"$") {
            return None;
        }
        let what = match word {
            b"message" | b"pmessage" | b"smessage" => return Some(Announcement::Message),
            b"subscribe" => Confirmation::Subscribed(SubscriptionKind::Channel),
            b"psubscribe" => Confirmation::Subscribed(SubscriptionKind::Pattern),
            b"ssubscribe" => Confirmation::Subscribed(SubscriptionKind::Shard),
            b"unsubscribe" => Confirmation::Unsubscribed(SubscriptionKind::Channel),
            b"punsubscribe" => Confirmation::Unsubscribed(SubscriptionKind::Pattern),
            b"sunsubscribe" => Confirmation::Unsubscribed(SubscriptionKind::Shard),
            _ => return None,
        };
        let tail = self.tail.strip_suffix(b"\r\n")?;
        let number = tail.rsplit(|byte| *byte == b':').next()?;
        Some(Announcement::Confirmed(what, std::str::from_utf8(number).ok()?.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reply: &[u8], size: usize) -> Option<Announcement> {
        let mut glimpse = Glimpse::default();
        reply.chunks(size).for_each(|piece| glimpse.add(piece));
        glimpse.read()
    }

    #[test]
    fn both_ends_of_a_confirmation_are_read_however_it_arrives() {
        let long = format!("*3\r\n$12\r\nunsubscribe\r\n$200\r\n{}\r\n:41\r\n", "c".repeat(200));
        let subscribed = Confirmation::Subscribed(SubscriptionKind::Channel);
        for size in [1, 2, 7, 1000] {
            let reply = b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
            assert_eq!(read(reply, size), Some(Announcement::Confirmed(subscribed, 1)));
            let said = Announcement::Confirmed(Confirmation::Unsubscribed(SubscriptionKind::Channel), 41);
            assert_eq!(read(long.as_bytes(), size), Some(said));
            assert_eq!(
                read(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", size),
                Some(Announcement::Message)
            );
            assert_eq!(read(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", size), None);
            assert_eq!(read(b"+OK\r\n", size), None);
        }
    }

    #[test]
    fn what_comes_unasked_is_told_from_answers_as_soon_as_that_can_be() {
        let told = |reply: &[u8]| {
            let mut glimpse = Glimpse::default();
            let first = reply.chunks(1).enumerate().find_map(|(at, byte)| {
                glimpse.add(byte);
                Some((at + 1, glimpse.comes_unasked()?))
            });
            first.expect("it can be told")
        };
        assert_eq!(told(b">2\r\n"), (1, true));
        assert_eq!(told(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n"), (18, true));
        assert_eq!(told(b"*4\r\n$8\r\npmessage\r\n$1\r\nc\r\n"), (19, true));
        assert_eq!(told(b"*3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n"), (19, true));
        assert_eq!(told(b"+1700000000.123456 [0 127.0.0.1:50000] \"GET\" \"k\"\r\n"), (20, true));
        assert_eq!(told(b"*3\r\n$7\r\nmessage\r\n:1\r\n"), (18, false));
        assert_eq!(told(b"*3\r\n+OK\r\n"), (5, false));
        assert_eq!(told(b"*-1\r\n"), (2, false));
        assert_eq!(told(b"+OK\r\n"), (2, false));
        assert_eq!(told(b"+1\r\n"), (3, false));
        assert_eq!(told(b"-ERR no\r\n"), (1, false));
    }

    #[test]
    fn each_kind_is_counted_by_itself() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.count(Confirmation::Subscribed(SubscriptionKind::Channel), 1);
        subscriptions.count(Confirmation::Subscribed(SubscriptionKind::Channel), 1);
        subscriptions.count(Confirmation::Subscribed(SubscriptionKind::Pattern), 2);
        subscriptions.count(Confirmation::Subscribed(SubscriptionKind::Shard), 1);
        subscriptions.count(Confirmation::Unsubscribed(SubscriptionKind::Channel), 1);
        let Subscriptions { channels, patterns, shards } = subscriptions;
        assert_eq!((channels, patterns, shards), (0, 1, 1));
        subscriptions.count(Confirmation::Unsubscribed(SubscriptionKind::Pattern), 0);
        assert!(subscriptions.any());
        subscriptions.count(Confirmation::Unsubscribed(SubscriptionKind::Shard), 0);
        assert!(!subscriptions.any());
    }
}
