//! Runs Redis' own test suite against a server, which it erases, and judges it by the list of exceptions.
//!
//! `tcl-suite HOST:PORT [--exceptions FILE] [UNIT...]`. Without a list nothing is excepted.

use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use testkit::TclSuite;

/// For all units, on a slow machine.
const TIMEOUT: Duration = Duration::from_secs(3600);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let address =
        arguments.next().unwrap_or_else(|| panic!("tcl-suite HOST:PORT [--exceptions FILE] [UNIT...]"));
    let address = address.to_socket_addrs().expect("HOST:PORT").next().expect("an address");
    let (mut exceptions, mut units) = (String::new(), Vec::new());
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--exceptions" => {
                let file = arguments.next().expect("--exceptions FILE");
                exceptions = std::fs::read_to_string(file).expect("the list of exceptions");
            }
            _ => units.push(argument),
        }
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit is in the repository");
    let suite = TclSuite::fetch(repository).unwrap_or_else(|error| panic!("no suite: {error}"));
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    let run = suite.run(address, &units, TIMEOUT);
    print!("{}", run.summary());
    match run.judge(&exceptions) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            print!("{wrong}");
            ExitCode::FAILURE
        }
    }
}
