//! Where a command goes: what it is, beside where its client stands.
//!
//! [`plan`] decides and does nothing; whoever asks carries it out. What has to be known for that is all in [`Standing`], and
//! what a command is in [`Call`]. `plan.txt` lists the outcome for every command in every standing.
//!
//! Once a client's bytes go through a tunnel they are no commands any more, and nothing is planned.

mod at_once;

use command::{Command, Commands, Flags, Lane, Local, PinReason, Read};
use resp::Arguments;

pub(crate) use self::at_once::{gets_are_reads, reads_at_once};

use super::client_state::ReplyMode;
use super::expect::{Expect, Feed};
use super::pause::Pause;
use super::reply::c_text;
use super::tracking::{names_number, shows_redirect, wanted};
use super::words::{is, number};
use crate::lanes::Pace;

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing yet: it is asked again once more of what is on its way has been answered.
    Wait,
    /// Nothing before it is known whether its client must log in first.
    Admit,
    /// The proxy answers.
    Answer(Local),
    /// The proxy answers of itself: `PROXY`.
    Proxy,
    /// Redis answers INFO, and the proxy adds to it.
    Info,
    /// Along a shared lane; the proxy hears what Redis says to it.
    Pause(Pause),
    /// CLIENT TRACKING OFF that names a client, along a shared lane in other words.
    Untrack,
    /// From what is kept if it may be; else as [`Change`](Self::Change).
    Read(Read),
    /// Along a shared lane. It changes nothing.
    Pass(Pace),
    /// Along a shared lane, with a duty if it changes anything.
    Change(Pace),
    /// A connection of its own is to be had first.
    GetPin(PinReason),
    /// On the client's own connection, where its reply means this.
    Pin(Expect),
    /// The same for WAIT, behind something that has its connection write.
    Probe,
    /// Redis queues it in the client's transaction, and EXEC changes the client by it.
    Queue,
    /// On the client's own connection, whose bytes nobody looks at from here on.
    Tunnel,
    /// The client got no connection for what it asked.
    Refuse,
    /// The transaction that its client has begun gets its connection, at the node of this command, which is planned again.
    Begin,
    /// As [`Refuse`](Self::Refuse) for a MULTI: its transaction is begun, to be refused.
    Doom,
    /// EXEC of such a transaction.
    Abort,
    /// DISCARD of such a transaction.
    Forgive,
}

/// Where a client stands as it sends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) login: LoginState,
    /// Before the transition that this command makes.
    pub(crate) replies: ReplyMode,
    pub(crate) ahead: Ahead,
    pub(crate) holding: Holding,
}

/// Whether a client may do anything but log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginState {
    /// It has logged in, or need not.
    Done,
    /// It is not known that it need not.
    Open,
}

/// What a client has on its way, before the command at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    Nothing,
    /// Reads that wait; the first of them may be on a lane.
    Reads,
    /// Commands on a shared lane.
    Lane,
    /// Commands on its own connection.
    Pin,
}

/// What a client has of a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    Nothing,
    /// Nothing, while Redis lets clients wait (CLIENT PAUSE).
    Paused,
    /// There was none, or not what it needed, for the command at hand.
    Refused,
    /// There was none for the MULTI before.
    Doomed,
    /// Nothing yet for the MULTI before: where its transaction begins the next command tells.
    Deferred,
    Pin(Stage),
}

/// What a client has begun on its own connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing that changes what commands mean.
    Plain,
    /// Nothing can be sent on it any more.
    Shut,
    /// A transaction, which Redis has not granted yet.
    MultiAsked,
    /// A transaction: Redis queues what comes.
    Multi,
    /// Under RESP2, a subscription that Redis has confirmed: it refuses all but a few commands.
    Subscribed,
    /// Under RESP2, one that it may yet confirm, or has ended.
    Subscribing,
}

/// A request, as far as its meaning goes.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// `None` if nobody knows it.
    pub(crate) command: Option<&'a Command>,
    pub(crate) arguments: Arguments<'a>,
    /// Its lane if its client holds no connection.
    pub(crate) lane: Lane,
}

