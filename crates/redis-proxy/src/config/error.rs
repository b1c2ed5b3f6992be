//! What is wrong with the settings, in one line.

use std::fmt;

/// The settings cannot be used. Displays as one line that names the setting, its value (secrets masked) and what
/// is accepted.
#[derive(Debug)]
pub struct ConfigError(String);

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
