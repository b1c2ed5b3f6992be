//! The words of an inline request: `sdssplitargs` of redis-server 7.0.15 (sds.c).
//!
//! Words are parted by blanks, and may have quoted pieces. Between double quotes `\xHH` is a byte, `\n \r \t \b \a` are
//! what they are in C, and any other escaped byte is itself; between single quotes `\'` is a quote. A closing quote must
//! end its word.

use std::ops::Range;

/// Splits `line`, which holds no NUL. The words go one after the other into `text`, and where they lie into `words`.
/// `None` if its quotes are unbalanced.
pub(super) fn split(line: &[u8], text: &mut Vec<u8>, words: &mut Vec<Range<usize>>) -> Option<()> {
    let mut rest = line;
    loop {
        while let [blank, after @ ..] = rest
            && is_space(*blank)
        {
            rest = after;
        }
        if rest.is_empty() {
            return Some(());
        }
        let start = text.len();
        rest = word(rest, text)?;
        words.push(start..text.len());
    }
}

/// Appends the word at the front of `rest`; answers what follows it.
fn word<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            // Not all of isspace: a vertical tab or form feed starts no word and ends none.
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some(rest),
            [b'"', quoted @ ..] => return ends_word(double_quoted(quoted, text)?),
            [b'\'', quoted @ ..] => return ends_word(single_quoted(quoted, text)?),
            [byte, after @ ..] => {
                text.push(*byte);
                rest = after;
            }
        }
    }
}

/// Appends what is between double quotes; answers what follows the closing one.
fn double_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescaped(*escaped), after),
            [b'"', after @ ..] => return Some(after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        text.push(byte);
        rest = after;
    }
}

/// Appends what is between single quotes; answers what follows the closing one.
fn single_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [b'\'', after @ ..] => return Some(after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        text.push(byte);
        rest = after;
    }
}

fn ends_word(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(|byte| is_space(*byte)).then_some(rest)
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// C's `isspace` in the locale "C".
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (mut text, mut words) = (Vec::new(), Vec::new());
        split(line, &mut text, &mut words)?;
        Some(words.into_iter().map(|word| text[word].to_vec()).collect())
    }

    #[test]
    fn words_are_what_redis_makes_of_a_line() {
        let cases: [(&[u8], &[&[u8]]); 10] = [
            (b"", &[]),
            (b"  \t ", &[]),
            (b"set  k v ", &[b"set", b"k", b"v"]),
            (br#"set k "a b" 'c d'"#, &[b"set", b"k", b"a b", b"c d"]),
            (br#""\x41\n\r\t\b\a\q\\\"""#, &[b"A\n\r\t\x08\x07q\\\""]),
            (br#"'it\'s' '\n'"#, &[b"it's", b"\\n"]),
            (br#"pre"fix" """#, &[b"prefix", b""]),
            (br#""\x4" "\xzz""#, &[b"x4", b"xzz"]),
            (b"\x0ba\x0bb\x0c c", &[b"a\x0bb\x0c", b"c"]),
            (b"\xff \"\xfe\"", &[b"\xff", b"\xfe"]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).expect("balanced"), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn quotes_must_balance_and_end_their_word() {
        for line in [&br#"""#[..], b"'", br#""a"b"#, b"'a'b", br#""a"'b'"#, br#"a"b"#, br#""a\""#, br#"'a\'"#]
        {
            assert_eq!(words(line), None, "{}", line.escape_ascii());
        }
    }
}
