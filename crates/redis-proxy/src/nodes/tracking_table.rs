//! Redis' tracking table: the keys that it remembers for those who are told of changes, against their limit.
//!
//! A full table is no error: Redis forgets keys, and says of them that they have changed (tracking.c, `trackingLimitUsedSlots`). So
//! what is read here is fetched anew and nothing says why. Asked on a connection of its own, once a minute.

use std::sync::Mutex;
use std::time::Duration;

use resp::Frame;
use tokio::time::sleep;
use tracing::{info, warn};
use upstream::{Conversation, Endpoint, Expected};

use super::reading::{fields, info as info_of};

/// From the start to the first look, and from one to the next.
const FIRST: Duration = Duration::from_secs(5);
const PERIOD: Duration = Duration::from_secs(60);
/// A table is nearly full with so many of a hundred keys, and no more with so many.
const NEARLY_FULL: u64 = 90;
const RELAXED: u64 = 80;

/// What was seen last.
#[derive(Default)]
pub(crate) struct TrackingTable {
    fill: Mutex<Option<TableFill>>,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableFill {
    /// Keys that Redis remembers for all who track.
    pub(crate) keys: u64,
    /// The most of them; 0 is without a limit. None where the proxy's user may not ask (`CONFIG GET`).
    pub(crate) limit: Option<u64>,
}

impl TableFill {
    /// Of a hundred keys that fit, those that are there.
    fn percent(self) -> u64 {
        match self.limit {
            None | Some(0) => 0,
            Some(limit) => self.keys.saturating_mul(100) / limit,
        }
    }
}

impl TrackingTable {
    /// The fullest of the tables, as of the last look; none before, or where Redis says nothing of it.
    pub(crate) fn fill(&self) -> Option<TableFill> {
        *self.fill.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Looks at the tables of the primary, or of a cluster's primaries, until the proxy's user may not.
    pub(super) async fn watch(&self, redis: Endpoint) {
        let (mut may_ask_limit, mut was_full) = (true, false);
        sleep(FIRST).await;
        loop {
            let mut fullest = None;
            for endpoint in primaries(&redis) {
                match look(&endpoint, &mut may_ask_limit).await {
                    Ok(fill) => fullest = fullest.into_iter().chain(fill).max_by_key(|fill| fill.percent()),
                    // Redis keeps a log of what a user may not.
                    Err(Denied) => return,
                }
            }
            *self.fill.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = fullest;
            was_full = fullest.is_some_and(|fill| tell(fill, was_full));
            sleep(PERIOD).await;
        }
    }
}

/// The proxy's user may not ask for INFO.
struct Denied;

fn primaries(redis: &Endpoint) -> Vec<Endpoint> {
    match &redis.cluster {
        Some(cluster) => cluster.primaries().into_iter().map(|(id, _)| redis.at(id)).collect(),
        None => vec![redis.clone()],
    }
}

/// What one Redis says; nothing while it is away, or tracks nothing that it tells of.
async fn look(endpoint: &Endpoint, may_ask_limit: &mut bool) -> Result<Option<TableFill>, Denied> {
    let Ok(mut redis) = Conversation::open(endpoint, Expected::Redis).await else { return Ok(None) };
    let stats: &[&[u8]] = &[b"INFO", b"stats"];
    let limit: &[&[u8]] = &[b"CONFIG", b"GET", b"tracking-table-max-keys"];
    let asked = if *may_ask_limit { vec![stats, limit] } else { vec![stats] };
    let Ok(answers) = redis.ask(&asked).await else { return Ok(None) };
    if matches!(answers.first(), Some(Frame::Error(_))) {
        return Err(Denied);
    }
    let limit = answers.get(1).and_then(|answer| fields(answer).get("tracking-table-max-keys")?.parse().ok());
    *may_ask_limit = limit.is_some();
    let stats = answers.first().and_then(info_of);
    let keys = stats.and_then(|stats| stats.get("tracking_total_keys")?.parse().ok());
    Ok(keys.map(|keys| TableFill { keys, limit }))
}

/// One line when it is nearly full, and one when it is no more. Whether it is.
fn tell(fill: TableFill, was_full: bool) -> bool {
    let TableFill { keys, limit } = fill;
    let is_full = fill.percent() >= if was_full { RELAXED } else { NEARLY_FULL };
    if is_full && !was_full {
        warn!(
            keys,
            limit,
            "redis' tracking table is nearly full: once it is, keys that are held here are called changed though they are not. Raise \
             its tracking-table-max-keys"
        );
    } else if was_full && !is_full {
        info!(keys, limit, "redis' tracking table has room again");
    }
    is_full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_told_of_when_it_is_nearly_full_and_not_each_minute() {
        let is_full = |keys, limit, was_full| tell(TableFill { keys, limit }, was_full);
        for (keys, limit, was_full, expected) in [
            (899_999, Some(1_000_000), false, false),
            (900_000, Some(1_000_000), false, true),
            (850_000, Some(1_000_000), true, true),
            (799_999, Some(1_000_000), true, false),
            (u64::MAX, Some(0), false, false),
            (u64::MAX, None, false, false),
        ] {
            assert_eq!(is_full(keys, limit, was_full), expected, "{keys} of {limit:?}");
        }
    }
}
