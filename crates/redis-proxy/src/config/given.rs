//! A value that the operator gave, and where.

use std::fmt;

use super::value::Value;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File { path: String, line: usize },
    Environment,
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Environment => f.write_str("environment"),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

/// A value that the operator gave.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// The setting that the operator named: of a secret from a file, the one with `_FILE`.
    pub(super) name: &'static str,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

impl Given {
    /// A text, path, choice or secret.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}
