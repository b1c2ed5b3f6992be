//! The command line.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, value_parser};

use crate::choice::KeyChoice;

/// What is asked of which server, and how.
#[derive(Debug)]
pub(crate) struct LoadArguments {
    pub(crate) port: u16,
    pub(crate) kind: RequestKind,
    pub(crate) connections: usize,
    /// Requests of one write.
    pub(crate) depth: usize,
    pub(crate) choice: KeyChoice,
    /// The key, where it is always the same; else what a key begins with.
    pub(crate) key: String,
    pub(crate) value_bytes: usize,
}

/// A request but for its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// A GET over HTTP with these header fields beside Host: lines, each with its CRLF.
    Http { fields: String },
    /// GET over RESP.
    Get,
    /// SET over RESP, of a value such as the GETs expect.
    Set,
}

impl LoadArguments {
    /// Of this process; what is wrong ends it.
    pub(crate) fn read() -> Self {
        Self::of(&command().get_matches())
    }

    fn of(matches: &ArgMatches) -> Self {
        let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
        let number = |name: &str| matches.get_one::<u32>(name).map_or(0, |number| *number as usize);
        let kind = match (text("protocol").as_str(), text("command").as_str()) {
            ("http", _) => RequestKind::Http { fields: text("fields") },
            (_, "set") => RequestKind::Set,
            _ => RequestKind::Get,
        };
        LoadArguments {
            port: matches.get_one("port").copied().unwrap_or_default(),
            kind,
            connections: number("connections"),
            depth: number("depth"),
            choice: KeyChoice::named(&text("choice"), matches.get_one("keys").copied().unwrap_or_default()),
            key: text("key"),
            value_bytes: number("value-bytes"),
        }
    }
}

fn command() -> Command {
    let option = |name: &'static str, default: &'static str| Arg::new(name).long(name).default_value(default);
    let count = |name, default| option(name, default).value_parser(value_parser!(u32).range(1..));
    let one_of = |name, values: &[&'static str]| {
        option(name, values[0]).value_parser(PossibleValuesParser::new(values.to_vec()))
    };
    Command::new("load")
        .about("The load of the bench, a closed loop; bench/src/load/main.rs says how it is driven")
        .arg(Arg::new("port").required(true).value_parser(value_parser!(u16).range(1..)))
        .arg(one_of("protocol", &["http", "resp"]))
        .arg(one_of("command", &["get", "set"]).help("Over RESP"))
        .arg(option("fields", "").help("Header fields beside Host, each with its CRLF"))
        .arg(count("connections", "64"))
        .arg(count("depth", "1"))
        .arg(one_of("choice", &["one", "uniform", "walk", "zipf", "once"]).help("Of the next key"))
        .arg(
            option("keys", "1")
                .value_parser(value_parser!(u64).range(1..=1 << 40))
                .help("Keys to choose from, but for `one`"),
        )
        .arg(option("key", "key:").help("The key of choice `one`; else what stands before twelve digits"))
        .arg(count("value-bytes", "100").help("The length of a value, all of it `v`"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn arguments(line: &str) -> LoadArguments {
        LoadArguments::of(
            &command().try_get_matches_from(["load"].into_iter().chain(line.split(' '))).unwrap(),
        )
    }

    #[test]
    fn clap_finds_nothing_wrong_and_the_defaults_are_a_get_of_one_key() {
        command().debug_assert();
        let arguments = arguments("80");
        assert_eq!(arguments.kind, RequestKind::Http { fields: String::new() });
        assert_eq!((arguments.port, arguments.connections, arguments.depth), (80, 64, 1));
    }
}
