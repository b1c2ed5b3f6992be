//! What is wrong with the settings, in one line.

use std::fmt;

use super::given::{Given, Origin};

/// The settings cannot be used. Displays as one line that names the setting, its value (secrets masked) and
/// what is accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

/// The longest piece of an operator's text that an error repeats.
const SHOWN_CHARS: usize = 120;

impl ConfigError {
    /// `name` was given as `text`, which is not `expected`.
    pub(super) fn bad_value(name: &str, text: &str, origin: &Origin, expected: &str) -> Self {
        ConfigError(format!("{name}={} ({origin}) is not accepted: expected {expected}", quoted(text)))
    }

    /// Two settings that exclude each other are both given.
    pub(super) fn conflict(one: &Given, other: &Given, remedy: &str) -> Self {
        let (a, b) = (one.name, other.name);
        ConfigError(format!("{a} ({}) and {b} ({}) are both set: {remedy}", one.origin, other.origin))
    }

    /// A setting of an earlier version is given, which `instead` has replaced.
    pub(super) fn gone(name: &str, origin: &str, instead: &str) -> Self {
        ConfigError(format!("{name} ({origin}) is gone: set {instead}"))
    }

    /// Anything else, in words that name the setting or the file.
    pub(super) fn other(text: impl Into<String>) -> Self {
        ConfigError(text.into().replace(['\n', '\r'], " "))
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `text` in quotes, on one line and not endless.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
