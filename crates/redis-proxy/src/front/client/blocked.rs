//! A client that does not take what is written to it, as opposed to one that takes it slowly.
//!
//! The kernel holds megabytes for a slow client and says that there is room only once a third of them is gone: at
//! 10 kB/s that takes minutes. So what counts as progress is not what the kernel takes but what the client's end has
//! acknowledged.

use super::stream::Stream;
use crate::clock::now_ns;

/// The first look at a client is taken so soon; a quick one has moved on by then and costs none.
const FIRST_LOOK_NS: u64 = 100_000_000;
/// Between two looks, at most: others may come to want what it holds.
const LOOK_MOST_NS: u64 = 1_000_000_000;
/// How long a client may take nothing while others want the memory that it holds.
const CROWDED_NS: u64 = 500_000_000;
/// Looks in the time that a client may take nothing.
const LOOKS: u64 = 4;

/// Since when a client takes nothing; none while it is not being written to, or takes all.
#[derive(Debug, Default)]
pub(super) struct Blocked(Option<Box<Wait>>);

#[derive(Debug)]
struct Wait {
    /// When it last took something.
    since_ns: u64,
    /// When it is looked at next.
    look_ns: u64,
    /// What it had left to take at the last look.
    unacked: Option<u32>,
}

impl Blocked {
    /// The kernel takes no more; `moved` if it has just taken some.
    #[cold]
    pub(super) fn stopped(&mut self, moved: bool, timeout_ns: u64) {
        if moved || self.0.is_none() {
            let since_ns = now_ns();
            let look_ns = since_ns.saturating_add(FIRST_LOOK_NS.min(timeout_ns / LOOKS));
            self.0 = Some(Box::new(Wait { since_ns, look_ns, unacked: None }));
        }
    }

    /// All is with the kernel. Whether it had stopped before.
    pub(super) fn ended(&mut self) -> bool {
        self.0.take().is_some()
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// When to ask [`is_stuck`](Self::is_stuck), if it is blocked.
    pub(super) fn look_ns(&self) -> Option<u64> {
        self.0.as_ref().map(|wait| wait.look_ns)
    }

    /// Whether the client has taken nothing for `timeout_ns`. Where the kernel cannot tell, what it takes is all that
    /// counts.
    ///
    /// With `crowded` it is not waited for so long: what it holds is wanted by others.
    #[cold]
    pub(super) fn is_stuck(&mut self, stream: &Stream, timeout_ns: u64, crowded: bool) -> bool {
        let Some(wait) = &mut self.0 else { return false };
        let now_ns = now_ns();
        let unacked = stream.unacknowledged().ok();
        if let (Some(now), Some(before)) = (unacked, wait.unacked)
            && now < before
        {
            wait.since_ns = now_ns;
        }
        wait.unacked = unacked;
        let timeout_ns = if crowded { timeout_ns.min(CROWDED_NS) } else { timeout_ns };
        let end_ns = wait.since_ns.saturating_add(timeout_ns);
        wait.look_ns = end_ns.min(now_ns.saturating_add((timeout_ns / LOOKS).clamp(1, LOOK_MOST_NS)));
        now_ns >= end_ns
    }
}
