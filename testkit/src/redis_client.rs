//! A small blocking client: what a test itself says to Redis.

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;

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
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            let argument = argument.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes)?;
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
