//! The `COMMAND` reply of a living server, as commands.

use std::fmt;

use resp::Frame;

use crate::spec::{Begin, Find, KeySpec};
use crate::tips::Tips;
use crate::{Access, Command, Commands, Flags};

/// What was to be a `COMMAND` reply is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadReply;

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply to COMMAND has not the shape that Redis gives it")
    }
}

impl std::error::Error for BadReply {}

impl Commands {
    /// Learns the commands of the server that gave this reply to `COMMAND`, in either protocol version: what it says of a
    /// command counts, and one that it does not have stays as it was.
    ///
    /// # Errors
    /// The reply has another shape (a server that has no COMMAND, or denies it to this user): nothing is changed.
    pub fn merge(&mut self, reply: &Frame) -> Result<(), BadReply> {
        let entries = items(reply)?;
        let commands = entries.iter().map(command).collect::<Result<Vec<_>, _>>()?;
        for (mut command, entry) in commands.into_iter().zip(entries) {
            // Servers before Redis 7 do not say where keys are that stand at no fixed place, such as those of scripts.
            if command.flags.has(Flags::MOVABLEKEYS)
                && items(entry)?.len() <= KEY_SPECS
                && let Some(known) = self.named(command.name.as_bytes())
            {
                let specs = known.key_specs.clone();
                command = Command {
                    subcommands: command.subcommands,
                    ..Command::new(&command.name, command.arity, command.flags, specs)
                };
            }
            // Nor over which nodes of a cluster a command goes.
            if items(entry)?.len() <= TIPS
                && let Some(known) = self.named(command.name.as_bytes())
            {
                // And they have no word for these.
                let unsaid = [Flags::BLOCKING, Flags::NO_MANDATORY_KEYS];
                let unsaid = unsaid.into_iter().filter(|flag| known.flags.has(*flag));
                let flags = unsaid.fold(command.flags, Flags::with);
                command = Command {
                    tips: known.tips,
                    subcommands: command.subcommands,
                    ..Command::new(&command.name, command.arity, flags, command.key_specs)
                };
            }
            // Servers before Redis 7 name none, and have them all the same.
            if command.subcommands.is_empty()
                && let Some(known) = self.named(command.name.as_bytes())
            {
                command.subcommands.clone_from(&known.subcommands);
            }
            self.insert(command);
        }
        Ok(())
    }

    /// The commands of that reply alone.
    ///
    /// # Errors
    /// As [`merge`](Self::merge).
    pub fn of_reply(reply: &Frame) -> Result<Self, BadReply> {
        let mut commands = Self::empty();
        commands.merge(reply)?;
        Ok(commands)
    }
}

/// Where the tips stand in an entry.
const TIPS: usize = 7;
/// Where the key specifications do.
const KEY_SPECS: usize = 8;

/// Name, arity, flags, first key, last key, step, and from Redis 7 on ACL categories, tips, key specifications, subcommands.
fn command(entry: &Frame) -> Result<Command, BadReply> {
    let fields = items(entry)?;
    let [name, arity, flags, first, last, step, ..] = fields else { return Err(BadReply) };
    let name = str::from_utf8(text(name)?).map_err(|_| BadReply)?.to_ascii_lowercase();
    let flags =
        items(flags)?.iter().try_fold(Flags::NONE, |set, flag| Ok(set.with(Flags::named(text(flag)?))))?;
    let specs = match fields.get(KEY_SPECS) {
        Some(specs) => items(specs)?.iter().map(spec).collect::<Result<Vec<_>, _>>()?,
        None => range_spec(flags, integer(first)?, integer(last)?, integer(step)?).into_iter().collect(),
    };
    let mut whole = Command::new(&name, integer(arity)?, flags, specs);
    if let Some(tips) = fields.get(TIPS) {
        let tips = items(tips)?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        whole.tips = Tips::of(&name, tips.into_iter());
    }
    if let Some(subcommands) = fields.get(9) {
        whole.subcommands = items(subcommands)?.iter().map(command).collect::<Result<_, _>>()?;
    }
    Ok(whole)
}

/// What servers before Redis 7 tell of a command's keys.
fn range_spec(flags: Flags, first: i64, last: i64, step: i64) -> Option<KeySpec> {
    let first = usize::try_from(first).ok().filter(|first| *first > 0)?;
    let access = if flags.has(Flags::READONLY) { Access::RO } else { Access::RW };
    let last = if last < 0 { last } else { last - i64::try_from(first).ok()? };
    Some(KeySpec { access, begin: Begin::Index(first), find: Find::Range { last, step, limit: 0 } })
}

