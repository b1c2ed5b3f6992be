//! `If-None-Match` (RFC 9110, section 13.1.2): a list of entity tags or `*`, compared weakly.

use super::answer::ETAG_LENGTH;

/// Whether one of `conditions` matches the strong tag `etag`, quotes included. `*` matches any value.
pub(super) fn matches(conditions: &[u8], etag: &[u8; ETAG_LENGTH]) -> bool {
    if conditions.trim_ascii() == b"*" {
        return true;
    }
    let mut rest = conditions;
    loop {
        rest = skip(rest);
        let tag = rest.strip_prefix(b"W/").unwrap_or(rest);
        // A tag may hold a comma: its end is its closing quote.
        let Some(opened) = tag.strip_prefix(b"\"") else {
            return false;
        };
        let Some(length) = memchr::memchr(b'"', opened) else {
            return false;
        };
        if tag[..length + 2] == etag[..] {
            return true;
        }
        rest = &opened[length + 1..];
    }
}

/// Passes over what may stand between two tags.
fn skip(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b',')).unwrap_or(text.len());
    &text[end..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &[u8; ETAG_LENGTH] = b"\"0123456789abcdef0123456789abcdef\"";

    #[test]
    fn a_list_matches_weakly() {
        let tag = std::str::from_utf8(TAG).expect("ascii");
        for yes in ["*", " * ", tag, &format!("W/{tag}"), &format!("\"a,b\", {tag}"), &format!(",,{tag},")] {
            assert!(matches(yes.as_bytes(), TAG), "{yes}");
        }
        let bare = tag.trim_matches('"');
        for no in ["", "\"x\"", bare, "W/", "\"", "**", "\"*\"", &format!("w/{tag}"), &format!("x, {tag}")] {
            assert!(!matches(no.as_bytes(), TAG), "{no}");
        }
    }
}
