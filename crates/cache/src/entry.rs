//! A cached value: one allocation that a hit hands out by reference count, never by copy.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use prefetch_index::prefetch_index;
use triomphe::ThinArc;

use crate::lease::Lease;
use crate::view::{Partition, View};

/// A key with its value, or with the knowledge that it has none, as it was fetched.
///
/// Cloning adds a reference: an entry that a reader holds stays readable after the cache has dropped it.
/// The memory is one allocation of [`ALLOCATION_OVERHEAD`] + key + value bytes.
#[derive(Clone)]
pub struct Entry(ThinArc<Header, u8>);

/// What the caller computes once about a value, at fill, so that no hit has to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// A strong validator of the value's bytes.
    pub etag: [u8; 16],
    /// Whether the value is valid UTF-8.
    pub utf8: bool,
}

/// What lets an answer be kept, and for how long.
#[derive(Clone, Debug)]
pub enum Keep {
    /// Its age alone: it is served until the cache's expiry, whatever happens in Redis.
    ForItsAge,
    /// A tracked connection: it is served while the lease proves it, until the key's own deadline at the latest.
    Leased {
        /// The lease of the connection that it came by.
        lease: Arc<Lease>,
        /// When the key expires in Redis, nanoseconds of the caller's clock; none if it does not.
        deadline_ns: Option<u64>,
    },
    /// Nothing does: it answers those who wait, and an older entry of its key leaves.
    Not,
}

/// Bytes of an entry's allocation beside its key and value: reference count, length, [`Header`].
pub const ALLOCATION_OVERHEAD: usize = 16 + size_of::<Header>();

/// How much of an entry is fetched before it is looked at.
const FETCHED_BYTES: usize = 192;

/// Bytes that a thread keeps for joining the next key and value.
const JOINED_KEPT: usize = 1 << 20;

