//! Clients that are gone without a word: no longer there to acknowledge what was written to them.
//!
//! The kernel's keepalive finds those to whom nothing is written. To the others it sends again for a quarter of an hour,
//! and TCP_USER_TIMEOUT, which would end that, ends a client as well that is there and does not read (tcp(7); Linux
//! net/ipv4/tcp_timer.c, tcp_probe_timer). Who is gone answers nothing; who does not read answers each probe of its window.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::fstat;
use sync::Mutex;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::front::Speaks;
use crate::live::{ClientTimeouts, LiveReader};
use crate::unacked::{Unanswered, unanswered};

/// Looks in the time that a client may acknowledge nothing.
const LOOKS: u32 = 10;
/// The pause between two looks.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];

/// The clients of all workers, by the inodes of their sockets.
#[derive(Default)]
pub(crate) struct Present {
    // Taken when a client comes and when it goes, and to end one.
    clients: Mutex<HashMap<u32, Client>>,
}

struct Client {
    task: AbortHandle,
    speaks: Speaks,
}

/// How long such a client may acknowledge nothing. One of HTTP may be left alone for as long as it takes nothing.
fn patience(speaks: Speaks, timeouts: &ClientTimeouts) -> Duration {
    Duration::from_nanos(match speaks {
        Speaks::Http => timeouts.unacked_ns.max(timeouts.write_ns),
        Speaks::Resp => timeouts.unacked_ns,
    })
}

/// Which client a socket is; it is present until this is dropped.
pub(crate) struct Presence {
    inode: Option<u32>,
    all: Arc<Present>,
}

impl Present {
    /// Names a client that comes.
    pub(crate) fn name(self: &Arc<Self>, socket: impl AsFd) -> Presence {
        // The kernel's other word for it has 32 bits.
        let inode = fstat(socket).ok().and_then(|stat| u32::try_from(stat.st_ino & u64::from(u32::MAX)).ok());
        Presence { inode, all: self.clone() }
    }

    /// Enters the client that this task serves.
    pub(crate) fn enter(&self, inode: Option<u32>, task: AbortHandle, speaks: Speaks) {
        if let Some(inode) = inode {
            self.clients.lock().insert(inode, Client { task, speaks });
        }
    }

    /// Ends clients of these ports that acknowledge nothing. Never ends, unless the kernel cannot tell who does not.
    pub(crate) async fn watch(self: Arc<Self>, ports: Vec<u16>, mut live: LiveReader) {
        let mut suspects = HashMap::new();
        loop {
            let pause = (patience(Speaks::Resp, &live.now().timeouts) / LOOKS).clamp(PAUSES[0], PAUSES[1]);
            tokio::select! {
                () = sleep(pause) => {}
                _ = live.changed() => continue,
            }
            if self.clients.lock().is_empty() {
                suspects.clear();
                continue;
            }
            let ports = ports.clone();
            let look = move || ports.into_iter().map(unanswered).collect::<Result<Vec<_>, _>>();
            // Of ten thousand clients it takes milliseconds, which the acceptor should not wait.
            match spawn_blocking(look).await {
                Ok(Ok(found)) => {
                    suspects = suspicions(&suspects, found.into_iter().flatten(), Instant::now());
                    self.end(&suspects, live.now().timeouts);
                }
                Ok(Err(error)) => {
                    info!(%error, "the kernel does not tell which clients are gone: it ends them by its own patience");
                    return;
                }
                Err(_) => {}
            }
        }
    }

    fn end(&self, suspects: &HashMap<u32, Suspect>, timeouts: ClientTimeouts) {
        let clients = self.clients.lock();
        for (inode, suspect) in suspects {
            let Some(client) = clients.get(inode) else { continue };
            if suspect.since.elapsed() >= patience(client.speaks, &timeouts) {
                info!(tries = suspect.tries, "a client that acknowledges nothing is taken for gone");
                client.task.abort();
            }
        }
    }
}

impl Presence {
    pub(crate) fn inode(&self) -> Option<u32> {
        self.inode
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(inode) = self.inode {
            self.all.clients.lock().remove(&inode);
        }
    }
}

/// A client that did not answer at the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspect {
    since: Instant,
    tries: u8,
}

/// Who still does not answer, and since when. Fewer tries than before are those since another answer.
fn suspicions(
    before: &HashMap<u32, Suspect>,
    found: impl Iterator<Item = Unanswered>,
    now: Instant,
) -> HashMap<u32, Suspect> {
    let judge = |Unanswered { inode, tries }| {
        let known = before.get(&inode).filter(|suspect| suspect.tries <= tries);
        (inode, Suspect { since: known.map_or(now, |suspect| suspect.since), tries })
    };
    found.map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_suspected_from_its_last_answer_on() {
        let second = |n| Instant::now() + Duration::from_secs(n);
        let (first, later, last) = (second(0), second(1), second(2));
        let found = |tries: u8| [Unanswered { inode: 7, tries }].into_iter();
        let suspects = suspicions(&HashMap::new(), found(1), first);
        let suspects = suspicions(&suspects, found(3), later);
        assert_eq!(suspects[&7], Suspect { since: first, tries: 3 });
        assert_eq!(suspicions(&suspects, found(3), last)[&7].since, first);
        assert_eq!(suspicions(&suspects, found(1), last)[&7].since, last, "it has answered in between");
        assert!(suspicions(&suspects, [].into_iter(), last).is_empty());
    }
}