impl<'a> Call<'a> {
    /// Finds the request among the commands of Redis, which has named them all if it `is_live`.
    ///
    /// A command with too few or too many arguments goes along a shared lane, where Redis says so in its own words and does
    /// nothing; but HELLO never does, because old servers apply it as far as it makes sense.
    ///
    /// A command that the Redis at hand does not name is most likely none. But it may be one that was renamed, which COMMAND
    /// does not tell (`rename-command`): a MULTI or a BLPOP must not get on a shared lane.
    #[inline]
    pub(crate) fn new(commands: &'a Commands, is_live: bool, arguments: Arguments<'a>) -> Self {
        let (command, lane) = commands.route(arguments);
        let fits = || command.is_none_or(|command| command.takes(arguments.len()));
        let lane = match lane {
            Lane::Slow | Lane::Local(Local::Hello | Local::Guard | Local::Quit) => lane,
            Lane::Local(Local::Auth) if arguments.len() > 3 => Lane::Shared,
            // Of a client that tracks nothing it changes nothing.
            Lane::Pinned(PinReason::Tracking) if wanted(arguments) != Some(true) => Lane::Shared,
            Lane::Local(_) | Lane::Pinned(_) if !fits() => Lane::Shared,
            // A subcommand of CLIENT that is not known may say something of the client, and so of its connection.
            Lane::Shared if command.is_none() && (is_live || is(arguments, b"CLIENT")) => {
                Lane::Pinned(PinReason::Unknown)
            }
            lane => lane,
        };
        Call { command, arguments, lane }
    }

    /// As CLIENT LIST has it.
    pub(crate) fn name(&self) -> &'a str {
        self.command.map_or("NULL", Command::name)
    }

    /// Whether it may be sent twice.
    pub(crate) fn may_repeat(&self) -> bool {
        self.command.is_some_and(|command| command.flags().has(Flags::READONLY))
    }

    /// Whether it is for those who have not logged in, too. HELLO looks for itself whether it logs in.
    fn is_for_strangers(&self) -> bool {
        use Local::{Auth, Guard, Hello, Quit, Reset};
        matches!(self.lane, Lane::Local(Auth | Hello | Quit | Reset | Guard))
    }

    /// Whether it ends what its client has begun, whatever that is.
    fn ends_all(&self) -> bool {
        matches!(self.lane, Lane::Local(Local::Quit | Local::Reset | Local::Guard))
    }
}

/// Whether a request of which only the first arguments are here can be sent on as it comes: its reply changes nothing that
/// is remembered of its client.
pub(crate) fn may_stream(commands: &Commands, arguments: Arguments<'_>) -> bool {
    !arguments.is_empty() && matches!(commands.route(arguments).1, Lane::Shared | Lane::Slow)
}

/// What becomes of a command of a client that stands so.
#[inline]
pub(crate) fn plan(call: &Call<'_>, standing: Standing) -> Plan {
    let Standing { login, replies, ahead, holding } = standing;
    if login == LoginState::Open && !call.is_for_strangers() {
        return Plan::Admit;
    }
    // Which of the replies that are due are the silent ones is not noted.
    if replies != ReplyMode::On && ahead != Ahead::Nothing {
        return Plan::Wait;
    }
    match holding {
        Holding::Nothing => of_its_own(call, ahead),
        Holding::Paused => in_pause(call, ahead),
        Holding::Refused if is(call.arguments, b"MULTI") => Plan::Doom,
        Holding::Refused => Plan::Refuse,
        Holding::Doomed => doomed(call),
        Holding::Deferred => deferred(call),
        Holding::Pin(stage) => on_pin(call, stage, ahead, replies),
    }
}

/// The same, of a client that stands elsewhere than a moment ago.
#[cold]
pub(crate) fn plan_again(call: &Call<'_>, standing: Standing) -> Plan {
    plan(call, standing)
}

/// Of a client without a connection of its own.
#[inline]
fn of_its_own(call: &Call<'_>, ahead: Ahead) -> Plan {
    let pace = match call.lane {
        Lane::Shared => Pace::Quick,
        Lane::Slow => Pace::Slow,
        Lane::Local(local) => return unless_ahead(ahead, Plan::Answer(local)),
        Lane::Pinned(reason) => {
            let heard = (reason == PinReason::Unknown).then(|| heard(call)).flatten();
            return unless_ahead(ahead, heard.unwrap_or(Plan::GetPin(reason)));
        }
    };
    if let Some(command) = call.command
        && command.is_plain()
    {
        return unless_reads(ahead, Plan::Pass(pace));
    }
    if call.command.is_none_or(Command::is_heard)
        && let Some(plan) = heard(call)
    {
        return unless_ahead(ahead, plan);
    }
    match call.command.and_then(|command| command.read(call.arguments)) {
        // It stands in line with other reads.
        Some(read) => Plan::Read(read),
        None => unless_reads(ahead, Plan::Change(pace)),
    }
}

