//! The bytes of one client's connection, however they travel.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls_stream::TlsStream;
use crate::socket::{ClientEnds, ClientSocket};
use crate::unacked::unacknowledged;

/// A client's socket with what is spoken right above it. Dropped, it is closed.
///
/// Cost: a client without TLS pays for the others with one comparison a read or write, and with no byte.
pub(in crate::front) enum Stream {
    Plain(TcpStream),
    Other(Box<OtherStream>),
}

/// What is not plain TCP.
pub(in crate::front) enum OtherStream {
    Tls(Box<TlsStream>),
    Unix(UnixStream),
}

impl Stream {
    /// A client's socket, without TLS.
    ///
    /// # Errors
    /// The system has no room to watch it.
    pub(in crate::front) fn plain(socket: ClientSocket) -> io::Result<Stream> {
        match socket {
            ClientSocket::Tcp(socket) => TcpStream::from_std(socket).map(Stream::Plain),
            ClientSocket::Unix(socket) => {
                UnixStream::from_std(socket).map(OtherStream::Unix).map(Box::new).map(Stream::Other)
            }
        }
    }

    pub(in crate::front) fn of_tls(stream: TlsStream) -> Stream {
        Stream::Other(Box::new(OtherStream::Tls(Box::new(stream))))
    }

    /// Its TCP socket, if it has one.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Plain(socket) => Some(socket),
            Stream::Other(other) => match &**other {
                OtherStream::Tls(stream) => Some(stream.socket()),
                OtherStream::Unix(_) => None,
            },
        }
    }

    /// Where its client is.
    ///
    /// # Errors
    /// It has left.
    pub(in crate::front) fn ends(&self) -> io::Result<ClientEnds> {
        if let Stream::Other(other) = self
            && let OtherStream::Unix(socket) = &**other
        {
            let address = socket.local_addr()?;
            let path = address.as_pathname().map(|path| path.display().to_string());
            return Ok(ClientEnds::Unix(path.unwrap_or_default()));
        }
        let socket = self.tcp().ok_or(ErrorKind::NotConnected)?;
        Ok(ClientEnds::Tcp { from: socket.peer_addr()?, to: socket.local_addr()? })
    }

    /// Bytes with the kernel that the client has not acknowledged.
    ///
    /// # Errors
    /// As of [`unacknowledged`]; and for a unix socket.
    pub(in crate::front) fn unacknowledged(&self) -> io::Result<u32> {
        self.tcp().map_or(Err(ErrorKind::Unsupported.into()), unacknowledged)
    }

    /// Bytes that were offered to be written and lie here, encrypted.
    pub(super) fn encrypted_bytes(&self) -> usize {
        match self {
            Stream::Other(other) => match &**other {
                OtherStream::Tls(stream) => stream.encrypted_bytes(),
                OtherStream::Unix(_) => 0,
            },
            Stream::Plain(_) => 0,
        }
    }

    /// What is written from now on leaves together, with the end of the connection.
    pub(super) fn cork(&self) {
        if let Some(socket) = self.tcp() {
            let _ = SockRef::from(socket).set_tcp_cork(true);
        }
    }

    /// Nothing of what is written may stay in the kernel's send buffer beyond the end.
    pub(super) fn forsake(&self) {
        if let Some(socket) = self.tcp() {
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
    }

    fn bytes(&mut self) -> Pin<&mut dyn Bytes> {
        match self {
            Stream::Plain(socket) => Pin::new(socket),
            Stream::Other(other) => other.bytes(),
        }
    }
}

impl OtherStream {
    fn bytes(&mut self) -> Pin<&mut dyn Bytes> {
        match self {
            OtherStream::Tls(stream) => Pin::new(&mut **stream),
            OtherStream::Unix(socket) => Pin::new(socket),
        }
    }
}

trait Bytes: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Bytes for S {}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Stream::Other(other) => other.bytes().poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Other(other) => other.bytes().poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Stream::Other(other) => other.bytes().poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().bytes().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().bytes().poll_shutdown(cx)
    }
}
