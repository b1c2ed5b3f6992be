//! The command line of `redis-proxy bench`.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// Requests outstanding on all connections of a run, at most: what a stalled server can make us remember.
const MOST_OUTSTANDING: usize = 1 << 22;

/// What load to make, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `host:port` of the server.
    pub authority: String,
    /// How often to ask.
    pub rate: Rate,
    /// Connections, of all threads.
    pub connections: usize,
    /// Threads that make the load.
    pub threads: usize,
    /// Requests outstanding on a connection in a closed loop.
    pub pipeline: usize,
    /// Requests outstanding on a connection in an open loop; those beyond are not sent, and counted.
    pub max_outstanding: usize,
    /// How long to measure.
    pub duration: Duration,
    /// How long to ask before that.
    pub warmup: Duration,
    /// Different keys.
    pub keys: u64,
    /// The exponent of Zipf's law; 0 asks for all keys alike.
    pub zipf: f64,
    /// What a key begins with.
    pub key_prefix: String,
    /// Digits of a key's number; 0 is as many as the largest has.
    pub key_digits: usize,
    /// Whether to write the keys to Redis first.
    pub fill: bool,
    /// `host:port` of the Redis to fill.
    pub redis: String,
    /// The length of the values written; answers of another length are errors.
    pub value_bytes: usize,
    /// Where the sequence of keys starts.
    pub seed: u64,
    /// Whether the report is JSON.
    pub json: bool,
}

/// Requests a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// As many, by the clock: an open loop.
    PerSecond(u64),
    /// As many as get answered: a closed loop.
    Max,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::PerSecond(rate) => rate.fmt(f),
            Rate::Max => f.write_str("max"),
        }
    }
}

const AFTER_HELP: &str = "\
Latency counts from the time at which a request was due, so a server that stalls is not spared (no coordinated omission).
Give the server and this program different cores (taskset). More: docs/bench.md";

/// The subcommand `bench`.
pub fn command() -> Command {
    let option = |name: &'static str, unit: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(unit)
            .default_value(default)
            // `--zipf -1` is a bad exponent, not an unknown flag.
            .allow_negative_numbers(true)
            .help(help)
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("bench")
        .about("Ask a running server for keys at a constant rate and report how long the answers took")
        .after_help(AFTER_HELP)
        .arg(
            Arg::new("url")
                .value_name("URL")
                .default_value("http://127.0.0.1:5000")
                .value_parser(authority)
                .help("The server: http://host:port"),
        )
        .arg(
            option("rate", "PER_SECOND", "10000", "Requests a second by the clock, or `max`: as many as get answered")
                .value_parser(rate),
        )
        .arg(
            option("connections", "NUMBER", "64", "Connections, over which the requests are spread in turn")
                .value_parser(value_parser!(u32).range(1..=65_000)),
        )
        .arg(
            option("threads", "NUMBER", "1", "Threads that make the load")
                .value_parser(value_parser!(u32).range(1..=1024)),
        )
        .arg(
            option("pipeline", "DEPTH", "1", "With --rate max: requests outstanding on a connection")
                .value_parser(value_parser!(u32).range(1..=10_000)),
        )
        .arg(
            option("max-outstanding", "NUMBER", "4096", "At a rate: requests outstanding on a connection at most; those beyond are counted as overload")
                .value_parser(value_parser!(u32).range(1..=1_000_000)),
        )
        .arg(option("duration", "TIME", "10s", "How long to measure").value_parser(span))
        .arg(option("warmup", "TIME", "2s", "How long to ask before that").value_parser(span))
        .arg(
            option("keys", "NUMBER", "10000", "Different keys")
                .value_parser(value_parser!(u64).range(1..=1 << 40)),
        )
        .arg(option("zipf", "EXPONENT", "0", "Zipf's law for the keys; 0: all alike").value_parser(exponent))
        .arg(option("key-prefix", "TEXT", "key:", "What a key begins with; its number follows").value_parser(prefix))
        .arg(
            option("key-digits", "NUMBER", "0", "Digits of a key's number, zeros in front; 0: as many as the largest has")
                .value_parser(value_parser!(u32).range(0..=32)),
        )
        .arg(switch("fill", "SET all keys first; then answers of another length than --value-bytes are errors"))
        .arg(option("redis", "HOST:PORT", "127.0.0.1:6379", "The Redis to fill").value_parser(authority))
        .arg(option("value-bytes", "BYTES", "100", "The length of the values to fill it with").value_parser(size))
        .arg(
            option("seed", "NUMBER", "1", "Where the sequence of keys starts")
                .value_parser(value_parser!(u64)),
        )
        .arg(switch("json", "Report as JSON, and draw no progress bar"))
}

impl Options {
    /// What the arguments of [`command`] say.
    ///
    /// # Errors
    /// What each option accepts alone and not all of them at once, as one line.
    pub fn from_matches(matches: &ArgMatches) -> Result<Options, String> {
        let text = |name| matches.get_one::<String>(name).cloned().unwrap_or_default();
        let number = |name| matches.get_one::<u32>(name).map_or(0, |number| *number as usize);
        let large = |name| matches.get_one::<u64>(name).copied().unwrap_or_default();
        let time = |name| matches.get_one::<Duration>(name).copied().unwrap_or_default();
        let options = Options {
            authority: text("url"),
            rate: matches.get_one::<Rate>("rate").copied().unwrap_or(Rate::Max),
            connections: number("connections"),
            threads: number("threads"),
            pipeline: number("pipeline"),
            max_outstanding: number("max-outstanding"),
            duration: time("duration"),
            warmup: time("warmup"),
            keys: large("keys"),
            zipf: matches.get_one::<f64>("zipf").copied().unwrap_or_default(),
            key_prefix: text("key-prefix"),
            key_digits: number("key-digits"),
            fill: matches.get_flag("fill"),
            redis: text("redis"),
            value_bytes: matches.get_one::<usize>("value-bytes").copied().unwrap_or_default(),
            seed: large("seed"),
            json: matches.get_flag("json"),
        };
        options.check_together()?;
        Ok(options)
    }