/// While Redis lets clients wait each has a connection of its own, so that it waits for nobody else's command.
fn in_pause(call: &Call<'_>, ahead: Ahead) -> Plan {
    match call.lane {
        Lane::Shared | Lane::Slow => unless_ahead(ahead, Plan::GetPin(PinReason::Paused)),
        Lane::Local(_) | Lane::Pinned(_) => of_its_own(call, ahead),
    }
}

/// What the proxy says or hears more than the bytes that pass. `None` if that is nothing.
fn heard(call: &Call<'_>) -> Option<Plan> {
    let arguments = call.arguments;
    if let Some(pause) = Pause::wanted(arguments) {
        return Some(Plan::Pause(pause));
    }
    if names_number(arguments) {
        return Some(Plan::Untrack);
    }
    if is(arguments, b"INFO") && wants_section(arguments) {
        return Some(Plan::Info);
    }
    is(arguments, b"PROXY").then_some(Plan::Proxy)
}

/// Whether INFO is asked for sections to which that of the proxy belongs.
fn wants_section(arguments: Arguments<'_>) -> bool {
    let wanted = [&b"all"[..], b"default", b"everything", b"proxy"];
    arguments.len() == 1
        || arguments
            .iter()
            .skip(1)
            .any(|section| wanted.iter().any(|word| section.eq_ignore_ascii_case(word)))
}

/// Within a transaction that got no connection: its client must neither run it alone nor be closed for it.
fn doomed(call: &Call<'_>) -> Plan {
    match call.lane {
        Lane::Local(local) if call.ends_all() => Plan::Answer(local),
        _ if is(call.arguments, b"EXEC") => Plan::Abort,
        _ if is(call.arguments, b"DISCARD") => Plan::Forgive,
        _ => Plan::Refuse,
    }
}

/// Within a transaction that gets its connection by the first command that it is to queue, or by its end.
fn deferred(call: &Call<'_>) -> Plan {
    match call.lane {
        Lane::Local(local) if call.ends_all() => Plan::Answer(local),
        _ => Plan::Begin,
    }
}

/// Of a client with a connection of its own.
fn on_pin(call: &Call<'_>, stage: Stage, ahead: Ahead, replies: ReplyMode) -> Plan {
    // What the proxy does not answer itself after all goes along a shared lane.
    if matches!(ahead, Ahead::Lane | Ahead::Reads) || stage == Stage::Shut {
        return Plan::Wait;
    }
    let Call { arguments, lane, .. } = *call;
    let is_special = matches!(lane, Lane::Local(_) | Lane::Pinned(_));
    match (stage, lane) {
        (_, Lane::Local(local)) if call.ends_all() => unless_ahead(ahead, Plan::Answer(local)),
        // Whether Redis queues what has another meaning then is known from its answer to MULTI.
        (Stage::MultiAsked, _) if is_special => Plan::Wait,
        (Stage::MultiAsked | Stage::Multi, _) => in_multi(call),
        (_, Lane::Pinned(PinReason::Unsubscribe(kind))) if arguments.len() == 1 => {
            Plan::Pin(Expect::UnsubscribedAll(kind))
        }
        (_, Lane::Pinned(PinReason::Subscribe)) => {
            Plan::Pin(Expect::Subscribed(arguments.len().saturating_sub(1).max(1)))
        }
        (_, Lane::Pinned(PinReason::Unsubscribe(_))) => {
            Plan::Pin(Expect::Unsubscribed(arguments.len().saturating_sub(1)))
        }
        // Redis refuses these to a subscribed client of RESP2. Whether it is one is known once all before is answered:
        // behind an UNSUBSCRIBE they would change the connection unseen.
        (Stage::Subscribed | Stage::Subscribing, _) if is_special && ahead != Ahead::Nothing => Plan::Wait,
        (Stage::Subscribed, _) if is_special => Plan::Pin(Expect::Reply),
        (_, Lane::Local(local)) => local_on_pin(local, arguments, ahead),
        _ if is(arguments, b"PROXY") => unless_ahead(ahead, Plan::Proxy),
        (_, Lane::Pinned(reason)) => reason_on_pin(reason, arguments, ahead, replies),
        (_, Lane::Shared | Lane::Slow) => Plan::Pin(shared_on_pin(arguments)),
    }
}

