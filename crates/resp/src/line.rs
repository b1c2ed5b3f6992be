//! Lines and the numbers in them.

use memchr::memchr2;

use crate::DecodeError;

/// Where the line at the start of `bytes` ends (the place of its CR), or `None` while its CRLF has not fully arrived.
///
/// Looks only at bytes from `scanned` on, and moves it, so that a line arriving in pieces is searched once; and never
/// further than a line of `max_line_bytes` and its type byte can reach, so that the answer is the same in however many
/// pieces it comes.
///
/// # Errors
/// `LineTooLong`. `BadLineEnd` for a CR or LF on its own: Redis replaces both by spaces in what it sends as a line
/// (networking.c `addReplyErrorFormatEx`, script.c, 7.0), so one means that we lost our place.
pub(crate) fn find_end(
    bytes: &[u8],
    scanned: &mut usize,
    max_line_bytes: usize,
) -> Result<Option<usize>, DecodeError> {
    let reach = bytes.len().min(max_line_bytes.saturating_add(2)); // type byte, text, CR
    let from = (*scanned).min(reach);
    let Some(found) = memchr2(b'\r', b'\n', &bytes[from..reach]) else {
        if reach > max_line_bytes.saturating_add(1) {
            return Err(DecodeError::LineTooLong { limit: max_line_bytes });
        }
        *scanned = reach;
        return Ok(None);
    };
    let end = from + found;
    match (bytes[end], bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) => {
            *scanned = 0;
            Ok(Some(end))
        }
        (b'\r', None) => {
            *scanned = end; // the CR is looked at again, with the byte after it
            Ok(None)
        }
        _ => Err(DecodeError::BadLineEnd),
    }
}

/// A length or count: decimal digits alone, below 2^64. Leading zeros are allowed, as the protocol page does.
pub(crate) fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(number)
}

/// The length or count at the front of `text` as all write it, in at most nine digits, without leading zeros and with its
/// CRLF; and the bytes it takes. `None` for what needs a closer look.
pub(crate) fn plain_number(text: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (index, &byte) in text.iter().take(10).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            number = number * 10 + u64::from(digit);
        } else {
            let whole = byte == b'\r' && text.get(index + 1) == Some(&b'\n');
            let plain = index > 0 && (text[0] != b'0' || index == 1);
            return (whole && plain).then_some((number, index + 2));
        }
    }
    None
}

/// `:`'s number: an optional sign and decimal digits, all of `i64`'s range.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => 0i64.checked_sub_unsigned(parse_length(digits)?),
        [b'+', digits @ ..] => i64::try_from(parse_length(digits)?).ok(),
        digits => i64::try_from(parse_length(digits)?).ok(),
    }
}

/// Whether `text` is what a `,` frame may hold. Redis 7.0 prints `%.17g`, `inf`, `-inf` and, from modules, `nan` or
/// `-nan`; all that Rust reads as a number is let in, so that whoever parses it later cannot fail.
pub(crate) fn is_double(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}

/// Whether `text` is an optional sign and at least one decimal digit.
pub(crate) fn is_big_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_end_is_found_once_and_searched_once() {
        let mut scanned = 0;
        assert_eq!(find_end(b"+OK", &mut scanned, 10), Ok(None));
        assert_eq!(scanned, 3);
        assert_eq!(find_end(b"+OK\r", &mut scanned, 10), Ok(None));
        assert_eq!(scanned, 3, "the CR is kept for the next look");
        assert_eq!(find_end(b"+OK\r\n:1", &mut scanned, 10), Ok(Some(3)));
        assert_eq!(scanned, 0, "the next line is searched from its start");
    }

    #[test]
    fn a_cr_or_lf_alone_is_refused() {
        for text in [&b"+a\nb\r\n"[..], b"+a\rb\r\n", b"+\n", b"+a\r\r\n"] {
            assert_eq!(find_end(text, &mut 0, 10), Err(DecodeError::BadLineEnd), "{text:?}");
        }
    }

    #[test]
    fn the_line_limit_is_exact_and_leaves_what_follows_alone() {
        let too_long = Err(DecodeError::LineTooLong { limit: 2 });
        assert_eq!(find_end(b"+ab\r\n", &mut 0, 2), Ok(Some(3)));
        assert_eq!(find_end(b"+ab", &mut 0, 2), Ok(None), "its end may still come");
        assert_eq!(find_end(b"+abc", &mut 0, 2), too_long);
        assert_eq!(find_end(b"+abc\n", &mut 0, 2), too_long, "not searched further");
        assert_eq!(find_end(b"+\r\nabcdef", &mut 0, 0), Ok(Some(1)));
        assert_eq!(find_end(b"+a", &mut 0, usize::MAX), Ok(None));
    }

    #[test]
    fn lengths_are_digits_below_two_to_the_64() {
        assert_eq!(parse_length(b"0"), Some(0));
        assert_eq!(parse_length(b"007"), Some(7));
        assert_eq!(parse_length(b"18446744073709551615"), Some(u64::MAX));
        for text in [
            &b""[..],
            b"-1",
            b"+1",
            b" 1",
            b"1 ",
            b"1a",
            b"1:",
            b"1/",
            b"0x1",
            b"18446744073709551616",
            b"99999999999999999999",
        ] {
            assert_eq!(parse_length(text), None, "{text:?}");
        }
    }

    #[test]
    fn integers_cover_all_of_i64_and_no_more() {
        assert_eq!(parse_integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_integer(b"+5"), Some(5));
        assert_eq!(parse_integer(b"-0"), Some(0));
        for text in
            [&b""[..], b"-", b"+", b"--1", b"+-1", b"1.0", b"9223372036854775808", b"-9223372036854775809"]
        {
            assert_eq!(parse_integer(text), None, "{text:?}");
        }
    }

    #[test]
    fn doubles_and_big_numbers_are_checked() {
        for text in
            [&b"1.23"[..], b"-0", b"10", b"1e+300", b"inf", b"-inf", b"nan", b"-nan", b"0.10000000000000001"]
        {
            assert!(is_double(text), "{text:?}");
        }
        for text in [&b""[..], b"1,2", b"one", b" 1", b"\xff", b"1e", b"0x1"] {
            assert!(!is_double(text), "{text:?}");
        }
        assert!(is_big_number(b"-3492890328409238509324850943850943825024385"));
        for text in [&b""[..], b"-", b"1.5", b"1e5", b"+-1", b"12a"] {
            assert!(!is_big_number(text), "{text:?}");
        }
    }
}
