//! TLS above a client's socket, with one read and one write a batch.
//!
//! What comes is read into a buffer of the worker's and decrypted at once; what leaves is encrypted up to 64 KiB at a time
//! (rustls, `DEFAULT_BUFFER_LIMIT`) and written in one system call. An idle client owns neither: of rustls' own buffers 4 KiB stay.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::buffer_pool::BufferPool;

/// A record with all that is around it (RFC 8446, section 5.2), and what of one may lie here from an earlier read.
const LARGEST_RECORD: usize = (16 << 10) + 256 + 5;
/// What is read for a caller who has less room than two of these.
const SMALL_READ: usize = 4096;

/// A client's socket, and TLS after its handshake. Dropped, it says that nothing follows, and is closed.
///
/// A write that is pending must be offered again with the bytes that it was offered, and more behind them perhaps: they are encrypted
/// already. Of these the last is reported as written once all are with the kernel, so that nobody need flush.
pub(in crate::front) struct TlsStream {
    socket: TcpStream,
    tls: ServerConnection,
    buffers: Rc<BufferPool>,
    /// Of the bytes that were offered last: those that are encrypted and not reported yet.
    promised: usize,
}

impl TlsStream {
    /// What a handshake has led to.
    pub(in crate::front) fn new(socket: TcpStream, tls: ServerConnection, buffers: Rc<BufferPool>) -> Self {
        TlsStream { socket, tls, buffers, promised: 0 }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn encrypted_bytes(&self) -> usize {
        self.promised
    }

    /// Moves what has come to `buffer`. Whether that is something, or the end.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        match self.tls.reader().read(buffer.initialize_unfilled()) {
            Ok(count) => {
                buffer.advance(count);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            // An end that TLS was not told of may be anybody's. Whether a request is whole says its own framing.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// One read, and what is in it moved to `buffer`.
    fn receive(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut room = self.buffers.take_records();
        // Decrypted, all of it and a record that was begun before find room.
        let most = match buffer.remaining() {
            small if small < 2 * LARGEST_RECORD => SMALL_READ,
            large => room.len().min(large - LARGEST_RECORD),
        };
        let mut records = ReadBuf::new(&mut room[..most]);
        let outcome = match Pin::new(&mut self.socket).poll_read(cx, &mut records) {
            Poll::Ready(Ok(())) => Poll::Ready(self.decrypt(records.filled(), buffer)),
            other => other,
        };
        self.buffers.give_records(room);
        outcome
    }

    fn decrypt(&mut self, mut records: &[u8], buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        loop {
            let count = self.tls.read_tls(&mut records)?;
            if let Err(error) = self.tls.process_new_packets() {
                // It is told why, if it can be.
                let _ = self.tls.write_tls(&mut Ready(&self.socket));
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
            self.take(buffer)?;
            // None is taken behind the end.
            if count == 0 || records.is_empty() {
                return Ok(());
            }
        }
    }

    /// Writes what is encrypted. How much of it has gone, and whether that is all.
    fn send(&mut self, cx: &mut Context<'_>) -> (usize, Poll<io::Result<()>>) {
        let mut gone = 0;
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Waking { socket: &mut self.socket, cx }) {
                Ok(0) => return (gone, Poll::Ready(Err(ErrorKind::WriteZero.into()))),
                Ok(count) => gone += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (gone, Poll::Pending),
                Err(error) => return (gone, Poll::Ready(Err(error))),
            }
        }
        (gone, Poll::Ready(Ok(())))
    }

    fn write_by(
        &mut self,
        cx: &mut Context<'_>,
        encrypt: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.promised == 0 {
            // What TLS itself had to say.
            ready!(self.send(cx).1)?;
            self.promised = encrypt(&mut self.tls.writer())?;
        }
        match self.send(cx) {
            (_, Poll::Ready(Ok(()))) => Poll::Ready(Ok(std::mem::take(&mut self.promised))),
            (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            // The rest is asked for again, as one byte at least is not reported.
            (gone, Poll::Pending) => match gone.min(self.promised - 1) {
                0 => Poll::Pending,
                told => {
                    self.promised -= told;
                    Poll::Ready(Ok(told))
                }
            },
        }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() == 0 || this.take(buffer)? {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        loop {
            ready!(this.receive(cx, buffer))?;
            if this.promised == 0 && this.tls.wants_write() {
                // An answer of TLS itself: if it does not go now it goes before what is written next.
                let _ = this.send(cx);
            }
            if buffer.filled().len() > before || this.take(buffer)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write_by(cx, |writer| writer.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write_by(cx, |writer| writer.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().send(cx).1
    }

    /// Waits for nothing: where the kernel takes no more, the end comes without the word of TLS.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.tls.send_close_notify();
        let _ = this.send(cx);
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        // In the midst of a record there is nothing to say.
        if !self.tls.wants_write() {
            self.tls.send_close_notify();
            let _ = self.tls.write_tls(&mut Ready(&self.socket));
        }
    }
}

/// Writes what the kernel takes now, and has the task woken when it takes more.
struct Waking<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Waking<'_, '_> {
    fn now(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
        match polled {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Waking<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::now(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::now(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads and writes what is possible now.
pub(in crate::front) struct Ready<'a>(pub(in crate::front) &'a TcpStream);

impl Read for Ready<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(room)
    }
}

impl Write for Ready<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
    use socket2::{Domain, SockRef, Socket, Type};
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Room in the kernel for a few kB, whoever sends.
    const SMALL: usize = 4096;

    fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(signed.signing_key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(signed.cert.der().clone()).unwrap();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    }

    /// Both ends after a handshake.
    async fn pair() -> (TlsStream, StreamOwned<ClientConnection, std::net::TcpStream>) {
        let (server, client) = configs();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener).set_send_buffer_size(SMALL).unwrap();
        SockRef::from(&listener).set_recv_buffer_size(SMALL).unwrap();
        let address = listener.local_addr().unwrap();
        let shaking = std::thread::spawn(move || {
            // The window is announced as it connects.
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(SMALL).unwrap();
            socket.connect(&address.into()).unwrap();
            let mut socket = std::net::TcpStream::from(socket);
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = ClientConnection::new(client, name).unwrap();
            tls.complete_io(&mut socket).unwrap();
            StreamOwned::new(tls, socket)
        });
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = TcpStream::from_std(socket).unwrap();
        let mut tls = ServerConnection::new(server).unwrap();
        while tls.is_handshaking() || tls.wants_write() {
            if tls.wants_write() {
                socket.writable().await.unwrap();
                let _ = tls.write_tls(&mut Ready(&socket));
            } else {
                socket.readable().await.unwrap();
                let _ = tls.read_tls(&mut Ready(&socket));
                tls.process_new_packets().unwrap();
            }
        }
        (TlsStream::new(socket, tls, Rc::default()), shaking.join().unwrap())
    }

    #[tokio::test]
    async fn the_last_byte_is_reported_as_written_once_all_are_with_the_kernel() {
        let (mut stream, mut client) = pair().await;
        let bytes: Vec<u8> = (0..60_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut written = 0;
        // Nobody reads: so much is taken as the kernel has room for, and then it is waited for.
        let stuck = std::time::Duration::from_millis(200);
        while let Ok(count) = tokio::time::timeout(stuck, stream.write(&bytes[written..])).await {
            written += count.unwrap();
            assert!(written < bytes.len(), "{written}");
        }
        assert!(stream.tls.wants_write() && stream.promised > 0);
        let reading = std::thread::spawn(move || {
            let mut read = vec![0; 60_000];
            client.read_exact(&mut read).unwrap();
            (client, read)
        });
        while written < bytes.len() {
            written += stream.write(&bytes[written..]).await.unwrap();
        }
        assert!(!stream.tls.wants_write() && stream.promised == 0);
        let (mut client, read) = reading.join().unwrap();
        assert!(read == bytes);
        drop(stream);
        assert_eq!(client.read(&mut [0; 10]).unwrap(), 0, "the end is told in TLS");
    }

    #[tokio::test]
    async fn all_that_comes_is_read_whatever_room_there_is_for_it() {
        use tokio::io::AsyncReadExt;
        let (mut stream, mut client) = pair().await;
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let writing = std::thread::spawn(move || {
            client.write_all(&sent).unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            client
        });
        let mut read = Vec::new();
        for room in [1, 100, 4096, 20_000, 64 * 1024, 33_282].into_iter().cycle() {
            let mut part = vec![0; room];
            match stream.read(&mut part).await.unwrap() {
                0 => break,
                count => read.extend_from_slice(&part[..count]),
            }
        }
        assert!(read == expected, "{} bytes", read.len());
        drop(writing.join().unwrap());
    }
}
