//! What a read is made of: for each of its keys an answer that is here, or on its way.

use std::hash::BuildHasher;

use bytes::BytesMut;
use command::Read;
use resp::{Arguments, Protocol};

use super::Session;
use super::answers::{LARGE_VALUE, accepts};
use super::pending::State;
use super::rights::Asking;
use super::sessions::Sessions;
use crate::readthrough::{
    Accepts, Kind, KnownAnswer, Question, ReadOptions, ReadOutcome, ReadThrough, Waiting, Words,
};

/// What is known of one key of a read.
pub(super) enum Part {
    Here(KnownAnswer),
    /// Redis has sent it for this read, or one like it.
    Fetched(KnownAnswer),
    /// There is no such key; to MGET, none of a string.
    Missing,
    Waiting(Box<Waiting>, u64),
    /// The key of that part of the same MGET, which is waited for: asked for itself, it might be answered from before that one.
    As(usize),
}

impl Part {
    /// Bytes of a large value that Redis has sent for this read. Small ones are as many as commands in a pipeline.
    pub(super) fn fetched_bytes(&self) -> usize {
        match self {
            Part::Fetched(entry) if entry.value().len() > LARGE_VALUE => entry.value().len(),
            _ => 0,
        }
    }
}

/// A read that is taken up.
pub(super) struct Begun {
    pub(super) parts: Vec<Part>,
    pub(super) state: State,
    /// Since when, if its user's right to this very command is not known.
    pub(super) asking: Option<Asking>,
}

impl Session {
    /// Asks for all keys of a read. What others have brought answers it only once its user is known to have a right to it.
    pub(super) fn begin(
        &mut self,
        reader: &ReadThrough,
        read: Read,
        arguments: Arguments<'_>,
        now_ns: u64,
    ) -> Begun {
        let may = self.may(read, now_ns);
        let asking = if may { None } else { Some(self.rights().asking(now_ns)) };
        let (parts, state) = match read {
            Read::Mget if self.rights().is_get_refused(now_ns) => (Vec::new(), State::ToLane),
            // It is made of GETs, never of what it has brought itself. One of a single key may as well go as it is.
            Read::Mget if !may => {
                let is_made = arguments.len() > 2 && keys(read, arguments).all(|key| reader.fetches(key));
                (Vec::new(), if is_made { State::ToProve } else { State::ToLane })
            }
            _ if !may && self.is_told(reader, read, arguments, now_ns) => (Vec::new(), State::ToProve),
            _ => {
                let accepts = if may { accepts(read) } else { Accepts::Nothing };
                let protocol = self.client.key.protocol;
                let asked = |key: &[u8]| self.asked(key, now_ns);
                let parts = self.sessions.parts(reader, read, arguments, protocol, accepts, asked);
                parts.map_or((Vec::new(), State::ToLane), |parts| (parts, State::Asked))
            }
        };
        Begun { parts, state, asking }
    }
}

impl Sessions {
    /// What is known of each key of a read, or will be; `None` if not even that.
    fn parts(
        &self,
        reader: &ReadThrough,
        read: Read,
        arguments: Arguments<'_>,
        protocol: Protocol,
        accepts: Accepts,
        asked: impl Fn(&[u8]) -> ReadOptions,
    ) -> Option<Vec<Part>> {
        let mut parts = Vec::new();
        let mut words = self.words.borrow_mut();
        let mut waits = false;
        for key in keys(read, arguments) {
            if waits {
                let hash = self.hasher.hash_one(key);
                let is_same = |(at, part): (usize, &Part)| {
                    matches!(part, Part::Waiting(_, other) if *other == hash)
                        && arguments.get(at + 1) == Some(key)
                };
                if let Some(first) = parts.iter().enumerate().position(is_same) {
                    parts.push(Part::As(first));
                    continue;
                }
            }
            let question = match read {
                Read::Mget => Question::value(key),
                _ => question(read, arguments, protocol, accepts, &mut words),
            };
            let found = match fetches(read, reader) {
                true => reader.ask_or_pass(question, asked(key)),
                false => reader.held(question, asked(key)).map(ReadOutcome::Hit),
            };
            parts.push(match found? {
                ReadOutcome::Hit(entry) => Part::Here(entry),
                ReadOutcome::Wait(waiting) => {
                    waits = true;
                    Part::Waiting(Box::new(waiting), self.hasher.hash_one(key))
                }
            });
        }
        Some(parts)
    }
}

/// The keys of a read.
pub(super) fn keys<'a>(read: Read, arguments: Arguments<'a>) -> impl Iterator<Item = &'a [u8]> {
    let count = if read == Read::Mget { usize::MAX } else { 1 };
    arguments.iter().skip(1).take(count)
}

/// Whether what is not known is fetched by this very question.
pub(super) fn fetches(read: Read, reader: &ReadThrough) -> bool {
    reader.keeps_replies() || matches!(read, Read::Get | Read::Mget)
}

/// The question of a read of one key.
#[inline]
pub(super) fn question<'a>(
    read: Read,
    arguments: Arguments<'a>,
    protocol: Protocol,
    accepts: Accepts,
    words: &'a mut BytesMut,
) -> Question<'a> {
    let key = arguments.get(1).unwrap_or_default();
    if read == Read::Get {
        return Question::value(key);
    }
    let kind = match read {
        Read::Ttl | Read::Pttl => Kind::Time,
        read if read.is_of_hash() => Kind::Hash,
        _ => Kind::Plain,
    };
    let arguments: Vec<&[u8]> = arguments.iter().collect();
    let words = Words::write(words, protocol, kind, &arguments);
    Question { key, words, accepts }
}

/// Whether an error says to the read itself that its user may not: of the GETs that an MGET is made of, those about a key do.
pub(super) fn is_denial(text: &str, read: Read) -> bool {
    text.starts_with("NOPERM ") && (read != Read::Mget || text.contains("access"))
}
