//! A raw HTTP/1.1 client: sends what the test says to the byte, and is strict about what comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::Response;
use crate::child::PATIENCE;

/// A head above this is no head of ours.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// One connection. Bytes that come after a response are kept for the next: requests may be pipelined.
pub struct HttpClient {
    stream: TcpStream,
    /// Read from the stream and not yet part of a response.
    unread: Vec<u8>,
    /// The `Host` of its requests.
    host: String,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server closed it in order: a read returned 0.
    Closed,
    /// It was reset.
    Reset,
    /// It is still open after the read timeout.
    Open,
    /// Bytes came instead, these first.
    Bytes(Vec<u8>),
}

impl HttpClient {
    /// Connects. Reads and writes that make no progress for 10 s fail.
    #[track_caller]
    pub fn connect(address: impl ToSocketAddrs) -> HttpClient {
        HttpClient::new(TcpStream::connect(address))
    }

    /// Connects with a receive buffer of about this size (the kernel has a floor of some kB): a client that stops
    /// reading fills the server's buffers early.
    #[track_caller]
    pub fn connect_with_receive_buffer(address: impl ToSocketAddrs, bytes: usize) -> HttpClient {
        let address = address.to_socket_addrs().ok().and_then(|mut found| found.next()).expect("an address");
        HttpClient::new(connect_with_receive_buffer(address, bytes))
    }

    #[track_caller]
    fn new(stream: io::Result<TcpStream>) -> HttpClient {
        let stream = stream.unwrap_or_else(|error| panic!("cannot connect: {error}"));
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        HttpClient { stream, unread: Vec::new(), host: "testkit".to_owned() }
    }

    /// Its requests have this `Host`.
    #[must_use]
    pub fn calling_it(mut self, host: &str) -> HttpClient {
        host.clone_into(&mut self.host);
        self
    }

    /// Changes how long a read may wait for the next byte.
    pub fn set_read_timeout(&mut self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).expect("a timeout above zero");
    }

    /// Changes how long a write may wait for room.
    pub fn set_write_timeout(&mut self, timeout: Duration) {
        self.stream.set_write_timeout(Some(timeout)).expect("a timeout above zero");
    }

    /// This end of the connection, as the server sees it.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket")
    }

    /// Sends these bytes, at once and as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// As [`send`](Self::send), on a connection that the server may have closed.
    ///
    /// # Errors
    /// When it is closed, or takes no byte for the write timeout (`WouldBlock`).
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a FIN: no more requests will come, answers can.
    pub fn shutdown_write(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a connection to shut down");
    }

    /// Closes with a RST.
    pub fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("SO_LINGER can be set");
    }

    /// GET of a target as it stands in the request line.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[])
    }

    /// GET of a key of any bytes.
    #[track_caller]
    pub fn get_key(&mut self, key: impl AsRef<[u8]>) -> Response {
        self.get(&key_target(key.as_ref()))
    }

    /// HEAD of a target.
    #[track_caller]
    pub fn head(&mut self, target: &str) -> Response {
        self.request("HEAD", target, &[])
    }

    /// A request without a body, with a Host unless `headers` has one; the response to it.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request.push_str(&format!("Host: {}\r\n", self.host));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.send(request);
        if method == "HEAD" { self.read_head_response() } else { self.read_response() }
    }

    /// Reads a response and its body.
    ///
    /// # Panics
    /// When it is malformed, cut, or does not come within the read timeout.
    #[track_caller]
    pub fn read_response(&mut self) -> Response {
        self.try_read_response().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Reads a response to HEAD: a Content-Length and no body.
    ///
    /// # Panics
    /// As [`read_response`](Self::read_response).
    #[track_caller]
    pub fn read_head_response(&mut self) -> Response {
        self.try_read(true).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`read_response`](Self::read_response), where a response may not come.
    ///
    /// # Errors
    /// `InvalidData` when it is malformed, `UnexpectedEof` when the connection ends before or inside it,
    /// `ConnectionReset`, and `TimedOut`.
    pub fn try_read_response(&mut self) -> io::Result<Response> {
        self.try_read(false)
    }

    fn try_read(&mut self, to_head: bool) -> io::Result<Response> {
        let malformed = |what| io::Error::new(ErrorKind::InvalidData, format!("malformed response: {what}"));
        let head_length = loop {
            // A bare LF is looked for too: waiting for a CRLF that never comes would say less.
            let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
            let bare = self.unread.windows(2).position(|two| two == b"\n\n").map(|at| at + 2);
            match end.into_iter().chain(bare).min() {
                Some(end) => break end,
                None if self.unread.len() > MAX_HEAD_BYTES => {
                    return Err(malformed("a head without end".to_owned()));
                }
                None => self.read_more()?,
            }
        };
        let mut response = Response::parse_head(&self.unread[..head_length]).map_err(malformed)?;
        let body_length = response.body_length(to_head).map_err(malformed)?;
        while self.unread.len() < head_length + body_length {
            self.read_more()?;
        }
        response.body = self.unread[head_length..head_length + body_length].to_vec();
        self.unread.drain(..head_length + body_length);
        Ok(response)
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 64 * 1024];
        let what = match self.stream.read(&mut bytes) {
            Ok(0) => io::Error::from(ErrorKind::UnexpectedEof),
            Ok(count) => {
                self.unread.extend_from_slice(&bytes[..count]);
                return Ok(());
            }
            // A read with a timeout is not restarted after a signal (signal(7)): the caller reads again.
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => io::Error::from(ErrorKind::TimedOut),
            Err(error) => error,
        };
        let start = &self.unread[..self.unread.len().min(500)];
        let text =
            format!("no response: {what}, after {} bytes: \"{}\"", self.unread.len(), start.escape_ascii());
        Err(io::Error::new(what.kind(), text))
    }

    /// Reads some bytes, at most `limit`, as they come: a slow reader. None is the end of the connection.
    ///
    /// # Errors
    /// `ConnectionReset`, and `WouldBlock` after the read timeout.
    pub fn read_some(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        if !self.unread.is_empty() {
            return Ok(self.unread.drain(..limit.min(self.unread.len())).collect());
        }
        let mut bytes = vec![0; limit];
        let count = loop {
            match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Waits for the end of the connection, or for what comes instead, within the read timeout.
    #[track_caller]
    pub fn end(&mut self) -> End {
        match self.read_some(1024) {
            Ok(bytes) if bytes.is_empty() => End::Closed,
            Ok(bytes) => End::Bytes(bytes),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) if error.kind() == ErrorKind::WouldBlock => End::Open,
            Err(error) => panic!("cannot read: {error}"),
        }
    }

    /// Whether the server closed in order. [`end`](Self::end) says what else became of the connection.
    #[track_caller]
    pub fn at_end(&mut self) -> bool {
        self.end() == End::Closed
    }
}

/// GET of a key of any bytes, on a new connection.
#[track_caller]
pub fn get_key(address: impl ToSocketAddrs, key: impl AsRef<[u8]>) -> Response {
    HttpClient::connect(address).get_key(key)
}

/// The request target that names this key. All but the unreserved characters are escaped; the empty key has no path
/// of its own.
pub fn key_target(key: &[u8]) -> String {
    if key.is_empty() {
        return "/?key=".to_owned();
    }
    let escape = |&byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    format!("/{}", key.iter().map(escape).collect::<String>())
}

/// The buffer is set before connecting: the window is announced in the handshake (tcp(7)).
fn connect_with_receive_buffer(address: SocketAddr, bytes: usize) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket.into())
}
