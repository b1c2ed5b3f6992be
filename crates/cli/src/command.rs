//! The command lines of the subcommands.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, ValueHint};

use crate::server_url::{ServerUrl, escaped};
use crate::token::BearerToken;

/// What to ask, whom, and how, checked.
#[derive(Clone, Debug)]
pub struct CliOptions {
    /// What to ask.
    pub subcommand: Subcommand,
    /// Whom.
    pub server: ServerUrl,
    /// The authorities of a server that speaks TLS; none: those of the system.
    pub cacert: Option<PathBuf>,
    /// The longest silence.
    pub timeout: Duration,
    /// What is sent as `Authorization`.
    pub token: Option<BearerToken>,
}

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subcommand {
    /// The value of a key.
    Get {
        /// As it is in Redis.
        key: Vec<u8>,
    },
    /// That something leave the cache.
    Purge(PurgeTarget),
    /// What is counted.
    Stats {
        /// As it comes.
        json: bool,
    },
    /// Whether it is ready.
    Health,
    /// What is counted and what is hot, each second, on a terminal.
    Top,
}

/// What is to leave the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeTarget {
    /// One key.
    Key(Vec<u8>),
    /// All that begins so.
    Prefix(Vec<u8>),
    /// Everything.
    All,
}

impl PurgeTarget {
    /// As `POST /purge` takes it.
    pub(crate) fn form(&self) -> String {
        match self {
            PurgeTarget::Key(key) => format!("key={}", escaped(key)),
            PurgeTarget::Prefix(prefix) => format!("prefix={}", escaped(prefix)),
            PurgeTarget::All => "all=1".to_owned(),
        }
    }
}

const KEY: &str = "key";
const PREFIX: &str = "prefix";
const ALL: &str = "all";
const JSON: &str = "json";
const CACERT: &str = "cacert";
const TIMEOUT: &str = "timeout";

/// A port that a subcommand asks.
struct Port {
    option: &'static str,
    default: &'static str,
    /// The setting of the token that it may want.
    token: &'static str,
    what: &'static str,
}

const DATA: Port = Port {
    option: "url",
    default: "http://127.0.0.1:5000",
    token: "READ_TOKEN",
    what: "The data port: http://host:port, https://host:port or unix:/path",
};
const ADMIN: Port = Port {
    option: "admin",
    default: "http://127.0.0.1:5001",
    token: "ADMIN_TOKEN",
    what: "The admin port: http://host:port, https://host:port or unix:/path",
};

fn port_of(subcommand: &str) -> Port {
    if subcommand == "get" { DATA } else { ADMIN }
}

/// The longest time to wait.
const MOST_TIME: Duration = Duration::from_secs(24 * 60 * 60);

const CODES: &str = "\
Exit code: 0 done, 1 no such key or not ready, 2 a wrong argument, 3 not reached or no answer, 4 refused (a token is missing or wrong, \
or another name is wanted).";

/// The subcommands, without what is theirs alone to know.
pub fn commands() -> Vec<Command> {
    let key = |help: &'static str| {
        Arg::new(KEY).value_name("KEY").value_parser(ValueParser::os_string()).help(help)
    };
    vec![
        command(
            "get",
            "Print the value of a key as a running program answers it, from memory when it can",
            "redis-proxy get user:1 >value\n  redis-proxy get --url https://cache.example --cacert ca.pem -- -a-key-with-a-dash",
            "The value is printed byte for byte, and no line end behind it.",
        )
        .arg(key("The key; behind `--` one that begins with a dash").required(true)),
        command(
            "purge",
            "Have a key, a prefix or everything leave the cache of a running program; Redis keeps what it has",
            "redis-proxy purge user:1\n  redis-proxy purge --prefix user:\n  redis-proxy purge --all --admin unix:/run/redis-proxy/admin.sock",
            "That a key was not in the cache is no failure: `purged: 0`.",
        )
        .arg(key("One key"))
        .arg(
            Arg::new(PREFIX)
                .long(PREFIX)
                .value_name("PREFIX")
                .value_parser(ValueParser::os_string())
                .help("All keys that begin so"),
        )
        .arg(Arg::new(ALL).long(ALL).action(ArgAction::SetTrue).help("Everything"))
        .group(ArgGroup::new("target").args([KEY, PREFIX, ALL]).required(true)),
        command(
            "stats",
            "Print what a running program has counted: hits, misses, memory, clients, latency, its Redis",
            "redis-proxy stats\n  redis-proxy stats --json | jq .totals",
            "",
        )
        .arg(
            Arg::new(JSON)
                .long(JSON)
                .action(ArgAction::SetTrue)
                .help("Everything as JSON, as /insight.json of the admin port has it"),
        ),
        command(
            "health",
            "Ask a running program whether it is ready: whether a miss would be answered now",
            "redis-proxy health --admin http://10.0.0.1:5001 || echo 'not ready'",
            "--check-health asks the same where the settings say, without an address.",
        ),
        command(
            "top",
            "Show on a terminal what a running program counts, its hot keys, hot misses, prefixes and slow commands, each second",
            "redis-proxy top\n  ADMIN_TOKEN_FILE=/run/secrets/admin redis-proxy top --admin https://10.0.0.1:5001 --cacert ca.pem",
            "Tab or 1 to 4 chooses the list, s sorts it, ? tells more, q ends it. It comes back by itself when the program does.",
        ),
    ]
}

