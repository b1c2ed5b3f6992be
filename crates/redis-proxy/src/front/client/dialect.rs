//! What a front says of its protocol to the loop that all fronts share.

use std::task::Context;

use super::drain::Drain;
use super::stream::Stream;
use crate::buffer_pool::BufferPool;
use crate::session::Output;

/// What a client has sent and nobody has used yet.
#[derive(Default)]
pub(in crate::front) struct Input {
    /// Half a request, or requests that must wait. Owned only while there are some.
    pub(in crate::front) bytes: Vec<u8>,
    /// Nothing follows: the client has shut its side.
    pub(in crate::front) is_last: bool,
}

impl Input {
    /// Whether all that came is used, and more may come.
    #[inline]
    pub(in crate::front) fn is_used_up(&self) -> bool {
        self.bytes.is_empty() && !self.is_last
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::front) enum Ending {
    /// The client has left, was killed, or cannot be told anything true: nothing to say.
    Gone,
    /// After an answer that is the last.
    Answered,
    /// It was idle, and its place is for somebody who waits.
    GivesWay,
    /// The client does not read.
    Stuck,
}

/// What is done with a client for whom nothing can be done at once.
pub(in crate::front) enum Next {
    /// Something has come up after all.
    Again,
    /// More of its requests are read.
    Read,
    /// None are, before something that is due has come, or its time is over.
    Wait,
    End(Ending),
}

/// A protocol, and one client's state in it: it makes answers of requests. The loop ([`Client`](super::Client)) owns the
/// bytes that come and the clocks, and calls in this order, round after round within one poll of the client's task:
/// [`collect`](Dialect::collect), a write, [`poll_answers`](Dialect::poll_answers), [`requests`](Dialect::requests) on what
/// was kept, and if none of that moved anything, [`next`](Dialect::next).
pub(in crate::front) trait Dialect {
    /// Where its worker's buffers are.
    fn buffers(&self) -> &BufferPool;

    /// The end of the program, for the clients of this front.
    fn drain(&self) -> &Drain;

    /// How long a client may take nothing that is written to it.
    fn write_timeout_ns(&self) -> u64;

    /// Whether others want the memory that a large answer holds.
    fn is_crowded(&self) -> bool;

    /// Answers in their order, which the loop writes before it asks for more.
    fn output(&mut self) -> &mut Output;

    /// Called once, by the task that serves the client: what is to wake it has its waker from here.
    fn start(&mut self, cx: &mut Context<'_>);

    /// Begins a round: what came for the client meanwhile goes to the output. An end that overtakes all else.
    fn collect(&mut self) -> Option<Ending>;

    /// Whether the connection ends with what is about to be written, and only that tells the client so.
    fn is_last_output(&self) -> bool;

    /// All of the output is with the kernel; before, the client did not take it if it `was_blocked`.
    fn written(&mut self, was_blocked: bool);

    /// The client does not take the output: what is held for it is counted, `encrypted` bytes beside the output too, and let go of if it
    /// is too much.
    fn held_up(&mut self, encrypted: usize, cx: &mut Context<'_>) -> Option<Ending>;

    /// Moves what is answered by now to the output, as much as fits. Whether anything moved.
    ///
    /// # Errors
    /// The end of a client that can get no answer any more.
    fn poll_answers(&mut self, input: &mut Input, cx: &mut Context<'_>) -> Result<bool, Ending>;

    /// Bytes have come at `now_ns`, or the client has shut its side.
    fn arrived(&mut self, now_ns: u64);

    /// Whether requests that were kept may be taken up now.
    fn takes_requests(&mut self) -> bool;

    /// Starts the requests in `bytes`, as many as may be started now; how many bytes that used.
    fn requests(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize;

    /// Nothing moves and all that was answered is written.
    fn next(&mut self, input: &mut Input) -> Next;

    /// The client's task is about to sleep: until when, `u64::MAX` being for ever.
    ///
    /// # Errors
    /// The end of a client that is not waited for.
    fn due(&mut self, stream: &Stream, input: &Input, cx: &mut Context<'_>) -> Result<u64, Ending>;

    /// That instant has passed. `None` if the client goes on: another round follows.
    fn overdue(&mut self, stream: &Stream) -> Option<Ending>;
}
