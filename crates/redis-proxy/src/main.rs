//! The program: settings in, exit code out.

use std::io::{self, ErrorKind, Write, stdout};
use std::process::ExitCode;

use redis_proxy::config::{ConfigError, Invocation, Settings, load};
use redis_proxy::{ActivatedSockets, Ended, check_health, last_word, run};

/// Gives freed pages back at once (.cargo/config.toml), which keeps the resident size within CAPACITY_BYTES when the
/// sizes of values shift. docs/decisions.md has the numbers.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The program could not start, or a part of it failed.
const FAILED: u8 = 1;
/// A setting is wrong; nothing was started.
const BAD_SETTINGS: u8 = 2;
/// A part of the program has died: `EX_SOFTWARE` of sysexits.h.
const BROKEN: u8 = 70;
/// Added to a signal's number, as shells do.
const SIGNALLED: u8 = 128;

fn main() -> ExitCode {
    // First of all: settings may start a program that prints a password.
    let sockets = ActivatedSockets::take();
    match command() {
        Ok(Invocation::Done(text)) => print(&text, ExitCode::SUCCESS),
        Ok(Invocation::CheckHealth(settings)) => match check_health(&settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why, FAILED),
        },
        Ok(Invocation::Bench(options)) => bench(&options),
        Ok(Invocation::Ask(options)) => match cli::run(&options, &mut stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, error.exit_code()),
        },
        Ok(Invocation::Run(settings)) => {
            match sockets.and_then(|sockets| run(*settings, sockets, settings_now)) {
                Ok(Ended::Drained) => ExitCode::SUCCESS,
                Ok(Ended::Signalled(number)) => ExitCode::from(SIGNALLED + number),
                Ok(Ended::Broken) => ExitCode::from(BROKEN),
                Err(error) => fail(&error, FAILED),
            }
        }
        Err(error) => fail(&error, BAD_SETTINGS),
    }
}

fn command() -> Result<Invocation, ConfigError> {
    load(std::env::args_os(), |name| std::env::var_os(name))
}

/// The settings once more, with files as they are now.
fn settings_now() -> Result<Settings, ConfigError> {
    match command()? {
        Invocation::Run(settings) => Ok(*settings),
        other => unreachable!("the flags are those of the start: {other:?}"),
    }
}

fn bench(options: &loadgen::Options) -> ExitCode {
    match loadgen::run(options) {
        Ok(report) => {
            let text = if options.json { report.json() } else { report.to_string() };
            // Whoever looks only at the code must not take a broken run for a result.
            let code = if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
            print(&text, code)
        }
        Err(error) => fail(&error, FAILED),
    }
}

/// Prints on standard output and ends with `code`.
fn print(text: &str, code: ExitCode) -> ExitCode {
    let mut out = stdout().lock();
    let written: io::Result<()> = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
    match written {
        Ok(()) => code,
        // Whoever reads has seen enough, as `head` has.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => code,
        Err(error) => fail(&format!("standard output: {error}"), FAILED),
    }
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    last_word(&format!("redis-proxy: {error}"));
    ExitCode::from(code)
}