/// Its `examples` are lines that begin at the margin.
fn command(name: &'static str, about: &'static str, examples: &str, note: &str) -> Command {
    let port = port_of(name);
    let token = match name {
        "health" => String::new(),
        _ => format!("The token is taken from {0} or the file of {0}_FILE in the environment.\n", port.token),
    };
    let note = if note.is_empty() { String::new() } else { format!("{note}\n") };
    Command::new(name)
        .about(about)
        .after_help(format!("Example:\n  {examples}\n\n{note}{token}{CODES}"))
        .arg(
            Arg::new(port.option)
                .long(port.option)
                .value_name("URL")
                .default_value(port.default)
                .value_hint(ValueHint::Url)
                .help(port.what),
        )
        .arg(
            Arg::new(CACERT)
                .long(CACERT)
                .value_name("FILE")
                .value_parser(ValueParser::path_buf())
                .value_hint(ValueHint::FilePath)
                .help("PEM file of the authorities to trust instead of the system's"),
        )
        .arg(
            Arg::new(TIMEOUT)
                .long(TIMEOUT)
                .value_name("TIME")
                .default_value("5s")
                .value_parser(span)
                .help("How long to wait for an answer, and for each part of it"),
        )
}

fn span(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let span = seconds.or_else(|| humantime::parse_duration(text).ok());
    let span = span.filter(|span| !span.is_zero() && *span <= MOST_TIME);
    span.ok_or_else(|| "expected a time up to 24h: 500ms, 10s, 1m".into())
}

