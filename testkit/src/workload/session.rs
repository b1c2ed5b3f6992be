//! A Redis client's connection to the program: what it sends in one pipeline, and what it reads of it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::history::{ReadRecord, SeenValue};
use crate::workload::ask::Ask;
use crate::workload::harvest::Harvest;
use crate::{RedisClient, Reply, now_ns};

/// How long a reply may take: longer than the program waits for Redis.
pub(super) const SESSION_PATIENCE: Duration = Duration::from_secs(15);

/// One connection, in one database and in either protocol.
pub(super) struct WriterSession {
    redis: RedisClient,
    number: u32,
    /// How many writes of a key there were with the last that was made here.
    written: HashMap<usize, usize>,
}

impl WriterSession {
    /// # Errors
    /// The program cannot be reached, or refuses: it has no Redis at the moment.
    pub(super) fn open(
        address: SocketAddr,
        connections: &AtomicU32,
        db: u32,
        is_resp3: bool,
        patience: Duration,
    ) -> io::Result<WriterSession> {
        let mut redis = RedisClient::try_connect(address, patience)?;
        let (hello, select) = (["HELLO", "3"], ["SELECT".to_owned(), db.to_string()]);
        let replies = [
            is_resp3.then(|| redis.try_command(&hello)).transpose()?,
            (db > 0).then(|| redis.try_command(&select)).transpose()?,
        ];
        if let Some(Reply::Error(text)) =
            replies.into_iter().flatten().find(|reply| matches!(reply, Reply::Error(_)))
        {
            return Err(io::Error::other(text));
        }
        let number = connections.fetch_add(1, Ordering::Relaxed);
        Ok(WriterSession { redis, number, written: HashMap::new() })
    }

    pub(super) fn send(&mut self, commands: &[u8]) -> io::Result<()> {
        self.redis.try_send(commands)
    }

    pub(super) fn reply(&mut self) -> io::Result<Reply> {
        self.redis.try_read()
    }

    /// This connection has made the write of the key with this number.
    pub(super) fn has_written(&mut self, key: usize, number: usize) {
        self.written.insert(key, number);
    }

    /// Notes a read that was sent at `start`, and its reply at hand. A number of `future`, which is still to be written,
    /// is no value.
    pub(super) fn note(
        &self,
        harvest: &mut Harvest,
        ask: &Ask,
        reply: &Reply,
        start: u64,
        future: &[(usize, Option<u64>)],
    ) {
        let end = now_ns();
        let shown = match ask.seen(reply) {
            Ok(shown) => shown,
            Err(code) => return harvest.refuse(code, start..end),
        };
        for (key, seen) in shown {
            let is_future = |&(other, number): &(usize, Option<u64>)| {
                other == key && number.is_some_and(|number| seen == SeenValue::Number(number))
            };
            let seen = if future.iter().any(is_future) { SeenValue::Foreign } else { seen };
            let after = self.written.get(&key).copied().unwrap_or(0);
            let (key, connection) = (u32::try_from(key).unwrap_or(u32::MAX), self.number);
            harvest.reads.push(ReadRecord { start, end, key, connection, strict: false, after, seen });
        }
    }
}