fn spec(entry: &Frame) -> Result<KeySpec, BadReply> {
    let flags = items(field(entry, "flags")?)?.iter();
    let access = flags.map(text).try_fold(Access::NONE, |set, flag| Ok(set.with(Access::named(flag?))))?;
    let (begin, of) = (field(entry, "begin_search")?, |name| {
        integer(field(field(entry, "find_keys")?, "spec").and_then(|spec| field(spec, name))?)
    });
    let begin_spec = |name| field(field(begin, "spec")?, name);
    let begin = match text(field(begin, "type")?)? {
        b"index" => Begin::Index(usize::try_from(integer(begin_spec("index")?)?).map_err(|_| BadReply)?),
        b"keyword" => {
            let word = str::from_utf8(text(begin_spec("keyword")?)?).map_err(|_| BadReply)?;
            Begin::Keyword { word: word.into(), from: integer(begin_spec("startfrom")?)? }
        }
        _ => Begin::Unknown,
    };
    let find = match text(field(field(entry, "find_keys")?, "type")?)? {
        b"range" => Find::Range { last: of("lastkey")?, step: of("keystep")?, limit: of("limit")? },
        b"keynum" => Find::Count { at: of("keynumidx")?, first: of("firstkey")?, step: of("keystep")? },
        _ => Find::Unknown,
    };
    Ok(KeySpec { access, begin, find })
}

/// A value of a map; of RESP2's flat one too.
fn field<'a>(map: &'a Frame, name: &str) -> Result<&'a Frame, BadReply> {
    let is_name = |key: &Frame| text(key).is_ok_and(|key| key == name.as_bytes());
    let found = match map {
        Frame::Map(pairs) => pairs.iter().find(|(key, _)| is_name(key)).map(|(_, value)| value),
        Frame::Array(items) => items.chunks_exact(2).find(|pair| is_name(&pair[0])).map(|pair| &pair[1]),
        _ => None,
    };
    found.ok_or(BadReply)
}

fn items(frame: &Frame) -> Result<&[Frame], BadReply> {
    match frame {
        Frame::Array(items) | Frame::Set(items) => Ok(items),
        _ => Err(BadReply),
    }
}

fn text(frame: &Frame) -> Result<&[u8], BadReply> {
    match frame {
        Frame::Simple(text) | Frame::Bulk(text) => Ok(text),
        _ => Err(BadReply),
    }
}

