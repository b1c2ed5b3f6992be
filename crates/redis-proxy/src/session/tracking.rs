//! CLIENT TRACKING with REDIRECT: the client that is to hear of invalidations is one of ours, and Redis must be told the
//! connection that is its own. So it gets one, and keeps it: invalidations come there at any time.

use std::sync::Arc;

use bytes::BytesMut;
use resp::{Arguments, encode_command};

use super::registry::{Entry, Registry};
use super::reply::c_text;
use super::words::{is, number};

/// What Redis will say does not exist, in its own words.
const NOBODY: i64 = i64::MAX;

/// How Redis begins to say, in RESP3, that it has lost the client which invalidations go to (tracking.c,
/// `sendTrackingMessage`). That client's number follows.
const BROKEN: &[u8] = b">2\r\n$21\r\ntracking-redir-broken\r\n";

/// Whether a push of which this is the beginning may name the client that invalidations go to.
pub(crate) fn may_name_target(push: &[u8]) -> bool {
    let len = push.len().min(BROKEN.len());
    push[..len] == BROKEN[..len]
}

/// A client that keeps its connection for as long as another needs it to.
pub(crate) struct Target(Arc<Entry>);

impl Target {
    fn new(entry: Arc<Entry>) -> Self {
        entry.want_pin();
        Target(entry)
    }

    /// Itself.
    pub(crate) fn entry(&self) -> &Entry {
        &self.0
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.0.release_pin();
    }
}

/// Whom invalidations go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    /// The number that its client knows.
    pub(crate) own: u64,
    /// The number that Redis knows.
    upstream: i64,
}

impl Redirect {
    /// Puts our number in the place of that of Redis, in the reply to CLIENT GETREDIR or TRACKINGINFO, or where Redis says that
    /// it has lost the client.
    pub(crate) fn translate(&self, reply: &mut Vec<u8>) {
        let theirs = format!(":{}\r\n", self.upstream).into_bytes();
        let field = [b"redirect\r\n", &theirs[..]].concat();
        let at = match reply.windows(field.len()).position(|window| window == field) {
            Some(at) => at + field.len() - theirs.len(),
            None if *reply == theirs => 0,
            None if reply.strip_prefix(BROKEN) == Some(&theirs[..]) => BROKEN.len(),
            None => return,
        };
        reply.splice(at..at + theirs.len(), format!(":{}\r\n", self.own).into_bytes());
    }
}

/// What CLIENT TRACKING asks for, as far as it concerns the client's connection. `None` if the command is another, or has a
/// mistake that makes it nothing.
pub(crate) fn wanted(arguments: Arguments<'_>) -> Option<bool> {
    let word = c_text(arguments.get(2).filter(|_| is(arguments, b"CLIENT"))?);
    arguments.get(1).filter(|name| name.eq_ignore_ascii_case(b"TRACKING"))?;
    match (word.eq_ignore_ascii_case(b"ON"), word.eq_ignore_ascii_case(b"OFF")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// Whether the reply names the client that invalidations are redirected to.
pub(crate) fn shows_redirect(arguments: Arguments<'_>) -> bool {
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

/// Whether CLIENT TRACKING names a client by its number.
pub(crate) fn names_number(arguments: Arguments<'_>) -> bool {
    redirected(arguments).is_some()
}

/// Whether CLIENT TRACKING names a client.
pub(crate) fn names_target(arguments: Arguments<'_>) -> bool {
    redirect_at(arguments).is_some()
}

/// How a CLIENT TRACKING ON goes to Redis.
pub(crate) enum Redirection {
    /// As it is.
    None,
    /// In these words, with the client that is to keep its connection.
    To(BytesMut, Option<Box<(Redirect, Target)>>),
    /// Not before the client that it names has a connection.
    NotYet(Target),
}

/// CLIENT TRACKING ON, with the number of Redis in the place of ours. `waited` is the client that it has waited for.
pub(crate) fn redirect(
    arguments: Arguments<'_>,
    registry: &Registry,
    waited: impl FnOnce() -> Option<Target>,
) -> Redirection {
    let Some((at, own)) = redirected(arguments) else {
        return Redirection::None;
    };
    let target = registry.get(own).map(|entry| match waited() {
        Some(target) if target.entry().id == own => target,
        _ => Target::new(entry),
    });
    let upstream = target.as_ref().and_then(|target| target.entry().pin()).map(|(_, id)| id);
    let to = match (target, upstream) {
        (Some(target), None) => return Redirection::NotYet(target),
        (Some(target), Some(upstream)) => Some(Box::new((Redirect { own, upstream }, target))),
        (None, _) => None,
    };
    let theirs = upstream.unwrap_or(NOBODY).to_string();
    let mut words: Vec<&[u8]> = arguments.iter().collect();
    words[at] = theirs.as_bytes();
    Redirection::To(encoded(&words), to)
}

/// CLIENT TRACKING OFF with REDIRECT: Redis looks whether there is such a client, and does nothing with it. So it need
/// not be named if there is. `None` if the request goes as it is.
pub(crate) fn redirect_off(arguments: Arguments<'_>, registry: &Registry) -> Option<BytesMut> {
    let (at, own) = redirected(arguments)?;
    let mut words: Vec<&[u8]> = arguments.iter().collect();
    let nobody = NOBODY.to_string();
    match registry.get(own) {
        Some(_) => drop(words.drain(at - 1..=at)),
        None => words[at] = nobody.as_bytes(),
    }
    Some(encoded(&words))
}

fn encoded(words: &[&[u8]]) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode_command(&mut bytes, words);
    bytes
}

/// The number that the REDIRECT of a CLIENT TRACKING names, and where.
fn redirected(arguments: Arguments<'_>) -> Option<(usize, u64)> {
    let name = arguments.get(1).filter(|_| is(arguments, b"CLIENT"))?;
    if !name.eq_ignore_ascii_case(b"TRACKING") {
        return None;
    }
    let at = redirect_at(arguments)?;
    Some((at, number(arguments.get(at))?))
}