impl CliOptions {
    /// What the arguments of the subcommand `name` say. `token` gives the secret of a setting by its name, if there is one.
    ///
    /// # Errors
    /// What is wrong, as one line and with nothing of a secret.
    pub fn from_matches(
        name: &str,
        matches: &ArgMatches,
        token: impl FnOnce(&str) -> Result<Option<String>, String>,
    ) -> Result<CliOptions, String> {
        let bytes = |name| matches.get_one::<OsString>(name).map(|text| text.as_bytes().to_vec());
        let subcommand = match name {
            "get" => Subcommand::Get { key: bytes(KEY).unwrap_or_default() },
            "purge" => Subcommand::Purge(match (bytes(KEY), bytes(PREFIX)) {
                (Some(key), _) => PurgeTarget::Key(key),
                (None, Some(prefix)) if prefix.is_empty() => {
                    return Err("an empty --prefix is everything: ask for that with --all".into());
                }
                (None, Some(prefix)) => PurgeTarget::Prefix(prefix),
                (None, None) => PurgeTarget::All,
            }),
            "stats" => Subcommand::Stats { json: matches.get_flag(JSON) },
            "health" => Subcommand::Health,
            "top" => Subcommand::Top,
            _ => return Err(format!("there is no subcommand {name}")),
        };
        let port = port_of(name);
        // clap would repeat what it refuses, and there may be a password in it.
        let server = ServerUrl::parse(matches.get_one::<String>(port.option).map_or("", String::as_str));
        let token = match subcommand {
            // Probes need none, and what is not needed is not sent.
            Subcommand::Health => None,
            _ => token(port.token)?,
        };
        let token = token.map(|token| {
            BearerToken::new(&token).map_err(|why| format!("{} is not accepted: {why}", port.token))
        });
        Ok(CliOptions {
            subcommand,
            server: server.map_err(|why| format!("--{} is not accepted: {why}", port.option))?,
            cacert: matches.get_one::<PathBuf>(CACERT).cloned(),
            timeout: matches.get_one::<Duration>(TIMEOUT).copied().unwrap_or_default(),
            token: token.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<CliOptions, String> {
        let program = Command::new("redis-proxy").subcommands(commands());
        let matches = program.try_get_matches_from([&["redis-proxy"], args].concat());
        let first_line = |error: clap::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
        let matches = matches.map_err(first_line)?;
        let (name, matches) = matches.subcommand().unwrap();
        CliOptions::from_matches(name, matches, |setting| Ok(Some(setting.to_owned())))
    }

    #[test]
    fn clap_finds_nothing_wrong_and_every_help_has_an_example() {
        for mut command in commands() {
            command.clone().debug_assert();
            let help = command.render_help().to_string();
            let name = command.get_name();
            assert!(help.contains(&format!("Example:\n  redis-proxy {name}")), "{help}");
            assert!(help.contains("Exit code: 0 done"), "{help}");
        }
    }

    #[test]
    fn each_asks_its_port_with_its_token() {
        for (args, subcommand, server, has_token) in [
            (&["get", "k"][..], Subcommand::Get { key: b"k".to_vec() }, "http://127.0.0.1:5000", true),
            (&["get", "--", "-k"], Subcommand::Get { key: b"-k".to_vec() }, "http://127.0.0.1:5000", true),
            (&["get", ""], Subcommand::Get { key: Vec::new() }, "http://127.0.0.1:5000", true),
            (
                &["purge", "k"],
                Subcommand::Purge(PurgeTarget::Key(b"k".to_vec())),
                "http://127.0.0.1:5001",
                true,
            ),
            (
                &["purge", "--prefix=a:", "--admin", "unix:/s"],
                Subcommand::Purge(PurgeTarget::Prefix(b"a:".to_vec())),
                "unix:/s",
                true,
            ),
            (&["purge", "--all"], Subcommand::Purge(PurgeTarget::All), "http://127.0.0.1:5001", true),
            (&["stats", "--json"], Subcommand::Stats { json: true }, "http://127.0.0.1:5001", true),
            (&["top"], Subcommand::Top, "http://127.0.0.1:5001", true),
            (&["health", "--timeout", "0.5"], Subcommand::Health, "http://127.0.0.1:5001", false),
        ] {
            let options = parse(args).unwrap();
            assert_eq!((options.subcommand, options.server.to_string()), (subcommand, server.to_owned()));
            assert_eq!(options.token.is_some(), has_token, "{args:?}");
        }
    }

    #[test]
    fn what_is_not_accepted_is_named() {
        let wrong: [(&[&str], &str); 10] = [
            (&["get"], "required"),
            (&["get", "a", "b"], "unexpected"),
            (&["get", "a", "--admin", "http://h"], "--admin"),
            (&["purge"], "required"),
            (&["purge", "a", "--all"], "--all"),
            (&["purge", "--prefix", ""], "--all"),
            (&["stats", "--admin", "h:5001"], "http://host:port"),
            (
                &["stats", "--admin", "http://u:planted@h"],
                "--admin is not accepted: expected a URL without a login",
            ),
            (&["health", "--timeout", "0"], "--timeout"),
            (&["health", "--timeout", "soon"], "--timeout"),
        ];
        for (args, named) in wrong {
            let error = parse(args).unwrap_err();
            assert!(error.contains(named) && !error.contains("planted"), "{args:?}: {error}");
        }
    }

    #[test]
    fn what_is_purged_is_written_as_a_form() {
        assert_eq!(PurgeTarget::Key(b"a b&c".to_vec()).form(), "key=a%20b%26c");
        assert_eq!(PurgeTarget::Prefix(b"\xff+".to_vec()).form(), "prefix=%FF%2B");
        assert_eq!(PurgeTarget::All.form(), "all=1");
    }
}