fn integer(frame: &Frame) -> Result<i64, BadReply> {
    match frame {
        Frame::Integer(number) => Ok(*number),
        _ => Err(BadReply),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use resp::{RequestLimits, RequestParser};

    use super::*;
    use crate::{Lane, PinReason};

    fn name(text: &'static str) -> Frame {
        Frame::Simple(Bytes::from_static(text.as_bytes()))
    }

    /// An entry as servers before Redis 7 write it.
    fn entry(command: &'static str, flags: &[&'static str], keys: [i64; 3]) -> Frame {
        let flags = flags.iter().map(|flag| name(flag)).collect();
        let mut fields = vec![name(command), Frame::Integer(-2), Frame::Array(flags)];
        fields.extend(keys.map(Frame::Integer));
        Frame::Array(fields)
    }

    fn with_request<R>(line: &[u8], look: impl FnOnce(resp::Arguments<'_>) -> R) -> R {
        let mut parser = RequestParser::new(RequestLimits::REDIS);
        parser.parse(line).expect("an inline request");
        look(parser.arguments(line))
    }

    #[test]
    fn what_the_living_server_says_counts_and_what_it_does_not_know_stays() {
        let mut commands = Commands::built_in();
        let before = commands.len();
        let reply = Frame::Array(vec![
            entry("FT.WAIT", &["blocking", "who knows"], [0, 0, 0]),
            entry("get", &["write"], [1, -1, 2]),
        ]);
        assert_eq!(commands.merge(&reply), Ok(()));
        assert_eq!(commands.len(), before + 1);
        with_request(b"ft.wait x\n", |arguments| {
            let (command, lane) = commands.route(arguments);
            assert_eq!(command.map(Command::name), Some("ft.wait"));
            assert_eq!(lane, Lane::Pinned(PinReason::Blocking));
        });
        with_request(b"GET a b c\n", |arguments| {
            let command = commands.find(arguments).expect("known");
            let mut keys = Vec::new();
            assert!(command.keys(arguments, &mut keys));
            assert!(command.takes(4) && command.flags() == Flags::WRITE);
            assert_eq!(
                keys.iter().map(|key| (key.argument, key.is_written())).collect::<Vec<_>>(),
                [(1, true), (3, true)]
            );
        });
        with_request(b"SET a b\n", |arguments| assert!(commands.find(arguments).is_some()));
    }

    /// Redis 6.2 says of BLPOP that it writes, and is none for scripts.
    #[test]
    fn what_blocks_does_so_on_a_connection_of_its_own_before_an_old_server_too() {
        let mut commands = Commands::built_in();
        let old =
            [entry("blpop", &["write", "noscript"], [1, -2, 1]), entry("eval", &["noscript"], [0, 0, 0])];
        assert_eq!(commands.merge(&Frame::Array(old.into())), Ok(()));
        with_request(b"BLPOP a 0\n", |arguments| {
            let (command, lane) = commands.route(arguments);
            assert_eq!(lane, Lane::Pinned(PinReason::Blocking));
            let flags = Flags::WRITE.with(Flags::NOSCRIPT).with(Flags::BLOCKING);
            assert_eq!(command.map(Command::flags), Some(flags));
        });
        with_request(b"EVAL x 0\n", |arguments| {
            assert!(
                commands.find(arguments).is_some_and(|command| command.flags().has(Flags::NO_MANDATORY_KEYS))
            );
        });
    }

    /// Valkey 8 knows CLIENT CAPA, whatever comes next knows more; servers before Redis 7 tell of no subcommand.
    #[test]
    fn subcommands_of_client_that_the_table_does_not_know_get_a_connection_of_their_own() {
        let lane =
            |commands: &Commands, line: &[u8]| with_request(line, |arguments| commands.route(arguments).1);
        let mut commands = Commands::built_in();
        let Frame::Array(mut client) = entry("client", &[], [0, 0, 0]) else { panic!("an array") };
        assert_eq!(commands.merge(&Frame::Array(vec![Frame::Array(client.clone())])), Ok(()));
        assert_eq!(lane(&commands, b"CLIENT TRACKING ON\n"), Lane::Pinned(PinReason::Tracking));
        assert_eq!(lane(&commands, b"CLIENT PAUSE 1\n"), Lane::Shared);
        client.extend([const { Frame::Array(Vec::new()) }; 3]);
        let subcommands = ["client|capa", "client|pause"].map(|name| entry(name, &[], [0, 0, 0]));
        client.push(Frame::Array(subcommands.into()));
        assert_eq!(commands.merge(&Frame::Array(vec![Frame::Array(client)])), Ok(()));
        assert_eq!(lane(&commands, b"CLIENT CAPA redirect\n"), Lane::Pinned(PinReason::State));
        assert_eq!(lane(&commands, b"CLIENT PAUSE 1\n"), Lane::Shared);
    }

    #[test]
    fn a_server_that_names_no_subcommands_has_them_all_the_same() {
        let mut commands = Commands::built_in();
        let reply =
            Frame::Array(vec![entry("client", &["admin"], [0, 0, 0]), entry("acl", &["admin"], [0, 0, 0])]);
        assert_eq!(commands.merge(&reply), Ok(()));
        with_request(b"CLIENT TRACKING ON\n", |arguments| {
            assert_eq!(commands.route(arguments).1, Lane::Pinned(PinReason::Tracking));
        });
        with_request(b"ACL SETUSER default off\n", |arguments| {
            assert_eq!(commands.find(arguments).map(Command::change), Some(crate::Change::Rights));
        });
    }

    #[test]
    fn a_server_that_does_not_say_where_keys_of_scripts_are_leaves_them_where_they_are_known_to_be() {
        let mut commands = Commands::built_in();
        let reply = Frame::Array(vec![entry("eval", &["noscript", "movablekeys"], [0, 0, 0])]);
        assert_eq!(commands.merge(&reply), Ok(()));
        with_request(b"EVAL script 2 a b c\n", |arguments| {
            let mut keys = Vec::new();
            commands.find(arguments).expect("known").changed(arguments, &mut keys);
            assert_eq!(keys.iter().map(|key| key.argument).collect::<Vec<_>>(), [3, 4]);
        });
    }

    #[test]
    fn a_reply_of_another_shape_changes_nothing() {
        let before = Commands::built_in().to_string();
        let good = entry("new", &[], [0, 0, 0]);
        let noperm = Frame::Error(Bytes::from_static(b"NOPERM this user has no permissions"));
        for reply in
            [noperm, Frame::Array(vec![good.clone(), Frame::Null]), Frame::Array(vec![good, name("get")])]
        {
            let mut commands = Commands::built_in();
            assert_eq!(commands.merge(&reply), Err(BadReply));
            assert_eq!(commands.to_string(), before);
        }
    }
}
