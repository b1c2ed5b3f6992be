//! Why a read has no answer, in terms of what the client and the operator can do; the one place that turns
//! Redis' errors and a lost connection into that.

use std::fmt;
use std::sync::Arc;

use upstream::Loss;

/// A read that failed. Never cached; every waiter of a fill gets the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Redis cannot be reached, or is not ready to answer; a later try may work.
    Unavailable(Arc<str>),
    /// Too many fills in flight; a later try may work.
    Overloaded,
    /// Redis did not answer in time.
    Silent,
    /// The key holds another type than a string; Redis' own text.
    WrongType(Arc<str>),
    /// Redis answers with another error; its own text.
    Redis(Arc<str>),
    /// What Redis sent is not an answer to this command.
    Garbled(Arc<str>),
    /// The value is above MAX_REPLY_BYTES; its size in bytes.
    TooLarge(u64),
}

/// The kinds of [`Failure`], as metric labels.
pub(crate) const KINDS: [&str; 7] =
    ["unavailable", "overloaded", "silent", "wrong_type", "redis", "garbled", "too_large"];

/// What is kept of an error's text: every waiter gets a copy, and what a server may send is up to it.
const TEXT_BYTES: usize = 1024;

impl Failure {
    /// Index into [`KINDS`].
    pub(crate) fn kind(&self) -> usize {
        match self {
            Failure::Unavailable(_) => 0,
            Failure::Overloaded => 1,
            Failure::Silent => 2,
            Failure::WrongType(_) => 3,
            Failure::Redis(_) => 4,
            Failure::Garbled(_) => 5,
            Failure::TooLarge(_) => 6,
        }
    }

    /// From an error reply. Codes: <https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors>,
    /// Redis 7.0 `src/server.c` (createSharedObjects).
    pub(crate) fn from_reply(text: &[u8]) -> Self {
        let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        let text = &text[..text.len().min(TEXT_BYTES)];
        let text: Arc<str> = String::from_utf8_lossy(text).into();
        match code {
            b"WRONGTYPE" => Failure::WrongType(text),
            b"LOADING" | b"BUSY" | b"MASTERDOWN" | b"TRYAGAIN" | b"CLUSTERDOWN" => Failure::Unavailable(text),
            _ => Failure::Redis(text),
        }
    }

    /// From a command that was sent and got no reply.
    pub(crate) fn from_loss(loss: &Loss) -> Self {
        match loss {
            Loss::Silent => Failure::Silent,
            Loss::Garbled(why) => Failure::Garbled(why.clone()),
            Loss::Full => Failure::Overloaded,
            Loss::Closed(_) | Loss::Unreachable(_) | Loss::Refused(_) | Loss::Unfit(_) | Loss::Departed => {
                Failure::Unavailable(loss.to_string().into())
            }
        }
    }

    /// From a command that was refused before it was sent: whatever brought the link down, it is down now.
    pub(crate) fn from_unsent(loss: &Loss) -> Self {
        match loss {
            Loss::Full => Failure::Overloaded,
            _ => Failure::Unavailable(loss.to_string().into()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unavailable(why) | Failure::WrongType(why) | Failure::Redis(why) => f.write_str(why),
            Failure::Overloaded => f.write_str("too many fetches in flight"),
            Failure::Silent => f.write_str("redis did not answer in time"),
            Failure::Garbled(why) => write!(f, "redis sent a malformed reply: {why}"),
            Failure::TooLarge(bytes) => write!(f, "the value has {bytes} bytes, more than MAX_REPLY_BYTES"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_and_not_prefixes() {
        assert!(matches!(Failure::from_reply(b"LOADING Redis is loading"), Failure::Unavailable(_)));
        assert!(matches!(Failure::from_reply(b"BUSY Redis is busy"), Failure::Unavailable(_)));
        assert!(matches!(Failure::from_reply(b"BUSYGROUP exists"), Failure::Redis(_)));
        assert!(matches!(Failure::from_reply(b"WRONGTYPE Operation"), Failure::WrongType(_)));
        assert!(matches!(Failure::from_reply(b""), Failure::Redis(_)));
    }

    #[test]
    fn a_refused_command_is_unavailable_however_the_link_died() {
        assert!(matches!(Failure::from_unsent(&Loss::Silent), Failure::Unavailable(_)));
        assert_eq!(Failure::from_unsent(&Loss::Full), Failure::Overloaded);
        assert_eq!(Failure::from_loss(&Loss::Silent), Failure::Silent);
    }
}