thread_local! {
    /// Key and value side by side, to be copied into an entry's allocation in one piece. A fresh buffer for each would
    /// leave a hole of a value's size beside every value.
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

const UTF8: u32 = 1 << 31;
/// The key is known to have no value.
const MISSING: u32 = 1 << 30;
/// It answers a question; the question's length stands in place of the ETag.
const REPLY: u32 = 1 << 29;
const PARTITION_SHIFT: u32 = 22;
const PARTITION_MASK: u32 = ((1 << Partition::BITS) - 1) << PARTITION_SHIFT;
const _: () = assert!(PARTITION_SHIFT + Partition::BITS == REPLY.trailing_zeros());
/// The longest key, in bytes.
pub const KEY_LEN_MAX: usize = (1 << PARTITION_SHIFT) - 1;

/// The fixed part in front of the key, the question and the value. Its size is part of the byte budget.
struct Header {
    /// Of a reply its first four bytes are the length of the question.
    etag: [u8; 16],
    sent_ns: u64,
    /// When the key expires in Redis; the end of time if it does not or nobody asked.
    deadline_ns: u64,
    /// None: the age is all the proof there is.
    lease: Option<Arc<Lease>>,
    epoch: u32,
    /// The length of the key, above it the partition, and in the highest bits [`UTF8`], [`MISSING`] and [`REPLY`].
    key_len_flags: u32,
}

/// Where and when an entry came from.
pub(crate) struct Provenance {
    pub(crate) partition: Partition,
    pub(crate) sent_ns: u64,
    pub(crate) epoch: u32,
    pub(crate) keep: Keep,
}

impl Entry {
    /// Copies `key` and `value` into one exact allocation: a slice of the read buffer would pin the whole buffer.
    ///
    /// # Panics
    /// If the key is longer than [`KEY_LEN_MAX`]; the fronts limit keys to kilobytes.
    pub(crate) fn new(key: &[u8], value: &[u8], facts: Facts, origin: Provenance) -> Entry {
        let flags = if facts.utf8 { UTF8 } else { 0 };
        Entry::make(key, b"", value, facts.etag, flags, origin)
    }

    /// The answer to a question about `key`.
    ///
    /// # Panics
    /// As [`new`](Entry::new), and if the question has 4 GiB or more.
    pub(crate) fn reply(key: &[u8], question: &[u8], reply: &[u8], origin: Provenance) -> Entry {
        let mut in_place_of_etag = [0; 16];
        let length = u32::try_from(question.len()).expect("a question below 4 GiB");
        in_place_of_etag[..4].copy_from_slice(&length.to_ne_bytes());
        Entry::make(key, question, reply, in_place_of_etag, REPLY, origin)
    }

    /// The knowledge that `key` has no value.
    ///
    /// # Panics
    /// As [`new`](Entry::new).
    pub(crate) fn missing(key: &[u8], origin: Provenance) -> Entry {
        Entry::make(key, b"", b"", [0; 16], MISSING, origin)
    }

    fn make(
        key: &[u8],
        question: &[u8],
        value: &[u8],
        etag: [u8; 16],
        flags: u32,
        origin: Provenance,
    ) -> Entry {
        let key_len = u32::try_from(key.len()).ok().filter(|_| key.len() <= KEY_LEN_MAX);
        let key_len = key_len.expect("a key below 4 MiB");
        let partition = origin.partition.bits() << PARTITION_SHIFT;
        let key_len_flags = key_len | partition | flags;
        let (lease, deadline_ns) = match origin.keep {
            Keep::Leased { lease, deadline_ns } => (Some(lease), deadline_ns.unwrap_or(u64::MAX)),
            Keep::ForItsAge | Keep::Not => (None, u64::MAX),
        };
        let Provenance { sent_ns, epoch, .. } = origin;
        let header = Header { etag, sent_ns, deadline_ns, lease, epoch, key_len_flags };
        JOINED.with_borrow_mut(|joined| {
            joined.clear();
            joined.reserve_exact(key.len() + question.len() + value.len());
            joined.extend_from_slice(key);
            joined.extend_from_slice(question);
            joined.extend_from_slice(value);
            let entry = Entry(ThinArc::from_header_and_slice(header, joined));
            joined.shrink_to(JOINED_KEPT);
            entry
        })
    }

    /// The key, as it was asked for.
    pub fn key(&self) -> &[u8] {
        &self.0.slice[..self.key_len()]
    }

    /// Whether the key is known to have no value; [`value`](Entry::value) is empty then.
    pub fn is_missing(&self) -> bool {
        self.0.header.header.key_len_flags & MISSING != 0
    }

    /// The value, exactly as Redis sent it; of an answer to a question that answer.
    pub fn value(&self) -> &[u8] {
        &self.0.slice[self.key_len() + self.question_len()..]
    }

    /// Which answer about its key this is.
    pub fn view(&self) -> View<'_> {
        let start = self.key_len();
        View { partition: self.partition(), question: &self.0.slice[start..start + self.question_len()] }
    }

    pub(crate) fn is_of(&self, view: View<'_>) -> bool {
        self.view() == view
    }

    /// Whether it is a value, and in this partition.
    #[inline]
    pub(crate) fn is_value_in(&self, partition: Partition) -> bool {
        let told = self.0.header.header.key_len_flags & (REPLY | MISSING | PARTITION_MASK);
        told == partition.bits() << PARTITION_SHIFT
    }

    /// In whose eyes.
    pub fn partition(&self) -> Partition {
        Partition::from_bits((self.0.header.header.key_len_flags & PARTITION_MASK) >> PARTITION_SHIFT)
    }

    /// The strong validator given at fill.
    pub fn etag(&self) -> &[u8; 16] {
        &self.0.header.header.etag
    }

    /// Whether the value is valid UTF-8, as found at fill.
    pub fn is_utf8(&self) -> bool {
        self.0.header.header.key_len_flags & UTF8 != 0
    }

    /// When the fetch of this value was sent, nanoseconds of the caller's clock: its age counts from here.
    pub fn sent_ns(&self) -> u64 {
        self.0.header.header.sent_ns
    }

    /// When the key expires in Redis, if that is known and it does.
    pub fn deadline_ns(&self) -> Option<u64> {
        Some(self.0.header.header.deadline_ns).filter(|deadline| *deadline != u64::MAX)
    }

    /// Up to which instant this is known to be what Redis holds: the lease's word, or without one when it was fetched.
    ///
    /// Whoever decides by it must ask while the entry's shard is locked, and look at the flush epoch afterwards.
    #[inline]
    pub fn proven_ns(&self) -> u64 {
        match &self.0.header.header.lease {
            None => self.sent_ns(),
            Some(lease) if lease.proves_absence() => lease.sync_ns(),
            Some(lease) => self.proven_under_others_ns(lease),
        }
    }

    /// Whether [`proven_ns`](Self::proven_ns) is `since_ns` or later, at less cost.
    #[inline]
    pub fn is_proven_since(&self, since_ns: u64) -> bool {
        self.proven_if_since(since_ns) >= since_ns
    }

    /// [`proven_ns`](Self::proven_ns), or at less cost an earlier instant that is not before `since_ns`.
    #[inline]
    pub fn proven_if_since(&self, since_ns: u64) -> u64 {
        match &self.0.header.header.lease {
            None => self.sent_ns(),
            Some(_) if self.is_missing() => self.proven_ns(),
            Some(lease) => lease.sync_if_since(since_ns),
        }
    }

    /// The same under a lease that stands under others.
    #[inline(never)]
    fn proven_under_others_ns(&self, lease: &Lease) -> u64 {
        match mutant::proves_absence(lease.proves_absence()) {
            false if self.is_missing() => lease.sync_ns().min(self.sent_ns()),
            _ => lease.sync_ns(),
        }
    }

    /// Whether this came by a later connection than `other`, which the same readers may be shown: to whoever has seen the
    /// one, the other is the past, whatever each of them answers.
    pub(crate) fn outlasts(&self, other: &Entry) -> bool {
        let are_leased_apart = match (self.lease(), other.lease()) {
            (Some(lease), Some(before)) => !Arc::ptr_eq(lease, before),
            _ => false,
        };
        are_leased_apart && self.partition() == other.partition()
    }

    /// The lease that proves it.
    pub fn lease(&self) -> Option<&Arc<Lease>> {
        self.0.header.header.lease.as_ref()
    }

    /// Has the processor fetch the first [`FETCHED_BYTES`]: the header, the key, and most values or their beginning.
    #[inline]
    pub(crate) fn fetch(&self) {
        let header = std::slice::from_ref(&self.0.header);
        // Also behind the end of a small one: nothing is read.
        (0..FETCHED_BYTES.div_ceil(size_of_val(header))).for_each(|at| prefetch_index(header, at));
    }

    /// Whether somebody else holds it too.
    pub(crate) fn is_shared(&self) -> bool {
        ThinArc::strong_count(&self.0) > 1
    }

    /// Whether `other` is this very entry, not only an equal one.
    pub(crate) fn is(&self, other: &Entry) -> bool {
        std::ptr::eq(self.0.ptr(), other.0.ptr())
    }

    /// The flush epoch in which the fetch was registered; an entry of an older epoch is dead.
    pub(crate) fn epoch(&self) -> u32 {
        self.0.header.header.epoch
    }

    /// Bytes of the key, the question and the value together.
    pub(crate) fn payload_len(&self) -> usize {
        self.0.slice.len()
    }

    fn key_len(&self) -> usize {
        self.0.header.header.key_len_flags as usize & KEY_LEN_MAX
    }

    fn question_len(&self) -> usize {
        let header = &self.0.header.header;
        if header.key_len_flags & REPLY == 0 {
            return 0;
        }
        let [a, b, c, d, ..] = header.etag;
        u32::from_ne_bytes([a, b, c, d]) as usize
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key().escape_ascii().to_string())
            .field("value_len", &self.value().len())
            .field("sent_ns", &self.sent_ns())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An entry that its age alone holds.
    pub(crate) fn aging(key: &[u8], value: &[u8], sent_ns: u64, epoch: u32) -> Entry {
        let origin = Provenance { partition: Partition::OWN, sent_ns, epoch, keep: Keep::ForItsAge };
        Entry::new(key, value, Facts::default(), origin)
    }

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        for (key, value, utf8) in
            [(&b"k"[..], &b"value"[..], true), (b"", b"", false), (b"key", b"", true), (b"", b"v", false)]
        {
            let lease = Arc::new(Lease::default());
            let keep = Keep::Leased { lease: lease.clone(), deadline_ns: Some(9) };
            let partition = Partition::new(Partition::COUNT - 1).unwrap().leased();
            let origin = Provenance { partition, sent_ns: u64::MAX - 1, epoch: 3, keep };
            let entry = Entry::new(key, value, Facts { etag: [7; 16], utf8 }, origin);
            assert_eq!((entry.key(), entry.value(), entry.is_utf8()), (key, value, utf8));
            assert_eq!((entry.etag(), entry.sent_ns(), entry.epoch()), (&[7; 16], u64::MAX - 1, 3));
            assert_eq!((entry.deadline_ns(), entry.proven_ns(), entry.is_missing()), (Some(9), 0, false));
            lease.renew(5);
            lease.renew(4);
            assert_eq!(entry.proven_ns(), 5);
            assert_eq!(entry.payload_len(), key.len() + value.len());
            assert_eq!(entry.view(), View::value(partition));
        }
        let origin = || Provenance { partition: Partition::OWN, sent_ns: 2, epoch: 0, keep: Keep::ForItsAge };
        let reply = Entry::reply(b"key", b"question", b"reply", origin());
        assert_eq!((reply.key(), reply.value(), reply.is_missing()), (&b"key"[..], &b"reply"[..], false));
        assert_eq!(reply.view(), View { partition: Partition::OWN, question: b"question" });
        let missing = Entry::missing(b"k", origin());
        assert_eq!((missing.key(), missing.value(), missing.is_missing()), (&b"k"[..], &b""[..], true));
        assert_eq!((missing.proven_ns(), missing.deadline_ns(), missing.is_utf8()), (2, None, false));
    }

    #[test]
    fn an_entry_costs_one_pointer_and_a_header_of_48_bytes() {
        assert_eq!(size_of::<Option<Entry>>(), 8);
        assert_eq!(ALLOCATION_OVERHEAD, 64);
    }
}
