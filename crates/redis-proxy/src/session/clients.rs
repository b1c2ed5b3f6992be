//! CLIENT, as far as it is about the clients of the proxy: what it says of them, and whom it means (Redis 7.0, networking.c,
//! `clientCommand`).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use command::Local;
use resp::{Arguments, Frame, encode_command};

use super::answers::signed;
use super::client_state::{ClientState, ReplyMode};
use super::registry::{Entry, Registry};
use super::reply::{c_text, error, integer, simple};
use super::words::{BAD_NAME, client_name, number};

/// A client that does not exist.
pub(super) const NOBODY: &[u8] = b"9223372036854775807";
const SYNTAX: &str = "ERR syntax error";

/// The answer to one of these that is made at once; the request has so many bytes.
pub(super) fn client_reply(
    command: Local,
    arguments: Arguments<'_>,
    bytes: usize,
    client: &ClientState,
    registry: &Registry,
) -> Frame {
    match command {
        Local::ClientId => integer(client.entry.id),
        Local::ClientSetName => match client_name(arguments.get(2).unwrap_or_default()) {
            Some(name) => {
                client.rename(name);
                simple("OK")
            }
            None => error(BAD_NAME),
        },
        Local::ClientInfo => text(client.entry.line(bytes)),
        Local::ClientList => match chosen(arguments, registry) {
            Ok(clients) => {
                let own = client.entry.id;
                let unread = |client: &Entry| if client.id == own { bytes } else { 0 };
                text(clients.iter().flat_map(|client| client.line(unread(client))).collect())
            }
            Err(text) => Frame::Error(text),
        },
        _ => {
            let name = client.entry.details.lock().name.clone();
            if name.is_empty() { Frame::Null } else { Frame::Bulk(name) }
        }
    }
}

/// Those that CLIENT LIST asks for.
fn chosen(arguments: Arguments<'_>, registry: &Registry) -> Result<Vec<Arc<Entry>>, Bytes> {
    let mut clients = registry.all();
    let (Some(option), Some(word)) = (arguments.get(2), arguments.get(3)) else {
        return if arguments.len() == 2 { Ok(clients) } else { Err(SYNTAX.into()) };
    };
    if option.eq_ignore_ascii_case(b"TYPE") && arguments.len() == 4 {
        let kind = kind_of(word)?;
        clients.retain(|client| client.kind() == kind);
    } else if option.eq_ignore_ascii_case(b"ID") {
        let ids: Option<Vec<i64>> = arguments.iter().skip(3).map(|word| signed(Some(word))).collect();
        let ids = ids.ok_or(Bytes::from_static(b"ERR Invalid client ID"))?;
        // Zero and less are numbers, and nobody's.
        clients = ids.iter().filter_map(|id| registry.get(u64::try_from(*id).ok()?)).collect();
    } else {
        return Err(SYNTAX.into());
    }
    Ok(clients)
}

/// The clients that `CLIENT KILL address` names, or those for whom all of its filters hold; `own` is the one who asks.
///
/// # Errors
/// What is said of a request that names none so.
pub(super) fn victims(
    arguments: Arguments<'_>,
    own: u64,
    registry: &Registry,
) -> Result<Vec<Arc<Entry>>, Frame> {
    let mut victims = registry.all();
    if arguments.len() == 3 {
        let address = String::from_utf8_lossy(arguments.get(2).unwrap_or_default()).into_owned();
        victims.retain(|client| client.address == address);
        victims.truncate(1);
        return if victims.is_empty() { Err(error("ERR No such client")) } else { Ok(victims) };
    }
    let mut skip_me = true;
    let mut at = 2;
    while at < arguments.len() {
        let (Some(option), Some(word)) = (arguments.get(at), arguments.get(at + 1)) else {
            return Err(error(SYNTAX));
        };
        if option.eq_ignore_ascii_case(b"SKIPME") {
            skip_me = match () {
                () if word.eq_ignore_ascii_case(b"yes") => true,
                () if word.eq_ignore_ascii_case(b"no") => false,
                () => return Err(error(SYNTAX)),
            };
        } else {
            keep_named(&mut victims, option, word)?;
        }
        at += 2;
    }
    victims.retain(|client| client.id != own || !skip_me);
    Ok(victims)
}

