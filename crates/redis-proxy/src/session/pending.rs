//! A read that waits for its answer.

use bytes::BytesMut;
use command::Read;

use super::parts::Part;
use super::rights::Asking;
use crate::lanes::Request;

/// A read whose answer is not in the output yet.
pub(super) struct Pending {
    /// The command, as every server reads it.
    pub(super) request: BytesMut,
    pub(super) read: Read,
    pub(super) parts: Vec<Part>,
    pub(super) state: State,
    /// A clock reading after all of it had come: an answer that was true then will do, however late it is asked for.
    pub(super) arrived_ns: u64,
    /// Bytes of its values that are not kept.
    pub(super) passing: usize,
    /// Since when Redis is asked while its user's right to this very command is not known: an answer shows it.
    pub(super) asking: Option<Asking>,
    /// What is heard of what Redis says on the lane: the first byte; of an answer that is not the client's, an error whole.
    pub(super) said: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its parts are here or on their way.
    Asked,
    /// Its parts are here, and so many elements of its answer are in the output or with the client.
    Written(usize),
    /// A read before it waits for one of its keys, or for Redis: asked now, it might be answered from before that one.
    Behind,
    /// Memory will answer it, once Redis has shown at its turn that its user may ask.
    ToProve,
    /// That is asked on the client's lane: what comes there is not the client's, but for an error.
    Proving,
    /// It goes to Redis, at its turn.
    ToLane,
    /// It is on the client's lane, and nothing else is.
    OnLane,
}

/// A read that is taken up.
pub(super) struct Begun {
    pub(super) parts: Vec<Part>,
    pub(super) state: State,
    /// Since when, if its user's right to this very command is not known.
    pub(super) asking: Option<Asking>,
}

impl Pending {
    pub(super) fn new(
        request: Request<'_>,
        read: Read,
        parts: Vec<Part>,
        state: State,
        arrived_ns: u64,
    ) -> Self {
        let mut bytes = BytesMut::new();
        request.write(&mut bytes);
        Pending { request: bytes, read, parts, state, arrived_ns, passing: 0, asking: None, said: Vec::new() }
    }

    pub(super) fn begin(&mut self, begun: Begun) {
        (self.parts, self.state, self.asking) = (begun.parts, begun.state, begun.asking);
    }

    /// What it has found is let go of; it is asked for at its turn.
    pub(super) fn ask_again(&mut self) {
        (self.state, self.parts) = (State::Behind, Vec::new());
    }

    /// See [`Part::fetched_bytes`].
    pub(super) fn fetched_bytes(&self) -> usize {
        self.parts.iter().map(Part::fetched_bytes).sum()
    }

    pub(super) fn waits_for(&self, key_hash: u64) -> bool {
        !matches!(self.state, State::Asked | State::Written(_))
            || self.parts.iter().any(|part| matches!(part, Part::Waiting(_, hash) if *hash == key_hash))
    }
}
