//! Requests at a glance: what small strict ones ask about, told without a parser's state.

use crate::request::small_bulk;

/// What a request asks about, in all likelihood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance<'a> {
    /// The argument behind the command's name; empty if there is none.
    pub key: &'a [u8],
    /// Bytes of the request.
    pub len: usize,
}

/// The request at the beginning of `input`, if it is strict, whole and small: of up to nine arguments below 1,000 bytes. Looks at no
/// limit, so it is not for who takes requests up.
pub fn glance(input: &[u8]) -> Option<Glance<'_>> {
    let [b'*', count @ b'1'..=b'9', b'\r', b'\n', ..] = input else { return None };
    let mut key = 0..0;
    let mut at = 4;
    for number in 0..count - b'0' {
        let argument = small_bulk(input, at)?;
        at = argument.end + 2;
        if number == 1 {
            key = argument;
        }
    }
    Some(Glance { key: &input[key], len: at })
}

/// The GET at the beginning of `input`, if it is written as most clients write it and its key is below 1,000 bytes.
#[inline]
pub(crate) fn plain_get(input: &[u8]) -> Option<Glance<'_>> {
    const UPPER: &[u8] = b"*2\r\n$3\r\nGET\r\n";
    const LOWER: &[u8] = b"*2\r\n$3\r\nget\r\n";
    if !input.starts_with(UPPER) && !input.starts_with(LOWER) {
        return None;
    }
    let key = small_bulk(input, UPPER.len())?;
    let len = key.end + 2;
    Some(Glance { key: &input[key], len })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Form, Parsed, RequestLimits, RequestParser};

    const REQUESTS: [&str; 6] = [
        "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        "*2\r\n$3\r\nget\r\n$10\r\nkey:000001\r\n",
        "*2\r\n$3\r\nGet\r\n$0\r\n\r\n",
        "*3\r\n$3\r\nSET\r\n$2\r\n\r\n\r\n$3\r\nabc\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "GET k\r\n",
    ];

    const LIMITS: [RequestLimits; 4] = [
        RequestLimits::REDIS,
        RequestLimits { max_arguments: 1, ..RequestLimits::REDIS },
        RequestLimits { max_bulk_bytes: 2, ..RequestLimits::REDIS },
        RequestLimits { max_bulk_bytes: 5, ..RequestLimits::REDIS },
    ];

    #[test]
    fn a_get_is_plain_in_capitals_and_without() {
        let plain = REQUESTS.map(|request| plain_get(request.as_bytes()).map(|get| get.key));
        assert_eq!(plain, [Some(&b"k"[..]), Some(b"key:000001"), None, None, None, None]);
        let keys = REQUESTS.map(|request| glance(request.as_bytes()).map(|request| request.key));
        assert_eq!(keys, [Some(&b"k"[..]), Some(b"key:000001"), Some(b""), Some(b"\r\n"), Some(b""), None]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Whatever is changed in them: what is told at a glance is what the parser makes of the same bytes.
        #[test]
        fn a_glance_says_what_the_parser_says(
            requests in prop::collection::vec(prop::sample::select(&REQUESTS[..]), 1..3),
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b"\r\n*$0123GETget \0\xff"[..])), 0..3),
            cut in any::<prop::sample::Index>(),
            is_cut: bool,
            limits in prop::sample::select(&LIMITS[..]),
        ) {
            let mut bytes = requests.concat().into_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let mut parser = RequestParser::new(limits);
            let told = [glance(&bytes).filter(|_| limits == RequestLimits::REDIS), parser.plain_get(&bytes)];
            let parsed = parser.parse(&bytes);
            for told in told.into_iter().flatten() {
                prop_assert_eq!(&parsed, &Ok(Parsed::Request { len: told.len, form: Form::Strict }));
                prop_assert_eq!(parser.arguments(&bytes).get(1).unwrap_or_default(), told.key);
            }
            if told[1].is_some() {
                prop_assert_eq!(parser.arguments(&bytes).len(), 2);
                prop_assert!(parser.arguments(&bytes).get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"GET")));
            }
        }
    }
}
