//! A command that goes to several nodes of a cluster, in pieces: each goes as a command by itself would, and their replies become one.
//!
//! **A piece has one key.** Two keys of one slot in a piece would be refused while one of them has moved on with its slot and the
//! other has not (`TRYAGAIN`); one key is always at one node. Nothing is atomic over several keys anyway.
//!
//! **Room.** At most so many pieces of a client are on their way as its mailbox takes (`Numbers`) and lanes have room for:
//! the others wait here, as the request that they are cut from, and nothing of its client passes them.

use std::task::Context;

use bytes::BytesMut;
use command::{KeyPieces, ResponsePolicy, Slot, Tips};
use resp::{RequestLimits, RequestParser, encode_command};

use super::Session;
use super::plan::Call;
use super::replies::Via;
use super::ways::Ways;
use super::words::is;
use crate::lanes::{Destination, Fold, InputRoom, LaneKey, Merge, Pace, Request};

/// A command and where its pieces go.
pub(super) struct Spread {
    pub(super) pieces: Pieces,
    pub(super) merge: Merge,
}

/// What is sent, and where.
pub(super) enum Pieces {
    /// The request at hand, cut along its keys.
    ByKey(KeyPieces),
    /// The request at hand to each of these.
    ToAll(Vec<Destination>),
    /// Another request to one node.
    Instead(BytesMut, Destination),
}

/// Where a piece goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceTarget {
    /// To the node that has this slot.
    Slot(Slot),
    Node(Destination),
}

/// What is still to be sent of a command.
pub(super) struct UnsentPieces {
    request: BytesMut,
    parser: RequestParser,
    pieces: Pieces,
    /// How many are sent.
    sent: usize,
    pub(super) key: LaneKey,
    pub(super) pace: Pace,
    /// Whether they may be sent twice.
    pub(super) reads: bool,
    /// What counts the request as unread, if it is a large one.
    _room: Option<Box<InputRoom>>,
}

/// What becomes of the replies to a command that is cut along so many keys, or goes to all nodes. `None` if that is said in words
/// alone.
pub(super) fn merge_of(tips: Tips, keys: Option<usize>) -> Option<Merge> {
    Some(match tips.response {
        None => keys.map_or(Merge::Joined, Merge::InOrder),
        Some(ResponsePolicy::OneSucceeded) => Merge::OneSucceeded,
        Some(ResponsePolicy::AllSucceeded) => Merge::AllSucceeded,
        Some(ResponsePolicy::And) => Merge::Numbers(Fold::And),
        Some(ResponsePolicy::Or) => Merge::Numbers(Fold::Or),
        Some(ResponsePolicy::Min) => Merge::Numbers(Fold::Min),
        Some(ResponsePolicy::Max) => Merge::Numbers(Fold::Max),
        Some(ResponsePolicy::Sum) => Merge::Numbers(Fold::Sum),
        Some(ResponsePolicy::Special) => return None,
    })
}

/// In pieces onto shared lanes, if no other way owes replies, with a duty if it changes anything. False if it must wait.
pub(super) fn send_pieces(
    ways: &mut Ways,
    spread: Spread,
    call: &Call<'_>,
    pace: Pace,
    request: Request<'_>,
    cx: &mut Context<'_>,
) -> bool {
    let via = Via::Lane(pace);
    if !ways.out.replies.may_go(via) || ways.lanes.is_spreading() {
        return false;
    }
    // INFO changes nothing, although Redis does not call it a read.
    let read = call.may_repeat() || is(call.arguments, b"INFO");
    let duty = ways.sessions.duty(call);
    let sent = ways.lanes.spread(&ways.client.key, spread, request, pace, read, duty, cx);
    if sent {
        ways.out.replies.sent(via);
    }
    sent
}

/// The request that was just taken was counted as unread: it is so for as long as its pieces wait here.
pub(crate) fn hold_room(session: &mut Session, room: Box<InputRoom>) {
    session.ways.lanes.hold(room);
}

