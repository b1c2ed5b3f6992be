//! Asking a server to track what a connection reads (<https://redis.io/docs/latest/develop/reference/client-side-caching/>),
//! and making sure that it will.
//!
//! Tracking fails in silence: on RESP2 it answers OK and never pushes. So nothing is taken for granted: the protocol,
//! the role, the product and its version, and what the server itself says of the connection afterwards.

use std::sync::Arc;

use resp::Frame;

use crate::handshake::Talk;
use crate::hello::{Hello, text};
use crate::sink::Loss;

/// Whether what a connection reads is tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// The connection is an ordinary one.
    NotAsked,
    /// The server will tell of every change to what is read.
    On {
        /// But for fields of a hash that expire by themselves, which it knows: of those it tells late or never.
        fields_expire: bool,
    },
    /// It is a replica: it would tell of changes when they reach it, which may be late.
    Replica,
    /// It will not, for this reason; reads are answered all the same.
    Refused(Arc<str>),
}

/// Products that speak RESP3 and do not order their pushes and replies, by a word in their `INFO server`.
///
/// Redis Enterprise, Redis Cloud and their like are proxies that answer PING for many shards: it proves nothing there.
const UNORDERED: [(&str, &str); 3] =
    [("dragonfly", "Dragonfly"), ("keydb", "KeyDB"), ("rlec_version:", "Redis Enterprise")];

/// Switches tracking on, on a connection that has been greeted with `hello`.
///
/// # Errors
/// [`Loss`] when the connection breaks; that a server will not track is no error.
pub(crate) async fn track(talk: &mut Talk<'_>, hello: Option<&Hello>) -> Result<Tracking, Loss> {
    let refused = |why: String| Ok(Tracking::Refused(why.into()));
    let Some(hello) = hello.filter(|hello| hello.proto == 3) else {
        return refused("the server does not speak RESP3 (HELLO 3): tracking needs it".into());
    };
    if !hello.is_primary() {
        return Ok(Tracking::Replica);
    }
    if let Some(why) = hello.unfit_to_track() {
        return refused(why);
    }
    // An ACL may forbid INFO: then the name and version of HELLO have to do.
    let info = talk.ask(&[b"INFO", b"server"]).await?;
    let info = text(&info).unwrap_or_default().to_ascii_lowercase();
    if let Some((_, product)) = UNORDERED.iter().find(|(word, _)| info.contains(word)) {
        return refused(format!("{product} does not keep replies and invalidations in order"));
    }
    let fields_expire =
        fields_expire(&talk.ask(&[b"COMMAND", b"INFO", b"HPEXPIRE", b"HEXPIRE", b"HSETEX"]).await?);
    // Under `maxmemory-clients` this connection would be the first to go, with all the proof it carries. Refused by an
    // ACL or unknown (before 7.0): no matter.
    talk.ask(&[b"CLIENT", b"NO-EVICT", b"ON"]).await?;
    if let Frame::Error(error) = talk.ask(&[b"CLIENT", b"TRACKING", b"ON"]).await? {
        return refused(format!("CLIENT TRACKING ON: {}", String::from_utf8_lossy(&error)));
    }
    match talk.ask(&[b"CLIENT", b"TRACKINGINFO"]).await? {
        Frame::Error(error) => refused(format!("CLIENT TRACKINGINFO: {}", String::from_utf8_lossy(&error))),
        info => Ok(state_of(&info, fields_expire)),
    }
}

/// Whether fields of a hash may expire by themselves, from what COMMAND INFO says of the commands that make them. Asked and not
/// taken from the version: Valkey 9 may call itself a Redis 7.2. Where COMMAND is refused or has another name, they may.
fn fields_expire(commands: &Frame) -> bool {
    match commands {
        Frame::Array(commands) if !commands.is_empty() => {
            commands.iter().any(|command| !matches!(command, Frame::Null))
        }
        _ => true,
    }
}

/// Why nothing can be kept, if `error` says that PTTL is a command this user may not give, or that there is none. That it may
/// not be given for some keys is no such reason.
pub fn no_right_to(error: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(error);
    // "NOPERM this user has no permissions to access one of the keys", "NOPERM No permissions to access a key".
    let of_command =
        text.starts_with("NOPERM") && !text.contains("access") || text.contains("unknown command");
    of_command.then(|| format!("PTTL: {text}: without the time that a key has left it cannot be kept"))
}

/// What TRACKINGINFO says: `flags` must be `on` alone, without OPTIN, BCAST, NOLOOP or a redirection.
fn state_of(info: &Frame, fields_expire: bool) -> Tracking {
    let pairs = match info {
        Frame::Map(pairs) => pairs.as_slice(),
        _ => &[],
    };
    let flags = pairs.iter().find(|(key, _)| text(key).as_deref() == Some("flags"));
    let flags: Vec<String> = match flags {
        Some((_, Frame::Set(flags) | Frame::Array(flags))) => flags.iter().filter_map(text).collect(),
        _ => Vec::new(),
    };
    if flags == ["on"] {
        Tracking::On { fields_expire }
    } else {
        Tracking::Refused(format!("CLIENT TRACKINGINFO tells of flags {flags:?}, expected [\"on\"]").into())
    }
}

#[cfg(test)]
mod tests {
    use super::no_right_to;

    #[test]
    fn a_command_that_may_not_be_given_is_told_from_a_key_that_may_not_be_read() {
        for refused in [
            "NOPERM this user has no permissions to run the 'pttl' command or its subcommand",
            "NOPERM User some has no permissions to run the 'pttl' command",
            "ERR unknown command 'PTTL', with args beginning with: 'k' ",
        ] {
            assert!(no_right_to(refused.as_bytes()).is_some_and(|why| why.contains(refused)));
        }
        for other in [
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            "NOPERM No permissions to access a key",
            "LOADING Redis is loading the dataset in memory",
        ] {
            assert_eq!(no_right_to(other.as_bytes()), None);
        }
    }
}
