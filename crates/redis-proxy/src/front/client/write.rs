//! Writes what a client is due.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::stream::Stream;
use crate::session::{Output, Unwritten};

/// Writes all of the output, in one system call where the kernel takes it. Pending, and whether anything went: a client that
/// reads slowly is not one that stopped.
#[inline]
pub(super) fn write_all(
    output: &mut Output,
    stream: &mut Stream,
    cx: &mut Context<'_>,
) -> (Poll<io::Result<()>>, bool) {
    let mut moved = false;
    loop {
        let stream = Pin::new(&mut *stream);
        let polled = match output.unwritten() {
            Unwritten::Nothing => {
                output.wrote(0);
                return (Poll::Ready(Ok(())), moved);
            }
            Unwritten::Bytes(bytes) => stream.poll_write(cx, bytes),
            Unwritten::Pieces(pieces) => stream.poll_write_vectored(cx, &pieces.map(IoSlice::new)),
        };
        match polled {
            Poll::Pending => return (Poll::Pending, moved),
            Poll::Ready(Ok(0)) => return (Poll::Ready(Err(io::ErrorKind::WriteZero.into())), moved),
            Poll::Ready(Ok(count)) if output.wrote(count) => return (Poll::Ready(Ok(())), true),
            Poll::Ready(Ok(_)) => moved = true,
            Poll::Ready(Err(error)) => return (Poll::Ready(Err(error)), moved),
        }
    }
}
