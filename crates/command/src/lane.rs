//! The lane of a request: which kind of upstream connection it travels on.
//!
//! A connection to Redis has a state: a transaction that is open, keys that are watched, channels that are subscribed to,
//! a database, a name. A request may share a connection with other clients' only if it neither makes such a state nor needs
//! one, has one reply, and keeps nobody waiting. All others have a lane of their own, or are answered by the proxy, which
//! knows the client's database and name itself.
//!
//! Scripts and other slow commands are apart for another reason than their length, for a Redis that is busy is busy for all:
//! what ends them (`SCRIPT KILL`, `SHUTDOWN ABORT`) must not stand behind them in the same queue.
//!
//! The decision is two tables: a command's [`Rule`] by its name, and a lane by the rule and the client's [`Standing`].

use resp::Arguments;

use crate::keys::xread_options;
use crate::{Command, Commands, Flags};

/// Which kind of upstream connection a request travels on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// None: the proxy answers.
    Local(Local),
    /// One shared by all clients of an identity, database and protocol version.
    Shared,
    /// One of its own from the request to the reply, so that it holds up nobody.
    Slow,
    /// One of the client's own, for as long as the reason lasts.
    Pinned(Pin),
    /// One of the client's own to the end of either: what comes from there on answers no request.
    Tunnel,
}

/// What the proxy answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of its name")]
pub enum Local {
    Auth,
    ClientGetName,
    ClientId,
    ClientInfo,
    ClientKill,
    ClientList,
    ClientReply,
    ClientSetInfo,
    ClientSetName,
    /// The client to unblock is one of ours.
    ClientUnblock,
    /// `POST` or `Host:` as a command: a browser led astray. Redis closes without a word (server.c, `processCommand`).
    Guard,
    Hello,
    Quit,
    Reset,
    Select,
}

/// Why a client needs a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// It has one, and the request may see its state.
    Held,
    /// `MULTI`: until `EXEC`, `DISCARD` or `RESET`.
    Transaction,
    /// `WATCH`: until `EXEC`, `DISCARD`, `UNWATCH` or `RESET`.
    Watch,
    /// It may have to wait: until the reply. If the client goes first, close the connection at once, or an element that was
    /// popped for it is lost.
    Blocking,
    /// `WAIT` asks about the writes of its own connection: until the reply.
    Wait,
    /// Channels: until none is subscribed to, or `RESET`. Not one reply a request: one a channel.
    Subscribe,
    /// Client-side caching: until it is off, or `RESET`.
    Tracking,
    /// Another state of the connection, which `RESET` may end.
    State,
}

/// Where a client stands between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds no connection.
    Free,
    /// It holds one, and Redis takes all commands from it: watching, tracking, or subscribed with RESP3.
    Pinned,
    /// It is subscribed with RESP2: Redis refuses all but a few commands, and answers those in another shape.
    Subscribed,
    /// It is between `MULTI` and `EXEC`: Redis queues what it sends.
    Transaction,
}

/// How a command of some name is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nothing is special about it.
    Shared,
    /// The proxy answers, unless Redis would queue or refuse it.
    Local(Local),
    /// The proxy answers whatever the client has begun.
    Always(Local),
    Slow,
    Pin(Pin),
    /// It waits if its options say so.
    Xread,
    Tunnel,
}

