//! How much of what was written to a connection its client has not acknowledged.
//!
//! Asked of the kernel's socket diagnosis (sock_diag(7)), one message and one answer without a wait: no safe crate offers
//! TCP_INFO or SIOCOUTQ.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use tokio::net::TcpStream;

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of linux/netlink.h.
const REQUEST: u16 = 1;
/// Of a `nlmsghdr`, an `inet_diag_sockid`, and an `inet_diag_req_v2` (linux/inet_diag.h).
const HEADER_BYTES: usize = 16;
const ID_BYTES: usize = 48;
const REQUEST_BYTES: usize = 8 + ID_BYTES;
/// Where `idiag_wqueue` stands in the answer: behind four bytes, the identity, `idiag_expires` and `idiag_rqueue`.
const WRITE_QUEUE_AT: usize = HEADER_BYTES + 4 + ID_BYTES + 8;

/// Bytes written to `stream` that its peer has not acknowledged, about 20 us.
///
/// # Errors
/// The kernel cannot tell (built without `CONFIG_INET_DIAG`, or netlink sockets are forbidden), or has no file to give.
pub(crate) fn unacknowledged(stream: &TcpStream) -> io::Result<u32> {
    let question = question(stream.local_addr()?, stream.peer_addr()?);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let diagnosis = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    send(&diagnosis, &question, SendFlags::empty())?;
    let mut answer = [0; 512];
    let (_, length) = recv(&diagnosis, &mut answer[..], RecvFlags::DONTWAIT)?;
    let answer = &answer[..length.min(answer.len())];
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    let queue = answer.get(WRITE_QUEUE_AT..WRITE_QUEUE_AT + 4).and_then(|queue| queue.try_into().ok());
    match (kind, queue) {
        (Some(BY_FAMILY), Some(queue)) => Ok(u32::from_ne_bytes(queue)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// For the one socket between these addresses.
fn question(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + REQUEST_BYTES).unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]); // sequence number and sender
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // Family, IPPROTO_TCP, no extension, padding; then every state.
    bytes.extend_from_slice(&[family.as_raw().to_le_bytes()[0], 6, 0, 0]);
    bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
    bytes.extend_from_slice(&local.port().to_be_bytes());
    bytes.extend_from_slice(&peer.port().to_be_bytes());
    for address in [local.ip(), peer.ip()] {
        match address {
            IpAddr::V4(address) => {
                bytes.extend_from_slice(&address.octets());
                bytes.extend_from_slice(&[0; 12]);
            }
            IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
        }
    }
    let scope = match peer {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(peer) => peer.scope_id(),
    };
    bytes.extend_from_slice(&scope.to_ne_bytes());
    bytes.extend_from_slice(&[0xff; 8]); // INET_DIAG_NOCOOKIE
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_the_peer_has_not_taken_is_told_to_the_byte() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for host in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
                let Ok(listener) = std::net::TcpListener::bind(host) else { continue };
                let port = listener.local_addr().unwrap().port();
                let to = if host.starts_with("[::1]") { "::1" } else { "127.0.0.1" };
                let mut peer = std::net::TcpStream::connect((to, port)).unwrap();
                let (stream, _) = listener.accept().unwrap();
                stream.set_nonblocking(true).unwrap();
                let stream = TcpStream::from_std(stream).unwrap();
                stream.writable().await.unwrap();
                assert_eq!(unacknowledged(&stream).unwrap(), 0, "{host}");
                // More than the peer's kernel takes for it.
                let mut written = 0;
                while let Ok(count) = stream.try_write(&[b'x'; 65_536]) {
                    written += count;
                }
                let before = unacknowledged(&stream).unwrap() as usize;
                assert!(before > 0 && before <= written, "{before} of {written}");
                peer.read_exact(&mut vec![0; written]).unwrap();
                while unacknowledged(&stream).unwrap() > 0 {
                    std::thread::yield_now();
                }
            }
        });
    }
}
