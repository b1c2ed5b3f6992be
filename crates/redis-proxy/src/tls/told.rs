//! What is told of clients who do not speak as a port does, or do not agree with it: in the log now and then, to them at once.

use tracing::info;

use super::PortName;
use crate::rare_line::RareLine;

/// The type of a record with a handshake in it (RFC 8446, section 5.1): what a client of TLS says first.
const HANDSHAKE: u8 = 22;

/// Of each port, in the order of [`PortName`].
type Lines = [RareLine; 3];

const fn lines() -> Lines {
    [RareLine::new(), RareLine::new(), RareLine::new()]
}

static REFUSED: Lines = lines();
static PLAIN: Lines = lines();
static TLS: Lines = lines();

/// Whether these, the first bytes of a client, begin a handshake, whatever version they name.
#[inline]
pub(crate) fn begins_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HANDSHAKE) && bytes.get(1).is_none_or(|major| *major == 3)
}

/// Nobody is let in by this handshake.
pub(crate) fn tell_refused(port: PortName, error: &dyn std::fmt::Display) {
    REFUSED[port as usize].tell(|silent| {
        info!(port = port.word(), %error, silent, "a client's tls handshake failed");
    });
}

/// A plain client has come to a port of TLS. What it is told, in its own words.
pub(crate) fn tell_that_it_is_tls(port: PortName) -> &'static [u8] {
    PLAIN[port as usize].tell(|silent| {
        info!(port = port.word(), silent, "a plain client came to a port that speaks tls");
    });
    match port {
        PortName::Resp => b"-ERR this port speaks TLS\r\n",
        PortName::Http | PortName::Admin => {
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 22\r\n\
              Cache-Control: no-store\r\nConnection: close\r\n\r\nthis port speaks TLS\r\n"
        }
    }
}

/// A client of TLS has come to a plain port.
#[cold]
pub(crate) fn tell_that_it_is_plain(port: PortName) {
    TLS[port as usize].tell(|silent| {
        info!(port = port.word(), silent, "a client of tls came to a port that is plain");
    });
}
