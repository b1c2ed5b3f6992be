//! What a setting accepts: from an operator's text to a value, and back to text.

use std::time::Duration;

use bytesize::ByteSize;
use upstream::Address;

use super::address_map::AddressMap;
use super::host;
use super::listen;
use super::password_command::PasswordCommand;
use super::redis_url;
use crate::access::{AllowedHosts, Origins};

/// The kind of a setting, with its range.
pub(super) enum SettingKind {
    /// A whole number, or `word`.
    Count { min: u64, max: u64, word: Option<&'static str> },
    /// A size in bytes, or `word`.
    Bytes { min: u64, max: u64, word: Option<&'static str> },
    /// A span of time, or `word`.
    Time { min: Duration, max: Duration, word: Option<&'static str> },
    /// A port to listen on; 0 is any, `off` none.
    Port,
    /// A port to connect to, or `tcp://host:port`.
    RedisPort,
    /// A name, an IPv4 or an IPv6 address, without port.
    Host,
    /// The same, or the path of a unix socket to listen on.
    ListenHost,
    /// Permissions of a file, in octal digits.
    FileMode,
    /// `on` or `off`, with `auto` perhaps.
    Switch { auto: bool },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words, with commas between them.
    Words(&'static [&'static str]),
    /// A filter of `tracing`.
    LogFilter,
    /// The value of an HTTP header field.
    HeaderValue,
    /// A media type, or `auto`.
    MediaType,
    /// Names of `Host`, `auto` or `*`.
    Hosts,
    /// Origins of pages, `none` or `*`.
    Origins,
    /// Any text without control characters.
    Text,
    /// The path of a file that can be read.
    File,
    /// A secret.
    Password,
    /// A program to run, with its arguments.
    Command,
    /// The address of a Redis, perhaps with a password in it.
    Url,
    /// Hosts with or without their ports, the first of which is tried first.
    Addresses { default_port: u16 },
    /// A host and a port.
    HostPort,
    /// Pairs of addresses: as it is announced, and as it is reached.
    AddressMap,
}

/// A setting's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A count, a port or a size in bytes.
    Number(u64),
    /// A span of time.
    Time(Duration),
    /// A text, path, choice or secret.
    Text(String),
    /// A word in place of a number: `off`, `auto`.
    Word(&'static str),
    /// Host and port in one, as Kubernetes writes them.
    Address { host: String, port: u16 },
    /// One address or more.
    Addresses(Vec<Address>),
    /// Which address is reached at which.
    AddressMap(AddressMap),
}

impl SettingKind {
    /// Understands `text`; `None` is a text that is not accepted.
    pub(super) fn parse(&self, text: &str) -> Option<Value> {
        match *self {
            SettingKind::Count { word: Some(word), .. }
            | SettingKind::Bytes { word: Some(word), .. }
            | SettingKind::Time { word: Some(word), .. }
                if text == word =>
            {
                Some(Value::Word(word))
            }
            SettingKind::Count { min, max, .. } => number(text, min, max),
            SettingKind::Bytes { min, max, .. } => {
                size(text).filter(|n| (min..=max).contains(n)).map(Value::Number)
            }
            SettingKind::Time { min, max, .. } => {
                span(text).filter(|t| (min..=max).contains(t)).map(Value::Time)
            }
            SettingKind::Port if text == "off" => Some(Value::Word("off")),
            SettingKind::Port => number(text, 0, 65_535),
            SettingKind::RedisPort => match redis_url::tcp_address(text) {
                Some((host, port)) => Some(Value::Address { host, port }),
                None => number(text, 1, 65_535),
            },
            SettingKind::Host => host::parse(text).map(Value::Text),
            SettingKind::ListenHost if listen::unix_path(text).is_some() => Some(Value::Text(text.into())),
            SettingKind::ListenHost => host::parse(text).map(Value::Text),
            SettingKind::FileMode => file_mode(text).map(Value::Number),
            SettingKind::Switch { auto } => switch(text, auto).map(|word| Value::Text(word.into())),
            SettingKind::OneOf(words) => words.contains(&text).then(|| Value::Text(text.into())),
            SettingKind::Words(words) => some_of(text, words).map(Value::Text),
            SettingKind::LogFilter => is_log_filter(text).then(|| Value::Text(text.into())),
            SettingKind::HeaderValue => is_header_value(text).then(|| Value::Text(text.into())),
            SettingKind::MediaType => is_media_type(text).then(|| Value::Text(text.into())),
            SettingKind::Origins => Origins::parse(text).map(|_| Value::Text(text.into())),
            SettingKind::Hosts => AllowedHosts::parse(text).map(|_| Value::Text(text.into())),
            SettingKind::Text => {
                (!text.is_empty() && !text.contains(char::is_control)).then(|| Value::Text(text.into()))
            }
            // Whether it can be read, and whether it is a URL, is told later and in more words.
            SettingKind::File | SettingKind::Password | SettingKind::Url => {
                (!text.is_empty()).then(|| Value::Text(text.into()))
            }
            SettingKind::Command => PasswordCommand::parse(text).map(|_| Value::Text(text.into())),
            SettingKind::Addresses { default_port } => addresses(text, default_port).map(Value::Addresses),
            SettingKind::HostPort => {
                host::parse_with_port(text, None).map(|address| Value::Addresses(vec![address]))
            }
            SettingKind::AddressMap => AddressMap::parse(text).map(Value::AddressMap),
        }
    }

    /// What is accepted, in words: for errors, `--help` and the documentation.
    pub(super) fn expected(&self) -> String {
        let or = |word: Option<&str>| word.map_or(String::new(), |word| format!(" or \"{word}\""));
        match self {
            SettingKind::Count { min, max, word } => {
                format!("a whole number from {min} to {max}{}", or(*word))
            }
            SettingKind::Bytes { min, max, word } => {
                format!(
                    "a size from {} to {}, such as 4096, 64KiB or 1MiB{}{}",
                    show_size(*min),
                    show_size(*max),
                    word.map_or("", |_| ","),
                    or(*word)
                )
            }
            SettingKind::Time { min, max, word } => {
                format!(
                    "a time from {} to {}, such as 5s, 500ms or 1m30s; a bare number is seconds{}{}",
                    show_span(*min),
                    show_span(*max),
                    word.map_or("", |_| ","),
                    or(*word)
                )
            }
            SettingKind::Port => "a port from 0 (any free one) to 65535 or \"off\"".into(),
            SettingKind::RedisPort => "a port from 1 to 65535 or tcp://host:port".into(),
            SettingKind::Host => "a host name or an IP address, without port".into(),
            SettingKind::ListenHost => {
                "a host name or an IP address, without port, or unix:/path, of at most 107 bytes".into()
            }
            SettingKind::FileMode => "permissions in octal digits, from 0600 to 0777".into(),
            SettingKind::Switch { auto: false } => "on or off".into(),
            SettingKind::Switch { auto: true } => "on, off or auto".into(),
            SettingKind::OneOf(words) => words.join(" or "),
            SettingKind::Words(words) => format!("{}, or some of them with commas between", words.join(", ")),
            SettingKind::LogFilter => {
                "error, warn, info, debug, trace or off, or a list such as warn,redis_proxy=debug".into()
            }
            SettingKind::HeaderValue => {
                "a header value of visible ASCII characters, with spaces within".into()
            }
            SettingKind::MediaType => "auto or a media type such as text/html; charset=utf-8".into(),
            SettingKind::Origins => {
                "none, *, or origins with commas between them, each a scheme and a host".into()
            }
            SettingKind::Hosts => {
                "auto, *, or names and addresses with commas between them, without ports".into()
            }
            SettingKind::Text => "a text without control characters".into(),
            SettingKind::File => "the path of a readable file".into(),
            SettingKind::Password => "a text that is not empty".into(),
            SettingKind::Command => "a program with its arguments, quoted as in a shell".into(),
            SettingKind::Url => {
                "redis://[user:password@]host[:port][/db], rediss://..., unix:///path[?db=n], \
                 redis+sentinel://[user:password@]host[:port],.../name[/db] or \
                 redis+cluster://[user:password@]host[:port],...[/db]"
                    .into()
            }
            SettingKind::Addresses { default_port } => format!(
                "hosts with commas between them, each with its port or that of {default_port}, IPv6 addresses in brackets"
            ),
            SettingKind::HostPort => "host:port, an IPv6 address in brackets".into(),
            SettingKind::AddressMap => {
                "host:port=host:port pairs with commas between them, nothing on the left of two".into()
            }
        }
    }

    /// The unit, as a placeholder in `--help`.
    pub(super) fn unit(&self) -> &'static str {
        match self {
            SettingKind::Count { .. } => "NUMBER",
            SettingKind::Bytes { .. } => "BYTES",
            SettingKind::Time { .. } => "TIME",
            SettingKind::Port | SettingKind::RedisPort => "PORT",
            SettingKind::Host => "HOST",
            SettingKind::ListenHost => "HOST|unix:PATH",
            SettingKind::FileMode => "MODE",
            SettingKind::Switch { auto: false } => "on|off",
            SettingKind::Switch { auto: true } => "on|off|auto",
            SettingKind::OneOf(_) => "WORD",
            SettingKind::Words(_) => "WORD,...",
            SettingKind::LogFilter => "FILTER",
            SettingKind::HeaderValue | SettingKind::Text => "TEXT",
            SettingKind::MediaType => "TYPE",
            SettingKind::Origins => "ORIGIN,...",
            SettingKind::Hosts => "HOST,...",
            SettingKind::File => "FILE",
            SettingKind::Password => "PASSWORD",
            SettingKind::Command => "COMMAND",
            SettingKind::Url => "URL",
            SettingKind::Addresses { .. } => "HOST:PORT,...",
            SettingKind::HostPort => "HOST:PORT",
            SettingKind::AddressMap => "HOST:PORT=HOST:PORT,...",
        }
    }

    /// `text` as it may be shown.
    pub(super) fn masked(&self, text: &str) -> String {
        match self {
            SettingKind::Password => "***".into(),
            SettingKind::Command => PasswordCommand::masked(text),
            SettingKind::Url => redis_url::masked(text),
            _ => text.into(),
        }
    }

    /// `value` as an operator would write it, secrets masked.
    pub(super) fn show(&self, value: &Value) -> String {
        match (self, value) {
            (SettingKind::Bytes { .. }, Value::Number(n)) => show_size(*n),
            (SettingKind::FileMode, Value::Number(n)) => format!("{n:04o}"),
            (_, Value::Number(n)) => n.to_string(),
            (_, Value::Time(t)) => show_span(*t),
            (_, Value::Text(text)) => self.masked(text),
            (_, Value::Word(word)) => (*word).into(),
            (_, Value::Address { host, port }) => {
                Address::Tcp { host: host.clone(), port: *port }.to_string()
            }
            (_, Value::Addresses(addresses)) => list(addresses),
            (_, Value::AddressMap(map)) => map.to_string(),
        }
    }
}

fn addresses(text: &str, default_port: u16) -> Option<Vec<Address>> {
    text.split(',').map(|one| host::parse_with_port(one.trim(), Some(default_port))).collect()
}

/// Addresses with commas between them.
pub(super) fn list(addresses: &[Address]) -> String {
    addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(",")
}

fn number(text: &str, min: u64, max: u64) -> Option<Value> {
    // u64's own parser takes a leading plus.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|n| digits && (min..=max).contains(n)).map(Value::Number)
}

fn size(text: &str) -> Option<u64> {
    text.starts_with(|first: char| first.is_ascii_digit()).then_some(())?;
    Some(text.parse::<ByteSize>().ok()?.as_u64())
}

/// A size in the largest unit that holds it exactly.
fn show_size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let exact = units.iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    exact.map_or(bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn span(text: &str) -> Option<Duration> {
    const UNITS: [&str; 7] = ["us", "ms", "s", "m", "h", "d", "w"];
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Duration::try_from_secs_f64(text.parse().ok()?).ok();
    }
    // humantime knows more units, of which `M` is a month: too easily meant as minutes. And numbers near the
    // end of u64 make it panic (2.4.0, `Duration::new` with a carry), hence the bounds.
    let known =
        text.split(|c: char| !c.is_ascii_alphabetic()).all(|unit| unit.is_empty() || UNITS.contains(&unit));
    let short = text.split(|c: char| !c.is_ascii_digit()).all(|digits| digits.len() <= 12);
    if !known || !short || text.len() > 64 || !text.is_ascii() {
        return None;
    }
    humantime::parse_duration(text).ok()
}

/// A time as `1d2h3m4s5ms`, without the parts that are nothing.
pub(super) fn show_span(time: Duration) -> String {
    let seconds = time.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(time.subsec_millis()), "ms"),
        (u64::from(time.subsec_micros() % 1000), "us"),
    ];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".into() } else { text }
}

