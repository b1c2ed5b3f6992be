//! The file of `--config`: TOML, one key a setting, at top level.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, quoted};
use super::read::{self, PipePolicy};
use super::{flags, table};

/// The largest such file.
const MOST_BYTES: u64 = 1 << 20;

/// One line of the file that sets something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: &'static str,
    /// The value as text: what the same setting would be as a variable.
    pub(super) text: String,
    pub(super) number: usize,
}

/// Reads the file.
///
/// # Errors
/// It cannot be read, is not TOML, or holds a key that is no setting.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, ConfigError> {
    let error =
        |why: &str| ConfigError::other(format!("--config {}: {why}", quoted(&path.to_string_lossy())));
    let bytes = read::read(path, MOST_BYTES, PipePolicy::WaitedFor).map_err(|why| error(&why))?;
    let text = String::from_utf8(bytes).map_err(|_| error("it is not UTF-8"))?;
    parse(&text, &path.to_string_lossy())
}

fn parse(text: &str, path: &str) -> Result<Vec<Line>, ConfigError> {
    let line_of = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    // Only the message of TOML's error: its display repeats the line, which may hold a password.
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        ConfigError::other(format!("{path}:{line}: not TOML: {}", error.message()))
    })?;
    let mut lines = Vec::new();
    for (key, value) in table.get_ref() {
        let number = line_of(key.span().start);
        let is_key = |name: &str| name.to_ascii_lowercase() == **key.get_ref();
        if let Some((gone, instead)) = table::GONE.iter().find(|(name, _)| is_key(name)) {
            return Err(ConfigError::gone(gone, &format!("{path}:{number}"), instead));
        }
        let Some(setting) = table::all().find(|setting| setting.key() == **key.get_ref()) else {
            let hint = flags::closest(key.get_ref())
                .map_or(String::new(), |setting| format!("; did you mean {}?", setting.key()));
            return Err(ConfigError::other(format!(
                "{path}:{number}: {} is no setting{hint}",
                quoted(key.get_ref())
            )));
        };
        let text = value_text(value.get_ref()).ok_or_else(|| {
            let (name, expected) = (setting.name, setting.accepts.expected());
            let kind = value.get_ref().type_str();
            ConfigError::other(format!("{path}:{number}: {name} is of type {kind}: expected {expected}"))
        })?;
        lines.push(Line { name: setting.name, text, number });
    }
    Ok(lines)
}

/// A plain value as the text of a variable.
fn value_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        // Digits without their underscores; another base as written, which no setting accepts.
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(on) => Some(if *on { "on" } else { "off" }.to_owned()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_strings_are_both_taken() {
        let text = "capacity = 10_000 # comment\nglobal_expiry = 0.5\nport = \"off\"\nwith_redis = true\n";
        let mut lines = parse(text, "f.toml").unwrap();
        lines.sort_by_key(|line| line.number);
        let read: Vec<_> = lines.iter().map(|line| (line.name, line.text.as_str(), line.number)).collect();
        let expected = [
            ("CAPACITY", "10000", 1),
            ("GLOBAL_EXPIRY", "0.5", 2),
            ("PORT", "off", 3),
            ("WITH_REDIS", "on", 4),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_wrong_names_file_and_line() {
        let cases = [
            ("capacity = 1\ncapcity = 2", "f.toml:2: \"capcity\" is no setting; did you mean capacity?"),
            ("resp_cache = false", "RESP_CACHE (f.toml:1) is gone: set RESP_COHERENCE"),
            ("CAPACITY = 1", "f.toml:1: \"CAPACITY\" is no setting; did you mean capacity?"),
            ("zzz = 2", "f.toml:1: \"zzz\" is no setting"),
            ("\n[redis]\nhost = 1", "f.toml:2: \"redis\" is no setting"),
            ("\ncapacity = [1]", "f.toml:2: CAPACITY is of type array: expected a whole number"),
            ("capacity = 1\n\nredis_password = SECRET", "f.toml:3: not TOML: "),
            ("capacity = 1\ncapacity = 2", "f.toml:2: not TOML: duplicate key"),
        ];
        for (text, expected) in cases {
            let error = parse(text, "f.toml").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains('\n') && !error.contains("SECRET"), "{error}");
        }
    }
}
