//! One command: on its way, or not yet.

use std::task::Context;

use bytes::BytesMut;
use command::Command;
use resp::{Arguments, Form, Frame, Parsed, RequestParser, encode_command};

use super::{Busy, Connection, Heard};
use crate::clock::now_ns;
use crate::front::resp::pause::Pause;
use crate::front::resp::pinned::Expect;
use crate::front::resp::registry::Tunnel;
use crate::front::resp::reply::{c_text, error, put, simple};
use crate::front::resp::route::{Local, Route, Why, may_stream};
use crate::front::resp::session::ReplyMode;
use crate::front::resp::tracking::{Told, shows_redirect, wanted};
use crate::lanes::{Duty, Pace, Request};
use crate::session::words::{is, number};

/// What goes before a WAIT, so that its connection has written (Redis 7.0: WAIT counts the replicas that have what its own
/// connection wrote last). Nobody listens there.
const PROBE: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$20\r\n__redis_proxy_wait__\r\n$0\r\n\r\n";
/// What EXEC says of a transaction in which something was wrong.
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

impl Connection {
    /// Takes up a whole request. False if it must wait for those before it, or for a connection: then it is parsed again.
    pub(super) fn command(
        &mut self,
        raw: &[u8],
        form: Form,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        if !self.session.admitted
            && let Some(taken) = self.keep_out_of(arguments)
        {
            return taken;
        }
        let silence = self.session.replies;
        if silence != ReplyMode::On && !self.prepare_silence() {
            return false;
        }
        if silence == ReplyMode::SkipNext {
            self.session.replies = ReplyMode::Skipping;
        }
        let taken = self.pass(raw, form, arguments, cx);
        if !taken && silence == ReplyMode::SkipNext {
            self.session.replies = silence;
        }
        taken
    }

    fn pass(&mut self, raw: &[u8], form: Form, arguments: Arguments<'_>, cx: &mut Context<'_>) -> bool {
        let request = match form {
            Form::Strict => Request::Raw(raw),
            Form::Loose => Request::Encoded(arguments),
        };
        if let Some(text) = self.refused.take() {
            if is(arguments, b"MULTI") && self.pinned.is_none() {
                self.say(&simple("OK"));
                self.doomed = Some(text);
            } else {
                self.say(&Frame::Error(text));
            }
            return true;
        }
        if self.pinned.is_some() {
            return self.command_pinned(request, arguments, cx);
        }
        if self.doomed.is_some() {
            return self.command_doomed(arguments, request, cx);
        }
        let front = self.front.clone();
        let commands = front.commands.borrow();
        let (mut way, command) = front.route(&commands, arguments, &mut self.session);
        if matches!(way, Route::Shared { .. }) && front.is_paused() {
            way = Route::Pinned(Why::Paused);
        }
        match way {
            // Reads that wait stand before it.
            Route::Shared { pace, read } if command.is_some_and(Command::is_plain) => {
                self.reads.is_empty() && self.share(request, pace, read, None, cx)
            }
            Route::Shared { .. } | Route::Pinned(Why::Unknown)
                if command.is_none_or(Command::is_heard)
                    && let Some(taken) = self.command_heard(request, arguments, cx) =>
            {
                taken
            }
            Route::Shared { pace, read } => {
                let kept = command.and_then(|command| command.read(arguments));
                if let Some(kept) = kept
                    && let Some(reader) = self.may_be_cached(kept, arguments)
                {
                    return self.read(kept, &reader, request, arguments, cx);
                }
                if !self.reads.is_empty() {
                    return false;
                }
                let duty = front.duty(command, arguments, &self.seen);
                self.share(request, pace, read, duty, cx)
            }
            _ if self.waiting() > 0 => false,
            Route::Local(local) => self.answer(local, arguments, request, cx),
            Route::Pinned(Why::Blocking) if self.take_spare_pin() => {
                self.command_pinned(request, arguments, cx)
            }
            Route::Pinned(_) | Route::Tunnel => {
                self.get_pin(way == Route::Pinned(Why::Blocking));
                false
            }
        }
    }

