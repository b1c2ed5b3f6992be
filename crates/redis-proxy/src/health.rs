//! `--check-health`: the readiness of a running program, for a container's health check that has no HTTP client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::config::{ListenAddress, Settings};
use crate::tls::{PortName, client_config};

/// A bit more than a probe takes at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than an answer of `/readyz` has.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Asks `/readyz` on the admin port of `settings`. Takes 6 s at most.
///
/// # Errors
/// Why the program is not ready, or cannot be asked.
pub fn check_health(settings: &Settings) -> Result<(), String> {
    let name = &settings.access.hosts.example();
    let answer = match &settings.admin {
        None | Some(ListenAddress::Tcp { port: 0, .. }) => {
            return Err("ADMIN_PORT is off or any free one: there is nothing to ask".into());
        }
        Some(ListenAddress::Unix(path)) => {
            ask_unix(path, name).map_err(|error| format!("{}: {error}", path.display()))?
        }
        Some(ListenAddress::Tcp { host, port }) => {
            let tls = settings.tls.as_ref().filter(|tls| tls.of(PortName::Admin).is_some());
            let tls = tls.map(|tls| client_config(tls.settings())).transpose()?;
            let address = address(host, *port)?;
            ask_tcp(address, tls, name).map_err(|error| format!("{address}: {error}"))?
        }
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(body.trim().to_owned()) }
}

fn address(host: &str, port: u16) -> Result<SocketAddr, String> {
    let mut addresses = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let mut address = addresses.next().ok_or("ADMIN_HOST has no address")?;
    // "All addresses" is for listening; this one is always among them.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

fn ask_unix(path: &Path, host: &str) -> io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    ask(stream, host)
}

fn ask_tcp(address: SocketAddr, tls: Option<ClientConfig>, host: &str) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(config) = tls else { return ask(stream, host) };
    let connection = ClientConnection::new(Arc::new(config), ServerName::from(address.ip()));
    ask(StreamOwned::new(connection.map_err(io::Error::other)?, stream), host)
}

fn ask(mut stream: impl Read + Write, host: &str) -> io::Result<String> {
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}
