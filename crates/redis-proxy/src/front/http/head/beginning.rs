//! Half a head that no whole one begins with: its client speaks something else, and waits for an answer to it.

use httparse::{EMPTY_HEADER, Request as Grammar};
use memchr::{memchr, memrchr};

use super::{MOST_HEADERS, Refusal, as_1_1, refusal_of, refusal_of_version};

/// Looks whether `bytes`, in which [`find_end`](super::find_end) has found no end, can still become a head. The first
/// `known` of them were looked at before; what is read again is at most a line, and that is never longer than a limit.
///
/// # Errors
/// [`Refusal`], as [`parse`](super::parse) would refuse every head that begins so.
#[cold]
pub fn check_beginning(bytes: &[u8], known: usize) -> Result<(), Refusal> {
    if known >= bytes.len() {
        return Ok(());
    }
    match memrchr(b'\n', &bytes[..known]) {
        Some(end) => check_fields(&bytes[end + 1..]),
        None => check_line(bytes),
    }
}

fn check_line(bytes: &[u8]) -> Result<(), Refusal> {
    let mut room = [EMPTY_HEADER; MOST_HEADERS];
    match Grammar::new(&mut room).parse(bytes) {
        Ok(_) => Ok(()),
        Err(httparse::Error::Version) => {
            let end = memchr(b'\r', bytes).unwrap_or(bytes.len());
            if as_1_1(&bytes[..end]).is_none() {
                return Err(refusal_of_version(bytes));
            }
            check_fields(bytes.get(end + 2..).unwrap_or_default())
        }
        Err(error) => Err(refusal_of(error)),
    }
}

/// From the beginning of a line.
fn check_fields(lines: &[u8]) -> Result<(), Refusal> {
    let mut room = [EMPTY_HEADER; MOST_HEADERS];
    httparse::parse_headers(lines, &mut room).map(drop).map_err(refusal_of)
}
