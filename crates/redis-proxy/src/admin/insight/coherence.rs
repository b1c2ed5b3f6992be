//! What the modes promise, and whether it is kept.

use serde::Serialize;

use crate::admin::Watched;

/// The promise of the HTTP front; that of Redis clients where only they have one.
#[derive(Serialize)]
pub(super) struct CoherenceReport {
    mode: &'static str,
    in_force: bool,
    why_not: Option<String>,
    /// How long it has been as it is.
    since_s: u64,
}

impl CoherenceReport {
    pub(super) fn of(watched: &Watched, now_ns: u64, since_ns: u64) -> Self {
        let why_not = holds(watched, now_ns).err();
        let mode = watched.links.mode().or_else(|| watched.partitions.mode());
        CoherenceReport {
            mode: mode.unwrap_or("ttl"),
            in_force: why_not.is_none(),
            why_not,
            since_s: now_ns.saturating_sub(since_ns) / 1_000_000_000,
        }
    }
}

/// Whether every link of both fronts holds, or why not. In mode `ttl` there is none, and nothing that could fail.
///
/// # Errors
/// What the first link says that does not, for an operator.
pub(super) fn holds(watched: &Watched, now_ns: u64) -> Result<(), String> {
    watched.all_links().iter().try_for_each(|link| link.holds(now_ns))
}
