//! Which answer about a key: in whose eyes, and to which question.
//!
//! A key is one thing to hold, to evict and to invalidate; what is known of it may be several answers. The first is its
//! value, the answer to GET in the partition of the caller's own. Others are kept beside it: the values that other
//! partitions see, and whole replies to other questions.

use std::fmt;

/// Answers that are never shown to each other's readers: to the cache a number, to its caller an identity and a database.
/// What is held for its age alone and what is held under leases are apart, too, so each number names two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partition(u8);

/// The bit of what is held under leases; below it is the number.
const LEASED: u8 = 1 << 6;
const _: () = assert!(Partition::COUNT == LEASED as usize);

impl Partition {
    /// Bits that tell one from all others.
    pub(crate) const BITS: u32 = 7;
    /// How many there are.
    pub const COUNT: usize = 64;
    /// The first, of what is held for its age.
    pub const OWN: Partition = Partition(0);

    /// The one of that number, of what is held for its age; none from [`COUNT`](Self::COUNT) on.
    pub fn new(number: usize) -> Option<Partition> {
        u8::try_from(number).ok().filter(|number| usize::from(*number) < Self::COUNT).map(Partition)
    }

    /// The one of the same number whose answers are held under leases.
    #[must_use]
    pub const fn leased(self) -> Partition {
        Partition(self.0 | LEASED)
    }

    /// Whether its answers are held under leases.
    pub fn is_leased(self) -> bool {
        self.0 & LEASED != 0
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0 & !LEASED
    }

    pub(crate) fn bits(self) -> u32 {
        u32::from(self.0)
    }

    pub(crate) fn from_bits(bits: u32) -> Partition {
        let [low, ..] = bits.to_le_bytes();
        Partition(low)
    }
}

/// One of the answers about a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct View<'a> {
    /// In whose eyes.
    pub partition: Partition,
    /// The question, in whatever words the caller chooses; the key's value has none.
    pub question: &'a [u8],
}

impl View<'_> {
    /// The value, as the first partition sees it.
    pub const VALUE: View<'static> = View::value(Partition::OWN);

    /// The value, as a partition sees it.
    pub const fn value(partition: Partition) -> View<'static> {
        View { partition, question: b"" }
    }

    #[inline]
    pub(crate) fn is_value(&self) -> bool {
        self.question.is_empty()
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.partition, self.question.escape_ascii())
    }
}
