//! Writes what a client is due.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::stream::Stream;
use crate::session::{Output, Unwritten};

/// What came of an attempt to write.
pub(super) struct Written {
    /// Ready once all of it is with the kernel.
    pub(super) outcome: Poll<io::Result<()>>,
    /// Whether any of it went: a client that reads slowly is not one that stopped.
    pub(super) moved: bool,
}

/// Writes all of the output, in one system call where the kernel takes it.
pub(super) fn write_all(output: &mut Output, stream: &mut Stream, cx: &mut Context<'_>) -> Written {
    let mut moved = false;
    let outcome = loop {
        let stream = Pin::new(&mut *stream);
        let polled = match output.unwritten() {
            Unwritten::Nothing => {
                output.reset();
                break Poll::Ready(Ok(()));
            }
            Unwritten::Bytes(bytes) => stream.poll_write(cx, bytes),
            Unwritten::Pieces(pieces) => stream.poll_write_vectored(cx, &pieces.map(IoSlice::new)),
        };
        match polled {
            Poll::Pending => break Poll::Pending,
            Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) => output.wrote(count),
            Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
        }
        moved = true;
    };
    Written { outcome, moved }
}