/// Its owner must be able to connect.
fn file_mode(text: &str) -> Option<u64> {
    let digits = text.len() <= 4 && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u64::from_str_radix(text, 8).ok().filter(|_| digits)?;
    (mode & 0o600 == 0o600 && mode <= 0o777).then_some(mode)
}

/// The words as they are written, without spaces.
fn some_of(text: &str, known: &[&str]) -> Option<String> {
    let words: Vec<_> = text.split(',').map(str::trim).collect();
    words.iter().all(|word| known.contains(word)).then(|| words.join(","))
}

fn switch(text: &str, auto: bool) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some("on"),
        "off" | "false" | "no" | "0" => Some("off"),
        "auto" if auto => Some("auto"),
        _ => None,
    }
}

/// The filter's own parser takes any word for a module whose every line is logged, `LOG=verbose` too: a piece
/// without `=` must be a level here.
fn is_log_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let level = |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str());
    let piece = |piece: &str| match piece.rsplit_once('=') {
        Some((module, word)) => !module.is_empty() && level(word),
        None => level(piece),
    };
    text.split(',').all(piece) && tracing_subscriber::EnvFilter::builder().parse(text).is_ok()
}

/// RFC 9110, section 5.5, without the bytes above ASCII.
fn is_header_value(text: &str) -> bool {
    let visible = |byte: u8| matches!(byte, b' ' | 0x21..=0x7e);
    !text.is_empty() && text.len() <= 1024 && text.trim() == text && text.bytes().all(visible)
}

