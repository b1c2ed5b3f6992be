//! CLIENT TRACKING with REDIRECT: the client that is to hear of invalidations is one of ours, and Redis must be told the
//! connection that is its own. So it gets one, and keeps it: invalidations come there at any time.

use bytes::BytesMut;
use resp::{Arguments, encode_command};

use super::connection::{Busy, Connection, is, number};
use super::reply::c_text;

/// What Redis will say does not exist, in its own words.
const NOBODY: i64 = i64::MAX;

/// Whom invalidations go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    /// The number that its client knows.
    pub(super) own: u64,
    /// The number that Redis knows.
    upstream: i64,
}

impl Redirect {
    /// Puts our number in the place of that of Redis, in the reply to CLIENT GETREDIR or TRACKINGINFO.
    pub(super) fn translate(&self, reply: &mut Vec<u8>) {
        let theirs = format!(":{}\r\n", self.upstream).into_bytes();
        let field = [b"redirect\r\n", &theirs[..]].concat();
        let at = match reply.windows(field.len()).position(|window| window == field) {
            Some(at) => at + field.len() - theirs.len(),
            None if *reply == theirs => 0,
            None => return,
        };
        reply.splice(at..at + theirs.len(), format!(":{}\r\n", self.own).into_bytes());
    }
}

/// What CLIENT TRACKING asks for, as far as it concerns the client's connection. `None` if the command is another, or has a
/// mistake that makes it nothing.
pub(super) fn wanted(arguments: Arguments<'_>) -> Option<bool> {
    let word = c_text(arguments.get(2).filter(|_| is(arguments, b"CLIENT"))?);
    arguments.get(1).filter(|name| name.eq_ignore_ascii_case(b"TRACKING"))?;
    match (word.eq_ignore_ascii_case(b"ON"), word.eq_ignore_ascii_case(b"OFF")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// Whether the reply names the client that invalidations are redirected to.
pub(super) fn shows_redirect(arguments: Arguments<'_>) -> bool {
    let named = |name: &[u8]| arguments.get(1).is_some_and(|word| word.eq_ignore_ascii_case(name));
    is(arguments, b"CLIENT") && (named(b"GETREDIR") || named(b"TRACKINGINFO"))
}

/// Where the arguments of CLIENT TRACKING name a client.
fn redirect_at(arguments: Arguments<'_>) -> Option<usize> {
    let mut at = 3;
    while let Some(option) = arguments.get(at) {
        let option = c_text(option);
        if option.eq_ignore_ascii_case(b"REDIRECT") {
            return arguments.get(at + 1).map(|_| at + 1);
        }
        at += if option.eq_ignore_ascii_case(b"PREFIX") { 2 } else { 1 };
    }
    None
}

/// How a CLIENT TRACKING goes to Redis.
pub(super) enum Told {
    /// As it is.
    Plain,
    /// In these words.
    Translated(BytesMut, Option<Redirect>),
    /// Not before the client that it names has a connection.
    Wait,
}

impl Connection {
    /// Puts the number of Redis in the place of ours.
    pub(super) fn redirect(&mut self, arguments: Arguments<'_>) -> Told {
        let Some(at) = redirect_at(arguments) else {
            return Told::Plain;
        };
        let Some(own) = number::<u64>(arguments.get(at)) else {
            return Told::Plain;
        };
        let target = self.registry().get(own);
        let upstream = target.as_ref().and_then(|target| target.upstream_id());
        let redirect = match (target, upstream) {
            (Some(target), None) => {
                target.want_pin();
                self.wait_for(Busy::Redirect(target));
                return Told::Wait;
            }
            (Some(target), Some(upstream)) => {
                target.want_pin();
                Some(Redirect { own, upstream })
            }
            (None, _) => None,
        };
        let theirs = redirect.map_or(NOBODY, |redirect| redirect.upstream).to_string();
        let mut words: Vec<&[u8]> = arguments.iter().collect();
        words[at] = theirs.as_bytes();
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, &words);
        Told::Translated(bytes, redirect)
    }
}
