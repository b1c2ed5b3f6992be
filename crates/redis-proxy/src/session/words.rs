//! Words of a request, as Redis reads them.

use bytes::Bytes;
use resp::{Arguments, RequestLimits, RequestParser};

/// Where the words are of what was a request before.
pub(super) fn parsed(request: &[u8]) -> RequestParser {
    let mut parser = RequestParser::new(RequestLimits::REDIS);
    let _ = parser.parse(request); // it was one
    parser
}

/// Whether the command has this name.
pub(crate) fn is(arguments: Arguments<'_>, name: &[u8]) -> bool {
    arguments.get(0).is_some_and(|word| word.eq_ignore_ascii_case(name))
}

/// Whether the argument at this place is this word, in either case.
pub(super) fn is_at(arguments: Arguments<'_>, at: usize, word: &str) -> bool {
    arguments.get(at).is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
}

/// A number as Redis reads it (util.c, `string2ll`): no plus, no leading zero.
pub(crate) fn number<T: std::str::FromStr>(word: Option<&[u8]>) -> Option<T> {
    let text = std::str::from_utf8(word?).ok()?;
    let plain = text == "0" || text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok())?
}

/// What is said of one that no client may have (Redis 7.0, networking.c).
pub(crate) const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// `name`, if a client may have it: printable ASCII without blanks (networking.c, `validateClientName`).
pub(crate) fn client_name(name: &[u8]) -> Option<Bytes> {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte)).then(|| Bytes::copy_from_slice(name))
}
