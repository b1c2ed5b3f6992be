//! The closed loop: a batch to every connection, and to each the next one when its answers are there.

use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::answers::{ExpectedAnswer, ReadProgress, UnexpectedAnswer};
use crate::arguments::LoadArguments;
use crate::batch::RequestBatch;
use crate::choice::KeyChoice;

/// Bytes asked for in one read.
const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;
/// No answer at all for this long ends the load: the server has stopped, or counts requests otherwise.
const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// All connections, and what they ask for.
pub(crate) struct LoadConnections {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    batch: RequestBatch,
    choice: KeyChoice,
    expected: ExpectedAnswer,
    room: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    progress: ReadProgress,
    /// Requests that wait for an answer.
    outstanding: usize,
}

/// What a run did. Displays as JSON.
#[derive(Debug)]
pub(crate) struct RunOutcome {
    answers: usize,
    /// Of these answers.
    bytes: usize,
    took: Duration,
}

impl LoadConnections {
    /// Makes the connections.
    ///
    /// # Errors
    /// When the server takes none.
    pub(crate) fn connect(arguments: &LoadArguments) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(arguments.connections);
        for number in 0..arguments.connections {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, arguments.port))?;
            stream.set_nodelay(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
            connections.push(Connection { stream, progress: ReadProgress::default(), outstanding: 0 });
        }
        Ok(LoadConnections {
            epoll,
            connections,
            batch: RequestBatch::new(arguments),
            choice: arguments.choice.clone(),
            expected: ExpectedAnswer::new(arguments),
            room: vec![0; READ_BYTES],
        })
    }

    /// Asks for this long, or until every key has been asked for, and waits for the last answer.
    ///
    /// # Errors
    /// The server closed a connection, gave another answer than expected, or none.
    pub(crate) fn run(&mut self, length: Duration) -> Result<RunOutcome, Box<dyn Error>> {
        let begun = Instant::now();
        let (mut answers, mut bytes) = (0, 0);
        let mut asking = 0;
        for number in 0..self.connections.len() {
            asking += usize::from(self.ask(number)?);
        }
        let mut events = Vec::with_capacity(EVENTS);
        while asking > 0 {
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&PATIENCE))?;
            if events.is_empty() {
                return Err("the server answers no more".into());
            }
            let is_over = !self.choice.is_finite() && begun.elapsed() >= length;
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64())?;
                let (here, length) = self.read(number)?;
                answers += here;
                bytes += length;
                if self.connections[number].outstanding == 0 && (is_over || !self.ask(number)?) {
                    asking -= 1;
                }
            }
        }
        Ok(RunOutcome { answers, bytes, took: begun.elapsed() })
    }

    /// Sends the next batch; false where there is none. The socket blocks: what is outstanding is one batch, which
    /// fits in the kernel's buffers.
    fn ask(&mut self, number: usize) -> io::Result<bool> {
        let connection = &mut self.connections[number];
        let (count, bytes) = self.batch.next(&mut self.choice);
        connection.stream.write_all(bytes)?;
        connection.outstanding = count;
        Ok(count > 0)
    }

    /// One read; how many answers are whole with it, and its bytes.
    fn read(&mut self, number: usize) -> Result<(usize, usize), Box<dyn Error>> {
        let connection = &mut self.connections[number];
        let count = connection.stream.read(&mut self.room)?;
        if count == 0 {
            return Err("the server closed a connection".into());
        }
        let answers = self.expected.read(&mut connection.progress, &self.room[..count])?;
        connection.outstanding =
            connection.outstanding.checked_sub(answers).ok_or("more answers than requests")?;
        Ok((answers, count))
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunOutcome { answers, bytes, took } = self;
        write!(f, r#"{{"answers": {answers}, "bytes": {bytes}, "seconds": {:.6}}}"#, took.as_secs_f64())
    }
}

impl fmt::Display for UnexpectedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not the answer that was expected: {:?}", self.0)
    }
}

impl Error for UnexpectedAnswer {}
