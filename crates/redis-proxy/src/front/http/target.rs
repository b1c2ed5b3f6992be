//! From a request target to a key: percent-decoded once, nothing normalised.

use memchr::{memchr, memchr2, memchr3};

use super::head::{Refusal, is_authority};

/// What a target asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// A key, as bytes.
    Key(&'a [u8]),
    /// `/` alone. Clients make it of `/.`, `/..` and `//` too, so it is no key.
    Nothing,
}

/// Reads the key that `target` names. `scratch` takes the decoded bytes where the target has escapes; without any,
/// the key is a slice of the target.
///
/// # Errors
/// 400 for a bad escape, a raw `#`, two `key=`, or a form of target that names no path; 414 above `max_key_bytes`.
#[inline]
pub fn key_of<'a>(
    target: &'a [u8],
    max_key_bytes: usize,
    scratch: &'a mut Vec<u8>,
) -> Result<Asked<'a>, Refusal> {
    // Nearly every target: a path that stands for itself.
    if let [b'/', key @ ..] = target
        && !key.is_empty()
        && memchr3(b'#', b'?', b'%', key).is_none()
    {
        return within(key, max_key_bytes);
    }
    key_of_any(target, max_key_bytes, scratch)
}

/// Of any other target.
#[inline(never)]
fn key_of_any<'a>(
    target: &'a [u8],
    max_key_bytes: usize,
    scratch: &'a mut Vec<u8>,
) -> Result<Asked<'a>, Refusal> {
    if memchr(b'#', target).is_some() {
        return Err(FRAGMENT);
    }
    let path = match target.first() {
        Some(b'/') => target,
        _ => path_of_absolute(target)?,
    };
    let (path, query) = match memchr(b'?', path) {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    };
    let key = match (path, query) {
        ([] | [b'/'], Some(query)) => match key_in_query(query)? {
            Some(written) => decode(written, Plus::IsSpace, scratch)?,
            None => return Ok(Asked::Nothing),
        },
        ([] | [b'/'], None) => return Ok(Asked::Nothing),
        (path, _) => decode(&path[1..], Plus::IsPlus, scratch)?,
    };
    within(key, max_key_bytes)
}

fn within(key: &[u8], max_key_bytes: usize) -> Result<Asked<'_>, Refusal> {
    if key.len() > max_key_bytes {
        return Err(Refusal::TargetTooLong);
    }
    Ok(Asked::Key(key))
}

/// Whom a target in absolute form names; none of any other.
#[inline]
pub(super) fn authority_of(target: &[u8]) -> Option<&[u8]> {
    match target.first() {
        Some(b'/' | b'*') | None => None,
        Some(_) => split_absolute(target).ok().map(|(authority, _)| authority),
    }
}

fn path_of_absolute(target: &[u8]) -> Result<&[u8], Refusal> {
    split_absolute(target).map(|(_, path)| path)
}

/// Absolute form (RFC 9112, section 3.2.2): `http://host[:port]/path`. The path may be empty.
fn split_absolute(target: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = memchr(b':', target).ok_or(BAD_FORM)?;
    let (scheme, rest) = target.split_at(colon);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(BAD_FORM);
    }
    let rest = rest.strip_prefix(b"://").ok_or(BAD_FORM)?;
    let (authority, path) = rest.split_at(memchr2(b'/', b'?', rest).unwrap_or(rest.len()));
    if authority.is_empty() || !is_authority(authority) {
        return Err(BAD_AUTHORITY);
    }
    Ok((authority, path))
}

fn key_in_query(query: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    let mut keys = query.split(|byte| *byte == b'&').filter_map(|pair| pair.strip_prefix(b"key="));
    match (keys.next(), keys.next()) {
        (_, Some(_)) => Err(TWO_KEYS),
        (key, None) => Ok(key),
    }
}

/// What a `+` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    /// On a path it is a character like any other.
    IsPlus,
    /// In a query every encoder of forms means a space
    /// (<https://url.spec.whatwg.org/#application/x-www-form-urlencoded>).
    IsSpace,
}