    /// What the proxy says or hears more than the bytes that pass, once nothing is on its way. `None` if that is nothing.
    fn command_heard(
        &mut self,
        request: Request<'_>,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Option<bool> {
        let is_idle = self.waiting() == 0;
        if let Some(pause) = Pause::wanted(arguments) {
            return Some(is_idle && self.hear(Heard::Pause(pause), request, false, cx));
        }
        if let Some(words) = self.redirect_off(arguments) {
            return Some(is_idle && self.share(Request::Raw(&words), Pace::Quick, false, None, cx));
        }
        self.tell_of_the_proxy(request, arguments, is_idle, cx)
    }

    /// Onto a shared lane; the reply is heard before the client gets it. Nothing is on its way.
    pub(in crate::front::resp) fn hear(
        &mut self,
        heard: Heard,
        request: Request<'_>,
        read: bool,
        cx: &mut Context<'_>,
    ) -> bool {
        let sent = self.share(request, Pace::Quick, read, None, cx);
        if sent {
            // Also a client that hears nothing itself.
            self.mailbox.mute(false);
            self.wait_for(Busy::Heard(heard, Vec::new()));
        }
        sent
    }

    /// The reply is whole.
    pub(super) fn heard(&mut self, heard: &Heard, reply: &[u8]) {
        let silent = matches!(self.session.replies, ReplyMode::Off | ReplyMode::Skipping);
        self.mailbox.mute(silent);
        match heard {
            Heard::Pause(pause) if reply.starts_with(b"+") => {
                self.front.registry.pauses.granted(*pause, now_ns());
            }
            Heard::Leave(command, request) if !reply.starts_with(b"-") => {
                return self.go_ahead(*command, request);
            }
            _ => {}
        }
        match heard {
            _ if silent => {}
            Heard::Info => self.say_info(reply),
            Heard::Pause(_) | Heard::Leave(..) => self.say_bytes(reply),
        }
    }

    fn answer(
        &mut self,
        local: Local,
        arguments: Arguments<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        self.front.stats.local.add(1);
        self.local(local, arguments, request, cx)
    }

    /// Onto a shared lane.
    pub(in crate::front::resp) fn share(
        &mut self,
        request: Request<'_>,
        pace: Pace,
        read: bool,
        duty: Option<Duty>,
        cx: &mut Context<'_>,
    ) -> bool {
        if pace != self.pace {
            if self.on_their_way() > 0 {
                return false;
            }
            self.pace = pace;
        }
        let front = &self.front;
        let (index, counter) = match pace {
            Pace::Quick => (0, &front.stats.shared),
            Pace::Slow => (1, &front.stats.slow),
        };
        let lane = self.lanes[index]
            .get_or_insert_with(|| front.lanes.shared(&self.session.key, pace, Some(&self.mailbox)));
        if !lane.send(request, &self.mailbox, read, || duty, &front.buffers, cx) {
            return false;
        }
        counter.add(1);
        true
    }

    /// A command of a transaction that got no connection: the client must neither run it alone nor be closed for it. EXEC
    /// ends it with the words of Redis.
    fn command_doomed(
        &mut self,
        arguments: Arguments<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let front = self.front.clone();
        let way = front.route(&front.commands.borrow(), arguments, &mut self.session).0;
        match way {
            Route::Local(local @ (Local::Quit | Local::Reset | Local::Guard)) => {
                self.doomed = None;
                return self.answer(local, arguments, request, cx);
            }
            _ if is(arguments, b"EXEC") => {
                self.doomed = None;
                self.say(&error(ABORTED));
            }
            _ if is(arguments, b"DISCARD") => {
                self.doomed = None;
                self.say(&simple("OK"));
            }
            _ => {
                let text = self.doomed.clone().unwrap_or_default();
                self.say(&Frame::Error(text));
            }
        }
        true
    }

