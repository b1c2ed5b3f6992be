//! One reading Redis client: pipelines of reads of all kinds, in one database and one protocol a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::workload::ask::Ask;
use crate::workload::harvest::Harvest;
use crate::workload::keyspace::Keyspace;
use crate::workload::reader::draw_key;
use crate::workload::session::{SESSION_PATIENCE, WriterSession};
use crate::workload::{Workload, pause};
use crate::{Random, now_ns};

pub(super) struct RespReader<'a> {
    workload: &'a Workload,
    address: SocketAddr,
    connections: &'a AtomicU32,
    random: Random,
    /// Leaves a connection whose answers take longer.
    patience: Duration,
    /// Of the database that the connection is in.
    keys: Vec<usize>,
}

impl<'a> RespReader<'a> {
    pub(super) fn new(
        workload: &'a Workload,
        address: SocketAddr,
        connections: &'a AtomicU32,
        random: Random,
        patience: Duration,
    ) -> RespReader<'a> {
        RespReader { workload, address, connections, random, patience, keys: Vec::new() }
    }

    /// Reads until it is told to stop.
    pub(super) fn run(mut self, stop: &AtomicBool) -> Harvest {
        let mut harvest = Harvest::default();
        let mut session = None;
        while !stop.load(Ordering::Relaxed) {
            let open = session.take().map_or_else(|| self.open(), Ok);
            match open.and_then(|open| self.exchange(open, &mut harvest)) {
                // Now and then another database and protocol.
                Ok(open) => session = Some(open).filter(|_| !self.random.percent(1)),
                Err(error) => {
                    let gave_up = error.kind() == io::ErrorKind::WouldBlock;
                    assert!(
                        !gave_up || self.patience < SESSION_PATIENCE,
                        "no reply within {SESSION_PATIENCE:?}"
                    );
                    harvest.given_up += usize::from(gave_up);
                    harvest.closed += usize::from(!gave_up);
                    thread::sleep(Duration::from_millis(1));
                }
            }
            pause(&mut self.random, self.workload.read_pause);
        }
        harvest
    }

    fn open(&mut self) -> io::Result<WriterSession> {
        let keyspace = Keyspace::of(self.workload);
        let db = u32::from(self.random.percent(30));
        // There may be none in database 1.
        let (db, keys) = match keyspace.keys_in(db, true) {
            keys if keys.is_empty() => (0, keyspace.keys_in(0, true)),
            keys => (db, keys),
        };
        self.keys = keys;
        WriterSession::open(self.address, self.connections, db, self.random.percent(50), self.patience)
    }

    /// Some reads at once.
    fn exchange(&mut self, mut session: WriterSession, harvest: &mut Harvest) -> io::Result<WriterSession> {
        let keyspace = Keyspace::of(self.workload);
        let mut commands = Vec::new();
        let asks: Vec<Ask> = (0..self.random.between(1, self.workload.depth))
            .map(|_| {
                let key = draw_key(&mut self.random, &self.keys);
                Ask::draw(self.workload, &mut self.random, key, &self.keys)
            })
            .inspect(|ask| ask.encode(keyspace, &mut commands))
            .collect();
        let start = now_ns();
        session.send(&commands)?;
        for ask in &asks {
            let reply = session.reply()?;
            session.note(harvest, ask, &reply, start, &[]);
        }
        Ok(session)
    }
}
