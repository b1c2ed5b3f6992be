//! Where we listen, and the sockets of those who come: TCP, or a unix socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use crate::config::ListenAddress;

/// Of a socket that has none to tell: one that everybody may reach.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A listening socket.
pub(crate) enum Listening {
    Tcp(TcpListener),
    /// And its path.
    Unix(UnixListener, PathBuf),
}

/// The same, watched by a runtime.
pub(crate) enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, PathBuf),
}

/// The socket of a client, as it was accepted.
pub(crate) enum ClientSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Where a client is and where it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnds {
    Tcp {
        from: SocketAddr,
        to: SocketAddr,
    },
    /// The path that it came to.
    Unix(String),
}

impl ClientEnds {
    /// The client's own address; none of one on this machine that has none.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            ClientEnds::Tcp { from, .. } => Some(from.ip()),
            ClientEnds::Unix(_) => None,
        }
    }

    /// From where and to where, as Redis writes them (networking.c, `genClientAddrString`, 7.0).
    pub(crate) fn texts(&self) -> [String; 2] {
        match self {
            ClientEnds::Tcp { from, to } => [from.to_string(), to.to_string()],
            ClientEnds::Unix(path) => [format!("{path}:0"), format!("{path}:0")],
        }
    }
}

impl Listening {
    /// The address that it was bound to, for the log.
    pub(crate) fn name(&self) -> String {
        match self {
            Listening::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
            }
            Listening::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// The same, as settings have it.
    pub(crate) fn address(&self) -> ListenAddress {
        match self {
            Listening::Tcp(listener) => {
                let address = listener.local_addr().unwrap_or(UNKNOWN);
                ListenAddress::Tcp { host: address.ip().to_string(), port: address.port() }
            }
            Listening::Unix(_, path) => ListenAddress::Unix(path.clone()),
        }
    }

    /// Whether nobody but this machine reaches it.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Listening::Tcp(listener) => {
                listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
            }
            Listening::Unix(..) => true,
        }
    }

    /// Its number, where it has one.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Listening::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Listening::Unix(..) => None,
        }
    }

    /// To be called within the runtime.
    ///
    /// # Errors
    /// The system has no room to watch it.
    pub(crate) fn watched(self) -> io::Result<Acceptor> {
        match self {
            Listening::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Acceptor::Tcp),
            Listening::Unix(listener, path) => {
                tokio::net::UnixListener::from_std(listener).map(|listener| Acceptor::Unix(listener, path))
            }
        }
    }

    /// Takes a client that the kernel has for us, as a socket that waits for nothing.
    ///
    /// # Errors
    /// As of accept(2); `WouldBlock` where there is none.
    pub(crate) fn accept(&self) -> io::Result<ClientSocket> {
        let socket = match self {
            Listening::Tcp(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                ClientSocket::Tcp(socket)
            }
            Listening::Unix(listener, _) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                ClientSocket::Unix(socket)
            }
        };
        Ok(socket)
    }
}

impl Acceptor {
    /// Waits for a client, whose socket is no longer of this runtime.
    ///
    /// # Errors
    /// As of accept(2).
    pub(crate) async fn accept(&self) -> io::Result<ClientSocket> {
        match self {
            Acceptor::Tcp(listener) => listener.accept().await?.0.into_std().map(ClientSocket::Tcp),
            Acceptor::Unix(listener, _) => listener.accept().await?.0.into_std().map(ClientSocket::Unix),
        }
    }

    /// Watched no longer.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn unwatched(self) -> io::Result<Listening> {
        match self {
            Acceptor::Tcp(listener) => listener.into_std().map(Listening::Tcp),
            Acceptor::Unix(listener, path) => {
                listener.into_std().map(|listener| Listening::Unix(listener, path))
            }
        }
    }
}

impl ClientSocket {
    /// Where it is; none of one on this machine that has no address.
    ///
    /// # Errors
    /// The client has left.
    pub(crate) fn peer_ip(&self) -> io::Result<Option<IpAddr>> {
        match self {
            ClientSocket::Tcp(socket) => socket.peer_addr().map(|address| Some(address.ip())),
            ClientSocket::Unix(_) => Ok(None),
        }
    }

    /// What is written leaves at once.
    ///
    /// # Errors
    /// The client has left.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            ClientSocket::Tcp(socket) => socket.set_nodelay(true),
            // It does so anyway.
            ClientSocket::Unix(_) => Ok(()),
        }
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            ClientSocket::Tcp(socket) => socket.as_fd(),
            ClientSocket::Unix(socket) => socket.as_fd(),
        }
    }
}