/// `auto`, or RFC 9110, section 8.3.1: two tokens with a slash between them, and perhaps parameters.
fn is_media_type(text: &str) -> bool {
    let kind = text.split(';').next().unwrap_or_default().trim_end();
    let is_token = |part: &str| {
        let mark = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !part.is_empty() && part.bytes().all(mark)
    };
    let is_kind = kind.split_once('/').is_some_and(|(kind, part)| is_token(kind) && is_token(part));
    text == "auto" || is_header_value(text) && text.len() <= 256 && is_kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood() {
        let cases = [
            ("5", 5_000_000),
            ("0.5", 500_000),
            (".5", 500_000),
            ("0", 0),
            ("500ms", 500_000),
            ("5s", 5_000_000),
            ("1m30s", 90_000_000),
            ("1m 30s", 90_000_000),
            ("1h", 3_600_000_000),
            ("1.5h", 5_400_000_000),
            ("2d", 172_800_000_000),
        ];
        for (text, micros) in cases {
            assert_eq!(span(text), Some(Duration::from_micros(micros)), "{text}");
        }
        for text in
            ["", "soon", "-1", "+1", "1e3", "inf", "NaN", "5M", "5 parsecs", "1y", ".", "1..5", "s", "５"]
        {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_near_the_end_of_u64_is_refused_and_not_a_panic() {
        for text in [
            "18446744073709551615",
            "18446744073709551615s",
            "18446744073709551615s1000ms",
            "1e400",
            "999999999999w",
        ] {
            assert!(span(text).is_none_or(|time| time > Duration::from_secs(1 << 32)), "{text}");
        }
    }

    #[test]
    fn sizes_are_understood() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("1MiB", 1 << 20),
            ("1 MiB", 1 << 20),
            ("64k", 64_000),
            ("64KiB", 65_536),
            ("1.5KiB", 1536),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "lots", "-1", "+1", "1XB", ".5k", "1MiB2", "k"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn a_shown_value_reads_back_as_itself() {
        for bytes in [0, 1, 1000, 1024, 1 << 20, (1 << 20) + 1, 3 << 30, 1 << 46] {
            assert_eq!(size(&show_size(bytes)), Some(bytes), "{}", show_size(bytes));
        }
        for micros in [0, 1, 1000, 1_500, 61_000_000, 90_061_001_001, 315_360_000_000_000] {
            let time = Duration::from_micros(micros);
            assert_eq!(span(&show_span(time)), Some(time), "{}", show_span(time));
        }
    }

    #[test]
    fn hosts_are_names_or_addresses_without_port() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("redis.internal", "redis.internal"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("my_redis", "my_redis"),
        ] {
            assert_eq!(host::parse(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "host:6379",
            "[::1]:6379",
            "redis://host",
            "a b",
            "a/b",
            "u@h",
            "[host]",
            "[]",
            ":",
            "host\n",
        ] {
            assert_eq!(host::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_log_filter_is_made_of_levels() {
        for text in ["info", "WARN", "off", "warn,redis_proxy=debug", "redis_proxy::front=trace,info"] {
            assert!(is_log_filter(text), "{text}");
        }
        for text in ["", "verbose", "redis_proxy", "info,", "=debug", "redis_proxy=loud", "5x"] {
            assert!(!is_log_filter(text), "{text}");
        }
    }
}
