//! What a read is made of: for each of its keys an answer that is here, or on its way.

use bytes::BytesMut;
use command::Read;
use resp::{Arguments, Protocol};

use super::answers::LARGE_VALUE;
use crate::readthrough::{Accepts, Kind, KnownAnswer, Question, ReadThrough, Waiting, Words};

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
