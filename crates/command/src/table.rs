//! The table of commands, and finding one in it.

use std::fmt::{self, Write};

use hashbrown::HashTable;
use resp::Arguments;

use crate::change::is_heard;
use crate::keys::{Extractor, extractor};
use crate::lane::Rule;
use crate::name::{KnownName, hash};
use crate::spec::KeySpec;
use crate::tips::Tips;
use crate::{Change, Flags, Read};

/// A command, or a subcommand of one.
#[derive(Debug, Clone)]
pub struct Command {
    /// In lower case; a subcommand's as Redis writes it, `client|list`.
    pub(crate) name: Box<str>,
    /// As `COMMAND` tells it: the number of arguments, negative if there may be more.
    pub(crate) arity: i64,
    pub(crate) flags: Flags,
    pub(crate) key_specs: Vec<KeySpec>,
    pub(crate) tips: Tips,
    pub(crate) subcommands: Vec<Command>,
    /// Follows from the name.
    pub(crate) extractor: Option<Extractor>,
    /// Follows from the name and the flags.
    pub(crate) rule: Rule,
    /// Follows from the name.
    pub(crate) read: Option<Read>,
    /// Follows from the name, the flags and the keys.
    pub(crate) change: Change,
    /// Follows from both.
    pub(crate) plain: bool,
}

/// All commands that are known.
#[derive(Debug, Clone)]
pub struct Commands {
    commands: Vec<Command>,
    /// Places in `commands`, by the name.
    places: HashTable<KnownName>,
}

impl Command {
    pub(crate) fn new(name: &str, arity: i64, flags: Flags, key_specs: Vec<KeySpec>) -> Self {
        let extractor = extractor(name);
        let names_keys = extractor.is_some() || flags.has(Flags::MOVABLEKEYS) || !key_specs.is_empty();
        let change = match flags.has(Flags::READONLY) {
            // PFCOUNT is one that writes all the same.
            true => Change::of(name, flags, key_specs.iter().any(KeySpec::is_of_written)),
            false => Change::of(name, flags, names_keys),
        };
        Self {
            name: name.into(),
            arity,
            flags,
            key_specs,
            tips: Tips::of(name, std::iter::empty()),
            subcommands: Vec::new(),
            extractor,
            rule: Rule::of(name, flags),
            read: Read::of(name),
            change,
            plain: change == Change::None && Read::of(name).is_none() && !is_heard(name),
        }
    }

    /// Its name in lower case; a subcommand's with its command's, `client|list`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// Whether it takes so many arguments, its name (and its command's) counted.
    pub fn takes(&self, arguments: usize) -> bool {
        let least = usize::try_from(self.arity.unsigned_abs()).unwrap_or(usize::MAX);
        if self.arity < 0 { arguments >= least } else { arguments == least }
    }
}

impl Commands {
    /// Those of the redis-server that the table was made from, 7.0.15.
    ///
    /// # Panics
    /// Never: a test reads the same text.
    pub fn built_in() -> Self {
        Self::parse(include_str!("table.txt")).expect("the table that a test has read")
    }

    /// None at all.
    pub(crate) fn empty() -> Self {
        Self { commands: Vec::new(), places: HashTable::new() }
    }

    /// The command that a request calls: the subcommand, if the command has some and one is named. `None` if it is not
    /// known, or its subcommand is not.
    pub fn find(&self, arguments: Arguments<'_>) -> Option<&Command> {
        let command = self.named(arguments.get(0)?)?;
        match arguments.get(1) {
            Some(name) if !command.subcommands.is_empty() => {
                let container = command.name.len() + 1; // and its bar
                let named = |command: &&Command| {
                    command.name.get(container..).is_some_and(|known| is_named(known, name))
                };
                command.subcommands.iter().find(named)
            }
            _ => Some(command),
        }
    }

