//! `PROXY SLOWLOG`: a client is shown what its own user was slow with, in its own database.

use bytes::Bytes;
use resp::{Arguments, Frame};

use super::client_state::ClientState;
use super::reply::{error, integer, simple};
use super::sessions::Sessions;
use super::words::{is_at, number};
use crate::slow_log::SlowCommand;

/// Commands that are shown if nothing else is asked for (Redis, slowlog.c).
const SHOWN: usize = 10;

/// What a client is told that may not look.
const NOT_ADMIN: &str = "NOPERM proxy: this client may not look at the slow log (RESP_PROXY_ADMIN)";

/// The answer to `PROXY SLOWLOG GET [count] | LEN | RESET`; none if it is asked for something else.
pub(super) fn slow_log(sessions: &Sessions, client: &ClientState, arguments: Arguments<'_>) -> Option<Frame> {
    let log = &sessions.settings.slow_log;
    if !client.is_admin(sessions.limits.get()) {
        return Some(error(NOT_ADMIN));
    }
    let (user, db) = {
        let details = client.entry.details.lock();
        (details.user.clone(), details.db)
    };
    let is_own = |one: &SlowCommand| {
        one.owner.as_ref().is_some_and(|(owner, owners_db)| **owner == user[..] && *owners_db == db)
    };
    let of_subcommand = |word: &str, len: usize| arguments.len() == len && is_at(arguments, 2, word);
    match () {
        () if of_subcommand("LEN", 3) => Some(integer(log.latest(usize::MAX, is_own).len() as u64)),
        () if of_subcommand("RESET", 3) => {
            log.forget(is_own);
            Some(simple("OK"))
        }
        () if of_subcommand("GET", 3) => Some(shown(&log.latest(SHOWN, is_own))),
        () if of_subcommand("GET", 4) => Some(match number(arguments.get(3)) {
            Some(count) => shown(&log.latest(count, is_own)),
            None => error("ERR value is out of range, must be positive"),
        }),
        () => None,
    }
}

/// As SLOWLOG GET has them, but with where the time went in place of the client's name: in line, in Redis, and delivered.
fn shown(commands: &[SlowCommand]) -> Frame {
    let bulk = |bytes: &[u8]| Frame::Bulk(Bytes::copy_from_slice(bytes));
    let micros = |ns: u64| integer(ns / 1_000);
    let lines = commands.iter().map(|one| {
        Frame::Array(vec![
            integer(one.id),
            integer(one.at_ms / 1_000),
            micros(one.spent.total_ns()),
            Frame::Array(one.arguments.iter().map(|argument| bulk(argument)).collect()),
            bulk(one.client.as_bytes()),
            micros(one.spent.queued_ns),
            micros(one.spent.redis_ns),
            micros(one.spent.delivered_ns.unwrap_or(0)),
        ])
    });
    Frame::Array(lines.collect())
}