/// Within a transaction on a connection of its own.
pub(crate) fn in_multi(call: &Call<'_>) -> Plan {
    use PinReason::{Blocking, Multi, Wait, Watch};
    let arguments = call.arguments;
    match call.lane {
        _ if is(arguments, b"EXEC") => Plan::Pin(Expect::Exec),
        _ if is(arguments, b"DISCARD") => Plan::Pin(Expect::Discard),
        _ if is(arguments, b"PROXY") => Plan::Queue,
        Lane::Shared | Lane::Slow if Pause::wanted(arguments).is_none() => Plan::Pin(Expect::Reply),
        Lane::Pinned(Blocking | Wait | Multi | Watch) => Plan::Pin(Expect::Reply),
        // Queued, these change the client in ways that EXEC's reply tells.
        Lane::Shared | Lane::Slow | Lane::Local(_) | Lane::Pinned(_) => Plan::Queue,
    }
}

/// What the proxy answers although its client has a connection: once nothing is on its way there.
fn local_on_pin(local: Local, arguments: Arguments<'_>, ahead: Ahead) -> Plan {
    match local {
        Local::Select => Plan::Pin(match number(arguments.get(1)) {
            Some(db) => Expect::Select(db),
            None => Expect::Reply,
        }),
        // Only Redis knows whether the command behind it will block.
        Local::ClientReply if is_skip(arguments) => unless_ahead(ahead, Plan::Tunnel),
        local => unless_ahead(ahead, Plan::Answer(local)),
    }
}

/// What needs the connection that its client has.
fn reason_on_pin(reason: PinReason, arguments: Arguments<'_>, ahead: Ahead, replies: ReplyMode) -> Plan {
    Plan::Pin(match reason {
        // Commands that are silent from the first to the last may as well be so in Redis.
        PinReason::Multi if replies == ReplyMode::Off => return unless_ahead(ahead, Plan::Tunnel),
        PinReason::Multi => Expect::Multi,
        PinReason::Watch => Expect::Watch,
        PinReason::Blocking => Expect::Blocked,
        PinReason::Wait => return Plan::Probe,
        PinReason::State | PinReason::Unknown => Expect::State,
        PinReason::Tracking => Expect::Tracking(true),
        PinReason::Feed if is(arguments, b"MONITOR") => Expect::Feed(Feed::Monitor),
        PinReason::Feed => Expect::Feed(Feed::Replica),
        PinReason::Paused | PinReason::Subscribe | PinReason::Unsubscribe(_) => Expect::Reply,
    })
}

/// What would go along a shared lane, were there no connection.
fn shared_on_pin(arguments: Arguments<'_>) -> Expect {
    match () {
        () if let Some(pause) = Pause::wanted(arguments) => Expect::Pause(pause),
        () if wanted(arguments) == Some(false) => Expect::Tracking(false),
        () if shows_redirect(arguments) => Expect::Redirected,
        () if is(arguments, b"UNWATCH") => Expect::Unwatch,
        () if is(arguments, b"EXEC") => Expect::Exec,
        () => Expect::Reply,
    }
}

/// Whether CLIENT REPLY asks for SKIP.
fn is_skip(arguments: Arguments<'_>) -> bool {
    arguments.get(2).is_some_and(|word| c_text(word).eq_ignore_ascii_case(b"SKIP"))
}

fn unless_ahead(ahead: Ahead, plan: Plan) -> Plan {
    if ahead == Ahead::Nothing { plan } else { Plan::Wait }
}

/// Reads that wait stand before it; what is on a lane does not.
#[inline]
fn unless_reads(ahead: Ahead, plan: Plan) -> Plan {
    if ahead == Ahead::Reads { Plan::Wait } else { plan }
}

#[cfg(test)]
mod tests;
