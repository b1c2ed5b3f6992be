//! A small blocking client: what a test itself says to Redis.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::Reply;
use crate::child::PATIENCE;
use crate::reply::read_reply;

/// One connection to a Redis, RESP2. A reply that does not come within 10 s ends the test.
pub struct RedisClient {
    stream: BufReader<Box<dyn Duplex>>,
}

/// A TCP or a unix stream.
trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

impl RedisClient {
    /// Connects over TCP.
    #[track_caller]
    pub fn connect(address: impl ToSocketAddrs) -> RedisClient {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("cannot connect to Redis: {error}"));
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        RedisClient { stream: BufReader::new(Box::new(stream)) }
    }

    /// Connects over a unix socket.
    #[track_caller]
    pub fn connect_unix(path: impl AsRef<Path>) -> RedisClient {
        RedisClient::try_connect_unix(path.as_ref())
            .unwrap_or_else(|error| panic!("cannot connect to Redis at {}: {error}", path.as_ref().display()))
    }

    /// Over TCP, with the most that a reply may take.
    pub(crate) fn try_connect(address: SocketAddr, patience: Duration) -> io::Result<RedisClient> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(RedisClient { stream: BufReader::new(Box::new(stream)) })
    }

    pub(crate) fn try_connect_unix(path: &Path) -> io::Result<RedisClient> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(RedisClient { stream: BufReader::new(Box::new(stream)) })
    }

    /// Sends a command and reads its reply; an error reply is a [`Reply::Error`].
    ///
    /// # Panics
    /// When the connection is lost.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Reply {
        self.try_command(arguments).unwrap_or_else(|error| panic!("no reply from Redis: {error}"))
    }

    /// As [`command`](Self::command), for a connection that may be lost.
    ///
    /// # Errors
    /// When the connection is lost, no reply comes within 10 s, or it is malformed.
    pub fn try_command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, arguments);
        self.try_send(&bytes)?;
        self.try_read()
    }

    /// Sends commands, as [`encode_command`] writes them.
    pub(crate) fn try_send(&mut self, commands: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(commands)
    }

    /// The next reply.
    pub(crate) fn try_read(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.stream)
    }

    /// `SET key value`, any bytes.
    #[track_caller]
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let reply = self.command(&[b"SET", key.as_ref(), value.as_ref()]);
        assert_eq!(reply, Reply::Simple("OK".to_owned()), "the reply to SET");
    }

    /// `GET key`. It counts in [`RedisServer::command_calls`](crate::RedisServer::command_calls) like any other.
    #[track_caller]
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        match self.command(&[b"GET", key.as_ref()]) {
            Reply::Bulk(value) => Some(value),
            Reply::Nil => None,
            other => panic!("the reply to GET: {other:?}"),
        }
    }

    /// `DEL key`: whether it was there.
    #[track_caller]
    pub fn del(&mut self, key: impl AsRef<[u8]>) -> bool {
        match self.command(&[b"DEL", key.as_ref()]) {
            Reply::Integer(count) => count == 1,
            other => panic!("the reply to DEL: {other:?}"),
        }
    }

    /// `FLUSHALL`.
    #[track_caller]
    pub fn flushall(&mut self) {
        assert_eq!(self.command(&["FLUSHALL"]), Reply::Simple("OK".to_owned()), "the reply to FLUSHALL");
    }
}

/// Appends a command as an array of bulk strings.
pub(crate) fn encode_command<A: AsRef<[u8]>>(out: &mut Vec<u8>, arguments: &[A]) {
    out.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        let argument = argument.as_ref();
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}