fn decode<'a>(written: &'a [u8], plus: Plus, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Refusal> {
    let next = |rest: &[u8]| match plus {
        Plus::IsPlus => memchr(b'%', rest),
        Plus::IsSpace => memchr2(b'%', b'+', rest),
    };
    if next(written).is_none() {
        return Ok(written);
    }
    scratch.clear();
    let mut rest = written;
    while let Some(at) = next(rest) {
        scratch.extend_from_slice(&rest[..at]);
        let (byte, length) = match rest[at..] {
            [b'+', ..] => (Some(b' '), 1),
            [_, high, low, ..] => (hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low), 3),
            _ => (None, 0),
        };
        scratch.push(byte.ok_or(BAD_ESCAPE)?);
        rest = &rest[at + length..];
    }
    scratch.extend_from_slice(rest);
    Ok(scratch)
}

/// What is said of half a head too.
pub(super) const FRAGMENT: Refusal = Refusal::Bad("a raw '#' in the target: write %23");
pub(super) const BAD_FORM: Refusal = Refusal::Bad("the target must begin with '/' or 'http://'");
pub(super) const BAD_AUTHORITY: Refusal = Refusal::Bad("the target's authority is malformed");
pub(super) const TWO_KEYS: Refusal = Refusal::Bad("more than one 'key=' in the query");
pub(super) const BAD_ESCAPE: Refusal = Refusal::Bad("a '%' must be followed by two hex digits");

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str) -> Result<Option<Vec<u8>>, Refusal> {
        let mut scratch = Vec::new();
        key_of(target.as_bytes(), 16, &mut scratch).map(|asked| match asked {
            Asked::Key(key) => Some(key.to_vec()),
            Asked::Nothing => None,
        })
    }

    fn key(target: &str) -> Vec<u8> {
        asked(target).expect(target).expect("a key")
    }

    #[test]
    fn the_key_is_the_path_after_its_first_slash() {
        assert_eq!(key("/foo"), b"foo");
        assert_eq!(key("/a/b"), b"a/b");
        assert_eq!(key("//x"), b"/x");
        assert_eq!(key("//"), b"/");
        assert_eq!(key("/a%2Fb"), b"a/b");
        assert_eq!(key("/a%2fb"), b"a/b");
        assert_eq!(key("/a+b"), b"a+b");
        assert_eq!(key("/foo.json"), b"foo.json");
        assert_eq!(key("/.."), b"..");
        assert_eq!(key("/a/../b"), b"a/../b");
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(key("/%2541"), b"%41");
        assert_eq!(key("/%00%0d%0A%ff"), [0, 13, 10, 255]);
        for bad in ["/%", "/%4", "/%zz", "/%4g", "/a%", "/%%41", "/%+1"] {
            assert!(matches!(asked(bad), Err(Refusal::Bad(_))), "{bad}");
        }
    }

    #[test]
    fn the_query_is_no_part_of_the_key() {
        assert_eq!(key("/foo?x=1"), b"foo");
        assert_eq!(key("/foo?key=bar"), b"foo");
        assert_eq!(key("/foo%3Fx"), b"foo?x");
        assert_eq!(key("/foo?a?b"), b"foo");
    }

    #[test]
    fn the_path_alone_takes_its_key_from_the_query() {
        assert_eq!(key("/?key=a%2Fb"), b"a/b");
        assert_eq!(key("/?x=1&key=a"), b"a");
        assert_eq!(key("/?key="), b"");
        assert_eq!(key("/?key=a=b"), b"a=b");
        assert_eq!(key("/?key=a+b%2B+"), b"a b+ ");
        assert_eq!(asked("/"), Ok(None));
        assert_eq!(asked("/?"), Ok(None));
        assert_eq!(asked("/?keys=1"), Ok(None));
        assert!(asked("/?key=a&key=b").is_err());
    }

    #[test]
    fn a_raw_hash_is_refused_wherever_it_stands() {
        for bad in ["/#", "/a#b", "/a?#", "#"] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn absolute_form_names_the_same_key() {
        assert_eq!(key("http://h/foo"), b"foo");
        assert_eq!(key("HTTP://h:80//x"), b"/x");
        assert_eq!(key("http://h?key=a"), b"a");
        assert_eq!(asked("http://h"), Ok(None));
        for bad in ["*", "foo", "h:80", "ftp://h/a", "http:/h", "http:///a", "http://u@h/a", ""] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_length_of_the_decoded_key_is_limited() {
        assert_eq!(key(&format!("/{}", "%41".repeat(16))).len(), 16);
        assert_eq!(asked(&format!("/{}", "a".repeat(17))), Err(Refusal::TargetTooLong));
    }
}