impl UnsentPieces {
    pub(super) fn new(request: Request<'_>, pieces: Pieces, key: &LaneKey, pace: Pace, reads: bool) -> Self {
        let mut parser = RequestParser::new(NO_LIMITS);
        let mut bytes = BytesMut::new();
        if let Pieces::ByKey(_) | Pieces::ToAll(_) = pieces {
            request.write(&mut bytes);
        }
        if let Pieces::ByKey(_) = pieces {
            let _ = parser.parse(&bytes); // it was one
        }
        UnsentPieces { request: bytes, parser, pieces, sent: 0, key: key.clone(), pace, reads, _room: None }
    }

    /// Its request was counted as unread, and is so until it is sent.
    pub(super) fn hold(&mut self, room: Box<InputRoom>) {
        self._room = Some(room);
    }

    /// The next piece, written to `room` where it is not at hand as it is. `None` if all are sent.
    pub(super) fn next<'a>(&'a self, room: &'a mut BytesMut) -> Option<(PieceTarget, &'a [u8])> {
        match &self.pieces {
            Pieces::ByKey(cut) => {
                let arguments = self.parser.arguments(&self.request);
                let at = (self.sent < cut.count).then_some(cut.first + self.sent * cut.step)?;
                let key = arguments.get(at)?;
                // By their places: with many keys to look for each from the start would take too long.
                let places = (0..cut.first).chain(at..at + cut.step);
                let places = places.chain(cut.first + cut.count * cut.step..arguments.len());
                let piece: Vec<&[u8]> = places.filter_map(|place| arguments.get(place)).collect();
                room.clear();
                encode_command(room, &piece);
                Some((PieceTarget::Slot(Slot::of(key)), room))
            }
            Pieces::ToAll(nodes) => Some((PieceTarget::Node(*nodes.get(self.sent)?), &self.request)),
            Pieces::Instead(request, to) => (self.sent == 0).then_some((PieceTarget::Node(*to), request)),
        }
    }

    /// The next piece is sent.
    pub(super) fn went(&mut self) {
        self.sent += 1;
    }
}

/// What a front has taken is taken.
const NO_LIMITS: RequestLimits = RequestLimits { max_arguments: usize::MAX, max_bulk_bytes: usize::MAX };

#[cfg(test)]
mod tests {
    use command::Commands;

    use super::*;
    use crate::lanes::Identity;

    fn pieces(words: &[&str]) -> Vec<(PieceTarget, String)> {
        let mut request = BytesMut::new();
        encode_command(&mut request, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        let mut parser = RequestParser::new(NO_LIMITS);
        parser.parse(&request).expect("a request");
        let arguments = parser.arguments(&request);
        let commands = Commands::built_in();
        let cut = commands.find(arguments).expect("known").key_pieces(arguments).expect("pieces");
        let key = LaneKey {
            to: Destination::home(),
            identity: Identity::nobody(),
            db: 0,
            protocol: resp::Protocol::Resp2,
        };
        let mut unsent =
            UnsentPieces::new(Request::Encoded(arguments), Pieces::ByKey(cut), &key, Pace::Quick, true);
        let (mut found, mut room) = (Vec::new(), BytesMut::new());
        while let Some((target, piece)) = unsent.next(&mut room) {
            found.push((target, String::from_utf8_lossy(piece).into_owned()));
            unsent.went();
        }
        found
    }

    #[test]
    fn a_piece_is_the_command_with_one_key_and_what_belongs_to_it() {
        let slot = |key: &str| PieceTarget::Slot(Slot::of(key.as_bytes()));
        assert_eq!(
            pieces(&["DEL", "a", "", "a"]),
            [
                (slot("a"), "*2\r\n$3\r\nDEL\r\n$1\r\na\r\n".to_owned()),
                (slot(""), "*2\r\n$3\r\nDEL\r\n$0\r\n\r\n".to_owned()),
                (slot("a"), "*2\r\n$3\r\nDEL\r\n$1\r\na\r\n".to_owned()),
            ]
        );
        assert_eq!(
            pieces(&["mset", "a", "1", "{b}x", "2"]),
            [
                (slot("a"), "*3\r\n$4\r\nmset\r\n$1\r\na\r\n$1\r\n1\r\n".to_owned()),
                (slot("b"), "*3\r\n$4\r\nmset\r\n$4\r\n{b}x\r\n$1\r\n2\r\n".to_owned()),
            ]
        );
    }
}
