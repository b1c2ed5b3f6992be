//! The names of commands, found in any case by one comparison.
//!
//! A client names a command in each of its requests. Up to 16 bytes of a name are two machine words, so that the one that is
//! asked for and the one that is known are compared at once and not byte by byte.

/// Bytes of a name that two words hold.
const WORDS_HOLD: usize = 16;
/// The bit in which the two cases of a letter differ, in each byte.
const CASE: u64 = 0x2020_2020_2020_2020;

/// A name that is known, with its place in what it is the key of.
#[derive(Debug, Clone)]
pub(crate) struct KnownName {
    len: usize,
    words: [u64; 2],
    /// The bit of the case where there is a letter: a `-` has no other case.
    letters: [u64; 2],
    pub(crate) place: usize,
}

impl KnownName {
    /// Of `name`, which is in lower case.
    pub(crate) fn new(name: &str, place: usize) -> Self {
        let case = |byte: u8| if byte.is_ascii_lowercase() { 0x20 } else { 0 };
        let letters: Vec<u8> = name.bytes().map(case).collect();
        KnownName { len: name.len(), words: words(name.as_bytes()), letters: words(&letters), place }
    }

    /// Whether a client that writes `name` means this one; `whole` is all of it, for those that are longer than two words.
    #[inline]
    pub(crate) fn is(&self, name: &[u8], whole: impl FnOnce() -> bool) -> bool {
        let [first, last] = words(name);
        self.len == name.len()
            && first | self.letters[0] == self.words[0]
            && last | self.letters[1] == self.words[1]
            && (self.len <= WORDS_HOLD || whole())
    }
}

/// Of a name in any case. Clients choose the names that are looked up, not those that are in the table, so it need not
/// resist anybody. Of a long one it is that of its ends: whoever sends a megabyte for a name pays nothing for it.
#[inline]
pub(crate) fn hash(name: &[u8]) -> u64 {
    let [first, last] = words(name);
    let mixed = (first | CASE).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (last | CASE).rotate_left(23).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mixed = (mixed ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

/// The first and the last bytes of a name: all of them, if it has up to 16, and some of them twice if it has fewer.
#[inline]
fn words(name: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        return [u64::from_le_bytes(*first), u64::from_le_bytes(*last)];
    }
    if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        return [u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()];
    }
    match *name {
        [] => [0, 0],
        [only] => [only.into(), 0],
        [first, last] => [first.into(), last.into()],
        [first, middle, last, ..] => [u64::from(first) | u64::from(middle) << 8, last.into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `name` is found under what is known.
    fn is(known: &str, name: &[u8]) -> bool {
        let whole = || name.eq_ignore_ascii_case(known.as_bytes());
        hash(known.as_bytes()) == hash(name) && KnownName::new(known, 0).is(name, whole)
    }

    #[test]
    fn a_name_is_itself_in_any_case_and_no_other() {
        let known: Vec<String> =
            (1..40).map(|len| "restore-asking_2|".chars().cycle().take(len).collect()).collect();
        for name in &known {
            assert!(is(name, name.as_bytes()) && is(name, name.to_uppercase().as_bytes()), "{name}");
            for at in 0..name.len() {
                for byte in 0..=255 {
                    let mut other = name.clone().into_bytes();
                    other[at] = byte;
                    assert_eq!(
                        is(name, &other),
                        other.eq_ignore_ascii_case(name.as_bytes()),
                        "{name} {at} {byte}"
                    );
                }
            }
            for other in known.iter().filter(|other| *other != name) {
                assert!(!is(name, other.as_bytes()), "{name} {other}");
            }
        }
        assert!(!is("a", b""));
    }
}
