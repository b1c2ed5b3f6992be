//! A writer's way to Redis, behind the program's back: to one server, or to whichever node of a cluster has the key.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::PATIENCE;
use crate::workload::primary::{First, Primary, PrimaryState};
use crate::{ClusterClient, RedisClient, Reply};

/// Before a server that does not answer is tried again.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) enum Direct<'a> {
    One(RedisClient),
    Cluster(ClusterClient<'a>),
}

impl<'a> Direct<'a> {
    /// To a server that may be about to start again. A client of a cluster connects when it is used.
    pub(super) fn connect(primary: &'a Primary, state: &PrimaryState, db: u32) -> Option<Direct<'a>> {
        let socket = match (&state.first, primary.cluster()) {
            (First::Node(place), Some(cluster)) => return Some(Direct::Cluster(cluster.client_at(*place))),
            (First::Node(_), None) => unreachable!("nodes are a cluster's"),
            (First::Socket(socket), _) => socket,
        };
        let select = ["SELECT".to_owned(), db.to_string()];
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let connected = RedisClient::try_connect_unix(socket).and_then(|mut redis| {
                let reply = redis.try_command(&select)?;
                Ok((redis, reply))
            });
            match connected {
                Ok((redis, Reply::Simple(_))) => return Some(Direct::One(redis)),
                _ => thread::sleep(PAUSE),
            }
        }
        None
    }

    pub(super) fn try_command<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<Reply> {
        match self {
            Direct::One(redis) => redis.try_command(command),
            Direct::Cluster(cluster) => cluster.try_command(command),
        }
    }

    /// Whether the server has made some turns of its loop; in a cluster whoever has this key, which may take until another has it.
    pub(super) fn has_turned(&mut self, key: &str) -> bool {
        let Direct::Cluster(cluster) = self else {
            return (0..3).all(|_| matches!(self.try_command(&["PING"]), Ok(Reply::Simple(_))));
        };
        let deadline = Instant::now() + PATIENCE;
        let mut turns = 0;
        while turns < 3 && Instant::now() < deadline {
            match cluster.try_command(&["EXISTS", key]) {
                Ok(Reply::Integer(_)) => turns += 1,
                _ => {
                    turns = 0;
                    thread::sleep(PAUSE);
                }
            }
        }
        turns == 3
    }
}
