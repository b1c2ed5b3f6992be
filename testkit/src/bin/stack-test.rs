//! The tests of a running stack ([`testkit::Stack`]), as a container runs them.
//!
//! Reads `PROXY_URL`, `REDIS_URL`, `CAPACITY` and `GLOBAL_EXPIRY` (those the proxy runs with). Prints a line a test and ends
//! with a non-zero code when one fails. It assumes that nobody else uses the stack meanwhile.

use std::process::ExitCode;
use std::time::Duration;

use testkit::Stack;

fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let address = |name: &str, scheme: &str| {
        let url = variable(name);
        let address = url.strip_prefix(scheme).unwrap_or_else(|| panic!("{name}={url}: not {scheme}..."));
        address.trim_end_matches('/').to_owned()
    };
    let stack = Stack {
        proxy: address("PROXY_URL", "http://"),
        redis: address("REDIS_URL", "redis://"),
        capacity: variable("CAPACITY").parse().expect("CAPACITY is a number"),
        expiry: duration(&variable("GLOBAL_EXPIRY")),
    };
    if stack.test() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `500ms`, `2s`, `1m`, or seconds.
fn duration(text: &str) -> Duration {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let number: f64 = digits.parse().unwrap_or_else(|_| panic!("GLOBAL_EXPIRY={text} is no time"));
    Duration::from_secs_f64(match &text[digits.len()..] {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        unit => panic!("GLOBAL_EXPIRY={text}: unknown unit {unit}"),
    })
}
