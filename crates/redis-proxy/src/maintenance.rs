//! The background work of the cache: sweeping out the dead, and holding the byte budget against the resident size.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::budget::{Budget, resident_bytes};
use crate::clock::now_ns;
use crate::live::LiveReader;
use crate::readthrough::take_out;
use crate::store::Store;
use crate::worker::{Worker, clients};

const PERIOD: Duration = Duration::from_millis(100);
/// Steps of one period must take the sweep through the whole cache within 10 s; 8 s leaves room for delays.
const PERIODS_A_ROUND: usize = 80;
/// Slots looked at under one lock.
/// Steps for what was purged in a period, at least: shards are small.
const PURGE_STEPS_LEAST: usize = 1_024;
const SLOTS_A_STEP: usize = 64;
/// What an open connection is allowed to cost beside the cache.
const CONNECTION_BYTES: u64 = 12 * 1024;

/// Runs for ever.
pub(crate) async fn maintain(
    store: Store,
    workers: Arc<[Worker]>,
    budget: Option<Arc<Budget>>,
    mut live: LiveReader,
) {
    let mut limits = limits_of(&mut live);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let resident_at_ready = budget.as_ref().and_then(|_| resident_bytes()).unwrap_or(0);
    loop {
        ticks.tick().await;
        let now = limits_of(&mut live);
        if now != limits {
            limits = now;
            if let (Some(budget), Some(bytes)) = (&budget, limits.1) {
                budget.set_bytes(bytes);
            }
            store.resize(limits.0, limits.1);
        }
        if let Some(budget) = &budget {
            budget.set_baseline(resident_at_ready + clients(&workers) as u64 * CONNECTION_BYTES);
            budget.look();
            store.fail_overdue(now_ns());
        }
        let mut left = store.slots() / PERIODS_A_ROUND + SLOTS_A_STEP;
        while left > 0 {
            store.maintain(now_ns(), SLOTS_A_STEP);
            left = left.saturating_sub(SLOTS_A_STEP);
            // The acceptor lives on this thread too.
            yield_now().await;
        }
        // Lookups go by purged prefixes until this is done, so it is at once: two rounds, as more may be purged meanwhile for ever.
        let mut steps = 2 * (store.slots() / SLOTS_A_STEP) + PURGE_STEPS_LEAST;
        while steps > 0 && take_out(&store, SLOTS_A_STEP) {
            steps -= 1;
            yield_now().await;
        }
    }
}

/// CAPACITY and CAPACITY_BYTES of this moment.
fn limits_of(live: &mut LiveReader) -> (usize, Option<u64>) {
    let live = live.now();
    (live.capacity, live.capacity_bytes)
}
