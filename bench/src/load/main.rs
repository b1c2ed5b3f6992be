//! The load of the bench: a closed loop that costs so little that the server is what is measured.
//!
//! Every connection sends `--depth` requests in one write and the next ones when all of these are answered. Requests are made
//! beforehand; only the digits of a key's number are written before each batch. Every answer is looked at: its status or its
//! bytes, its length, and the end of its value. Another answer than the one expected ends the load with an error.
//!
//! It says `ready` once it is connected, and then runs once for each line of its input, a number of milliseconds: so its
//! caller reads a server's clocks when the connections are made and not yet closed. Each run ends when its last request is
//! answered, and is told as one line of JSON. With `--choice once` a run is a request for every key, whatever the line says.
//!
//!     load PORT [--protocol resp] [--command set] [--connections 64] [--depth 16] [--choice uniform --keys 1000000]

mod answers;
mod arguments;
mod batch;
mod choice;
mod engine;

use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::process::ExitCode;
use std::time::Duration;

use arguments::LoadArguments;
use engine::LoadConnections;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs as often as the input asks for.
fn serve() -> Result<(), Box<dyn Error>> {
    let arguments = LoadArguments::read();
    let mut connections = LoadConnections::connect(&arguments)?;
    let mut output = stdout().lock();
    writeln!(output, "ready")?;
    output.flush()?;
    for line in stdin().lines() {
        let outcome = connections.run(Duration::from_millis(line?.trim().parse()?))?;
        writeln!(output, "{outcome}")?;
        output.flush()?;
    }
    Ok(())
}
