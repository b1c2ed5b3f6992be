//! A client that says and hears bytes: what a Redis client sees on the wire, in either protocol version.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::child::PATIENCE;
use crate::redis_client::encode_command;

/// One connection. Whatever does not come within 10 s ends the test.
pub struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    /// Connects.
    #[track_caller]
    pub fn connect(address: impl ToSocketAddrs) -> RawClient {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("cannot connect: {error}"));
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        RawClient { stream }
    }

    /// The address of this end.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// A second handle, to send while the first one reads.
    pub fn twin(&self) -> RawClient {
        RawClient { stream: self.stream.try_clone().unwrap() }
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap_or_else(|error| panic!("cannot send: {error}"));
        self
    }

    /// Sends bytes to one that may have closed.
    ///
    /// # Errors
    /// It has, or takes nothing for 10 s.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a command as an array of bulk strings.
    #[track_caller]
    pub fn send_command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> &mut Self {
        self.send(command(arguments))
    }

    /// Sends commands, all in one write.
    #[track_caller]
    pub fn send_commands<'a, A: AsRef<[u8]> + 'a>(
        &mut self,
        commands: impl IntoIterator<Item = &'a [A]>,
    ) -> &mut Self {
        self.send(commands.into_iter().flat_map(command).collect::<Vec<u8>>())
    }

    /// Reads exactly these bytes.
    ///
    /// # Panics
    /// When others come, or none.
    #[track_caller]
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) -> &mut Self {
        if let Some(difference) = self.difference(expected.as_ref()) {
            panic!("{difference}");
        }
        self
    }

    /// Reads these bytes, or tells what came instead of them.
    pub fn difference(&mut self, expected: &[u8]) -> Option<String> {
        let (mut found, mut room) = (Vec::new(), [0; 64 * 1024]);
        while found.len() < expected.len() {
            let most = (expected.len() - found.len()).min(room.len());
            match self.stream.read(&mut room[..most]) {
                Ok(0) => return Some(format!("the connection ended after {:?}", shown(&found))),
                Ok(count) => found.extend_from_slice(&room[..count]),
                Err(error) => {
                    return Some(format!(
                        "{error} after {:?}, expected {:?}",
                        shown(&found),
                        shown(expected)
                    ));
                }
            }
            if !expected.starts_with(&found) {
                found.extend(self.rest());
                return Some(format!("found {:?}, expected {:?}", shown(&found), shown(expected)));
            }
        }
        None
    }

    /// Speaks RESP3 from now on.
    #[track_caller]
    pub fn resp3(&mut self) -> &mut Self {
        self.send("HELLO 3\r\n").reply();
        self
    }

    /// Sends an inline command and reads exactly this reply, both without their last line end.
    #[track_caller]
    pub fn ask(&mut self, line: &str, reply: &str) -> &mut Self {
        self.send(format!("{line}\r\n")).expect(format!("{reply}\r\n"))
    }

    /// Reads one line, without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.line_into(&mut line);
        line.truncate(line.len() - 2);
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Reads one reply of either protocol, as it comes.
    #[track_caller]
    pub fn reply(&mut self) -> Vec<u8> {
        let (mut reply, mut left) = (Vec::new(), 1_usize);
        while left > 0 {
            left -= 1;
            let start = reply.len();
            self.line_into(&mut reply);
            let header = String::from_utf8_lossy(&reply[start..reply.len() - 2]).into_owned();
            let (kind, count) = header.split_at(1);
            // That of a null is negative.
            let count = count.parse::<usize>().unwrap_or(0);
            match kind {
                "$" | "=" | "!" if !header.ends_with("-1") => {
                    let end = reply.len();
                    reply.resize(end + count + 2, 0);
                    let bytes = &mut reply[end..];
                    self.stream.read_exact(bytes).unwrap_or_else(|error| panic!("{error} in a bulk string"));
                }
                "*" | "~" | ">" => left += count,
                "%" => left += 2 * count,
                _ => {}
            }
        }
        reply
    }

    #[track_caller]
    fn line_into(&mut self, line: &mut Vec<u8>) {
        let start = line.len();
        while !line[start..].ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap_or_else(|error| {
                panic!("{error} after {:?}", shown(&line[start..]));
            });
            line.extend_from_slice(&byte);
        }
    }

    /// Reads one bulk string.
    #[track_caller]
    pub fn bulk(&mut self) -> Vec<u8> {
        let line = self.line();
        let length = line.strip_prefix('$').and_then(|length| length.parse::<usize>().ok());
        let mut bytes = vec![0; length.unwrap_or_else(|| panic!("no bulk string: {line:?}")) + 2];
        self.stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("{error} in a bulk string"));
        bytes.truncate(bytes.len() - 2);
        bytes
    }

    /// Reads so many bytes and drops them.
    #[track_caller]
    pub fn skip(&mut self, mut count: u64) -> &mut Self {
        let mut room = vec![0; 64 * 1024];
        while count > 0 {
            let most = usize::try_from(count).unwrap_or(usize::MAX).min(room.len());
            let read = self.stream.read(&mut room[..most]).unwrap_or_else(|error| panic!("{error}"));
            assert!(read > 0, "the connection ended with {count} bytes to come");
            count -= read as u64;
        }
        self
    }

    /// Whether the connection ends now, in order or by a reset, with nothing more said.
    pub fn at_end(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => !is_late(error.kind()),
        }
    }

    /// Whether nothing comes for this long.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(peeked, Err(error) if is_late(error.kind()))
    }

    /// Says that nothing more will be sent.
    pub fn shut(&mut self) -> &mut Self {
        self.stream.shutdown(Shutdown::Write).unwrap();
        self
    }

    /// Keeps the kernel from taking much for us.
    pub fn with_small_buffer(self) -> RawClient {
        set_socket_recv_buffer_size(&self.stream, 4096).unwrap();
        self
    }

    /// What else is here.
    fn rest(&mut self) -> Vec<u8> {
        self.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut rest = vec![0; 4096];
        let count = self.stream.read(&mut rest).unwrap_or(0);
        rest.truncate(count);
        rest
    }
}

/// A command as an array of bulk strings.
fn command<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_command(&mut bytes, arguments);
    bytes
}

fn is_late(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}
