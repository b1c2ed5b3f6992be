//! What a request may change, as the duty that goes with it: before its answer reaches anybody, what is cached of it leaves.

use command::{Change, Command, Commands, Key};
use resp::{Arguments, Parsed, RequestLimits, RequestParser};

use crate::lanes::{Duty, Keys};

/// The duty of a whole request; `None` if it changes nothing. `keys` is room for what it names.
pub(crate) fn duty(command: Option<&Command>, arguments: Arguments<'_>, keys: &mut Vec<Key>) -> Option<Duty> {
    let Some(command) = command else { return Some(Duty::Unnamed) };
    match command.change() {
        Change::None => None,
        Change::All => Some(Duty::Everything),
        Change::Rights if command.name() == "acl|setuser" => Some(Duty::Anything),
        Change::Rights => Some(Duty::EndsUsers),
        Change::Login => sets_login(arguments).then_some(Duty::Admission),
        Change::Unknown => Some(Duty::Seen),
        Change::Keys => {
            keys.clear();
            let complete = command.changed(arguments, keys);
            let mut keys = keys.iter().filter_map(|key| arguments.get(key.argument));
            match (keys.next(), complete) {
                (Some(first), true) => Some(Duty::Written(Keys::new(first, keys))),
                (Some(first), false) => Some(Duty::Script(Keys::new(first, keys))),
                (None, true) => None,
                (None, false) => Some(Duty::Seen),
            }
        }
    }
}

/// The duty of a request of which only the first arguments are here.
pub(crate) fn duty_of_part(
    commands: &Commands,
    arguments: Arguments<'_>,
    keys: &mut Vec<Key>,
) -> Option<Duty> {
    match commands.find(arguments) {
        // Keys may be among the arguments that are still to come.
        Some(command) if command.change() == Change::Keys && !command.has_one_key() => Some(Duty::Everything),
        Some(command) if command.change() == Change::Login => Some(Duty::Anything),
        command => duty(command, arguments, keys),
    }
}

/// Whether bytes that go through a tunnel may change anything: unless they are whole requests that do not.
pub(crate) fn may_change(commands: &Commands, limits: RequestLimits, mut bytes: &[u8]) -> bool {
    let mut parser = RequestParser::new(limits);
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

/// Whether a CONFIG SET names what decides whom Redis lets in without a login.
fn sets_login(arguments: Arguments<'_>) -> bool {
    let deciding = [&b"requirepass"[..], b"protected-mode"];
    arguments
        .iter()
        .skip(2)
        .step_by(2)
        .any(|name| deciding.iter().any(|word| name.eq_ignore_ascii_case(word)))
}
