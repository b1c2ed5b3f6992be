//! Values that tell which write they come from: the key, the number, and a filling that the number determines.

use crate::history::SeenValue;

/// Every so many numbers, a value is of a size that takes other ways through the program.
const LARGE_EVERY: u64 = 251;
const LARGE_BYTES: usize = 20_000;

/// What the key's writer writes for this number.
pub(super) fn encode(key: usize, number: u64) -> Vec<u8> {
    let mut value = format!("k{key}={number} ").into_bytes();
    value.resize(value.len() + filling(number), b'x');
    value
}

/// What a reader of the key makes of a value.
pub(super) fn decode(key: usize, value: &[u8]) -> SeenValue {
    decode_start(key, value, usize::MAX)
}

/// What a reader makes of the first `length` bytes of a value: enough to hold its number.
pub(super) fn decode_start(key: usize, start: &[u8], length: usize) -> SeenValue {
    let number = || {
        let rest = start.strip_prefix(b"k")?.strip_prefix(key.to_string().as_bytes())?.strip_prefix(b"=")?;
        let end = memchr::memchr(b' ', rest)?;
        let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        let tail = &rest[end + 1..];
        let before = start.len() - tail.len();
        let expected = (before + filling(number)).min(length).checked_sub(before)?;
        (tail.len() == expected && tail.iter().all(|&byte| byte == b'x')).then_some(number)
    };
    number().map_or(SeenValue::Foreign, SeenValue::Number)
}

fn filling(number: u64) -> usize {
    match number % LARGE_EVERY {
        0 => LARGE_BYTES,
        other => usize::try_from(other % 61).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_number_and_nothing_else_is_taken_for_one() {
        for number in [1, 60, 250, 251, 252, 1_000_000] {
            assert_eq!(decode(7, &encode(7, number)), SeenValue::Number(number));
            assert_eq!(decode(8, &encode(7, number)), SeenValue::Foreign);
            assert_eq!(decode(7, &encode(77, number)), SeenValue::Foreign);
        }
        let whole = encode(7, 251);
        for cut in [0, 1, 5, whole.len() - 1] {
            assert_eq!(decode(7, &whole[..cut]), SeenValue::Foreign);
        }
        for number in [1, 60, 251] {
            let whole = encode(7, number);
            assert_eq!(decode_start(7, &whole[..whole.len().min(41)], 41), SeenValue::Number(number));
            assert_eq!(decode_start(7, &whole[..whole.len().min(41) - 1], 41), SeenValue::Foreign);
        }
        let mut damaged = whole;
        *damaged.last_mut().unwrap() = b'y';
        assert_eq!(decode(7, &damaged), SeenValue::Foreign);
    }
}
