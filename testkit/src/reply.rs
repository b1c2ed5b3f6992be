//! A RESP2 value as a blocking stream delivers it: replies for the client, commands for the scripted Redis. Of RESP3,
//! what HELLO and reads of strings and hashes answer is understood too.

use std::io::{self, BufRead, ErrorKind};

/// A reply of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`.
    Simple(String),
    /// `-ERR text`; the text has no leading dash.
    Error(String),
    /// `:1`.
    Integer(i64),
    /// `$5`, five bytes.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`.
    Nil,
    /// `*2` and two replies; of a map, `%1` and two replies, its keys and values in turn.
    Array(Vec<Reply>),
}

/// Reads one value. A stream that ends before its first byte, or inside, is `UnexpectedEof`.
pub(crate) fn read_reply(reader: &mut impl BufRead) -> io::Result<Reply> {
    let line = read_line(reader)?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed("an empty line"))?;
    let number = || rest.parse::<i64>().map_err(|_| malformed(&line));
    match kind {
        "+" => Ok(Reply::Simple(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => Ok(Reply::Integer(number()?)),
        "$" | "*" if rest == "-1" => Ok(Reply::Nil),
        "_" => Ok(Reply::Nil),
        "$" => {
            let length = usize::try_from(number()?).map_err(|_| malformed(&line))?;
            let mut bytes = vec![0; length + 2];
            reader.read_exact(&mut bytes)?;
            if !bytes.ends_with(b"\r\n") {
                return Err(malformed("a bulk without CRLF after it"));
            }
            bytes.truncate(length);
            Ok(Reply::Bulk(bytes))
        }
        "*" | "%" => {
            let each = if kind == "%" { 2 } else { 1 };
            (0..each * number()?).map(|_| read_reply(reader)).collect::<io::Result<_>>().map(Reply::Array)
        }
        _ => Err(malformed(&line)),
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None if line.ends_with(b"\n") => Err(malformed("a line that ends with a bare LF")),
        None => Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended")),
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("no reply: {what:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8]) -> io::Result<Reply> {
        read_reply(&mut bytes)
    }

    #[test]
    fn each_kind_of_reply_is_read() {
        let array = read(b"*6\r\n+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*0\r\n").unwrap();
        let expected = [
            Reply::Simple("OK".to_owned()),
            Reply::Error("ERR no".to_owned()),
            Reply::Integer(-7),
            Reply::Bulk(b"a\r\n".to_vec()),
            Reply::Nil,
            Reply::Array(Vec::new()),
        ];
        assert_eq!(array, Reply::Array(expected.to_vec()));
    }

    #[test]
    fn a_nil_and_a_map_of_resp3_are_read() {
        let map = read(b"%1\r\n$1\r\nf\r\n_\r\n").unwrap();
        assert_eq!(map, Reply::Array(vec![Reply::Bulk(b"f".to_vec()), Reply::Nil]));
    }

    #[test]
    fn a_cut_or_malformed_reply_is_an_error() {
        for cut in [b"".as_slice(), b"+O", b"$3\r\nab", b"*2\r\n+OK\r\n"] {
            assert_eq!(read(cut).unwrap_err().kind(), ErrorKind::UnexpectedEof, "{cut:?}");
        }
        for bad in [b"+OK\n".as_slice(), b"\r\n", b"$x\r\n", b"$2\r\nabcd", b"?\r\n"] {
            assert_eq!(read(bad).unwrap_err().kind(), ErrorKind::InvalidData, "{bad:?}");
        }
    }
}
