//! The keys that a command names.

/// A key up to this long needs no memory of its own.
const SHORT: usize = 38;

/// One key or more. Most commands that change something name a short one, which costs no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// So many bytes of these.
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
    Many(Box<[Box<[u8]>]>),
}

impl Keys {
    pub(crate) fn new<'a>(first: &'a [u8], others: impl Iterator<Item = &'a [u8]>) -> Keys {
        let mut others = others.peekable();
        if others.peek().is_some() {
            return Keys::Many(std::iter::once(first).chain(others).map(Box::from).collect());
        }
        match u8::try_from(first.len()) {
            Ok(len) if first.len() <= SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..first.len()].copy_from_slice(first);
                Keys::Short(len, bytes)
            }
            _ => Keys::Long(first.into()),
        }
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let (one, many) = match self {
            Keys::Short(len, bytes) => (bytes.get(..usize::from(*len)), &[][..]),
            Keys::Long(key) => (Some(&key[..]), &[][..]),
            Keys::Many(keys) => (None, &keys[..]),
        };
        one.into_iter().chain(many.iter().map(|key| &key[..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_and_number_come_out_as_they_went_in() {
        for len in [0, 1, SHORT, SHORT + 1, 255, 256, 1000] {
            let key = vec![b'k'; len];
            assert_eq!(Keys::new(&key, std::iter::empty()).iter().collect::<Vec<_>>(), [&key[..]]);
            let keys = [&key[..], b"", &key[..]];
            assert_eq!(Keys::new(keys[0], keys[1..].iter().copied()).iter().collect::<Vec<_>>(), keys);
        }
    }

    #[test]
    fn a_short_key_lies_where_a_pointer_to_it_would() {
        assert!(size_of::<Keys>() <= 40, "{}", size_of::<Keys>());
    }
}
