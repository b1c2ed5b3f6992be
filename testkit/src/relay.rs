//! A link of the fault proxy as data: what was read, when, and when the mode lets it pass.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Random, now_ns};

/// What a direction holds back before it stops reading, and the sender feels it.
const MAX_HELD_BYTES: usize = 1024 * 1024;
/// Between two chunks, so that the receiver reads them one by one.
const CHUNK_PAUSE: Duration = Duration::from_micros(200);

/// What is done to the bytes of all links.
#[derive(Clone, Copy)]
pub(crate) enum RelayMode {
    Pass,
    Delay(Duration),
    Jitter(Duration),
    Chunk(usize),
    Stall,
    StallCommands,
    StallReplies,
}

/// The way of the bytes: to the server, or to the client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Commands,
    Replies,
}

/// A client's connection and ours to the server for it.
pub(crate) struct Relay {
    pub(crate) client: Arc<TcpStream>,
    pub(crate) server: Arc<TcpStream>,
    /// Cleared when the client's FIN or RST arrives, even if the mode keeps it from the server.
    pub(crate) client_is_open: bool,
    pub(crate) commands: Pipe,
    pub(crate) replies: Pipe,
}

/// One direction of a link: what was read and not yet written.
pub(crate) struct Pipe {
    pieces: VecDeque<Piece>,
    held_bytes: usize,
    sent_at: Instant,
    random: Random,
    /// The end has been passed on.
    pub(crate) is_done: bool,
}

/// What one read returned; without bytes it is the end.
struct Piece {
    arrived: Instant,
    /// Its part of the most that jitter delays, in 1/256.
    jitter: u32,
    bytes: Vec<u8>,
}

impl Relay {
    pub(crate) fn new(client: Arc<TcpStream>, server: Arc<TcpStream>) -> Relay {
        let [commands, replies] = [Pipe::new(), Pipe::new()];
        Relay { client, server, client_is_open: true, commands, replies }
    }

    pub(crate) fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::Commands => &mut self.commands,
            Direction::Replies => &mut self.replies,
        }
    }
}

impl Pipe {
    fn new() -> Pipe {
        let (pieces, random) = (VecDeque::new(), Random::new(now_ns()));
        Pipe { pieces, held_bytes: 0, sent_at: Instant::now(), random, is_done: false }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.held_bytes += bytes.len();
        let jitter = u32::try_from(self.random.below(256)).unwrap_or(0);
        self.pieces.push_back(Piece { arrived: Instant::now(), jitter, bytes: bytes.to_vec() });
    }

    /// Whether reading has to wait for writing.
    pub(crate) fn is_full(&self) -> bool {
        self.held_bytes >= MAX_HELD_BYTES
    }

    /// When the next bytes may pass; `None` if there are none, or the mode must change first.
    pub(crate) fn due(&self, mode: RelayMode, direction: Direction) -> Option<Instant> {
        let piece = self.pieces.front()?;
        match mode {
            RelayMode::Pass => Some(piece.arrived),
            RelayMode::Delay(delay) => Some(piece.arrived + delay),
            RelayMode::Jitter(most) => Some(piece.arrived + most * piece.jitter / 256),
            RelayMode::Chunk(_) => Some(self.sent_at + CHUNK_PAUSE),
            RelayMode::StallReplies if direction == Direction::Commands => Some(piece.arrived),
            RelayMode::StallCommands if direction == Direction::Replies => Some(piece.arrived),
            RelayMode::Stall | RelayMode::StallCommands | RelayMode::StallReplies => None,
        }
    }

    /// Takes the bytes that may pass at once.
    pub(crate) fn pop(&mut self, mode: RelayMode) -> Option<Vec<u8>> {
        let mut piece = self.pieces.pop_front()?;
        if let RelayMode::Chunk(limit) = mode
            && limit < piece.bytes.len()
        {
            let rest = piece.bytes.split_off(limit);
            let (arrived, jitter) = (piece.arrived, piece.jitter);
            self.pieces.push_front(Piece { arrived, jitter, bytes: rest });
        }
        self.held_bytes -= piece.bytes.len();
        self.sent_at = Instant::now();
        Some(piece.bytes)
    }
}
