//! A raw HTTP/1.1 client.
use std::io;
use std::net::ToSocketAddrs;
use std::time::Duration;

use crate::Response;

/// One connection.
pub struct HttpClient {}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server closed it in order: read returned 0.
    Closed,
    /// It was reset.
    Reset,
    /// It is still open after the read timeout.
    Open,
    /// Bytes came instead.
    Bytes(Vec<u8>),
}

#[allow(unused_variables)]
impl HttpClient {
    /// Connects; reads time out after 10 s.
    pub fn connect(address: impl ToSocketAddrs) -> HttpClient {
        unimplemented!()
    }
    /// Connects with a small receive buffer: a client that stops reading is noticed early.
    pub fn connect_with_receive_buffer(address: impl ToSocketAddrs, bytes: usize) -> HttpClient {
        unimplemented!()
    }
    /// Changes the read timeout.
    pub fn set_read_timeout(&mut self, timeout: Duration) {
        unimplemented!()
    }
    /// Sends raw bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        unimplemented!()
    }
    /// As `send`, for a connection that may be closed by now.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        unimplemented!()
    }
    /// Sends a FIN: no more requests will come.
    pub fn shutdown_write(&mut self) {
        unimplemented!()
    }
    /// Closes with a RST.
    pub fn reset(self) {
        unimplemented!()
    }
    /// GET of a target as it stands in the request line.
    pub fn get(&mut self, target: &str) -> Response {
        unimplemented!()
    }
    /// GET of a key of any bytes.
    pub fn get_key(&mut self, key: impl AsRef<[u8]>) -> Response {
        unimplemented!()
    }
    /// HEAD of a target.
    pub fn head(&mut self, target: &str) -> Response {
        unimplemented!()
    }
    /// A request without a body.
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        unimplemented!()
    }
    /// Reads a response and its body; 1xx, 204 and 304 have none.
    pub fn read_response(&mut self) -> Response {
        unimplemented!()
    }
    /// Reads a response to HEAD.
    pub fn read_head_response(&mut self) -> Response {
        unimplemented!()
    }
    /// As `read_response`, but a lost connection, a timeout or a malformed response is an error.
    pub fn try_read_response(&mut self) -> io::Result<Response> {
        unimplemented!()
    }
    /// Reads some bytes, at most `limit`: a slow reader.
    pub fn read_some(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        unimplemented!()
    }
    /// Waits for the end of the connection.
    pub fn end(&mut self) -> End {
        unimplemented!()
    }
    /// Whether the server closed in order.
    pub fn at_end(&mut self) -> bool {
        unimplemented!()
    }
}

/// GET of a key of any bytes, on a new connection.
#[allow(unused_variables)]
pub fn get_key(address: impl ToSocketAddrs, key: impl AsRef<[u8]>) -> Response {
    unimplemented!()
}

/// The request target that names this key.
#[allow(unused_variables)]
pub fn key_target(key: &[u8]) -> String {
    unimplemented!()
}
