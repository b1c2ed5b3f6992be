//! The load generator behind `redis-proxy bench`: GETs at a constant rate, and how long each took.
//!
//! # Open loop
//! Users do not wait for each other. A generator that sends the next request when the last one is answered (a closed
//! loop) stops asking while the server stalls, and so leaves out just the requests that would have been slow: a stall of
//! 200 ms under 1,000 requests a second harms 200 of them and shows as one. This is *coordinated omission*. Here every
//! request has a time at which it is due, fixed before the run (`schedule`); it is sent then, whatever the answers do,
//! and its latency counts from that time, also where the generator itself was late. How late it was is measured too
//! (*lag*), because a generator that cannot keep its schedule measures itself.
//!
//! # Parts
//! `options` is the command line, `schedule` says when a request is due, `zipf` and `http` which key it asks for and in
//! which bytes, `connection` owns a socket and what is outstanding on it, `engine` is the loop of one thread, `tally` what
//! it counts, `report` the table and the JSON, `fill` writes the keys to Redis first, `progress` the bar.
//!
//! HTTP is known to `http` alone: bytes of a request out, answers in. A front of another protocol needs a second one.

mod connection;
mod engine;
mod error;
mod fill;
mod http;
mod options;
mod progress;
mod report;
mod schedule;
mod tally;
mod zipf;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use connection::connect_all;
use engine::Engine;
pub use error::Error;
pub use options::{Options, command};
pub use report::Report;
use schedule::Schedule;
use tally::Tally;
pub use zipf::Zipf;

/// From the last connection made to the first request: all threads have begun by then.
const HEAD_START: Duration = Duration::from_millis(20);

/// Makes the load that `options` describe and measures it. Takes warm-up and duration, and a second more at most.
///
/// # Errors
/// [`Error`] when the load cannot be made at all: no name, no connection, no thread. What goes wrong once it runs is
/// counted in the report.
pub fn run(options: &Options) -> Result<Report, Error> {
    let address = resolve(&options.authority)?;
    if options.fill {
        fill::fill(options)?;
    }
    let shares = shares(options.connections, options.threads);
    let sockets = shares
        .iter()
        .map(|count| connect_all(address, *count))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|cause| Error::Connect { address: options.authority.clone(), cause })?;
    let answered = Arc::new(AtomicU64::new(0));
    let start = Instant::now() + HEAD_START;
    let threads = (0..).zip(sockets).map(|(number, sockets)| {
        let schedule = Schedule::new(options, number);
        let engine = Engine::new(options, number, schedule, address, sockets, start, answered.clone());
        let engine = engine.map_err(Error::System)?;
        let named = thread::Builder::new().name(format!("load-{number}"));
        named.spawn(move || engine.run()).map_err(Error::System)
    });
    let threads = threads.collect::<Result<Vec<_>, Error>>()?;
    progress::watch(options, start, &answered, || threads.iter().all(thread::JoinHandle::is_finished));
    let mut tally = Tally::new();
    for thread in threads {
        let part = thread.join().map_err(|_| Error::Panicked)?.map_err(Error::System)?;
        tally.add(&part);
    }
    Ok(Report::new(options.clone(), tally))
}

/// The first address of `host:port`.
fn resolve(authority: &str) -> Result<SocketAddr, Error> {
    let failed = |cause| Error::Connect { address: authority.to_owned(), cause };
    let mut addresses = authority.to_socket_addrs().map_err(failed)?;
    addresses.next().ok_or_else(|| failed(std::io::Error::other("the name has no address")))
}

/// `connections` divided by `threads`; the first ones get what is left over.
fn shares(connections: usize, threads: usize) -> Vec<usize> {
    (0..threads).map(|number| connections / threads + usize::from(number < connections % threads)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_has_one_thread() {
        assert_eq!(shares(8, 3), [3, 3, 2]);
        assert_eq!(shares(1, 1), [1]);
    }
}
