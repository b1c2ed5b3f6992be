//! The background work of the cache: sweeping out the dead, and holding the byte budget against the resident size.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::now_ns;
use crate::readthrough::Store;
use crate::worker::{Worker, clients};

const PERIOD: Duration = Duration::from_millis(100);
/// Steps of one period must take the sweep through the whole cache within 10 s; 8 s leaves room for delays.
const PERIODS_A_ROUND: usize = 80;
/// Slots looked at under one lock.
const SLOTS_A_STEP: usize = 64;
/// What an open connection is allowed to cost beside the cache.
const CONNECTION_BYTES: u64 = 12 * 1024;

/// Runs for ever. With a byte budget, `resident_at_ready` is the resident size before the first client.
pub(crate) async fn maintain(store: Store, workers: Arc<[Worker]>, resident_at_ready: Option<u64>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let budgeted = || Some((resident_at_ready?, resident_bytes()?));
    loop {
        ticks.tick().await;
        if let Some((at_ready, resident)) = budgeted() {
            let connections = clients(&workers) as u64 * CONNECTION_BYTES;
            store.observe_resident(resident, at_ready + connections);
        }
        let mut left = store.slots() / PERIODS_A_ROUND + SLOTS_A_STEP;
        while left > 0 {
            store.maintain(now_ns(), SLOTS_A_STEP);
            left = left.saturating_sub(SLOTS_A_STEP);
            // The acceptor lives on this thread too.
            yield_now().await;
        }
    }
}

/// The resident size of this process in bytes (proc(5), statm); `None` where /proc is not mounted.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
