//! Hits that Redis does not see make a hot key look idle to it, and under an LRU or LFU `maxmemory-policy` the keys that
//! look idle are the ones it evicts. So the keys used lately are named to it by TOUCH, which reads nothing.
//!
//! TOUCH tracks what it names, also a missing key: only keys that are held are named.

use std::sync::Arc;
use std::time::Duration;

use cache::{Entry, Lease};
use command::Slot;
use resp::Frame;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::Link;
use super::sink::LinkTicket;
use crate::clock::now_ns;

/// From one round to the next. Redis counts idleness in seconds.
const PERIOD: Duration = Duration::from_secs(10);
/// Rounds from one look at the policy to the next.
const ROUNDS_A_LOOK: u32 = 6;
/// Keys named in one command.
const KEYS_A_COMMAND: usize = 100;
/// Keys of a shard named in one round, the most recently used first.
const KEYS_A_SHARD: usize = 2_000;

/// The rounds of one link.
#[derive(Default)]
pub(super) struct Touch {
    rounds: u32,
    wanted: bool,
    last_ns: u64,
    /// The connection whose user may not do this: it is asked for no more there.
    denied: Option<u64>,
}

impl Touch {
    /// Runs for ever.
    pub(super) async fn run(mut self, link: Arc<Link>) {
        loop {
            sleep(PERIOD).await;
            let connection = link.standing.tracked();
            if !link.is_in_force() || self.denied.is_some() && self.denied == connection {
                continue;
            }
            let mut outcome = Ok(());
            if self.rounds.is_multiple_of(ROUNDS_A_LOOK) {
                outcome = evicts_the_idle(&link).await.map(|wanted| self.wanted = wanted);
            }
            self.rounds += 1;
            if outcome.is_ok() && self.wanted {
                outcome = self.round(&link).await;
            }
            if outcome == Err(Denied) {
                self.denied = connection;
            }
        }
    }

    async fn round(&mut self, link: &Link) -> Result<(), Denied> {
        let (since_ns, now_ns) = (self.last_ns, now_ns());
        self.last_ns = now_ns;
        // What came by another connection, of another user or database, or of this link before it was lost, Redis would
        // track for this one in vain; and the user may have no right to it.
        let lease = link.lease.now();
        let is_of_now = |held: &Arc<Lease>| Arc::ptr_eq(held, &lease) || held.is_under(&lease);
        let is_ours = |entry: &Entry| !entry.is_missing() && entry.lease().is_some_and(is_of_now);
        let mut used = link.store.used_since(since_ns, KEYS_A_SHARD, now_ns, is_ours);
        // A node of a cluster takes keys of one slot in one command.
        let slot = |entry: &Entry| link.placed.as_ref().map(|_| Slot::of(entry.key()));
        used.sort_by_key(slot);
        for some in
            used.chunk_by(|one, other| slot(one) == slot(other)).flat_map(|some| some.chunks(KEYS_A_COMMAND))
        {
            // Once more: what was invalidated meanwhile would be tracked for nothing.
            let held = some.iter().filter(|entry| link.store.still_holds(entry, now_ns));
            let command: Vec<&[u8]> =
                std::iter::once(&b"TOUCH"[..]).chain(held.map(|entry| entry.key())).collect();
            if command.len() > 1 && ask(link, &command).await?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// The link's user may not: what it may not is asked once a connection, for Redis keeps a log of that.
#[derive(Debug, PartialEq, Eq)]
struct Denied;

/// Whether Redis has a memory limit under which idle keys leave first.
async fn evicts_the_idle(link: &Link) -> Result<bool, Denied> {
    let info = match ask(link, &[b"INFO", b"memory"]).await? {
        Some(Frame::Verbatim { text, .. } | Frame::Bulk(text)) => text,
        _ => return Ok(false),
    };
    let info = String::from_utf8_lossy(&info);
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let policy = value("maxmemory_policy:");
    Ok(value("maxmemory:") != "0" && (policy.contains("lru") || policy.contains("lfu")))
}

async fn ask(link: &Link, command: &[&[u8]]) -> Result<Option<Frame>, Denied> {
    let (sender, receiver) = oneshot::channel();
    if link.upstream.send(command, LinkTicket::Told { sender, sent_ns: now_ns() }).is_err() {
        return Ok(None);
    }
    match receiver.await.ok() {
        Some(Frame::Error(text)) if text.starts_with(b"NOPERM") => Err(Denied),
        answer => Ok(answer),
    }
}
