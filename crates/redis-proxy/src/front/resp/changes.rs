//! What a request may change, as the duty that goes with it: before its answer reaches anybody, what is cached of it leaves.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use command::{Change, Command};
use mutant::Mutant;
use resp::{Arguments, Parsed, RequestParser};

use super::RespFront;
use crate::clock::now_ns;
use crate::lanes::{Answer, Duty};

/// Up to when a connection has seen Redis: its reads show nothing older.
#[derive(Clone, Default)]
pub(super) struct Seen(Rc<Cell<u64>>);

impl Seen {
    /// An answer of Redis is about to be delivered.
    pub(super) fn now(&self) {
        if !mutant::is_on(Mutant::NoMinSync) {
            self.0.set(now_ns());
        }
    }

    pub(super) fn min_sync_ns(&self) -> u64 {
        self.0.get()
    }
}

impl RespFront {
    /// The duty of a whole request; `None` if it changes nothing.
    pub(super) fn duty(
        &self,
        command: Option<&Command>,
        arguments: Arguments<'_>,
        seen: &Seen,
    ) -> Option<Duty> {
        // Of a command that nobody knows, or a script, only the connection that sent it can be sure to see the outcome.
        let unknown = || -> Option<Duty> {
            let seen = seen.clone();
            Some(Rc::new(move |_| seen.now()))
        };
        let Some(command) = command else {
            // It may be CONFIG or ACL under another name (`rename-command`).
            let (seen, lanes) = (seen.clone(), self.lanes.clone());
            return Some(Rc::new(move |answer| {
                seen.now();
                if answer == Answer::Other {
                    lanes.void_admissions();
                }
            }));
        };
        match command.change() {
            Change::None => None,
            Change::All => Some(self.everything()),
            Change::Rights => {
                let (anything, lanes) = (self.anything(), self.lanes.clone());
                let ends_users = command.name() != "acl|setuser";
                Some(Rc::new(move |answer| {
                    anything(answer);
                    if ends_users && answer == Answer::Other {
                        lanes.note_ended_users();
                    }
                }))
            }
            Change::Login if !sets_login(arguments) => None,
            Change::Login => {
                let lanes = self.lanes.clone();
                Some(unless_refused(move || lanes.void_admissions()))
            }
            Change::Unknown => unknown(),
            Change::Keys => {
                let mut keys = self.keys.borrow_mut();
                keys.clear();
                let complete = command.changed(arguments, &mut keys);
                let mut keys = keys.iter().filter_map(|key| arguments.get(key.argument));
                let Some(first) = keys.next() else {
                    return if complete { None } else { unknown() };
                };
                let written = self.readers.own().writes(first.into(), keys.map(Into::into).collect());
                if complete {
                    return Some(unless_refused(move || written.answered()));
                }
                // A script may answer in the words of a refusal.
                let seen = seen.clone();
                Some(Rc::new(move |_| {
                    written.answered();
                    seen.now();
                }))
            }
        }
    }

    /// The duty of a request of which only the first arguments are here.
    pub(super) fn duty_of_part(&self, arguments: Arguments<'_>, seen: &Seen) -> Option<Duty> {
        let commands = self.commands.borrow();
        match commands.find(arguments) {
            // Keys may be among the arguments that are still to come.
            Some(command) if command.change() == Change::Keys && !command.has_one_key() => {
                Some(self.everything())
            }
            Some(command) if command.change() == Change::Login => Some(self.anything()),
            command => self.duty(command, arguments, seen),
        }
    }

    /// Whether bytes that go through a tunnel may change anything: unless they are whole requests that do not.
    pub(super) fn may_change(&self, mut bytes: &[u8]) -> bool {
        let commands = self.commands.borrow();
        let mut parser = RequestParser::new(self.settings.limits);
        while !bytes.is_empty() {
            let len = match parser.parse(bytes) {
                Ok(Parsed::Request { len, .. }) => {
                    let arguments = parser.arguments(bytes);
                    let changes = |command: &Command| match command.change() {
                        Change::Login => sets_login(arguments),
                        change => change != Change::None,
                    };
                    if commands.find(arguments).is_none_or(changes) {
                        return true;
                    }
                    len
                }
                Ok(Parsed::Nothing { len }) => len,
                _ => return true,
            };
            bytes = &bytes[len..];
        }
        false
    }

    /// The duty of what may change anything at all: every key, and who may do what.
    pub(super) fn anything(&self) -> Duty {
        let (written, lanes) = (self.readers.own().writes_everything(), self.lanes.clone());
        let registry = self.registry.clone();
        unless_refused(move || {
            registry.rights_changed.fetch_add(1, Ordering::Relaxed);
            written.answered();
            lanes.void_admissions();
        })
    }

    /// The duty of what may change every key.
    pub(super) fn everything(&self) -> Duty {
        let written = self.readers.own().writes_everything();
        unless_refused(move || written.answered())
    }
}

/// Whether a CONFIG SET names what decides whom Redis lets in without a login.
fn sets_login(arguments: Arguments<'_>) -> bool {
    let deciding = [&b"requirepass"[..], b"protected-mode"];
    arguments
        .iter()
        .skip(2)
        .step_by(2)
        .any(|name| deciding.iter().any(|word| name.eq_ignore_ascii_case(word)))
}

/// What a command of which Redis says that it has not begun need not do.
fn unless_refused(duty: impl Fn() + 'static) -> Duty {
    Rc::new(move |answer| {
        if answer == Answer::Other {
            duty();
        }
    })
}
