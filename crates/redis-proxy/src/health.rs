//! `--check-health`: the readiness of a running program, for a container's health check that has no HTTP client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::config::Settings;

/// A bit more than a probe takes at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than an answer of `/readyz` has.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Asks `/readyz` on the admin port of `settings`. Takes 6 s at most.
///
/// # Errors
/// Why the program is not ready, or cannot be asked.
pub fn check_health(settings: &Settings) -> Result<(), String> {
    let port = settings.admin_port.filter(|port| *port != 0);
    let port = port.ok_or("ADMIN_PORT is off or any free one: there is nothing to ask")?;
    let mut addresses = (settings.admin_host.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| format!("{}: {error}", settings.admin_host))?;
    let mut address = addresses.next().ok_or("ADMIN_HOST has no address")?;
    // "All addresses" is for listening; this one is always among them.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let answer = ask(address).map_err(|error| format!("{address}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(body.trim().to_owned()) }
}

fn ask(address: std::net::SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}
