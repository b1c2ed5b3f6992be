//! Sets of flags, with the names that `COMMAND` gives them.

use std::fmt;

/// A set of small flags with a name each.
macro_rules! flags {
    ($(#[$doc:meta])* $set:ident { $($(#[$flag_doc:meta])* $flag:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
        pub struct $set(u32);

        impl $set {
            flags!(@each 0; $($(#[$flag_doc])* $flag,)*);

            const NAMES: &[(&str, $set)] = &[$(($name, $set::$flag)),*];
        }
    };
    (@each $bit:expr; $(#[$doc:meta])* $flag:ident, $($rest:tt)*) => {
        $(#[$doc])*
        pub const $flag: Self = Self(1 << $bit);
        flags!(@each $bit + 1; $($rest)*);
    };
    (@each $bit:expr;) => {};
}

flags! {
    /// What a command is, as `COMMAND` tells it. Flags that are not here decide nothing for us.
    Flags {
        /// It may change data.
        WRITE = "write",
        /// It reads keys and changes none.
        READONLY = "readonly",
        /// It may make its connection wait.
        BLOCKING = "blocking",
        /// It is about channels.
        PUBSUB = "pubsub",
        /// It is an operator's.
        ADMIN = "admin",
        /// Scripts may not call it.
        NOSCRIPT = "noscript",
        /// It is refused where memory is short.
        DENYOOM = "denyoom",
        /// It costs constant or logarithmic time.
        FAST = "fast",
        /// It is allowed while Redis loads its data.
        LOADING = "loading",
        /// It is allowed on a replica that has lost its master.
        STALE = "stale",
        /// It needs no authentication.
        NO_AUTH = "no_auth",
        /// It is refused within a transaction.
        NO_MULTI = "no_multi",
        /// It is allowed while a script holds the server up.
        ALLOW_BUSY = "allow_busy",
        /// Its keys do not stand at fixed places.
        MOVABLEKEYS = "movablekeys",
        /// It names keys if it wishes, and can touch others: a script.
        NO_MANDATORY_KEYS = "no_mandatory_keys",
    }
}

flags! {
    /// How a command touches a key, as `COMMAND GETKEYSANDFLAGS` tells it.
    Access {
        /// Reads it, and changes nothing.
        RO = "RO",
        /// Reads and changes it.
        RW = "RW",
        /// Overwrites it unread.
        OW = "OW",
        /// Removes it unread.
        RM = "RM",
        /// The reply or a stored value tells of its content.
        ACCESS = "access",
        /// Its content may change.
        UPDATE = "update",
        /// Content may be added.
        INSERT = "insert",
        /// Content may be removed.
        DELETE = "delete",
        /// It is no key: a channel of a shard.
        NOT_KEY = "not_key",
        /// There may be more keys than are told.
        INCOMPLETE = "incomplete",
        /// How the key is touched depends on the arguments.
        VARIABLE_FLAGS = "variable_flags",
    }
}

/// What all sets can do.
macro_rules! sets {
    ($($set:ident)*) => {$(
        impl $set {
            /// No flag.
            pub const NONE: Self = Self(0);

            /// Whether all flags of `other` are set.
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether one flag of `other` is set, at least.
            pub const fn has_any(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// The flags of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The flag of that name; none for a name that decides nothing here.
            pub(crate) fn named(name: &[u8]) -> Self {
                let found = Self::NAMES.iter().find(|(known, _)| known.as_bytes() == name);
                found.map_or(Self::NONE, |(_, flag)| *flag)
            }

            /// The flags whose names stand in `names` with commas between.
            pub(crate) fn parse(names: &str) -> Self {
                names.split(',').fold(Self::NONE, |set, name| set.with(Self::named(name.as_bytes())))
            }
        }

        impl fmt::Display for $set {
            /// The names with commas between; `-` for none.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let names: Vec<_> =
                    Self::NAMES.iter().filter(|(_, flag)| self.has(*flag)).map(|(name, _)| *name).collect();
                f.write_str(if names.is_empty() { "-" } else { "" })?;
                f.write_str(&names.join(","))
            }
        }

        impl fmt::Debug for $set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

sets! { Flags Access }
