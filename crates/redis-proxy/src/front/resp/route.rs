//! Which way a command goes: the lane that the crate `command` names, in the words of this front.

use command::{Command, Commands, Flags, Lane, Pin, Standing};
use resp::Arguments;

use super::connection::is;
use super::tracking;
use crate::lanes::Pace;

pub(super) use command::Local;

/// A way through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Answered here.
    Local(Local),
    /// On a connection that others use too.
    Shared {
        pace: Pace,
        /// Whether it may be sent twice.
        read: bool,
    },
    /// On a connection of the client's own.
    Pinned(Why),
    /// As Pinned, and from then on bytes go both ways unread.
    Tunnel,
}

/// Why a command needs a connection of its client's own, which is also what its reply means for that connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Multi,
    Watch,
    Blocking,
    Wait,
    Subscribe,
    Unsubscribe(Kind),
    /// Redis has not named it: if it succeeds nevertheless, it may have done anything to its connection.
    Unknown,
    /// Redis may let it wait for the end of a CLIENT PAUSE.
    Paused,
    /// CLIENT TRACKING ON.
    Tracking,
    /// It changes something of its connection that only the end of the connection undoes for certain.
    State,
}

/// What a client can be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Channel,
    Pattern,
    Shard,
}

/// The way of a request whose client holds no connection, and its command if that is known.
///
/// A command with too few or too many arguments goes along a shared lane, where Redis says so in its own words and does
/// nothing; but HELLO never does, because old servers apply it as far as it makes sense.
///
/// A command that the Redis at hand does not name (`is_live` if it has named them all) is most likely none. But it may be
/// one that was renamed, which COMMAND does not tell (`rename-command`): a MULTI or a BLPOP must not get on a shared lane.
pub(super) fn route<'a>(
    commands: &'a Commands,
    is_live: bool,
    arguments: Arguments<'_>,
) -> (Route, Option<&'a Command>) {
    let (command, lane) = commands.route(arguments, Standing::Free);
    let fits = command.is_none_or(|command| command.takes(arguments.len()));
    let read = command.is_some_and(|command| command.flags().has(Flags::READONLY));
    let route = match lane {
        Lane::Local(local @ (Local::Hello | Local::Guard | Local::Quit)) => Route::Local(local),
        Lane::Slow => Route::Shared { pace: Pace::Slow, read },
        Lane::Local(local) if fits && is_understood(local, arguments) => Route::Local(local),
        Lane::Tunnel if fits => Route::Tunnel,
        // A subcommand of CLIENT that is not known may say something of the client, and so of its connection.
        Lane::Shared if command.is_none() && (is_live || is(arguments, b"CLIENT")) => {
            Route::Pinned(Why::Unknown)
        }
        Lane::Pinned(why) if fits => match why {
            Pin::Transaction => Route::Pinned(Why::Multi),
            Pin::Watch => Route::Pinned(Why::Watch),
            Pin::Blocking => Route::Pinned(Why::Blocking),
            Pin::Wait => Route::Pinned(Why::Wait),
            Pin::Subscribe => Route::Pinned(match command.map(Command::name) {
                Some("unsubscribe") => Why::Unsubscribe(Kind::Channel),
                Some("punsubscribe") => Why::Unsubscribe(Kind::Pattern),
                Some("sunsubscribe") => Why::Unsubscribe(Kind::Shard),
                _ => Why::Subscribe,
            }),
            Pin::Tracking if tracking::wanted(arguments) == Some(true) => Route::Pinned(Why::Tracking),
            // Of a client that tracks nothing it changes nothing.
            Pin::Tracking => Route::Shared { pace: Pace::Quick, read },
            Pin::State | Pin::Held => Route::Pinned(Why::State),
        },
        _ => Route::Shared { pace: Pace::Quick, read },
    };
    (route, command)
}

/// Whether a request of which only the first arguments are here can be sent on as it comes: its reply changes nothing that
/// is remembered of its client.
pub(super) fn may_stream(commands: &Commands, arguments: Arguments<'_>) -> bool {
    !arguments.is_empty() && matches!(commands.route(arguments, Standing::Free).1, Lane::Shared | Lane::Slow)
}

/// What the table of commands does not tell of their arity.
fn is_understood(local: Local, arguments: Arguments<'_>) -> bool {
    match local {
        Local::Auth => arguments.len() <= 3,
        _ => true,
    }
}
