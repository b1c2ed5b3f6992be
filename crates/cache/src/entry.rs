//! A cached value: one allocation that a hit hands out by reference count, never by copy.

use std::cell::RefCell;
use std::fmt;

use triomphe::ThinArc;

/// A key with its value and what is dear to compute about it, as it was fetched.
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

/// Bytes of an entry's allocation beside its key and value: reference count, length, [`Header`].
pub const ALLOCATION_OVERHEAD: usize = 16 + size_of::<Header>();

/// Bytes that a thread keeps for joining the next key and value.
const JOINED_KEPT: usize = 1 << 20;

thread_local! {
    /// Key and value side by side, to be copied into an entry's allocation in one piece. A fresh buffer for each would
    /// leave a hole of a value's size beside every value.
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

const UTF8: u32 = 1 << 31;

/// The fixed part in front of the key and the value. Its size is part of the byte budget.
struct Header {
    etag: [u8; 16],
    sent_ns: u64,
    epoch: u32,
    /// The length of the key, and in the highest bit [`UTF8`].
    key_len_utf8: u32,
}

impl Entry {
    /// Copies `key` and `value` into one exact allocation: a slice of the read buffer would pin the whole buffer.
    ///
    /// # Panics
    /// If the key has 2 GiB or more; the fronts limit keys to kilobytes, Redis to 512 MiB.
    pub(crate) fn new(key: &[u8], value: &[u8], facts: Facts, sent_ns: u64, epoch: u32) -> Entry {
        let key_len = u32::try_from(key.len()).ok().filter(|len| len & UTF8 == 0).expect("a key below 2 GiB");
        let key_len_utf8 = if facts.utf8 { key_len | UTF8 } else { key_len };
        let header = Header { etag: facts.etag, sent_ns, epoch, key_len_utf8 };
        JOINED.with_borrow_mut(|joined| {
            joined.clear();
            joined.reserve_exact(key.len() + value.len());
            joined.extend_from_slice(key);
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

    /// The value, exactly as Redis sent it.
    pub fn value(&self) -> &[u8] {
        &self.0.slice[self.key_len()..]
    }

    /// The strong validator given at fill.
    pub fn etag(&self) -> &[u8; 16] {
        &self.0.header.header.etag
    }

    /// Whether the value is valid UTF-8, as found at fill.
    pub fn is_utf8(&self) -> bool {
        self.0.header.header.key_len_utf8 & UTF8 != 0
    }

    /// When the fetch of this value was sent, nanoseconds of the caller's clock: its age counts from here.
    pub fn sent_ns(&self) -> u64 {
        self.0.header.header.sent_ns
    }

    /// The flush epoch in which the fetch was registered; an entry of an older epoch is dead.
    pub(crate) fn epoch(&self) -> u32 {
        self.0.header.header.epoch
    }

    /// Bytes of the key and the value together.
    pub(crate) fn payload_len(&self) -> usize {
        self.0.slice.len()
    }

    fn key_len(&self) -> usize {
        (self.0.header.header.key_len_utf8 & !UTF8) as usize
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
mod tests {
    use super::*;

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        for (key, value, utf8) in
            [(&b"k"[..], &b"value"[..], true), (b"", b"", false), (b"key", b"", true), (b"", b"v", false)]
        {
            let entry = Entry::new(key, value, Facts { etag: [7; 16], utf8 }, u64::MAX - 1, 3);
            assert_eq!((entry.key(), entry.value(), entry.is_utf8()), (key, value, utf8));
            assert_eq!((entry.etag(), entry.sent_ns(), entry.epoch()), (&[7; 16], u64::MAX - 1, 3));
            assert_eq!(entry.payload_len(), key.len() + value.len());
        }
    }

    #[test]
    fn an_entry_costs_one_pointer_and_a_header_of_32_bytes() {
        assert_eq!(size_of::<Option<Entry>>(), 8);
        assert_eq!(ALLOCATION_OVERHEAD, 48);
    }
}
