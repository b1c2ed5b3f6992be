//! The requests of one write.

use crate::arguments::{LoadArguments, RequestKind};
use crate::choice::KeyChoice;

/// Digits of a key's number: with `key:` in front a key has 16 bytes.
const DIGITS: usize = 12;

/// As many equally long requests as one write has.
#[derive(Debug)]
pub(crate) struct RequestBatch {
    bytes: Vec<u8>,
    request_bytes: usize,
    /// Where the digits stand in a request.
    digits_at: usize,
}

impl RequestBatch {
    pub(crate) fn new(arguments: &LoadArguments) -> Self {
        let number = if arguments.choice.is_numbered() { "0".repeat(DIGITS) } else { String::new() };
        let key = format!("{}{number}", arguments.key);
        let before = before_key(&arguments.kind, key.len());
        let request = format!("{before}{key}{}", after_key(arguments));
        RequestBatch {
            bytes: request.repeat(arguments.depth).into_bytes(),
            request_bytes: request.len(),
            digits_at: before.len() + arguments.key.len(),
        }
    }

    /// The next requests: as many as there are keys left to ask for. How many they are, and their bytes.
    pub(crate) fn next(&mut self, choice: &mut KeyChoice) -> (usize, &[u8]) {
        if !choice.is_numbered() {
            return (self.bytes.len() / self.request_bytes, &self.bytes);
        }
        let mut count = 0;
        for request in self.bytes.chunks_exact_mut(self.request_bytes) {
            let Some(number) = choice.draw() else { break };
            write_number(&mut request[self.digits_at..self.digits_at + DIGITS], number);
            count += 1;
        }
        (count, &self.bytes[..count * self.request_bytes])
    }
}

fn before_key(kind: &RequestKind, key_bytes: usize) -> String {
    match kind {
        RequestKind::Http { .. } => "GET /".to_owned(),
        RequestKind::Get => format!("*2\r\n$3\r\nGET\r\n${key_bytes}\r\n"),
        RequestKind::Set => format!("*3\r\n$3\r\nSET\r\n${key_bytes}\r\n"),
    }
}

fn after_key(arguments: &LoadArguments) -> String {
    let LoadArguments { port, value_bytes, .. } = arguments;
    match &arguments.kind {
        RequestKind::Http { fields } => format!(" HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{fields}\r\n"),
        RequestKind::Get => "\r\n".to_owned(),
        RequestKind::Set => format!("\r\n${value_bytes}\r\n{}\r\n", "v".repeat(*value_bytes)),
    }
}

/// Over what stands there, whose first digits are zeros already where `number` has fewer.
fn write_number(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::arguments;

    fn next(line: &str) -> String {
        let mut arguments = arguments(line);
        let mut batch = RequestBatch::new(&arguments);
        batch.next(&mut arguments.choice);
        String::from_utf8(batch.next(&mut arguments.choice).1.to_vec()).unwrap()
    }

    #[test]
    fn requests_are_as_the_protocols_have_them() {
        let http = next("7 --key 100 --fields Accept:x\r\n");
        assert_eq!(http, "GET /100 HTTP/1.1\r\nHost: 127.0.0.1:7\r\nAccept:x\r\n\r\n");
        let get = next("7 --protocol resp --choice walk --keys 9");
        assert_eq!(get, "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n");
        let set = next("7 --protocol resp --command set --value-bytes 2 --key k");
        assert_eq!(set, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n");
    }

    #[test]
    fn a_batch_has_a_key_of_its_own_for_each_request_and_ends_with_the_last_key() {
        let text = next("7 --choice once --keys 5 --depth 3");
        let keys: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("GET /key:")).collect();
        assert_eq!(keys, ["000000000003 HTTP/1.1", "000000000004 HTTP/1.1"]);
    }
}
