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
//! The decision is a table: a command's [`Rule`] by its name. What a client has begun is not known here.

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
    Pinned(PinReason),
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
    /// `CLUSTER` and what goes with it, of a node that is emulated. No rule names it: whether one is, is not known here.
    Cluster,
    /// `POST` or `Host:` as a command: a browser led astray. Redis closes without a word (server.c, `processCommand`).
    Guard,
    Hello,
    Quit,
    Reset,
    Select,
}

/// Why a client needs a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinReason {
    /// `MULTI`: until `EXEC`, `DISCARD` or `RESET`.
    Multi,
    /// `WATCH`: until `EXEC`, `DISCARD`, `UNWATCH` or `RESET`.
    Watch,
    /// It may have to wait: until the reply. If the client goes first, close the connection at once, or an element that was
    /// popped for it is lost.
    Blocking,
    /// `WAIT` asks about the writes of its own connection: until the reply.
    Wait,
    /// Until none is subscribed to, or `RESET`. Not one reply a request: one a channel.
    Subscribe,
    /// Not one reply a request, either.
    Unsubscribe(SubscriptionKind),
    /// Client-side caching: until it is off, or `RESET`.
    Tracking,
    /// Another state of the connection, which only its end undoes for certain.
    State,
    /// `MONITOR` and what makes a replica: to the end of either. What comes from there on answers no request.
    Feed,
    /// Redis has not named it: if it succeeds nevertheless, it may have done anything to its connection.
    Unknown,
    /// Redis may let it wait for the end of a CLIENT PAUSE.
    Paused,
}

/// What a client can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what its name says")]
pub enum SubscriptionKind {
    Channel,
    Pattern,
    Shard,
}

/// How a command of some name is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nothing is special about it.
    Shared,
    /// The proxy answers.
    Local(Local),
    Slow,
    Pin(PinReason),
    /// It waits if its options say so.
    Xread,
}

/// The commands that are special by name. Those of other names that have the flag `blocking` are [`PinReason::Blocking`], and other
/// subcommands of CLIENT are [`PinReason::State`]: what a later server knows to say of a client stays with its connection.
const RULES: &[(&str, Rule)] = &[
    ("auth", Rule::Local(Local::Auth)),
    ("client|caching", Rule::Pin(PinReason::Tracking)),
    ("client|getname", Rule::Local(Local::ClientGetName)),
    ("client|getredir", Rule::Shared),
    ("client|help", Rule::Shared),
    ("client|id", Rule::Local(Local::ClientId)),
    ("client|info", Rule::Local(Local::ClientInfo)),
    ("client|kill", Rule::Local(Local::ClientKill)),
    ("client|list", Rule::Local(Local::ClientList)),
    ("client|no-evict", Rule::Pin(PinReason::State)),
    ("client|no-touch", Rule::Pin(PinReason::State)),
    ("client|pause", Rule::Shared),
    ("client|reply", Rule::Local(Local::ClientReply)),
    ("client|setinfo", Rule::Local(Local::ClientSetInfo)),
    ("client|setname", Rule::Local(Local::ClientSetName)),
    ("client|tracking", Rule::Pin(PinReason::Tracking)),
    ("client|trackinginfo", Rule::Shared),
    ("client|unblock", Rule::Local(Local::ClientUnblock)),
    ("client|unpause", Rule::Shared),
    ("hello", Rule::Local(Local::Hello)),
    ("quit", Rule::Local(Local::Quit)),
    ("reset", Rule::Local(Local::Reset)),
    ("select", Rule::Local(Local::Select)),
    // A state of the connection.
    ("asking", Rule::Pin(PinReason::State)),
    ("multi", Rule::Pin(PinReason::Multi)),
    ("psubscribe", Rule::Pin(PinReason::Subscribe)),
    ("punsubscribe", Rule::Pin(PinReason::Unsubscribe(SubscriptionKind::Pattern))),
    ("readonly", Rule::Pin(PinReason::State)),
    ("readwrite", Rule::Pin(PinReason::State)),
    ("replconf", Rule::Pin(PinReason::State)),
    ("script|debug", Rule::Pin(PinReason::State)),
    ("ssubscribe", Rule::Pin(PinReason::Subscribe)),
    ("subscribe", Rule::Pin(PinReason::Subscribe)),
    ("sunsubscribe", Rule::Pin(PinReason::Unsubscribe(SubscriptionKind::Shard))),
    ("unsubscribe", Rule::Pin(PinReason::Unsubscribe(SubscriptionKind::Channel))),
    ("wait", Rule::Pin(PinReason::Wait)),
    ("waitaof", Rule::Pin(PinReason::Wait)),
    ("watch", Rule::Pin(PinReason::Watch)),
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
    ("pfselftest", Rule::Slow),
    ("save", Rule::Slow),
    ("shutdown", Rule::Slow),
    ("sort", Rule::Slow),
    ("sort_ro", Rule::Slow),
    ("xread", Rule::Xread),
    ("xreadgroup", Rule::Xread),
    // More than one reply.
    ("monitor", Rule::Pin(PinReason::Feed)),
    ("psync", Rule::Pin(PinReason::Feed)),
    ("sync", Rule::Pin(PinReason::Feed)),
];

