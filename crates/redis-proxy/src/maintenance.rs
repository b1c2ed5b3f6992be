//! The background work of the cache: sweeping out the dead, and holding the byte budget against the resident size.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::budget::{Budget, resident_bytes};
use crate::clock::now_ns;
use crate::store::Store;
use crate::worker::{Worker, clients};

const PERIOD: Duration = Duration::from_millis(100);
/// Steps of one period must take the sweep through the whole cache within 10 s; 8 s leaves room for delays.
const PERIODS_A_ROUND: usize = 80;
/// Slots looked at under one lock.
const SLOTS_A_STEP: usize = 64;
/// What an open connection is allowed to cost beside the cache.
const CONNECTION_BYTES: u64 = 12 * 1024;

/// Runs for ever.
pub(crate) async fn maintain(store: Store, workers: Arc<[Worker]>, budget: Option<Arc<Budget>>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let resident_at_ready = budget.as_ref().and_then(|_| resident_bytes()).unwrap_or(0);
    loop {
        ticks.tick().await;
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
    }
}
