//! A pin's connection to Redis, driven by its client's task.

use std::task::{Context, Poll};

use super::Pinned;

/// The pin is gone, and whatever its client had there.
pub(crate) struct PinLost;

/// What a look at the connection has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Nothing,
    /// All that was to be written is: requests that waited for room may go on.
    Room,
    /// So many bytes of what Redis says.
    Bytes(usize),
    /// Redis has closed it, as its client has.
    End,
}

impl Pinned {
    /// Writes what is to be written, and reads once into `room`. `client_end` once the client has shut its side: whether it has
    /// asked for nothing more. Redis then sees the end where it must.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client_end: Option<bool>,
        room: &mut [u8],
    ) -> Result<Progress, PinLost> {
        let backlog = self.stream.backlog();
        if let Poll::Ready(Err(_)) = self.stream.poll_write(cx) {
            return Err(PinLost);
        }
        let is_written = self.stream.backlog() == 0;
        if is_written
            && client_end.is_some_and(|all_sent| self.awaits_block() || all_sent && self.usage.is_unread())
            // As its client has done: Redis then answers what it can at once, and takes nothing for nobody later.
            && let Poll::Ready(Err(_)) = self.stream.poll_shutdown(cx)
        {
            return Err(PinLost);
        }
        match self.stream.poll_read(cx, room) {
            Poll::Pending if backlog > 0 && is_written => Ok(Progress::Room),
            Poll::Pending => Ok(Progress::Nothing),
            Poll::Ready(Ok(count)) if count > 0 => Ok(Progress::Bytes(count)),
            Poll::Ready(_) if self.stream.is_shut() => Ok(Progress::End),
            Poll::Ready(_) => Err(PinLost),
        }
    }
}
