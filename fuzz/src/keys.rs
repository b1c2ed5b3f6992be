//! From a target to its key, held against a naive reading.

use redis_proxy::front::http::target::{Asked, key_of};

use crate::heads::is_authority;

/// What targets are made of, and what they are broken by.
pub(crate) const TOKENS: &[&[u8]] = &[
    b"/",
    b"//",
    b"..",
    b"%",
    b"%4",
    b"%41",
    b"%2f",
    b"%2F",
    b"%00",
    b"%0d%0A",
    b"%25",
    b"%zz",
    b"%ff",
    b"\xc3\xa9",
    b"+",
    b"#",
    b"?",
    b"?key=",
    b"&key=",
    b"key=",
    b"&",
    b"=",
    b"http://",
    b"HTTPS://",
    b"ftp://",
    b"h:80",
    b"[::1]",
    b"u@h",
    b"*",
    b"foo",
];

/// Short enough that inputs reach it.
const MAX_KEY_BYTES: usize = 12;

/// Reads `data` as a target, and as a key that is written as a target in two ways.
///
/// # Panics
/// When a naive reading finds another key, or none where there is one, or when a key does not come back.
pub fn key_decoder(data: &[u8]) {
    let mut scratch = b"of the request before".to_vec();
    let found = key_of(data, MAX_KEY_BYTES, &mut scratch).ok().map(|asked| match asked {
        Asked::Key(key) => Some(key.to_vec()),
        Asked::Nothing => None,
    });
    assert_eq!(found, read(data), "left the program, right the naive reading");

    let escaped: String = data.iter().map(|byte| format!("%{byte:02x}")).collect();
    for target in [format!("/{escaped}"), format!("/?key={escaped}"), format!("http://h/{escaped}")] {
        let asked = key_of(target.as_bytes(), data.len(), &mut scratch);
        match asked {
            Ok(Asked::Key(key)) => assert_eq!(key, data, "{target}"),
            Ok(Asked::Nothing) => assert!(data.is_empty() && !target.contains('?'), "{target}"),
            Err(refusal) => panic!("{target}: {refusal:?}"),
        }
    }
}

/// `Some(None)` is no key at all, `None` a refusal.
fn read(target: &[u8]) -> Option<Option<Vec<u8>>> {
    if target.contains(&b'#') {
        return None;
    }
    let path = if target.starts_with(b"/") { target } else { path_of_absolute(target)? };
    let mut parts = path.splitn(2, |byte| *byte == b'?');
    let (path, query) = (parts.next()?, parts.next());
    let in_query = matches!(path, [] | [b'/']);
    let written = match path {
        [] | [b'/'] => {
            let pairs = query.unwrap_or_default().split(|byte| *byte == b'&');
            let keys: Vec<&[u8]> = pairs.filter_map(|pair| pair.strip_prefix(b"key=")).collect();
            match keys[..] {
                [] => return Some(None),
                [key] => key,
                _ => return None,
            }
        }
        path => &path[1..],
    };
    let mut key = Vec::new();
    let mut bytes = written.iter();
    while let Some(byte) = bytes.next() {
        key.push(match byte {
            b'%' => {
                let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if in_query => b' ',
            byte => *byte,
        });
    }
    (key.len() <= MAX_KEY_BYTES).then_some(Some(key))
}

fn path_of_absolute(target: &[u8]) -> Option<&[u8]> {
    let scheme = ["http://", "https://"].iter().find(|scheme| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    })?;
    let rest = &target[scheme.len()..];
    let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    (end > 0 && is_authority(&rest[..end])).then_some(&rest[end..])
}
