//! One reading connection: pipelined GETs over HTTP, parsed no further than the judge needs.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use memchr::memmem;

use crate::child::PATIENCE;
use crate::history::{ReadRecord, SeenValue};
use crate::workload::harvest::Harvest;
use crate::workload::keyspace::Keyspace;
use crate::workload::value::decode;
use crate::workload::{Workload, pause};
use crate::{Random, now_ns};

pub(super) struct HttpReader<'a> {
    pub(super) workload: &'a Workload,
    pub(super) address: SocketAddr,
    /// Numbers for connections, for all readers.
    pub(super) connections: &'a AtomicU32,
    pub(super) random: Random,
    /// Leaves a connection whose answers take longer: while misses wait for Redis, hits go on.
    pub(super) patience: Duration,
}

/// A read on its way.
struct Asked {
    key: usize,
    strict: bool,
}

struct Connection {
    stream: TcpStream,
    number: u32,
    unread: Vec<u8>,
}

/// What matters of an answer.
struct Answer<'a> {
    status: u16,
    is_hit: bool,
    /// Whether that is under a promise in force.
    is_proven: bool,
    body: &'a [u8],
    length: usize,
}

impl HttpReader<'_> {
    /// Reads until it is told to stop.
    pub(super) fn run(mut self, stop: &AtomicBool) -> Harvest {
        let mut harvest = Harvest::default();
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            let asked = self.ask();
            let open = connection.take().map_or_else(|| self.connect(), Ok);
            match open.and_then(|open| self.exchange(open, &asked, &mut harvest)) {
                Ok(open) => connection = Some(open),
                Err(error) => {
                    let gave_up = error.kind() == io::ErrorKind::WouldBlock;
                    harvest.given_up += usize::from(gave_up);
                    harvest.cut += usize::from(!gave_up);
                    thread::sleep(Duration::from_millis(1));
                }
            }
            pause(&mut self.random, self.workload.read_pause);
        }
        harvest
    }

    /// Some keys; half of the reads are of the first quarter.
    fn ask(&mut self) -> Vec<Asked> {
        let Workload { depth, strict_percent, mixed, .. } = *self.workload;
        let keys = Keyspace::of(self.workload).keys_in(0, false);
        let alone = !mixed && self.random.percent(strict_percent);
        let count = if alone { 1 } else { self.random.between(1, depth) };
        (0..count)
            .map(|_| {
                let key = draw_key(&mut self.random, &keys);
                Asked { key, strict: alone || (mixed && self.random.percent(strict_percent)) }
            })
            .collect()
    }

    fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.patience))?;
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Connection { stream, number, unread: Vec::new() })
    }

    /// Sends the requests at once and reads the answers.
    fn exchange(
        &self,
        mut open: Connection,
        asked: &[Asked],
        harvest: &mut Harvest,
    ) -> io::Result<Connection> {
        let keyspace = Keyspace::of(self.workload);
        let mut requests = Vec::with_capacity(64 * asked.len());
        for Asked { key, strict } in asked {
            let fresh = if *strict { "Cache-Control: no-cache\r\n" } else { "" };
            write!(requests, "GET /{} HTTP/1.1\r\nHost: h\r\n{fresh}\r\n", keyspace.name(*key))?;
        }
        let start = now_ns();
        open.stream.write_all(&requests)?;
        let mut asked = asked.iter().peekable();
        let mut buffer = [0; 32 * 1024];
        while asked.peek().is_some() {
            let count = match open.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let is_late = error.kind() == io::ErrorKind::WouldBlock && self.patience >= PATIENCE;
                    assert!(!is_late, "an answer did not come within {PATIENCE:?}");
                    return Err(error);
                }
            };
            let end = now_ns();
            open.unread.extend_from_slice(&buffer[..count]);
            let mut taken = 0;
            while let Some(answer) = Answer::parse(&open.unread[taken..]) {
                let Asked { key, strict } = *asked.next().expect("an answer nobody asked for");
                let seen = match answer.status {
                    200 => Some(decode(key, answer.body)),
                    404 => Some(SeenValue::Nothing),
                    status => {
                        harvest.refuse(status.to_string(), start..end);
                        None
                    }
                };
                let is_answered = seen.is_some();
                let (key, connection) = (u32::try_from(key).unwrap_or(u32::MAX), open.number);
                harvest.hits += usize::from(answer.is_hit);
                let noted = seen.filter(|_| answer.is_proven || !self.workload.proven_only);
                harvest.reads.extend(noted.map(|seen| ReadRecord {
                    start,
                    end,
                    key,
                    connection,
                    strict,
                    after: 0,
                    seen,
                }));
                harvest.told += usize::from(is_answered);
                taken += answer.length;
            }
            open.unread.drain(..taken);
        }
        Ok(open)
    }
}

/// One of these keys; half of the time of the first quarter.
pub(super) fn draw_key(random: &mut Random, keys: &[usize]) -> usize {
    let among = if random.percent(50) { keys.len().div_ceil(4) } else { keys.len() };
    keys[random.below(among)]
}

impl Answer<'_> {
    /// The first answer, if it is whole. The program's own spelling is taken for granted here: other tests check it.
    fn parse(bytes: &[u8]) -> Option<Answer<'_>> {
        let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..head]).expect("a head of text");
        let status = text.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
        let (_, rest) = text.split_once("\r\nContent-Length: ").expect("a Content-Length");
        let body: usize = rest.split("\r\n").next().and_then(|body| body.parse().ok()).expect("a length");
        let length = head + body;
        let is_hit = memmem::find(&bytes[..head], b"\r\nCache-Status: redis-proxy; hit").is_some();
        let is_proven = is_hit && memmem::find(&bytes[..head], b"not-in-force").is_none();
        Some(Answer { status, is_hit, is_proven, body: bytes.get(head..length)?, length })
    }
}
