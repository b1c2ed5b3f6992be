//! The ways of one worker to what each reader may see. A way lasts as long as a client has it, and RESP_LANE_IDLE longer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use upstream::Proven;

use super::partitions::{AuthArguments, PartitionKey, PartitionTable, password_of};
use super::{HotLists, ReadThrough};

/// The ways of one worker to what each reader may see.
pub(crate) struct Readers {
    partitions: Arc<PartitionTable>,
    /// That of the HTTP front.
    own: Rc<ReadThrough>,
    /// The same as Redis clients have it, where they share what that front holds.
    shared: Rc<ReadThrough>,
    /// Those of a partition, of which there are 64 at most.
    known: RefCell<HashMap<PartitionKey, Known>>,
}

/// A reader that this worker has met.
struct Known {
    way: Rc<ReadThrough>,
    proven: Arc<Proven>,
    /// Since when no client has had the way.
    unused_since_ns: Option<u64>,
}

impl Readers {
    /// Those of the worker whose HTTP front has the way `own`.
    pub(crate) fn new(partitions: Arc<PartitionTable>, own: ReadThrough) -> Self {
        let shared = Rc::new(ReadThrough { strict: partitions.reads.strict, ..own.clone() });
        Readers { partitions, own: Rc::new(own), shared, known: RefCell::default() }
    }

    /// The way of whoever has logged in so at `proven_ns`; none if nothing is cached for that reader. It is the caller's for
    /// as long as it is held.
    pub(crate) fn of(&self, login: AuthArguments<'_>, proven_ns: u64, db: u32) -> Option<Rc<ReadThrough>> {
        let reader = PartitionKey::of_login(login, db)?;
        let password = password_of(login)?;
        let own = self.partitions.own();
        let reader = PartitionKey {
            user: mutant::held_for(reader.user, &own.user),
            db: mutant::held_of(reader.db, own.db),
        };
        let reads = &self.partitions.reads;
        if reads.shared && reader == *own {
            return Some(self.shared.clone());
        }
        if let Some(known) = self.known.borrow_mut().get_mut(&reader) {
            known.proven.add(password, proven_ns);
            known.unused_since_ns = None;
            return Some(known.way.clone());
        }
        let found = self.partitions.way_of(&reader, password, proven_ns, &self.own.stats)?;
        let way = Rc::new(ReadThrough {
            partition: found.partition,
            way: found.way,
            strict: reads.strict,
            _hold: Some(found.hold),
            ..(*self.own).clone()
        });
        let known = Known { way: way.clone(), proven: found.proven, unused_since_ns: None };
        self.known.borrow_mut().insert(reader, known);
        Some(way)
    }

    /// As [`ReadThrough::is_crowded`].
    pub(crate) fn is_crowded(&self) -> bool {
        self.own.is_crowded()
    }

    /// As [`ReadThrough::released`].
    pub(crate) fn released(&self) {
        self.own.released();
    }

    /// Whether links are for Redis clients alone, and so are to end with their last read.
    pub(crate) fn links_follow_reads(&self) -> bool {
        let reads = &self.partitions.reads;
        reads.linked.is_some() && !reads.shared
    }

    /// Whether there is anything that Redis clients could have brought.
    pub(crate) fn is_asked(&self) -> bool {
        !self.links_follow_reads() || !self.partitions.links().is_empty()
    }

    /// A client has not read by this way since then.
    pub(crate) fn given_back(&self, way: &Rc<ReadThrough>, since_ns: u64) {
        let mut known = self.known.borrow_mut();
        if let Some(known) = known.values_mut().find(|known| Rc::ptr_eq(&known.way, way)) {
            known.unused_since_ns = known.unused_since_ns.max(Some(since_ns));
        }
    }

    /// Ready when it is time to [let go](Self::let_go). The workers have no timer for it: one that runs costs each turn of a
    /// worker a look at it (tokio's `next_expiration`, 300 instructions).
    pub(crate) async fn beat(&self) {
        self.partitions.beat.notified().await;
    }

    /// Gives back the ways that no client has had for `idle_ns`.
    pub(crate) fn let_go(&self, now_ns: u64, idle_ns: u64) {
        self.known.borrow_mut().retain(|_, known| {
            if Rc::strong_count(&known.way) > 1 {
                known.unused_since_ns = None;
                return true;
            }
            let since_ns = *known.unused_since_ns.get_or_insert(now_ns);
            now_ns.saturating_sub(since_ns) < idle_ns
        });
    }

    /// What is hot of what a reader may see.
    pub(crate) fn hot_lists(&self, reader: &ReadThrough) -> HotLists {
        HotLists::of(reader, self.partitions.samples())
    }

    /// What the cache counts, by names for INFO.
    pub(crate) fn report(&self, now_ns: u64) -> Vec<(&'static str, u64)> {
        let stats = self.own.store.stats(now_ns);
        let mut report = vec![
            ("proxy_cache_keys", stats.entries),
            ("proxy_cache_capacity", stats.capacity),
            ("proxy_cache_other_replies", stats.others),
            ("proxy_cache_bytes", stats.accounted_bytes),
            ("proxy_cache_hits", stats.hits),
            ("proxy_cache_misses", stats.misses),
            ("proxy_cache_collapsed", stats.collapsed),
            ("proxy_cache_unproven", stats.unproven),
            ("proxy_cache_evictions", stats.evictions),
            ("proxy_cache_expiries", stats.expiries),
            ("proxy_cache_invalidations", stats.invalidations),
            ("proxy_cache_flushes", stats.flushes),
            ("proxy_cache_partitions", self.partitions.len() as u64),
        ];
        let mut links = self.partitions.links();
        links.extend_from_slice(&self.own.links().now());
        if !links.is_empty() {
            let in_force = links.iter().all(|link| link.holds(now_ns).is_ok());
            let age_ns = links.iter().map(|link| link.sync_age_ns(now_ns)).max().unwrap_or(0);
            report.push(("proxy_coherence_in_force", u64::from(in_force)));
            report.push(("proxy_coherence_proven_ms_ago", age_ns / 1_000_000));
            let violations = links.iter().map(|link| link.counts.violations.load(Ordering::Relaxed)).sum();
            report.push(("proxy_coherence_violations", violations));
        }
        report
    }

    /// What Redis clients are promised and whether it is kept, as for an operator.
    pub(crate) fn standing(&self, now_ns: u64) -> Option<String> {
        self.partitions.standing(&self.own.links(), now_ns)
    }

    /// Whether a connection's reads of a key are to be in the order of its writes.
    pub(crate) fn keeps_order(&self) -> bool {
        self.partitions.reads.linked.is_some()
    }

    /// The way of the HTTP front, to what concerns the whole cache.
    pub(crate) fn own(&self) -> &Rc<ReadThrough> {
        &self.own
    }
}