impl Rule {
    pub(crate) fn of(name: &str, flags: Flags) -> Self {
        let by_name = RULES.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule);
        by_name.unwrap_or(match () {
            () if flags.has(Flags::BLOCKING) => Self::Pin(PinReason::Blocking),
            () if name.starts_with("client|") => Self::Pin(PinReason::State),
            () => Self::Shared,
        })
    }

    fn lane(self, arguments: Arguments<'_>) -> Lane {
        match self {
            Self::Xread if xread_options(arguments).blocks => Lane::Pinned(PinReason::Blocking),
            Self::Shared | Self::Xread => Lane::Shared,
            Self::Local(local) => Lane::Local(local),
            Self::Slow => Lane::Slow,
            Self::Pin(reason) => Lane::Pinned(reason),
        }
    }
}

impl Commands {
    /// The command that a request calls, if it is known, and the lane of the request, whether or not Redis would take so many
    /// arguments.
    pub fn route(&self, arguments: Arguments<'_>) -> (Option<&Command>, Lane) {
        if let Some(command) = self.find(arguments) {
            return (Some(command), command.rule.lane(arguments));
        }
        let name = arguments.get(0).unwrap_or_default();
        let astray = name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:");
        (None, if astray { Lane::Local(Local::Guard) } else { Lane::Shared })
    }
}

#[cfg(test)]
mod tests {
    use resp::{RequestLimits, RequestParser};

    use super::*;

    fn lane(line: &str) -> Lane {
        let input = format!("{line}\n").into_bytes();
        let mut parser = RequestParser::new(RequestLimits::REDIS);
        parser.parse(&input).expect("an inline request");
        Commands::built_in().route(parser.arguments(&input)).1
    }

    #[test]
    fn requests_travel_by_the_table() {
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
            ("MULTI", Lane::Pinned(PinReason::Multi)),
            ("WATCH k", Lane::Pinned(PinReason::Watch)),
            ("BLPOP k 0", Lane::Pinned(PinReason::Blocking)),
            ("BZMPOP 0 1 k MIN", Lane::Pinned(PinReason::Blocking)),
            ("XREAD STREAMS block 0", Lane::Shared),
            ("XREAD COUNT 1 BLOCK 0 STREAMS s 0", Lane::Pinned(PinReason::Blocking)),
            ("XREADGROUP GROUP block c STREAMS s 0", Lane::Shared),
            ("XREADGROUP GROUP g c BLOCK 0 STREAMS s 0", Lane::Pinned(PinReason::Blocking)),
            ("WAIT 0 0", Lane::Pinned(PinReason::Wait)),
            ("SSUBSCRIBE c", Lane::Pinned(PinReason::Subscribe)),
            ("UNSUBSCRIBE", Lane::Pinned(PinReason::Unsubscribe(SubscriptionKind::Channel))),
            ("CLIENT TRACKING ON", Lane::Pinned(PinReason::Tracking)),
            ("CLIENT NO-EVICT ON", Lane::Pinned(PinReason::State)),
            ("MONITOR", Lane::Pinned(PinReason::Feed)),
            ("PSYNC ? -1", Lane::Pinned(PinReason::Feed)),
        ];
        for (line, expected) in cases {
            assert_eq!(lane(line), expected, "{line}");
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