    /// Digits that every key's number is written with, at least.
    pub(crate) fn digits(&self) -> usize {
        if self.key_digits > 0 { self.key_digits } else { (self.keys - 1).to_string().len() }
    }

    fn check_together(&self) -> Result<(), String> {
        let Options { connections, threads, pipeline, max_outstanding, .. } = self;
        if self.duration.is_zero() {
            return Err("--duration 0s measures nothing".into());
        }
        if threads > connections {
            return Err(format!("--threads {threads} is more than --connections {connections}"));
        }
        let (name, each) = match self.rate {
            Rate::Max => ("--pipeline", pipeline),
            Rate::PerSecond(_) => ("--max-outstanding", max_outstanding),
        };
        if connections * each > MOST_OUTSTANDING {
            return Err(format!(
                "--connections {connections} with {name} {each} is more than {MOST_OUTSTANDING} outstanding requests"
            ));
        }
        Ok(())
    }
}

/// `host:port`, also of `http://host:port/`.
fn authority(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("http://").unwrap_or(text);
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let port = authority.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    let is_host = authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    match port.and_then(|port| port.parse::<u16>().ok()) {
        Some(1..) if is_host => Ok(authority.to_owned()),
        _ => Err("expected host:port, no path, no https".into()),
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse() {
        Ok(rate @ 1..=10_000_000) => Ok(Rate::PerSecond(rate)),
        _ if text == "max" => Ok(Rate::Max),
        _ => Err("expected 1 to 10000000 requests a second, or max".into()),
    }
}

fn span(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let span = seconds.or_else(|| humantime::parse_duration(text).ok());
    let most = Duration::from_secs(24 * 60 * 60);
    span.filter(|span| *span <= most).ok_or_else(|| "expected a time up to 24h: 500ms, 10s, 1m".into())
}

fn exponent(text: &str) -> Result<f64, String> {
    let exponent = text.parse().ok().filter(|exponent| (0.0..=10.0).contains(exponent));
    exponent.ok_or_else(|| "expected 0 to 10".into())
}

/// What needs no escape in a path, so that the key in Redis and the one in the request are the same text.
fn prefix(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
    match text.bytes().all(plain) && text.len() <= 1024 {
        true => Ok(text.to_owned()),
        false => Err("expected letters, digits and -._~!$&'()*+,;=:@/".into()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    let size = text.parse::<ByteSize>().ok().and_then(|size| usize::try_from(size.as_u64()).ok());
    size.filter(|size| *size <= 512 << 20).ok_or_else(|| "expected a size up to 512MiB: 100, 64KiB".into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn parse(args: &[&str]) -> Result<Options, String> {
        let matches = command().try_get_matches_from([&["bench"], args].concat());
        let first_line = |error: clap::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
        Options::from_matches(&matches.map_err(first_line)?)
    }

    #[test]
    fn clap_finds_nothing_wrong_and_the_defaults_are_good() {
        command().debug_assert();
        let options = parse(&[]).unwrap();
        assert_eq!(options.authority, "127.0.0.1:5000");
        assert_eq!(options.rate, Rate::PerSecond(10_000));
        assert_eq!((options.digits(), options.seed, options.zipf), (4, 1, 0.0));
    }

    #[test]
    fn what_is_not_accepted_is_named() {
        let wrong: [(&[&str], &str); 14] = [
            (&["https://h:1"], "https"),
            (&["h"], "host:port"),
            (&["h:0"], "host:port"),
            (&["http://h:1/path"], "no path"),
            (&["--rate", "0"], "--rate"),
            (&["--rate", "fast"], "max"),
            (&["--connections", "0"], "--connections"),
            (&["--threads", "65"], "--connections 64"),
            (&["--duration", "0"], "--duration"),
            (&["--duration", "soon"], "--duration"),
            (&["--zipf", "-1"], "--zipf"),
            (&["--key-prefix", "a b"], "--key-prefix"),
            (&["--connections", "60000", "--max-outstanding", "1000"], "--max-outstanding"),
            (&["--value-bytes", "1TB"], "--value-bytes"),
        ];
        for (args, named) in wrong {
            let error = parse(args).unwrap_err();
            assert!(error.contains(named), "{args:?}: {error}");
        }
    }

    #[test]
    fn times_sizes_and_addresses_are_understood() {
        let args =
            ["[::1]:80", "--warmup", "0.5", "--duration", "1m", "--value-bytes", "64KiB", "--rate", "max"];
        let options = parse(&args).unwrap();
        assert_eq!(options.authority, "[::1]:80");
        assert_eq!((options.warmup, options.duration), (Duration::from_millis(500), Duration::from_secs(60)));
        assert_eq!((options.value_bytes, options.rate), (65_536, Rate::Max));
    }
}
