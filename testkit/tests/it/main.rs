//! The parts against the real thing: each does what the black-box tests of the program take for granted.
#![allow(clippy::unwrap_used, reason = "a test ends with a panic")]

mod cluster;
mod differential;
mod fault_proxy;
mod http_client;
mod proxy;
mod real_clients;
mod redis_server;
mod scripted_redis;
mod sentinels;
mod server;
mod tcl_suite;

use std::time::Duration;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to see that something does not happen.
const MOMENT: Duration = Duration::from_millis(50);
