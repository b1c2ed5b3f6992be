//! What is hot, and why it misses.

use serde::Serialize;

use super::text::text_of;
use crate::admin::Watched;
use crate::readthrough::{HotLists, IsBusy};

/// One access in this many is looked at.
pub(super) const ONE_IN: u64 = insight::READS_ONE_IN as u64;
/// Rates are of so many seconds.
pub(super) const WINDOW_S: u64 = insight::WINDOW.as_secs();

/// The three lists, the hottest first.
#[derive(Serialize)]
pub(super) struct ListsReport {
    hot_keys: Vec<KeyLine>,
    hot_misses: Vec<MissLine>,
    prefixes: Vec<PrefixLine>,
}

#[derive(Serialize)]
struct KeyLine {
    key: String,
    /// Whether the key is longer than what is told of it.
    cut: bool,
    partition: u8,
    reads_per_s: f64,
    error_per_s: f64,
    share: f64,
    hit_ratio: f64,
    bytes: Option<u64>,
    left_ms: Option<u64>,
}

#[derive(Serialize)]
struct MissLine {
    key: String,
    cut: bool,
    /// None of readers that nothing is cached for.
    partition: Option<u8>,
    reason: &'static str,
    misses_per_s: f64,
    error_per_s: f64,
}

#[derive(Serialize)]
struct PrefixLine {
    prefix: String,
    reads_per_s: f64,
    error_per_s: f64,
    hit_ratio: f64,
    bytes: u64,
    invalidations_per_s: f64,
}

/// `/big-keys.json`.
#[derive(Serialize)]
struct BigKeysReport {
    scanned: usize,
    complete: bool,
    big_keys: Vec<BigKeyLine>,
}

#[derive(Serialize)]
struct BigKeyLine {
    key: String,
    cut: bool,
    partition: u8,
    bytes: u64,
}

impl ListsReport {
    /// At most `count` lines each.
    pub(super) fn of(watched: &Watched, count: usize) -> Self {
        let lists = lists_of(watched);
        let hot_keys = lists.keys(count).into_iter().map(|held| KeyLine {
            key: text_of(&held.hot.key),
            cut: held.hot.is_cut,
            partition: held.hot.partition,
            reads_per_s: held.hot.reads_per_s,
            error_per_s: held.hot.error_per_s,
            share: held.hot.share,
            hit_ratio: held.hot.hit_ratio,
            bytes: held.bytes,
            left_ms: held.left_ms,
        });
        let hot_misses = lists.misses(count).into_iter().map(|hot| MissLine {
            key: text_of(&hot.key),
            cut: hot.is_cut,
            partition: hot.partition,
            reason: hot.reason.name(),
            misses_per_s: hot.misses_per_s,
            error_per_s: hot.error_per_s,
        });
        let prefixes = lists.prefixes(count).into_iter().map(|held| PrefixLine {
            prefix: text_of(&held.hot.prefix),
            reads_per_s: held.hot.reads_per_s,
            error_per_s: held.hot.error_per_s,
            hit_ratio: held.hot.hit_ratio,
            bytes: held.bytes,
            invalidations_per_s: held.hot.invalidations_per_s,
        });
        ListsReport {
            hot_keys: hot_keys.collect(),
            hot_misses: hot_misses.collect(),
            prefixes: prefixes.collect(),
        }
    }
}

fn lists_of(watched: &Watched) -> HotLists {
    HotLists::new(&watched.store, watched.partitions.samples())
}

/// `/big-keys.json`, with at most `count` keys.
///
/// # Errors
///
/// Another search goes on.
pub(in crate::admin) async fn big_keys(watched: &Watched, count: usize) -> Result<String, IsBusy> {
    let found = lists_of(watched).big_keys(count).await?;
    let lines = found.found.into_iter().map(|big| BigKeyLine {
        key: text_of(&big.key),
        cut: big.is_cut,
        partition: big.partition,
        bytes: big.bytes,
    });
    let report =
        BigKeysReport { scanned: found.scanned, complete: found.is_complete, big_keys: lines.collect() };
    Ok(serde_json::to_string(&report).unwrap_or_default())
}