    /// Onto the client's own connection, or to the end of its having one.
    fn command_pinned(
        &mut self,
        request: Request<'_>,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        // What the proxy does not answer itself after all goes along a shared lane.
        if self.mailbox.waiting() > 0 {
            return false;
        }
        let front = self.front.clone();
        let commands = front.commands.borrow();
        let (way, command) = front.route(&commands, arguments, &mut self.session);
        let resp3 = self.session.resp3();
        let (translated, substitute);
        let mut request = request;
        let Some(pinned) = self.pinned.as_mut().filter(|pinned| !pinned.shut) else {
            return false;
        };
        let subscribed = pinned.is_subscribed() && !resp3;
        let expect = match way {
            Route::Local(Local::Quit | Local::Reset | Local::Guard) => {
                return self.answer_pinned(request, arguments, way, cx);
            }
            // Whether Redis queues what has another meaning then is known from its answer to MULTI.
            Route::Local(_) | Route::Pinned(_) | Route::Tunnel if pinned.awaits_multi() => return false,
            _ if pinned.in_multi => match way {
                _ if is(arguments, b"EXEC") => Expect::Exec,
                _ if is(arguments, b"DISCARD") => Expect::Discard,
                Route::Shared { .. } if Pause::wanted(arguments).is_none() => Expect::Reply,
                Route::Pinned(Why::Blocking | Why::Wait | Why::Multi | Why::Watch) => Expect::Reply,
                // Queued, these change the client in ways that EXEC's reply tells.
                Route::Shared { .. } | Route::Local(_) | Route::Pinned(_) | Route::Tunnel => {
                    let Some((later, instead)) = self.later(way, arguments, &request) else {
                        return self.tunnel(request);
                    };
                    if let Some(instead) = instead {
                        substitute = instead;
                        request = Request::Raw(&substitute);
                    }
                    if let Some(pinned) = self.pinned.as_mut() {
                        pinned.sent_laters.push_back(later);
                    }
                    Expect::Queued
                }
            },
            Route::Pinned(Why::Unsubscribe(kind)) if arguments.len() == 1 => Expect::UnsubscribedAll(kind),
            Route::Pinned(Why::Subscribe | Why::Unsubscribe(_)) => {
                Expect::Subscribed(arguments.len().saturating_sub(1).max(1))
            }
            // Redis refuses these to a subscribed client of RESP2. Whether it is one is known once all before is answered:
            // behind an UNSUBSCRIBE they would change the connection unseen.
            Route::Local(_) | Route::Pinned(_) | Route::Tunnel
                if pinned.pubsub && !resp3 && pinned.waiting() > 0 =>
            {
                return false;
            }
            Route::Local(_) | Route::Pinned(_) | Route::Tunnel if subscribed => Expect::Reply,
            Route::Local(Local::Select) => match number(arguments.get(1)) {
                Some(db) => Expect::Select(db),
                None => Expect::Reply,
            },
            Route::Tunnel if is(arguments, b"MONITOR") => Expect::Feed(Tunnel::Monitor),
            Route::Tunnel => Expect::Feed(Tunnel::Replica),
            // Only Redis knows whether the command behind it will block.
            Route::Local(Local::ClientReply) if is_skip(arguments) => return self.tunnel(request),
            Route::Local(_) => return self.answer_pinned(request, arguments, way, cx),
            // Commands that are silent from the first to the last may as well be so in Redis.
            Route::Pinned(Why::Multi) if self.session.replies == ReplyMode::Off => {
                return self.tunnel(request);
            }
            Route::Pinned(Why::Multi) => Expect::Multi,
            Route::Pinned(Why::Watch) => Expect::Watch,
            Route::Pinned(Why::Blocking) => Expect::Blocked,
            Route::Pinned(Why::Wait) => {
                pinned.stream.outbox().extend_from_slice(PROBE);
                pinned.expect(Expect::Probe, None);
                Expect::Blocked
            }
            Route::Pinned(Why::State | Why::Unknown) => Expect::State,
            Route::Pinned(Why::Paused) => Expect::Reply,
            Route::Pinned(Why::Tracking) => match self.redirect(arguments) {
                Told::Plain => Expect::Tracking(true, None),
                Told::Translated(bytes, redirect) => {
                    translated = bytes;
                    request = Request::Raw(&translated);
                    let redirect = redirect.map(|(redirect, target)| {
                        if let Some(pinned) = self.pinned.as_mut() {
                            pinned.targets.push_back(target);
                        }
                        redirect
                    });
                    Expect::Tracking(true, redirect)
                }
                Told::Wait => return false,
            },
            Route::Shared { .. } if let Some(pause) = Pause::wanted(arguments) => Expect::Pause(pause),
            Route::Shared { .. } if wanted(arguments) == Some(false) => {
                if let Some(words) = self.redirect_off(arguments) {
                    translated = words;
                    request = Request::Raw(&translated);
                }
                Expect::Tracking(false, None)
            }
            Route::Shared { .. } if shows_redirect(arguments) => Expect::Redirected,
            Route::Shared { .. } if is(arguments, b"UNWATCH") => Expect::Unwatch,
            Route::Shared { .. } if is(arguments, b"EXEC") => Expect::Exec,
            Route::Shared { .. } => Expect::Reply,
        };
        let duty = match expect {
            // A transaction that began under a name unknown to us.
            Expect::Exec if !self.pinned.as_ref().is_some_and(|pinned| pinned.in_multi) => {
                Some(front.anything())
            }
            _ => front.duty(command, arguments, &self.seen),
        };
        self.ask_pin(request, expect, duty);
        true
    }

