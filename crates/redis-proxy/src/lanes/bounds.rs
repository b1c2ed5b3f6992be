//! What the lanes of all workers share: permits for connections to Redis, and the bytes that slow readers may leave unread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bounds of the process.
#[derive(Clone)]
pub(crate) struct Bounds {
    /// Connections that belong to one client each.
    pub(crate) pins: Arc<Permits>,
    /// Connections that clients share.
    pub(crate) lanes: Arc<Permits>,
    /// Lanes that are open, or that a client is on; no bound but that.
    pub(crate) known_lanes: Arc<Permits>,
    pub(crate) unread: Arc<Unread>,
}

impl Bounds {
    pub(crate) fn new(max_pinned: usize, max_lanes: usize, unread_bytes: usize) -> Self {
        Bounds {
            pins: Permits::new(max_pinned),
            lanes: Permits::new(max_lanes),
            known_lanes: Permits::new(usize::MAX),
            unread: Arc::new(Unread { bytes: AtomicUsize::new(0), max: AtomicUsize::new(unread_bytes) }),
        }
    }

    /// From now on it is these. What is there stays, be it more.
    pub(crate) fn change(&self, max_pinned: usize, max_lanes: usize, unread_bytes: usize) {
        self.pins.max.store(max_pinned, Ordering::Relaxed);
        self.lanes.max.store(max_lanes, Ordering::Relaxed);
        self.unread.max.store(unread_bytes, Ordering::Relaxed);
    }
}

/// Bytes of a request that must be whole although it is large, counted with those that are unread, and given back when dropped.
pub(crate) struct InputRoom {
    bytes: usize,
    unread: Arc<Unread>,
}

impl InputRoom {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        InputRoom { bytes: 0, unread: bounds.unread.clone() }
    }

    /// How many there may be.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there may be so many, which are more.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let may = self.unread.add(bytes.saturating_sub(self.bytes));
        if may {
            self.bytes = bytes;
        }
        may
    }
}

impl Drop for InputRoom {
    fn drop(&mut self) {
        self.unread.remove(self.bytes);
    }
}

/// So many, and no more.
pub(crate) struct Permits {
    taken: AtomicUsize,
    max: AtomicUsize,
}

/// One of them, given back when dropped.
pub(crate) struct Permit(Arc<Permits>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Permits {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Permits { taken: AtomicUsize::new(0), max: AtomicUsize::new(max) })
    }

    /// A permit, if one is free.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Permit> {
        let permit = Permit(self.clone());
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.max.load(Ordering::Relaxed)).then_some(permit)
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Bytes of replies that clients have not read.
pub(crate) struct Unread {
    bytes: AtomicUsize,
    max: AtomicUsize,
}

impl Unread {
    /// Whether `bytes` more fit; they are counted if they do.
    pub(super) fn add(&self, bytes: usize) -> bool {
        let fit = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.max.load(Ordering::Relaxed);
        if !fit {
            self.remove(bytes);
        }
        fit
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many there are.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}
