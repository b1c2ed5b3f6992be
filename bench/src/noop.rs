//! The no-op server: what input and output alone cost. One thread, one epoll instance, no parsing.
//!
//! It answers each `REQUEST_BYTES` bytes that it reads with the same bytes, those of a file, and knows nothing of HTTP:
//! one read and one write a batch, as a server cannot do with less on this interface. Events are edge-triggered and a
//! read that did not fill the buffer has emptied the socket, so that nothing is asked twice.
//!
//!     noop PORT REQUEST_BYTES ANSWER_FILE

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Bytes asked for in one read, as in the server that is compared.
const READ_BYTES: usize = 64 * 1024;
/// Answers lie side by side up to this many bytes, so that those of a batch leave in one write.
const BLOCK_BYTES: usize = 64 * 1024;
const EVENTS: usize = 1024;
/// The listener's place among the connections.
const DOOR: u64 = u64::MAX;

/// What every connection is answered with.
struct Answers {
    /// At least one, and as many as fit.
    block: Vec<u8>,
    length: usize,
    request_bytes: usize,
}

struct Connection {
    stream: TcpStream,
    /// Bytes of a request that is not whole.
    partial: usize,
    /// Bytes of answers that the kernel has not taken.
    owed: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, request_bytes, file] = arguments.as_slice() else {
        return Err("usage: noop PORT REQUEST_BYTES ANSWER_FILE".into());
    };
    let answers = Answers::new(&std::fs::read(file)?, request_bytes.parse()?)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    println!("{}", listener.local_addr()?.port());
    serve(&listener, &answers)?;
    Ok(())
}

fn serve(listener: &TcpListener, answers: &Answers) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, EventData::new_u64(DOOR), EventFlags::IN)?;
    // By file descriptor: these are small numbers, and used again.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            if event.data.u64() == DOOR {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let place = usize::try_from(stream.as_raw_fd()).map_err(io::Error::other)?;
                    let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                    epoll::add(&epoll, &stream, EventData::new_u64(place as u64), interest)?;
                    connections.resize_with(connections.len().max(place + 1), || None);
                    connections[place] = Some(Connection { stream, partial: 0, owed: 0 });
                }
                continue;
            }
            let place = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
            if let Some(connection) = &mut connections[place]
                && !connection.turn(answers, &mut buffer)
            {
                // Closing the socket takes it out of the epoll instance, too.
                connections[place] = None;
            }
        }
    }
}

impl Answers {
    fn new(answer: &[u8], request_bytes: usize) -> Result<Self, Box<dyn Error>> {
        if answer.is_empty() || request_bytes == 0 {
            return Err("an answer and a request have at least one byte".into());
        }
        let block = answer.repeat((BLOCK_BYTES / answer.len()).max(1));
        Ok(Answers { block, length: answer.len(), request_bytes })
    }

    /// The next bytes to write where `owed` are left, as many as lie side by side.
    fn next(&self, owed: usize) -> &[u8] {
        let begin = (self.length - owed % self.length) % self.length;
        &self.block[begin..self.block.len().min(begin + owed)]
    }
}

impl Connection {
    /// Reads and answers until the socket has no more to give, or to take. False once the client has left.
    fn turn(&mut self, answers: &Answers, buffer: &mut [u8]) -> bool {
        let mut is_drained = false;
        loop {
            while self.owed > 0 {
                match self.stream.write(answers.next(self.owed)) {
                    Ok(count) => self.owed -= count,
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
            }
            if is_drained {
                return true;
            }
            let count = match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            is_drained = count < buffer.len();
            self.partial += count;
            self.owed = self.partial / answers.request_bytes * answers.length;
            self.partial %= answers.request_bytes;
        }
    }
}
