//! Bytes as text that anybody may show: what is not printable UTF-8, and every backslash, is `\xNN`.

use std::fmt::Write;

/// The text of a key or of an argument. Told apart from every other one: no two keys have the same.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for shown in chunk.valid().chars() {
            match is_printable(shown) {
                true => text.push(shown),
                false => escape(shown.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

fn escape(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        // A string takes all.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Whether it is a mark on a page and nothing that moves others about, as what turns the direction of writing does.
fn is_printable(shown: char) -> bool {
    if shown.is_ascii() {
        return shown != '\\' && (shown == ' ' || shown.is_ascii_graphic());
    }
    // Behind another character: a mark that stands on one is printable there.
    let mut behind = String::from("a");
    behind.push(shown);
    behind.escape_debug().nth(2).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_is_told_by_its_bytes() {
        for (bytes, text) in [
            (&b"user:1 'a' \"b\" <script>"[..], "user:1 'a' \"b\" <script>"),
            ("größe 鍵 नमस्ते".as_bytes(), "größe 鍵 नमस्ते"),
            (b"a\\x00b", "a\\x5cx00b"),
            (b"a\0\n\x7f", "a\\x00\\x0a\\x7f"),
            (b"\xff\xc3", "\\xff\\xc3"),
            // Right to left from here on, a line's end, nothing that is seen.
            ("a\u{202e}b\u{2028}\u{200b}".as_bytes(), "a\\xe2\\x80\\xaeb\\xe2\\x80\\xa8\\xe2\\x80\\x8b"),
            (b"", ""),
        ] {
            assert_eq!(text_of(bytes), text);
        }
    }
}