/// Keeps those for whom a filter of CLIENT KILL holds.
fn keep_named(victims: &mut Vec<Arc<Entry>>, option: &[u8], word: &[u8]) -> Result<(), Frame> {
    let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
    let text = String::from_utf8_lossy(word);
    match () {
        () if is(b"ID") => {
            let id = number::<u64>(Some(word)).filter(|id| *id > 0);
            let id = id.ok_or_else(|| error("ERR client-id should be greater than 0"))?;
            victims.retain(|client| client.id == id);
        }
        () if is(b"TYPE") => {
            let kind = kind_of(word).map_err(Frame::Error)?;
            victims.retain(|client| client.kind() == kind);
        }
        () if is(b"ADDR") => victims.retain(|client| client.address == text),
        () if is(b"LADDR") => victims.retain(|client| client.local_address == text),
        () if is(b"USER") => victims.retain(|client| client.details.lock().user == word),
        () if is(b"MAXAGE") => {
            let age_s = number::<u64>(Some(word)).filter(|age_s| *age_s > 0);
            let age_s = age_s.ok_or_else(|| error("ERR maxage is not an integer or out of range"))?;
            victims.retain(|client| client.age_s() >= age_s);
        }
        () => return Err(error(SYNTAX)),
    }
    Ok(())
}

/// What `CLIENT REPLY word` asks for of a client in this mode; `None` if it is none of the three.
pub(super) fn reply_mode(word: &[u8], before: ReplyMode) -> Option<ReplyMode> {
    // Redis reads it as a C string; what it took for one of these must not get on a shared lane.
    let word = c_text(word);
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    match () {
        () if is(b"ON") => Some(ReplyMode::On),
        () if is(b"OFF") => Some(ReplyMode::Off),
        // Within OFF it changes nothing.
        () if is(b"SKIP") && before == ReplyMode::Off => Some(ReplyMode::Off),
        () if is(b"SKIP") => Some(ReplyMode::SkipNext),
        () => None,
    }
}

/// CLIENT UNBLOCK with the number by which Redis knows the connection that waits, if it knows one, and else this.
pub(super) fn unblock(arguments: Arguments<'_>, known: i64) -> Bytes {
    let known = known.to_string();
    let mut words: Vec<&[u8]> = arguments.iter().collect();
    if let Some(id) = words.get_mut(2) {
        *id = known.as_bytes();
    }
    let mut bytes = BytesMut::new();
    encode_command(&mut bytes, &words);
    bytes.freeze()
}

/// A CLIENT KILL of nobody, in the place of that of a client: Redis looks at its filters, too, at users above all, of whom it
/// knows more than those who are here, and at those that only some servers have.
pub(super) fn kill_nobody<'a>(arguments: Arguments<'a>) -> Vec<&'a [u8]> {
    let mut words: Vec<&[u8]> = match arguments.len() {
        3 => vec![b"CLIENT", b"KILL"],
        _ => arguments.iter().collect(),
    };
    words.extend([&b"ID"[..], NOBODY]);
    words
}

/// A text for people: verbatim in RESP3, which is what Redis says there.
fn text(lines: Vec<u8>) -> Frame {
    Frame::Verbatim { format: *b"txt", text: lines.into() }
}

/// The kinds of clients that there can be here, and those that there cannot (networking.c, `getClientTypeByName`).
fn kind_of(word: &[u8]) -> Result<&'static str, Bytes> {
    let kinds = [
        ("normal", "normal"),
        ("pubsub", "pubsub"),
        ("replica", "replica"),
        ("slave", "replica"),
        ("master", "master"),
    ];
    kinds
        .into_iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, kind)| kind)
        .ok_or_else(|| [b"ERR Unknown client type '", c_text(word), b"'"].concat().into())
}
