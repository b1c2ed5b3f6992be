//! What a command may change, as far as that can be told before it runs.

use resp::Arguments;

use crate::{Command, Flags, Key};

/// What must be taken for changed once a command was sent, whatever its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The keys that it names ([`Command::changed`]).
    Keys,
    /// Everything: databases as a whole.
    All,
    /// Who may read what, and who is let in without a login.
    Rights,
    /// Perhaps who is let in without a login.
    Login,
    /// It is not known what.
    Unknown,
}

/// Commands that take rights away, which shows in no key.
const RIGHTS: &[&str] = &["acl|deluser", "acl|load", "acl|setuser"];

/// Commands after which nothing that was read before may be relied on.
const ALL: &[&str] =
    &["debug", "failover", "flushall", "flushdb", "function|flush", "replicaof", "slaveof", "swapdb"];

/// Commands of which the proxy says or hears more than the bytes that pass.
const HEARD: &[&str] = &["client|pause", "client|tracking", "client|unpause", "info"];

/// Whether the command of this name is one of these.
pub(crate) fn is_heard(name: &str) -> bool {
    HEARD.contains(&name)
}

impl Change {
    pub(crate) fn of(name: &str, flags: Flags, names_keys: bool) -> Change {
        if ALL.contains(&name) {
            Change::All
        } else if RIGHTS.contains(&name) {
            Change::Rights
        } else if name == "config|set" {
            Change::Login
        } else if names_keys {
            Change::Keys
        } else if flags.has(Flags::WRITE) {
            Change::Unknown
        } else {
            Change::None
        }
    }
}

impl Command {
    /// Whether it neither changes anything nor is a read that may be kept, nor is heard.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether the proxy says or hears more than the bytes that pass: it adds to the answer to INFO, follows that to CLIENT
    /// PAUSE, and knows the clients that CLIENT TRACKING names.
    #[inline]
    pub fn is_heard(&self) -> bool {
        !self.plain && self.change == Change::None && self.read.is_none()
    }

    /// What a request of this command may change.
    pub fn change(&self) -> Change {
        self.change
    }

    /// Whether its only key is the first argument, whatever follows.
    pub fn has_one_key(&self) -> bool {
        matches!(&self.key_specs[..], [spec] if spec.is_first_argument())
    }

    /// Appends the keys that a request of this command may change, as places of arguments. False if it may change others.
    pub fn changed(&self, arguments: Arguments<'_>, keys: &mut Vec<Key>) -> bool {
        let complete = self.keys(arguments, keys);
        keys.retain(Key::is_written);
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Commands;

    /// The keys that an inline request may change, and whether that is all.
    fn changed(line: &str) -> (Change, Vec<String>, bool) {
        let input = format!("{line}\n").into_bytes();
        let mut parser = resp::RequestParser::new(resp::RequestLimits::REDIS);
        parser.parse(&input).expect("an inline request");
        let arguments = parser.arguments(&input);
        let commands = Commands::built_in();
        let command = commands.find(arguments).expect("a command");
        let mut keys = Vec::new();
        let complete = command.changed(arguments, &mut keys);
        let words = keys.iter().filter_map(|key| arguments.get(key.argument));
        let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
        (command.change(), words.collect(), complete)
    }

    #[test]
    fn what_a_command_may_change_is_known_before_it_runs() {
        let keys = |line: &str| {
            let (change, keys, complete) = changed(line);
            assert!(change == Change::Keys && complete, "{line}: {change:?}");
            keys.join(" ")
        };
        assert_eq!(keys("SET a 1"), "a");
        assert_eq!(keys("MSET a 1 b 2"), "a b");
        assert_eq!(keys("RENAME a b"), "a b");
        assert_eq!(keys("COPY a b DB 3"), "b");
        assert_eq!(keys("BLMOVE a b LEFT RIGHT 0"), "a b");
        assert_eq!(keys("SORT a BY w_* STORE b"), "b");
        assert_eq!(keys("GETEX a PERSIST"), "a");
        assert_eq!(keys("PFCOUNT a b"), "a b", "it may write its cache into them");
        assert_eq!(keys("XREADGROUP GROUP g c STREAMS a b > >"), "");
        assert_eq!(changed("EVAL \"return 1\" 1 a b"), (Change::Keys, vec!["a".into()], false));
        assert_eq!(changed("GET a").0, Change::None);
        assert_eq!(changed("PUBLISH a b").0, Change::None);
        for line in ["FLUSHALL", "FLUSHDB ASYNC", "SWAPDB 0 1", "FUNCTION FLUSH"] {
            assert_eq!(changed(line).0, Change::All, "{line}");
        }
        assert_eq!(changed("ACL SETUSER u").0, Change::Rights);
        assert_eq!(changed("CONFIG SET requirepass p").0, Change::Login);
    }
}
