//! What a queued command will do to its client, and doing it once Redis has carried it out.

use bytes::{Bytes, BytesMut};
use command::{Lane, Local, PinReason};
use resp::{Protocol, encode_command};

use super::clients::{client_reply, kill_nobody, unblock};
use super::deferred::{not_in_transactions, spoil};
use super::emulated::emulated_later;
use super::hello::{hello_wanted, mistake_alone};
use super::login::{Login, Stay};
use super::pause::Pause;
use super::pin::ReplyMeaning;
use super::pin::later::Later;
use super::plan::Call;
use super::registry::Registry;
use super::reply::c_text;
use super::tracking::names_target;
use super::ways::Ways;
use super::words::{is, number, parsed};
use crate::clock::now_ns;
use crate::lanes::{Destination, Request};

/// What the proxy says to PROXY in a transaction, which Redis then aborts: its answers are none of Redis'.
const NO_PROXY: &str = "ERR proxy: PROXY in a transaction is not supported";

impl Ways {
    /// Redis queues what changes the client once EXEC carries it out; what it is not known how, ends in a tunnel.
    pub(super) fn queue(&mut self, call: &Call<'_>, request: Request<'_>) -> bool {
        if is(call.arguments, b"PROXY") {
            return spoil(self, Bytes::from_static(NO_PROXY.as_bytes()));
        }
        let (spoken, registry) = (self.client.key.protocol, &self.sessions.registry);
        let emulated = emulated_later(self, call);
        let Some((later, instead)) =
            emulated.or_else(|| later(call, &request, spoken, registry, self.pin.to()))
        else {
            if self.sessions.in_cluster {
                return spoil(self, not_in_transactions(call.name()));
            }
            return self.out.replies.is_empty() && self.pin.tunnel(request, self.client.replies);
        };
        let request = instead.as_ref().map_or(request, |instead| Request::Raw(instead));
        let duty = self.sessions.duty(call);
        self.send_pinned(request, ReplyMeaning::Queued(Box::new(later)), duty)
    }
}

impl Later {
    /// Redis has carried out the queued command that this follows from.
    pub(super) fn carry_out(self, ways: &mut Ways) {
        match self {
            Later::Select(db) => ways.selected(db),
            Later::Login(login) => login.taken(Stay::AsLong, ways),
            Later::Hello(hello) => hello.taken(ways),
            Later::State => ways.pin.keep(),
            Later::Pause(pause) => ways.sessions.registry.pauses.granted(pause, now_ns()),
            Later::Said(frame) => ways.say(&frame),
            Later::Nothing | Later::Unseen => {}
            Later::Local(local, request) => {
                let parser = parsed(&request);
                let arguments = parser.arguments(&request);
                let reply = match local {
                    // That they are gone is not waited for: the reply goes on behind it.
                    Local::ClientKill => ways.kill(arguments).0,
                    local => {
                        client_reply(local, arguments, request.len(), &ways.client, &ways.sessions.registry)
                    }
                };
                ways.say(&reply);
            }
        }
    }
}

/// What a queued command will do to its client, who speaks this and whose pin leads there; `None` if it is not known what, or cannot
/// be followed. A request that Redis is to get in its place stands beside it.
fn later(
    call: &Call<'_>,
    request: &Request<'_>,
    spoken: Protocol,
    registry: &Registry,
    at: Option<Destination>,
) -> Option<(Later, Option<Bytes>)> {
    let plain = |later| Some((later, None));
    let arguments = call.arguments;
    match call.lane {
        Lane::Local(Local::Select) => match number(arguments.get(1)) {
            Some(db) => plain(Later::Select(db)),
            // Redis will refuse it.
            None => plain(Later::State),
        },
        Lane::Local(Local::Auth) => plain(Later::Login(Login::of_auth(arguments)?)),
        Lane::Local(Local::Hello) => match hello_wanted(arguments, spoken) {
            Ok((hello, None)) => plain(Later::Hello(hello)),
            Ok((hello, Some((user, password)))) => {
                plain(Later::Login(Login::new(Some(user), password, Some(hello))))
            }
            Err(mistake) => Some((Later::State, Some(mistake_alone(arguments, mistake.at, spoken)))),
        },
        // Redis would take its own numbers and addresses.
        Lane::Local(Local::ClientKill) => {
            let mut bytes = BytesMut::new();
            encode_command(&mut bytes, &kill_nobody(arguments));
            Some((Later::Local(Local::ClientKill, whole(request)), Some(bytes.freeze())))
        }
        Lane::Local(
            local @ (Local::ClientId
            | Local::ClientGetName
            | Local::ClientSetName
            | Local::ClientInfo
            | Local::ClientList),
        ) => plain(Later::Local(local, whole(request))),
        // Redis knows the connection that waits by another number.
        Lane::Local(Local::ClientUnblock) => {
            let id = number::<u64>(arguments.get(2));
            let pin = id.and_then(|id| registry.get(id)?.pin());
            if pin.is_some_and(|(there, _)| at.is_some_and(|at| at != there)) {
                return None;
            }
            // Without a number Redis will refuse it.
            let instead = id.map(|_| unblock(arguments, pin.map_or(i64::MAX, |(_, known)| known)));
            Some((Later::Nothing, instead))
        }
        Lane::Local(Local::ClientSetInfo) => plain(Later::Nothing),
        Lane::Local(Local::ClientReply) => {
            match arguments.get(2).filter(|_| arguments.len() == 3).map(c_text) {
                Some(word) if word.eq_ignore_ascii_case(b"OFF") || word.eq_ignore_ascii_case(b"SKIP") => None,
                // ON, which it is, or what Redis will refuse.
                _ => plain(Later::Nothing),
            }
        }
        Lane::Shared | Lane::Slow => plain(Later::Pause(Pause::wanted(arguments)?)),
        Lane::Pinned(PinReason::Tracking) if names_target(arguments) => None,
        Lane::Pinned(PinReason::State | PinReason::Unknown | PinReason::Tracking) => plain(Later::State),
        _ => None,
    }
}

/// Its bytes.
fn whole(request: &Request<'_>) -> Bytes {
    let mut bytes = BytesMut::new();
    request.write(&mut bytes);
    bytes.freeze()
}
