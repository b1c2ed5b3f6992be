//! A client of the whole cluster: what a test says to Redis itself, wherever the key is.

use std::collections::HashMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::{Cluster, PATIENCE};
use crate::{RedisClient, Reply};

/// A command that is sent on more often goes round in circles.
const MOST_REDIRECTS: usize = 16;
/// Before a node that takes no commands is asked once more.
const PAUSE: Duration = Duration::from_millis(5);

/// One client, RESP2, with a connection to each node that it has needed. It follows `MOVED` and `ASK`.
pub struct ClusterClient<'a> {
    cluster: &'a Cluster,
    /// By the place of the node.
    connections: Vec<Option<RedisClient>>,
    /// Where each key was last.
    places: HashMap<Vec<u8>, usize>,
    /// Who is asked of any other key.
    first: usize,
}

impl<'a> ClusterClient<'a> {
    pub(super) fn new(cluster: &'a Cluster, first: usize) -> ClusterClient<'a> {
        let connections = cluster.nodes.iter().map(|_| None).collect();
        ClusterClient { cluster, connections, places: HashMap::new(), first }
    }

    /// Sends a command where its key is and reads its reply; an error reply is a [`Reply::Error`]. While nodes say that they cannot
    /// take it (`CLUSTERDOWN`, `TRYAGAIN`), it is sent again.
    ///
    /// # Panics
    /// When a connection is lost, or nobody takes it in a minute.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Reply {
        let start = Instant::now();
        loop {
            match self.try_command(arguments) {
                Ok(Reply::Error(text)) if is_passing(&text) && start.elapsed() < PATIENCE => {
                    thread::sleep(PAUSE);
                }
                Ok(reply) => return reply,
                Err(error) => panic!("no reply from the cluster: {error}"),
            }
        }
    }

    /// As [`command`](Self::command), once: for nodes that may be dead.
    ///
    /// # Errors
    /// When no node could be connected to, or a connection was lost: then the command may have been carried out.
    pub fn try_command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> io::Result<Reply> {
        let key = key_of(arguments);
        let mut place = self.places.get(&key).copied().unwrap_or(self.first);
        let mut is_asking = false;
        let mut last = Err(io::Error::other("redirected in circles"));
        for _ in 0..MOST_REDIRECTS {
            let sent = match self.connection(place) {
                Ok(connection) => exchange(connection, is_asking, arguments),
                // Another may know who has the key by now.
                Err(error) => {
                    (place, is_asking, last) = ((place + 1) % self.connections.len(), false, Err(error));
                    continue;
                }
            };
            let reply = sent.inspect_err(|_| self.connections[place] = None)?;
            match self.redirect(&reply) {
                Some((to, asks)) => (place, is_asking, last) = (to, asks, Ok(reply)),
                None => {
                    if !is_asking {
                        self.places.insert(key, place);
                    }
                    return Ok(reply);
                }
            }
        }
        last
    }

    fn connection(&mut self, place: usize) -> io::Result<&mut RedisClient> {
        if self.connections[place].is_none() {
            self.connections[place] = Some(self.cluster.nodes[place].try_client()?);
        }
        Ok(self.connections[place].as_mut().expect("it was put there"))
    }

    /// The node that a reply sends its command on to, and whether that must be asked.
    fn redirect(&self, reply: &Reply) -> Option<(usize, bool)> {
        let Reply::Error(text) = reply else { return None };
        let mut words = text.split(' ');
        let asks = match words.next() {
            Some("ASK") => true,
            Some("MOVED") => false,
            _ => return None,
        };
        let port = words.nth(1)?.rsplit(':').next()?.parse().ok()?;
        let place = self.cluster.nodes.iter().position(|node| super::is_at(node, port))?;
        Some((place, asks))
    }
}

/// The first key of a command, or what stands in its place where it has none. A script's would be no key's place: another key of the same script
/// would be asked of whoever had the last, and an owner that does not know yet that it is an old one would execute it.
fn key_of<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let is_script = arguments[0].as_ref().starts_with(b"EVAL");
    arguments.get(if is_script { 3 } else { 1 }).map(|key| key.as_ref().to_vec()).unwrap_or_default()
}

/// Whether the same may be taken a moment later.
fn is_passing(error: &str) -> bool {
    ["CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"].iter().any(|code| error.starts_with(code))
}

fn exchange<A: AsRef<[u8]>>(
    connection: &mut RedisClient,
    is_asking: bool,
    arguments: &[A],
) -> io::Result<Reply> {
    if is_asking {
        connection.try_command(&["ASKING"])?;
    }
    connection.try_command(arguments)
}
