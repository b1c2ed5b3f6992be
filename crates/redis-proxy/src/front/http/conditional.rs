//! `If-Match` and `If-None-Match` (RFC 9110, sections 13.1.1, 13.1.2 and 13.2.2): lists of entity tags, or `*`.

use super::head::Tags;

/// What a request asks of the tag of a value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conditions<'a> {
    /// `If-Match`.
    pub(super) is: Option<&'a [u8]>,
    /// `If-None-Match`.
    pub(super) is_not: Option<&'a [u8]>,
}

/// Conditions that are kept for an answer that is not here yet.
#[derive(Default)]
pub(super) struct KeptConditions {
    is: Option<Box<[u8]>>,
    is_not: Option<Box<[u8]>>,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// It is sent.
    Send,
    /// 304: the client has it.
    Unmodified,
    /// 412: it is not what the client wants.
    Failed,
}

impl<'a> Conditions<'a> {
    pub(super) fn of(is: Option<&'a Tags<'_>>, is_not: Option<&'a Tags<'_>>) -> Self {
        Conditions { is: is.map(Tags::as_bytes), is_not: is_not.map(Tags::as_bytes) }
    }

    pub(super) fn keep(self) -> KeptConditions {
        KeptConditions { is: self.is.map(Into::into), is_not: self.is_not.map(Into::into) }
    }

    /// Of a value with the strong tag `etag`, quotes included.
    #[inline]
    pub(super) fn judge(self, etag: &[u8]) -> Precondition {
        // In this order.
        if self.is.is_some_and(|tags| !matches(tags, etag, Comparison::Strong)) {
            return Precondition::Failed;
        }
        match self.is_not {
            Some(tags) if matches(tags, etag, Comparison::Weak) => Precondition::Unmodified,
            _ => Precondition::Send,
        }
    }
}

impl KeptConditions {
    pub(super) fn as_ref(&self) -> Conditions<'_> {
        Conditions { is: self.is.as_deref(), is_not: self.is_not.as_deref() }
    }
}

/// RFC 9110, section 8.8.3.2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// No weak tag matches.
    Strong,
    Weak,
}

/// Whether one of `tags` matches the strong tag `etag`. `*` matches any value.
fn matches(tags: &[u8], etag: &[u8], comparison: Comparison) -> bool {
    if tags.trim_ascii() == b"*" {
        return true;
    }
    let mut rest = tags;
    loop {
        rest = skip(rest);
        let weak = rest.strip_prefix(b"W/");
        // A tag may hold a comma: its end is its closing quote.
        let Some(opened) = weak.unwrap_or(rest).strip_prefix(b"\"") else {
            return false;
        };
        let Some(length) = memchr::memchr(b'"', opened) else {
            return false;
        };
        if opened[..=length] == etag[1..] && (weak.is_none() || comparison == Comparison::Weak) {
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

    const TAG: &[u8] = b"\"0123456789abcdef0123456789abcdef\"";

    #[test]
    fn a_list_matches_weakly_or_strongly() {
        let tag = std::str::from_utf8(TAG).expect("ascii");
        let both = |list: &str| {
            [Comparison::Weak, Comparison::Strong].map(|comparison| matches(list.as_bytes(), TAG, comparison))
        };
        for yes in
            ["*", " * ", tag, &format!("W/\"x\",{tag}"), &format!("\"a,b\", {tag}"), &format!(",,{tag},")]
        {
            assert_eq!(both(yes), [true; 2], "{yes}");
        }
        assert_eq!(both(&format!("W/{tag}")), [true, false]);
        assert_eq!(both(&format!("W/{tag}, {tag}")), [true; 2]);
        let bare = tag.trim_matches('"');
        for no in ["", "\"x\"", bare, "W/", "\"", "**", "\"*\"", &format!("w/{tag}"), &format!("x, {tag}")] {
            assert_eq!(both(no), [false; 2], "{no}");
        }
    }

    #[test]
    fn if_match_is_judged_first() {
        let judge = |is: Option<&str>, is_not: Option<&str>| {
            Conditions { is: is.map(str::as_bytes), is_not: is_not.map(str::as_bytes) }.judge(TAG)
        };
        assert_eq!(judge(None, None), Precondition::Send);
        assert_eq!(judge(Some("*"), None), Precondition::Send);
        assert_eq!(judge(Some("*"), Some("*")), Precondition::Unmodified);
        assert_eq!(judge(Some("\"x\""), Some("*")), Precondition::Failed);
        assert_eq!(judge(Some(""), None), Precondition::Failed);
        assert_eq!(judge(None, Some("\"x\"")), Precondition::Send);
    }
}
