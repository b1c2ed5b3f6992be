//! What is asked of a key.

use cache::{Entry, Partition, View};
use resp::{Protocol, encode_command};

/// Whether an answer to another question will do.
pub(crate) type Accepts = fn(&Entry) -> bool;

/// A question about a key.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) key: &'a [u8],
    /// As [`Words`] writes them; empty for the key's value.
    pub(crate) words: &'a [u8],
    pub(crate) accepts: Accepts,
}

impl<'a> Question<'a> {
    /// For the key's value.
    pub(crate) fn value(key: &'a [u8]) -> Self {
        Question { key, words: b"", accepts: |_| false }
    }

    pub(super) fn view(&self, partition: Partition) -> View<'a> {
        View { partition, question: self.words }
    }
}

/// What the reply to a question depends on beside its key's last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Plain,
    /// The end of a hash's fields, where fields may expire by themselves.
    Hash,
    /// The time: the reply is not kept.
    Time,
}

/// The words of a question: in which protocol its reply is to be kept, its kind, and the command.
pub(crate) struct Words;

/// A command that reads a whole hash, as its words go on behind protocol and kind.
const WHOLE_HASH: &[u8] = b"*2\r\n$7\r\nHGETALL\r\n";

impl Words {
    /// Writes the words of a command into `out`, in place of what is there. Its name is written in capitals, so that one
    /// question has one form.
    pub(crate) fn write<'a>(
        out: &mut bytes::BytesMut,
        protocol: Protocol,
        kind: Kind,
        arguments: impl Iterator<Item = &'a [u8]>,
    ) {
        out.clear();
        let version = if protocol == Protocol::Resp3 { b'3' } else { b'2' };
        let kind = match kind {
            Kind::Plain => b'-',
            Kind::Hash => b'h',
            Kind::Time => b't',
        };
        out.extend_from_slice(&[version, kind]);
        let arguments: Vec<&[u8]> = arguments.collect();
        encode_command(out, &arguments);
        let name = arguments.first().map_or(0, |name| name.len());
        let start = 2 + "*".len() + digits(arguments.len()) + "\r\n$".len() + digits(name) + "\r\n".len();
        out[start..start + name].make_ascii_uppercase();
    }

    /// Whether an entry is the reply to HGETALL.
    pub(crate) fn is_whole_hash(entry: &Entry) -> bool {
        entry.view().question.get(2..).is_some_and(|command| command.starts_with(WHOLE_HASH))
    }

    /// Whether an entry is the reply to a question of the kind [`Kind::Time`].
    pub(crate) fn is_of_time(entry: &Entry) -> bool {
        entry.view().question.get(1) == Some(&b't')
    }

    /// The protocol that its reply is kept in, its kind, and the encoded command.
    pub(super) fn read(words: &[u8]) -> Option<(Protocol, Kind, &[u8])> {
        let [version, kind, command @ ..] = words else { return None };
        let protocol = if *version == b'3' { Protocol::Resp3 } else { Protocol::Resp2 };
        let kind = match kind {
            b'h' => Kind::Hash,
            b't' => Kind::Time,
            _ => Kind::Plain,
        };
        Some((protocol, kind, command))
    }
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell_protocol_kind_and_command_and_have_one_form() {
        let mut out = bytes::BytesMut::new();
        let arguments: [&[u8]; 3] = [b"hGet", b"key", b"field"];
        Words::write(&mut out, Protocol::Resp2, Kind::Hash, arguments.into_iter());
        let command = &b"*3\r\n$4\r\nHGET\r\n$3\r\nkey\r\n$5\r\nfield\r\n"[..];
        assert_eq!(Words::read(&out), Some((Protocol::Resp2, Kind::Hash, command)));
        assert_eq!(Words::read(b""), None);
        let long = vec![&b"smismember"[..]; 12];
        Words::write(&mut out, Protocol::Resp3, Kind::Plain, long.into_iter());
        assert!(out.starts_with(b"3-*12\r\n$10\r\nSMISMEMBER\r\n$10\r\nsmis"));
    }
}