/// The commands that are special by name. Those of other names that have the flag `blocking` are [`Pin::Blocking`], and other
/// subcommands of CLIENT are [`Pin::State`]: what a later server knows to say of a client stays with its connection.
const RULES: &[(&str, Rule)] = &[
    ("auth", Rule::Local(Local::Auth)),
    ("client|caching", Rule::Pin(Pin::Tracking)),
    ("client|getname", Rule::Local(Local::ClientGetName)),
    ("client|getredir", Rule::Shared),
    ("client|help", Rule::Shared),
    ("client|id", Rule::Local(Local::ClientId)),
    ("client|info", Rule::Local(Local::ClientInfo)),
    ("client|kill", Rule::Local(Local::ClientKill)),
    ("client|list", Rule::Local(Local::ClientList)),
    ("client|no-evict", Rule::Pin(Pin::State)),
    ("client|no-touch", Rule::Pin(Pin::State)),
    ("client|pause", Rule::Shared),
    ("client|reply", Rule::Local(Local::ClientReply)),
    ("client|setinfo", Rule::Local(Local::ClientSetInfo)),
    ("client|setname", Rule::Local(Local::ClientSetName)),
    ("client|tracking", Rule::Pin(Pin::Tracking)),
    ("client|trackinginfo", Rule::Shared),
    ("client|unblock", Rule::Local(Local::ClientUnblock)),
    ("client|unpause", Rule::Shared),
    ("hello", Rule::Local(Local::Hello)),
    ("quit", Rule::Always(Local::Quit)),
    ("reset", Rule::Always(Local::Reset)),
    ("select", Rule::Local(Local::Select)),
    // A state of the connection.
    ("asking", Rule::Pin(Pin::State)),
    ("multi", Rule::Pin(Pin::Transaction)),
    ("psubscribe", Rule::Pin(Pin::Subscribe)),
    ("punsubscribe", Rule::Pin(Pin::Subscribe)),
    ("readonly", Rule::Pin(Pin::State)),
    ("readwrite", Rule::Pin(Pin::State)),
    ("replconf", Rule::Pin(Pin::State)),
    ("script|debug", Rule::Pin(Pin::State)),
    ("ssubscribe", Rule::Pin(Pin::Subscribe)),
    ("subscribe", Rule::Pin(Pin::Subscribe)),
    ("sunsubscribe", Rule::Pin(Pin::Subscribe)),
    ("unsubscribe", Rule::Pin(Pin::Subscribe)),
    ("wait", Rule::Pin(Pin::Wait)),
    ("waitaof", Rule::Pin(Pin::Wait)),
    ("watch", Rule::Pin(Pin::Watch)),
    // What can take long, or answer much.
    ("debug", Rule::Slow),
    ("eval", Rule::Slow),
    ("eval_ro", Rule::Slow),
    ("evalsha", Rule::Slow),
    ("evalsha_ro", Rule::Slow),
    ("fcall", Rule::Slow),
    ("fcall_ro", Rule::Slow),
    ("keys", Rule::Slow),
    ("migrate", Rule::Slow),
    ("save", Rule::Slow),
    ("shutdown", Rule::Slow),
    ("sort", Rule::Slow),
    ("sort_ro", Rule::Slow),
    ("xread", Rule::Xread),
    ("xreadgroup", Rule::Xread),
    // More than one reply.
    ("monitor", Rule::Tunnel),
    ("psync", Rule::Tunnel),
    ("sync", Rule::Tunnel),
];

impl Rule {
    pub(crate) fn of(name: &str, flags: Flags) -> Self {
        let by_name = RULES.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule);
        by_name.unwrap_or(match () {
            () if flags.has(Flags::BLOCKING) => Self::Pin(Pin::Blocking),
            () if name.starts_with("client|") => Self::Pin(Pin::State),
            () => Self::Shared,
        })
    }

    /// The lane by rule and standing.
    #[rustfmt::skip]
    fn lane(self, standing: Standing) -> Lane {
        use Standing::{Free, Pinned, Subscribed, Transaction};
        const HELD: Lane = Lane::Pinned(Pin::Held);
        match (self, standing) {
            (Self::Always(local), _)                            => Lane::Local(local),
            (_, Transaction)                                    => HELD,
            (Self::Pin(why), _)                                 => Lane::Pinned(why),
            (_, Subscribed)                                     => HELD,
            (Self::Local(local), Free | Pinned)                 => Lane::Local(local),
            (Self::Tunnel, Free | Pinned)                       => Lane::Tunnel,
            (Self::Slow, Free)                                  => Lane::Slow,
            (Self::Shared | Self::Xread, Free)                  => Lane::Shared,
            (Self::Slow | Self::Shared | Self::Xread, Pinned)   => HELD,
        }
    }
}

impl Command {
    /// The lane of a request of this command.
    pub fn lane(&self, arguments: Arguments<'_>, standing: Standing) -> Lane {
        match self.rule {
            Rule::Xread if xread_options(arguments).blocks => Rule::Pin(Pin::Blocking).lane(standing),
            rule => rule.lane(standing),
        }
    }
}

impl Commands {
    /// The command that a request calls, if it is known, and the lane of the request.
    pub fn route(&self, arguments: Arguments<'_>, standing: Standing) -> (Option<&Command>, Lane) {
        if let Some(command) = self.find(arguments) {
            return (Some(command), command.lane(arguments, standing));
        }
        let name = arguments.get(0).unwrap_or_default();
        let astray = name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:");
        let rule = if astray { Rule::Always(Local::Guard) } else { Rule::Shared };
        (None, rule.lane(standing))
    }
}

#[cfg(test)]
mod tests {
    use resp::{RequestLimits, RequestParser};

    use super::*;

    fn lane(line: &str, standing: Standing) -> Lane {
        let input = format!("{line}\n").into_bytes();
        let mut parser = RequestParser::new(RequestLimits::REDIS);
        parser.parse(&input).expect("an inline request");
        Commands::built_in().route(parser.arguments(&input), standing).1
    }

