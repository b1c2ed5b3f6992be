//! What is asked of a key.

use cache::{Entry, Partition, View};
use resp::{Protocol, encode_command};

/// A question about a key.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) words: Words<'a>,
    pub(crate) accepts: Accepts,
}

impl<'a> Question<'a> {
    /// For the key's value.
    pub(crate) fn value(key: &'a [u8]) -> Self {
        Question { key, words: Words::VALUE, accepts: Accepts::Nothing }
    }

    pub(super) fn view(&self, partition: Partition) -> View<'a> {
        View { partition, question: self.words.0 }
    }
}

/// Which answers to other questions will do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accepts {
    Nothing,
    /// That there is no such key.
    Missing,
    /// The key's value.
    Value,
    /// Any that came with the key's deadline: what is held under a lease did.
    Deadline,
    /// That there is no such key, or the whole of a hash in so many bytes.
    WholeHash {
        most_bytes: usize,
    },
}

impl Accepts {
    pub(super) fn fits(self, entry: &Entry) -> bool {
        match self {
            Accepts::Nothing => false,
            Accepts::Missing => entry.is_missing(),
            Accepts::Value => Words::of(entry.view()).is_value(),
            Accepts::Deadline => entry.lease().is_some(),
            Accepts::WholeHash { most_bytes } => {
                entry.is_missing()
                    || Words::of(entry.view()).is_whole_hash() && entry.value().len() <= most_bytes
            }
        }
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

/// The words of a question, as they are cached with its answer: in which protocol the reply is kept, what it depends on, and
/// the command, encoded as it goes to Redis. A view over these bytes; those of the key's value have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words<'a>(&'a [u8]);

/// How a command that reads a whole hash begins.
const WHOLE_HASH: &[u8] = b"*2\r\n$7\r\nHGETALL\r\n";

impl<'a> Words<'a> {
    /// Those of the key's value.
    pub(crate) const VALUE: Words<'static> = Words(b"");

    /// Those that an answer was cached or is fetched with.
    pub(super) fn of(view: View<'a>) -> Self {
        Words(view.question)
    }

    /// Writes the words of a command into `out`, in place of what is there. Its name is written in capitals, so that one
    /// question has one form.
    pub(crate) fn write(
        out: &'a mut bytes::BytesMut,
        protocol: Protocol,
        kind: Kind,
        arguments: &[&[u8]],
    ) -> Self {
        out.clear();
        let version = if protocol == Protocol::Resp3 { b'3' } else { b'2' };
        let kind = match kind {
            Kind::Plain => b'-',
            Kind::Hash => b'h',
            Kind::Time => b't',
        };
        out.extend_from_slice(&[version, kind]);
        encode_command(out, arguments);
        let name = arguments.first().map_or(0, |name| name.len());
        let start = 2 + "*".len() + digits(arguments.len()) + "\r\n$".len() + digits(name) + "\r\n".len();
        out[start..start + name].make_ascii_uppercase();
        Words(out)
    }

    pub(crate) fn is_value(self) -> bool {
        self.0.is_empty()
    }

    /// Whether the reply is that to HGETALL.
    pub(crate) fn is_whole_hash(self) -> bool {
        self.command().is_some_and(|command| command.starts_with(WHOLE_HASH))
    }

    /// The protocol that the reply is kept in; a value is the same in both.
    pub(super) fn protocol(self) -> Protocol {
        if self.0.first() == Some(&b'3') { Protocol::Resp3 } else { Protocol::Resp2 }
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0.get(1) {
            Some(b'h') => Kind::Hash,
            Some(b't') => Kind::Time,
            _ => Kind::Plain,
        }
    }

    /// The command, as it goes to Redis; none for a value, which GET brings.
    pub(super) fn command(self) -> Option<&'a [u8]> {
        self.0.get(2..)
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
        let words = Words::write(&mut out, Protocol::Resp2, Kind::Hash, &[b"hGet", b"key", b"field"]);
        let command = &b"*3\r\n$4\r\nHGET\r\n$3\r\nkey\r\n$5\r\nfield\r\n"[..];
        assert_eq!(
            (words.protocol(), words.kind(), words.command()),
            (Protocol::Resp2, Kind::Hash, Some(command))
        );
        assert_eq!((Words::VALUE.is_value(), Words::VALUE.command()), (true, None));
        let long = vec![&b"smismember"[..]; 12];
        let words = Words::write(&mut out, Protocol::Resp3, Kind::Plain, &long);
        assert_eq!((words.is_value(), words.protocol()), (false, Protocol::Resp3));
        assert!(
            words
                .command()
                .is_some_and(|command| command.starts_with(b"*12\r\n$10\r\nSMISMEMBER\r\n$10\r\nsmis"))
        );
    }
}
