//! Text that a terminal shows and does not obey.
//!
//! Keys, and what a server says, may hold anything: escape sequences that move the cursor or rename the window, and characters that
//! change the order of those around them.

use std::fmt::Write;

/// The most characters of a server's words in a line of ours.
const MOST_CHARS: usize = 300;

/// Whether a terminal shows it in cells of its own, where it stands. What has no width is left out too: nobody sees it.
pub(crate) fn is_shown(character: char) -> bool {
    // Marks of direction, joiners and their kin have the width of nothing (Unicode, UAX #9 and category Cf); so do most marks that
    // are put on the letter before, which a terminal puts there.
    let is_invisible = matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    !character.is_control() && !is_invisible
}

/// `text` on one line: what is not shown, and bytes that are not UTF-8, as `\xNN`.
pub(crate) fn line(text: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in text.utf8_chunks() {
        chunk.valid().chars().for_each(|character| push(&mut shown, character));
        chunk.invalid().iter().for_each(|byte| push_byte(&mut shown, *byte));
    }
    shown
}

/// The same of several lines, which stay lines.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(|text| line(text.as_bytes()) + "\n").collect()
}

/// A server's words as part of a line of ours.
pub(crate) fn words(text: &str) -> String {
    let text = text.trim();
    let end = text.char_indices().nth(MOST_CHARS).map_or(text.len(), |(at, _)| at);
    let more = if end < text.len() { "..." } else { "" };
    line(text[..end].replace(['\n', '\r'], " ").as_bytes()) + more
}

fn push(shown: &mut String, character: char) {
    if is_shown(character) {
        return shown.push(character);
    }
    let mut bytes = [0; 4];
    for byte in character.encode_utf8(&mut bytes).bytes() {
        push_byte(shown, byte);
    }
}

fn push_byte(shown: &mut String, byte: u8) {
    // Text takes all that is written to it.
    let _ = write!(shown, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, shown) in [
            ("user:1", "user:1"),
            ("é漢🙂", "é漢🙂"),
            ("a\x1b[31mb", "a\\x1b[31mb"),
            ("a\u{9b}b", "a\\xc2\\x9bb"),
            ("a\u{202e}b", "a\\xe2\\x80\\xaeb"),
            ("a\u{2066}b\u{200f}", "a\\xe2\\x81\\xa6b\\xe2\\x80\\x8f"),
            ("a\nb\tc\u{7f}", "a\\x0ab\\x09c\\x7f"),
        ] {
            assert_eq!(line(text.as_bytes()), shown);
        }
        assert_eq!(line(b"a\xff\x00"), "a\\xff\\x00");
        assert_eq!(lines("ready\r\nmore\x07\n"), "ready\nmore\\x07\n");
    }

    #[test]
    fn a_servers_words_are_one_line_and_not_endless() {
        assert_eq!(words("  not ready:\n  redis  "), "not ready:   redis");
        let long = words(&"é".repeat(1000));
        assert!(long.ends_with("é...") && long.chars().count() == MOST_CHARS + 3, "{long}");
    }
}