    /// Onto the pin, if there is one.
    fn ask_pin(&mut self, request: Request<'_>, expect: Expect, duty: Option<Duty>) {
        let Some(pinned) = self.pinned.as_mut() else {
            return;
        };
        request.write(pinned.stream.outbox());
        pinned.expect(expect, duty);
        let (multi, blocked) = (pinned.queued(), expect == Expect::Blocked);
        self.session.note(|details| (details.multi, details.blocked) = (multi, blocked));
        self.front.stats.pinned_commands.add(1);
    }

    pub(in crate::front::resp) fn has_pin(&self) -> bool {
        self.pinned.is_some()
    }

    /// Onto the pin. False if there is none.
    pub(in crate::front::resp) fn pass_to_pin(&mut self, request: Request<'_>) -> bool {
        self.ask_pin(request, Expect::Reply, None);
        self.has_pin()
    }

    /// A command of which only Redis knows what it answers, although it is about the client. Nothing is on its way.
    pub(in crate::front::resp) fn pass_on(&mut self, request: Request<'_>, cx: &mut Context<'_>) -> bool {
        self.pass_to_pin(request) || self.share(request, Pace::Quick, false, None, cx)
    }

    /// Asks on the client's pin whether its user may do something. False if it has none.
    pub(in crate::front::resp) fn ask_pin_for_leave(&mut self, question: &[u8]) -> bool {
        self.ask_pin(Request::Raw(question), Expect::Granted, None);
        self.has_pin()
    }

