//! HELLO: what it asks for, and what its reply says.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use resp::{Arguments, Frame, Protocol, encode_command};

use super::emulated::Disguise;
use super::login::{HelloOptions, version};
use super::reply::{c_text, integer};
use super::words::{BAD_NAME, client_name, number};

/// What HELLO asks for, and the user and password that it brings.
type HelloWanted<'a> = (HelloOptions, Option<(&'a [u8], &'a [u8])>);

/// Why a HELLO is refused.
pub(super) struct Mistake {
    /// The arguments that are wrong.
    pub(super) at: Range<usize>,
    pub(super) text: Bytes,
}

/// `HELLO [2|3 [AUTH user password] [SETNAME name]]`, in the order of checks of Redis 7.0 (networking.c, `helloCommand`).
/// Without a version it stays what is `spoken`. Never passed on with a mistake: older servers apply what comes before it.
pub(super) fn hello_wanted<'a>(
    arguments: Arguments<'a>,
    spoken: Protocol,
) -> Result<HelloWanted<'a>, Mistake> {
    let mistake = |at, text: Bytes| Mistake { at, text };
    let protocol = match arguments.get(1) {
        None => spoken,
        Some(word) => match number::<i64>(Some(word.strip_prefix(b"-").unwrap_or(word))) {
            None => {
                let text = "ERR Protocol version is not an integer or out of range";
                return Err(mistake(1..2, text.into()));
            }
            Some(2) if word == b"2" => Protocol::Resp2,
            Some(3) if word == b"3" => Protocol::Resp3,
            Some(_) => return Err(mistake(1..2, "NOPROTO unsupported protocol version".into())),
        },
    };
    let (mut login, mut name) = (None, None);
    let mut at = 2;
    while let Some(option) = arguments.get(at) {
        let following = (arguments.get(at + 1), arguments.get(at + 2));
        match following {
            (Some(user), Some(password)) if option.eq_ignore_ascii_case(b"AUTH") => {
                login = Some((user, password));
                at += 3;
            }
            (Some(word), _) if option.eq_ignore_ascii_case(b"SETNAME") => {
                name = Some(client_name(word).ok_or_else(|| mistake(at..at + 2, BAD_NAME.into()))?);
                at += 2;
            }
            _ => {
                let text = [b"ERR Syntax error in HELLO option '", c_text(option), b"'"].concat();
                return Err(mistake(at..at + 1, text.into()));
            }
        }
    }
    Ok((HelloOptions { protocol, name }, login))
}

/// HELLO's reply: what Redis says of itself, with this client's protocol and id, in disguise.
pub(super) fn hello_reply(
    pairs: &[(Frame, Frame)],
    protocol: Protocol,
    id: u64,
    disguise: Disguise,
) -> Frame {
    let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
    let pairs = pairs.iter().map(|(key, value)| {
        let value = match key {
            Frame::Bulk(name) if name == &b"proto"[..] => Frame::Integer(version),
            Frame::Bulk(name) if name == &b"id"[..] => integer(id),
            Frame::Bulk(name) if name == &b"mode"[..] => disguise.mode().unwrap_or_else(|| value.clone()),
            _ => value.clone(),
        };
        (key.clone(), value)
    });
    Frame::Map(pairs.collect())
}

/// What Redis refuses in the same words as a HELLO with this mistake: an old server would apply what comes before it.
pub(super) fn mistake_alone(arguments: Arguments<'_>, at: Range<usize>, spoken: Protocol) -> Bytes {
    let mut words: Vec<&[u8]> = vec![b"HELLO"];
    if at.start > 1 {
        words.push(version(spoken));
    }
    words.extend(arguments.iter().skip(at.start).take(at.len()));
    let mut bytes = BytesMut::new();
    encode_command(&mut bytes, &words);
    bytes.freeze()
}