    /// How many commands are known, without subcommands.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(crate) fn named(&self, name: &[u8]) -> Option<&Command> {
        let is_it = |known: &KnownName| known.is(name, || is_named(&self.commands[known.place].name, name));
        let known = self.places.find(hash(name), is_it)?;
        Some(&self.commands[known.place])
    }

    /// Adds a command, in the place of the one of its name if there is one.
    pub(crate) fn insert(&mut self, command: Command) {
        let hashed = hash(command.name.as_bytes());
        let same = |known: &KnownName| self.commands[known.place].name == command.name;
        match self.places.find(hashed, same) {
            Some(known) => self.commands[known.place] = command,
            None => {
                let known = KnownName::new(&command.name, self.commands.len());
                self.commands.push(command);
                let commands = &self.commands;
                self.places.insert_unique(hashed, known, |known| hash(commands[known.place].name.as_bytes()));
            }
        }
    }

    /// Reads what [`Display`](fmt::Display) writes: a line a command, those of subcommands behind their command's. `None` if
    /// it is something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut commands = Self::empty();
        let mut last: Option<Command> = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let (name, arity, flags) = (words.next()?, words.next()?, words.next()?);
            let (mut specs, mut tips) = (Vec::new(), None);
            for word in words {
                match word.starts_with("tips/") {
                    true => tips = Some(Tips::parse(word)?),
                    false => specs.push(KeySpec::parse(word)?),
                }
            }
            let mut command = Command::new(name, arity.parse().ok()?, Flags::parse(flags), specs);
            command.tips = tips.unwrap_or_default();
            if name.contains('|') {
                last.as_mut()?.subcommands.push(command);
            } else if let Some(whole) = last.replace(command) {
                commands.insert(whole);
            }
        }
        commands.insert(last?);
        Some(commands)
    }
}

impl fmt::Display for Commands {
    /// The commands by name, as `table.txt` holds them: name, arity, flags, key specifications, tips.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_name = |commands: &[Command]| {
            let mut commands: Vec<_> = commands.to_vec();
            commands.sort_by(|one, other| one.name.cmp(&other.name));
            commands
        };
        for command in by_name(&self.commands) {
            for line in [vec![command.clone()], by_name(&command.subcommands)].concat() {
                let mut specs = String::new();
                line.key_specs.iter().try_for_each(|spec| write!(specs, " {spec}"))?;
                if line.tips != Tips::default() {
                    write!(specs, " {}", line.tips)?;
                }
                writeln!(f, "{} {} {}{specs}", line.name, line.arity, line.flags)?;
            }
        }
        Ok(())
    }
}

/// Whether a client that writes `name` means the command.
fn is_named(command: &str, name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(command.as_bytes())
}

#[cfg(test)]
mod tests {
    use resp::{RequestLimits, RequestParser};

    use super::*;

    /// The name of the command that is found for an inline request.
    fn found(line: &str) -> Option<String> {
        let input = format!("{line}\n").into_bytes();
        let mut parser = RequestParser::new(RequestLimits::REDIS);
        parser.parse(&input).expect("an inline request");
        let commands = Commands::built_in();
        commands.find(parser.arguments(&input)).map(|command| command.name().to_owned())
    }

    #[test]
    fn a_command_is_found_by_its_name_in_any_case_and_by_nothing_else() {
        assert_eq!(found("GeT k").as_deref(), Some("get"));
        assert_eq!(found("CLIENT lIsT").as_deref(), Some("client|list"));
        assert_eq!(found("CLIENT").as_deref(), Some("client"));
        assert_eq!(found("restore-asking k").as_deref(), Some("restore-asking"));
        for line in ["GE", "GETT", "CLIENT|LIST", "CLIENT LISTS", "\"\"", "g\u{e9}t"] {
            assert_eq!(found(line), None, "{line}");
        }
        assert_eq!(found(&"get".repeat(100_000)[..60_000]), None);
    }

    #[test]
    fn arity_is_exact_or_the_least() {
        let commands = Commands::built_in();
        let get = commands.named(b"get").expect("known");
        let set = commands.named(b"set").expect("known");
        assert_eq!([1, 2, 3].map(|count| get.takes(count)), [false, true, false]);
        assert_eq!([2, 3, 9].map(|count| set.takes(count)), [false, true, true]);
    }
}