    /// Has Redis change who the client is, or what it speaks, on the client's own connection.
    pub(in crate::front::resp) fn ask_to_be(&mut self, words: &[&[u8]]) {
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, words);
        self.ask_pin(Request::Raw(&bytes), Expect::Granted, None);
    }

    /// A command that the proxy answers although the client has a pin: once nothing is on its way there.
    fn answer_pinned(
        &mut self,
        request: Request<'_>,
        arguments: Arguments<'_>,
        way: Route,
        cx: &mut Context<'_>,
    ) -> bool {
        match way {
            Route::Local(local) if self.waiting() == 0 => self.answer(local, arguments, request, cx),
            _ => false,
        }
    }

    /// From here on the client's bytes and those of its pin are not looked at. What is on its way is read as before; the
    /// tunnel begins behind it.
    fn tunnel(&mut self, request: Request<'_>) -> bool {
        let Some(pinned) = self.pinned.as_mut().filter(|pinned| pinned.waiting() == 0) else {
            return false;
        };
        // Redis is to be as silent as the client has asked us to be; within MULTI it would only queue that.
        let silence: &[&[u8]] = match self.session.replies {
            ReplyMode::Off if !pinned.in_multi => &[b"CLIENT", b"REPLY", b"OFF"],
            ReplyMode::Skipping if !pinned.in_multi => &[b"CLIENT", b"REPLY", b"SKIP"],
            _ => &[],
        };
        if !silence.is_empty() {
            encode_command(pinned.stream.outbox(), silence);
        }
        request.write(pinned.stream.outbox());
        pinned.become_tunnel();
        self.session.note(|details| details.tunnel = Some(Tunnel::Any));
        self.front.stats.tunnels.add(1);
        true
    }

    /// Redis has taken a MONITOR, or a replica: from here on nothing that it says answers a request.
    pub(super) fn feed(&mut self, kind: Tunnel) {
        // That was the silent one.
        if self.session.replies == ReplyMode::Skipping {
            self.session.replies = ReplyMode::On;
            self.mailbox.mute(false);
        }
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.become_tunnel();
            pinned.is_monitor = kind == Tunnel::Monitor;
        }
        self.session.note(|details| details.tunnel = Some(kind));
        self.front.stats.tunnels.add(1);
    }

    /// The next request of a client that watches by MONITOR: Redis answers it, among the rest that it tells. RESET ends that
    /// once Redis has said so, behind all that was due.
    pub(super) fn monitor(&mut self, bytes: &[u8]) -> Monitored {
        let mut parser = RequestParser::new(self.front.settings.limits);
        let Some(pinned) = self.pinned.as_mut().filter(|pinned| pinned.is_monitor) else {
            return Monitored::No;
        };
        let len = match parser.parse(bytes) {
            Ok(Parsed::Request { len, .. }) => len,
            Ok(Parsed::Nothing { len }) => return Monitored::Request(len),
            Ok(Parsed::Partial { .. }) if bytes.len() < self.front.settings.big_request_bytes => {
                return Monitored::Half;
            }
            _ => {
                pinned.is_monitor = false;
                return Monitored::No;
            }
        };
        let arguments = parser.arguments(bytes);
        if is(arguments, b"CLIENT")
            && arguments.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"REPLY"))
        {
            // It may silence the answer to RESET.
            pinned.is_monitor = false;
            return Monitored::No;
        }
        pinned.stream.outbox().extend_from_slice(&bytes[..len]);
        pinned.may_write |= self.front.may_change(&bytes[..len]);
        pinned.resetting = is(arguments, b"RESET") && arguments.len() == 1;
        Monitored::Request(len)
    }

    /// Whether a request that is not whole may be sent on as it comes. If not yet, the connection for it is on its way.
    pub(super) fn may_stream(&mut self, arguments: Arguments<'_>) -> bool {
        if let Some(text) = self.refused.take() {
            // Its rest would be taken for other commands.
            self.say(&Frame::Error(text));
            self.end();
            return false;
        }
        if !self.session.admitted || !may_stream(&self.front.commands.borrow(), arguments) {
            return false;
        }
        if self.pinned.is_none() && self.waiting() == 0 {
            self.get_pin(false);
        }
        self.pinned.is_some()
    }

    /// Whether a request goes to the pin in parts.
    pub(super) fn is_uploading(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.uploading)
    }

    /// Whether what the client sends goes on as it comes.
    pub(super) fn is_unread(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.uploading || pinned.tunnel)
    }

    /// The request at hand does from now on.
    pub(super) fn start_upload(&mut self, arguments: Arguments<'_>) {
        let duty = self.front.duty_of_part(arguments, &self.seen);
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.uploading = true;
            pinned.expect(Expect::Reply, duty);
            self.front.stats.pinned_commands.add(1);
        }
    }

    /// The next part.
    pub(super) fn part(&mut self, bytes: &[u8], last: bool) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.stream.outbox().extend_from_slice(bytes);
            pinned.uploading = !last;
        }
    }

    /// An empty request, which Redis counts for CLIENT REPLY SKIP. False while an earlier command has no reply yet.
    pub(super) fn nothing(&mut self) -> bool {
        let silence = self.session.replies;
        if !self.prepare_silence() {
            return false;
        }
        if silence == ReplyMode::SkipNext {
            self.session.replies = ReplyMode::Skipping;
        }
        true
    }

    /// CLIENT REPLY OFF or SKIP: false while an earlier command has no reply yet.
    fn prepare_silence(&mut self) -> bool {
        if self.waiting() > 0 {
            return false;
        }
        if self.session.replies == ReplyMode::Skipping {
            self.session.replies = ReplyMode::On;
        }
        self.mailbox.mute(self.session.replies != ReplyMode::On);
        true
    }

    /// Appends a reply of our own.
    pub(in crate::front::resp) fn say(&mut self, reply: &Frame) {
        if !self.mailbox.is_muted() {
            put(&mut self.output.bytes, reply, self.session.key.protocol);
        }
    }

    /// Appends bytes that are a reply.
    pub(in crate::front::resp) fn say_bytes(&mut self, bytes: &[u8]) {
        self.output.bytes.extend_from_slice(bytes);
    }
}

/// What the bytes of a client that watches by MONITOR are.
pub(super) enum Monitored {
    /// A request of so many bytes, which Redis has got.
    Request(usize),
    /// The beginning of one.
    Half,
    /// They are not looked at.
    No,
}

/// Whether CLIENT REPLY asks for SKIP.
fn is_skip(arguments: Arguments<'_>) -> bool {
    arguments.get(2).is_some_and(|word| c_text(word).eq_ignore_ascii_case(b"SKIP"))
}
