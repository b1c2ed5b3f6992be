//! Writes the keys to Redis before they are asked for.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use resp::{Decoder, Frame, FrameLimits, encode_command};

use crate::error::Error;
use crate::options::Options;

/// Bytes of commands sent before their replies are read.
const BATCH_BYTES: usize = 1 << 20;
/// No reply for this long ends the attempt.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of a reply that is `+OK` or an error.
const REPLY_LIMITS: FrameLimits = FrameLimits {
    max_bulk_bytes: 64 * 1024,
    max_elements: 16,
    max_depth: 1,
    max_line_bytes: 64 * 1024,
    max_frame_bytes: 64 * 1024,
};

/// Sets every key of `options` to a value of its own length.
///
/// # Errors
/// [`Error::Fill`] when Redis cannot be reached or refuses.
pub(crate) fn fill(options: &Options) -> Result<(), Error> {
    set_all(options).map_err(|why| Error::Fill { address: options.redis.clone(), why })
}

fn set_all(options: &Options) -> Result<(), String> {
    let in_words = |error: io::Error| error.to_string();
    let mut stream = TcpStream::connect(&options.redis).map_err(in_words)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(in_words)?;
    stream.set_nodelay(true).map_err(in_words)?;
    let value = vec![b'v'; options.value_bytes];
    let digits = options.digits();
    let mut replies = Replies { decoder: Decoder::new(REPLY_LIMITS), buffer: BytesMut::new() };
    let mut commands = BytesMut::new();
    let mut unanswered = 0;
    for number in 0..options.keys {
        let key = format!("{}{number:0digits$}", options.key_prefix);
        encode_command(&mut commands, &[b"SET", key.as_bytes(), &value]);
        unanswered += 1;
        if commands.len() >= BATCH_BYTES || number + 1 == options.keys {
            stream.write_all(&commands).map_err(in_words)?;
            commands.clear();
            for _ in 0..std::mem::take(&mut unanswered) {
                replies.next(&mut stream)?;
            }
        }
    }
    Ok(())
}

struct Replies {
    decoder: Decoder,
    buffer: BytesMut,
}

impl Replies {
    /// The reply to one SET.
    fn next(&mut self, stream: &mut TcpStream) -> Result<(), String> {
        loop {
            match self.decoder.decode(&mut self.buffer).map_err(|error| error.to_string())? {
                Some(Frame::Error(text)) => return Err(String::from_utf8_lossy(&text).into_owned()),
                Some(_) => return Ok(()),
                None => {}
            }
            let mut room = [0; 16 * 1024];
            match stream.read(&mut room).map_err(|error| error.to_string())? {
                0 => return Err("it closed the connection".into()),
                count => self.buffer.extend_from_slice(&room[..count]),
            }
        }
    }
}
