//! A request on its way to Redis.

use bytes::BytesMut;
use resp::{Arguments, encode_command};

/// A request on its way to Redis.
#[derive(Clone, Copy)]
pub(crate) enum Request<'a> {
    /// As the client wrote it, which is as every server reads it.
    Raw(&'a [u8]),
    /// To be written anew.
    Encoded(Arguments<'a>),
}

impl Request<'_> {
    /// Its length as the client wrote it, or would have.
    pub(crate) fn len(&self) -> usize {
        match self {
            Request::Raw(bytes) => bytes.len(),
            Request::Encoded(_) => {
                let mut bytes = BytesMut::new();
                self.write(&mut bytes);
                bytes.len()
            }
        }
    }

    /// Appends it to what is to be written.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        match self {
            Request::Raw(bytes) => out.extend_from_slice(bytes),
            Request::Encoded(arguments) => {
                let arguments: Vec<&[u8]> = arguments.iter().collect();
                encode_command(out, &arguments);
            }
        }
    }
}