    #[test]
    fn a_free_clients_requests_travel_by_the_table() {
        let cases = [
            ("GET k", Lane::Shared),
            ("get k", Lane::Shared),
            ("no.such command", Lane::Shared),
            ("CLIENT", Lane::Shared),
            ("CLIENT NOSUCH", Lane::Shared),
            ("CLIENT TRACKINGINFO", Lane::Shared),
            ("EXEC", Lane::Shared),
            ("UNWATCH", Lane::Shared),
            ("PUBLISH c m", Lane::Shared),
            ("FLUSHALL", Lane::Shared),
            ("COMMAND DOCS", Lane::Shared),
            ("ping", Lane::Shared),
            ("ECHO a", Lane::Shared),
            ("HELLO 3", Lane::Local(Local::Hello)),
            ("select 1", Lane::Local(Local::Select)),
            ("client Id", Lane::Local(Local::ClientId)),
            ("Client setname x", Lane::Local(Local::ClientSetName)),
            ("Post / HTTP/1.1", Lane::Local(Local::Guard)),
            ("HOST: a", Lane::Local(Local::Guard)),
            ("EVAL x 0", Lane::Slow),
            ("KEYS *", Lane::Slow),
            ("MULTI", Lane::Pinned(Pin::Transaction)),
            ("WATCH k", Lane::Pinned(Pin::Watch)),
            ("BLPOP k 0", Lane::Pinned(Pin::Blocking)),
            ("BZMPOP 0 1 k MIN", Lane::Pinned(Pin::Blocking)),
            ("XREAD STREAMS block 0", Lane::Shared),
            ("XREAD COUNT 1 BLOCK 0 STREAMS s 0", Lane::Pinned(Pin::Blocking)),
            ("XREADGROUP GROUP block c STREAMS s 0", Lane::Shared),
            ("XREADGROUP GROUP g c BLOCK 0 STREAMS s 0", Lane::Pinned(Pin::Blocking)),
            ("WAIT 0 0", Lane::Pinned(Pin::Wait)),
            ("SSUBSCRIBE c", Lane::Pinned(Pin::Subscribe)),
            ("UNSUBSCRIBE", Lane::Pinned(Pin::Subscribe)),
            ("CLIENT TRACKING ON", Lane::Pinned(Pin::Tracking)),
            ("CLIENT NO-EVICT ON", Lane::Pinned(Pin::State)),
            ("MONITOR", Lane::Tunnel),
            ("PSYNC ? -1", Lane::Tunnel),
        ];
        for (line, expected) in cases {
            assert_eq!(lane(line, Standing::Free), expected, "{line}");
        }
    }

    #[test]
    fn who_holds_a_connection_talks_through_it() {
        const HELD: Lane = Lane::Pinned(Pin::Held);
        let (pinned, subscribed, transaction) =
            (Standing::Pinned, Standing::Subscribed, Standing::Transaction);
        let cases = [
            ("GET k", [HELD, HELD, HELD]),
            ("no.such", [HELD, HELD, HELD]),
            ("PING", [HELD, HELD, HELD]),
            ("EVAL x 0", [HELD, HELD, HELD]),
            ("XREAD STREAMS s 0", [HELD, HELD, HELD]),
            ("CLIENT ID", [Lane::Local(Local::ClientId), HELD, HELD]),
            ("HELLO 2", [Lane::Local(Local::Hello), HELD, HELD]),
            ("SELECT 1", [Lane::Local(Local::Select), HELD, HELD]),
            ("RESET", [Lane::Local(Local::Reset); 3]),
            ("QUIT", [Lane::Local(Local::Quit); 3]),
            ("POST /", [Lane::Local(Local::Guard); 3]),
            ("BLPOP k 0", [Lane::Pinned(Pin::Blocking), Lane::Pinned(Pin::Blocking), HELD]),
            ("MULTI", [Lane::Pinned(Pin::Transaction), Lane::Pinned(Pin::Transaction), HELD]),
            ("SUBSCRIBE c", [Lane::Pinned(Pin::Subscribe), Lane::Pinned(Pin::Subscribe), HELD]),
            ("MONITOR", [Lane::Tunnel, HELD, HELD]),
        ];
        for (line, expected) in cases {
            let found = [pinned, subscribed, transaction].map(|standing| lane(line, standing));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn every_rule_is_that_of_a_command() {
        let commands = Commands::built_in();
        for (name, _) in RULES {
            let later = ["client|no-touch", "client|setinfo", "waitaof"]; // since Redis 7.2
            let known = commands.to_string().lines().any(|line| line.split(' ').next() == Some(name));
            assert!(known || later.contains(name), "{name}");
        }
    }
}
