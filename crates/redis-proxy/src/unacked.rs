//! How much of what was written to a connection its client has not acknowledged, and which clients acknowledge nothing.
//!
//! Asked of the kernel's socket diagnosis (sock_diag(7)), one message and one answer without a wait: no safe crate offers
//! TCP_INFO or SIOCOUTQ.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use tokio::net::TcpStream;

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` and `NLM_F_DUMP` of linux/netlink.h, and the types of its last message and of an error.
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const DONE: u16 = 3;
const ERROR: u16 = 2;
/// Of a `nlmsghdr`, an `inet_diag_sockid`, and an `inet_diag_req_v2` (linux/inet_diag.h).
const HEADER_BYTES: usize = 16;
const ID_BYTES: usize = 48;
const REQUEST_BYTES: usize = 8 + ID_BYTES;
/// Where `idiag_wqueue` stands in the answer: behind four bytes, the identity, `idiag_expires` and `idiag_rqueue`.
const WRITE_QUEUE_AT: usize = HEADER_BYTES + 4 + ID_BYTES + 8;
/// And `idiag_inode`, behind that and `idiag_uid`.
const INODE_AT: usize = WRITE_QUEUE_AT + 8;

/// Bytes written to `stream` that its peer has not acknowledged, about 20 us.
///
/// # Errors
/// The kernel cannot tell (built without `CONFIG_INET_DIAG`, or netlink sockets are forbidden), or has no file to give.
pub(crate) fn unacknowledged(stream: &TcpStream) -> io::Result<u32> {
    let diagnosis = ask(&question(REQUEST, u32::MAX, stream.local_addr()?, stream.peer_addr()?))?;
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

/// A connection whose peer does not answer: what was sent is sent again, or its window is asked for in vain. A peer that does not
/// read answers, so it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered {
    /// Of the socket, as fstat(2) has it.
    pub(crate) inode: u32,
    /// Times that the kernel has sent since the last answer.
    pub(crate) tries: u8,
}

/// The connections to `port` whose peers do not answer.
///
/// # Errors
/// As of [`unacknowledged`].
pub(crate) fn unanswered(port: u16) -> io::Result<Vec<Unanswered>> {
    // TCP_ESTABLISHED, FIN_WAIT1, CLOSE_WAIT, LAST_ACK and CLOSING of linux/tcp_states.h.
    const STATES: u32 = 1 << 1 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 11;
    let mut found = Vec::new();
    for any in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
        let (local, peer) = (SocketAddr::new(any, port), SocketAddr::new(any, 0));
        let diagnosis = ask(&question(REQUEST | DUMP, STATES, local, peer))?;
        let mut part = vec![0; 64 << 10];
        loop {
            // The kernel makes the next part as the last one is read, so there is one.
            let (_, length) = recv(&diagnosis, &mut part[..], RecvFlags::DONTWAIT)?;
            if !read_part(&part[..length.min(part.len())], &mut found)? {
                break;
            }
        }
    }
    Ok(found)
}

/// Reads the messages of a part. Whether another part follows.
fn read_part(mut part: &[u8], found: &mut Vec<Unanswered>) -> io::Result<bool> {
    while let Some((length, kind)) = u32_at(part, 0).zip(u16_at(part, 4)) {
        match kind {
            DONE => return Ok(false),
            ERROR => return Err(io::ErrorKind::Unsupported.into()),
            _ => {}
        }
        // `idiag_timer` and `idiag_retrans`: 1 is retransmission, 4 a window that is asked for.
        let (timer, tries) = (part.get(HEADER_BYTES + 2), part.get(HEADER_BYTES + 3));
        if let (Some(1 | 4), Some(&tries @ 1..), Some(inode)) = (timer, tries, u32_at(part, INODE_AT)) {
            found.push(Unanswered { inode, tries });
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX).max(HEADER_BYTES).next_multiple_of(4);
        part = part.get(length..).unwrap_or_default();
    }
    Ok(true)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// A socket on which the answers to a question are.
fn ask(question: &[u8]) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let diagnosis = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    send(&diagnosis, question, SendFlags::empty())?;
    Ok(diagnosis)
}

/// For the one socket between these addresses, or for all from the first one's port.
fn question(flags: u16, states: u32, local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + REQUEST_BYTES).unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]); // sequence number and sender
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // Family, IPPROTO_TCP, no extension, padding; then the states.
    bytes.extend_from_slice(&[family.as_raw().to_le_bytes()[0], 6, 0, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
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
