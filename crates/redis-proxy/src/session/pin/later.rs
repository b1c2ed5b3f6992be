//! What a transaction does to its client beside its keys: SELECT, AUTH, HELLO and CLIENT are queued by Redis like all else, and
//! carried out with EXEC. What became of them stands in EXEC's reply, which is looked into for that: an element at a time, so
//! that none is held. Where the proxy knows better than Redis (a client's number, its name), the element is the proxy's.

use std::collections::VecDeque;

use bytes::Bytes;
use command::Local;
use resp::{DecodeError, Frame, ReplyScanner};

use crate::session::login::{HelloOptions, Login};
use crate::session::pause::Pause;
use crate::session::reply::header;
use crate::session::words::number;

/// What is to be done once Redis has carried out a queued command.
pub(crate) enum Later {
    /// The session is in another database.
    Select(u32),
    /// It is somebody else, and may speak another protocol.
    Login(Login),
    Hello(HelloOptions),
    /// The proxy's answer to this request stands for that of Redis.
    Local(Local, Bytes),
    /// The connection is in a state that no later reply ends.
    State,
    Pause(Pause),
    /// This stands for Redis' answer.
    Said(Frame),
    Nothing,
    /// It is none of the client's, who is not to see what became of it.
    Unseen,
}

/// What is to be done after EXEC, by the places of the commands among those queued, in order.
pub(super) type Laters = VecDeque<(usize, Later)>;

/// The longest first line that a reply can have.
const HEAD_BYTES: usize = 24;

impl Later {
    /// Whether it may be the client's end.
    pub(super) fn may_kill(&self) -> bool {
        matches!(self, Later::Local(Local::ClientKill, _))
    }

    /// Whether the client gets an answer of ours in the place of Redis'.
    fn is_ours(&self) -> bool {
        matches!(self, Later::Login(_) | Later::Hello(_) | Later::Local(..) | Later::Said(_))
    }
}

/// The reply to an EXEC that is looked into.
#[derive(Default)]
pub(super) struct Executed {
    /// As much of its first line as is here.
    head: Vec<u8>,
    /// Elements to come, once that is known.
    left: Option<usize>,
    /// The place of the next one.
    at: usize,
    /// Those that the client is not to see.
    unseen: usize,
    later: Laters,
}

/// How far a piece of EXEC's reply goes, and what follows from it.
pub(super) struct Looked {
    pub(super) used: usize,
    pub(super) later: Option<Later>,
    pub(super) whole: bool,
}

impl Executed {
    pub(super) fn new(later: Laters) -> Self {
        let unseen = later.iter().filter(|(_, later)| matches!(later, Later::Unseen)).count();
        Executed { later, unseen, ..Executed::default() }
    }

    /// Whether what is to come of it may be the client's end.
    pub(super) fn may_kill(&self) -> bool {
        self.later.iter().any(|(_, later)| later.may_kill())
    }

    /// Takes bytes of the reply, which begins with `*`, up to the end of an element that something follows from, or of the
    /// reply. What the client is to see of them is appended to `out`.
    ///
    /// # Errors
    /// It is unknown where the next reply starts.
    pub(super) fn look(
        &mut self,
        bytes: &[u8],
        scanner: &mut ReplyScanner,
        out: &mut Vec<u8>,
    ) -> Result<Looked, DecodeError> {
        let mut used = 0;
        while used < bytes.len() && self.left.is_none() {
            let byte = bytes[used];
            used += 1;
            self.head.push(byte);
            if byte == b'\n' {
                let digits = self.head.get(1..self.head.len().saturating_sub(2)).unwrap_or_default();
                // A null is negative: nothing was carried out.
                let elements = number(Some(digits));
                self.left = Some(elements.unwrap_or(0));
                match elements {
                    Some(elements) if self.unseen > 0 => {
                        header(out, b'*', elements.saturating_sub(self.unseen));
                    }
                    _ => out.extend_from_slice(&self.head),
                }
            } else if self.head.len() > HEAD_BYTES {
                return Err(DecodeError::LineTooLong { limit: HEAD_BYTES });
            }
        }
        while used < bytes.len() && self.left.is_some_and(|left| left > 0) {
            let scanned = scanner.scan(&bytes[used..])?;
            let piece = &bytes[used..used + scanned.len];
            used += scanned.len;
            let kind = scanner.kind().unwrap_or_default();
            let here = kind != b'>' && self.later.front().is_some_and(|(at, _)| *at == self.at);
            let succeeded = here && !matches!(kind, b'-' | b'!');
            let hidden = here
                && self.later.front().is_some_and(|(_, later)| match later {
                    Later::Unseen => true,
                    later => succeeded && later.is_ours(),
                });
            if !hidden {
                out.extend_from_slice(piece);
            }
            // A push is none of them.
            if scanned.whole && kind != b'>' {
                self.at += 1;
                self.left = self.left.map(|left| left - 1);
                let later = if here { self.later.pop_front() } else { None };
                if succeeded {
                    let later = later.map(|(_, later)| later);
                    return Ok(Looked { used, later, whole: self.left == Some(0) });
                }
            }
        }
        Ok(Looked { used, later: None, whole: self.left == Some(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_is_cut_at_what_follows_however_it_arrives() {
        let reply = b"*4\r\n+OK\r\n*2\r\n:1\r\n$2\r\n:7\r\n-ERR no\r\n:9\r\n";
        for size in [1, 2, 3, 7, 100] {
            let later =
                [(0, Later::Select(3)), (2, Later::State), (3, Later::Local(Local::ClientId, Bytes::new()))];
            let mut executed = Executed::new(later.into());
            let (mut scanner, mut out, mut followed, mut whole) =
                (ReplyScanner::new(), Vec::new(), Vec::new(), false);
            for mut piece in reply.chunks(size) {
                while !piece.is_empty() {
                    assert!(!whole);
                    let looked = executed.look(piece, &mut scanner, &mut out).expect("a reply");
                    piece = &piece[looked.used..];
                    followed.extend(looked.later.map(|later| (out.len(), later.is_ours())));
                    whole = looked.whole;
                }
            }
            // The error undoes what would have followed, and the number is not Redis' to tell.
            assert!(whole && followed == [(9, false), (out.len(), true)], "{followed:?}");
            assert_eq!(out, &reply[..reply.len() - 4]);
        }
        for (reply, seen) in [(&b"*2\r\n+OK\r\n:1\r\n"[..], &b"*1\r\n+OK\r\n"[..]), (b"*-1\r\n", b"*-1\r\n")]
        {
            let (mut executed, mut out) = (Executed::new([(1, Later::Unseen)].into()), Vec::new());
            let mut scanner = ReplyScanner::new();
            let looked = reply
                .chunks(1)
                .map(|byte| executed.look(byte, &mut scanner, &mut out).expect("a reply").whole);
            assert_eq!(looked.filter(|whole| *whole).count(), 1);
            assert_eq!(out, seen);
        }
        let mut executed = Executed::default();
        let looked = executed.look(b"*-1\r\n", &mut ReplyScanner::new(), &mut Vec::new()).expect("a null");
        assert!(looked.whole && looked.used == 5);
    }
}
