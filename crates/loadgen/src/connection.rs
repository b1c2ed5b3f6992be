//! One connection to the server: what is to be written, and which requests wait for an answer.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::http::{ResponseHead, ResponseReader};
use crate::tally::Fault;

/// How long the first connections may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the connections of a thread before the load begins.
///
/// # Errors
/// When the server refuses one: there is no load to be made.
pub(crate) fn connect_all(address: SocketAddr, count: usize) -> io::Result<Vec<TcpStream>> {
    let connect = |_| {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    (0..count).map(connect).collect()
}

/// A socket, the bytes for it, and the requests outstanding on it. One that ended keeps none.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Option<TcpStream>,
    /// Whether the connection is being made.
    is_connecting: bool,
    /// Bytes of requests; of them, those already written.
    output: Vec<u8>,
    written: usize,
    /// When each outstanding request was due, the oldest first.
    outstanding: VecDeque<u64>,
    /// Of these, the newest ones that no write was tried for.
    fresh: usize,
    most_outstanding: usize,
    reader: ResponseReader,
}

/// How a connection came to its end, and what that cost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConnectionEnd {
    /// What befell the requests that were outstanding, but one that is `short`.
    pub(crate) fault: Fault,
    pub(crate) lost: usize,
    /// Whether it ended within an answer.
    pub(crate) is_short: bool,
    /// Whether the server ended it, with nothing left to answer.
    pub(crate) in_order: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, most_outstanding: usize) -> Self {
        Connection {
            stream: Some(stream),
            is_connecting: false,
            output: Vec::new(),
            written: 0,
            outstanding: VecDeque::new(),
            fresh: 0,
            most_outstanding,
            reader: ResponseReader::default(),
        }
    }

    /// Begins a connection in place of the one that ended. [`writable`](Self::writable) will tell how that went.
    pub(crate) fn reconnect(&mut self, address: SocketAddr) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
            _ => {}
        }
        self.is_connecting = true;
        self.stream = Some(socket.into());
        Ok(())
    }

    /// The socket, for the event queue.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    /// What the event queue is to watch for.
    pub(crate) fn interest(&self) -> EventFlags {
        if self.is_connecting || self.written < self.output.len() {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        }
    }

    /// Takes on a request, whose bytes `push` appends, that was due at `due_ns`. Whether it is the first since the
    /// last [`write`](Self::write), which is to be called for it.
    pub(crate) fn queue(&mut self, due_ns: u64, push: impl FnOnce(&mut Vec<u8>)) -> Result<bool, Fault> {
        if self.stream.is_none() {
            return Err(Fault::Unconnected);
        }
        if self.outstanding.len() >= self.most_outstanding {
            return Err(Fault::Overload);
        }
        push(&mut self.output);
        self.outstanding.push_back(due_ns);
        self.fresh += 1;
        Ok(self.fresh == 1)
    }

    /// When the requests queued since the last write were due. For the measure of how late we are.
    pub(crate) fn take_fresh(&mut self) -> impl Iterator<Item = u64> {
        let fresh = std::mem::take(&mut self.fresh);
        self.outstanding.iter().rev().take(fresh).copied()
    }

    /// Writes what the kernel takes.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) fn write(&mut self) -> Result<(), Fault> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.written < self.output.len() && !self.is_connecting {
            match stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Fault::Reset),
            }
        }
        if !self.is_connecting {
            self.output.clear();
            self.written = 0;
        }
        Ok(())
    }

    /// The socket can be written to, or is connected, or could not be.
    ///
    /// # Errors
    /// It was refused, or broke.
    pub(crate) fn writable(&mut self) -> Result<(), Fault> {
        if let Some(stream) = &self.stream
            && self.is_connecting
        {
            if !matches!(stream.take_error(), Ok(None)) {
                return Err(Fault::Refused);
            }
            self.is_connecting = false;
        }
        self.write()
    }

    /// One read; `tell` gets each answer with the time at which its request was due.
    ///
    /// # Errors
    /// The connection has ended, or cannot be used further.
    pub(crate) fn read(
        &mut self,
        room: &mut [u8],
        mut tell: impl FnMut(u64, ResponseHead),
    ) -> Result<(), Fault> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let count = match stream.read(room) {
            Ok(0) => return Err(Fault::Closed),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(_) => return Err(Fault::Reset),
        };
        let outstanding = &mut self.outstanding;
        let (mut is_last, mut is_unasked) = (false, false);
        let read = self.reader.read(&room[..count], |answer| match outstanding.pop_front() {
            Some(due_ns) if !is_last => {
                is_last = answer.is_last;
                tell(due_ns, answer);
            }
            _ => is_unasked = true,
        });
        match read {
            Ok(()) if is_unasked => Err(Fault::Garbled),
            Ok(()) if is_last => Err(Fault::Closed),
            Ok(()) => Ok(()),
            Err(_) => Err(Fault::Garbled),
        }
    }

    /// Requests that wait for an answer.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Ends it for this reason.
    pub(crate) fn end(&mut self, fault: Fault) -> ConnectionEnd {
        self.stream = None;
        self.is_connecting = false;
        self.output.clear();
        self.written = 0;
        self.fresh = 0;
        let lost = self.outstanding.len();
        self.outstanding.clear();
        let reader = std::mem::take(&mut self.reader);
        let is_short = fault == Fault::Closed && reader.is_within() && lost > 0;
        ConnectionEnd {
            fault,
            lost: lost - usize::from(is_short),
            is_short,
            in_order: fault == Fault::Closed && lost == 0,
        }
    }
}
