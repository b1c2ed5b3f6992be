//! What the loop of a client ([`Client`]) serves by HTTP: parse, look up, append to the output.
//!
//! Order: answers leave in the order of the requests ([`Replies`]). A request that waits for Redis stands in that queue; those
//! behind it are started (their fetches travel together) and wait there too, at most `window` of them.

mod answers;
mod deadline;
mod requests;

use std::rc::Rc;
use std::task::Context;

use self::answers::QueuedAnswer;
use super::HttpFront;
use super::answer::Answer;
use super::head::{Beginning, Refusal, find_end};
use super::known::Habit;
use crate::buffer_pool::BufferPool;
use crate::clock::now_ns;
use crate::front::client::{Client, Dialect, Drain, Ending, Input, Next, Stream};
use crate::places::{Place, Seat};
use crate::session::{Output, Replies, SeenKeys};
use crate::tls::{PortName, begins_tls, tell_that_it_is_plain};

/// Requests of one connection that wait for Redis at the same time, at most.
const MOST_WAITING: usize = 64;
/// Where a connection starts: the size of its values is not known yet.
const FIRST_WINDOW: usize = 2;
/// A value above this makes the connection fetch one at a time: its waiting answers are memory.
const LARGE_VALUE: usize = 16 * 1024;
/// Large values that may wait behind an answer that the client does not take; further ones are asked for at their turn.
const HELD_BEHIND_BYTES: usize = 8 << 20;

/// Serves one client until either side ends it; then what it holds is let go of, once the socket is closed.
///
/// Cost: the client is made before its task, since an `async fn` has room for its arguments beside what they become.
pub(in crate::front) fn serve(
    stream: Stream,
    front: Rc<HttpFront>,
    place: Place,
    holds: impl Sized,
) -> impl Future<Output = ()> {
    let client = Client::new(stream, Connection::new(front, place.seat()));
    // Dropped in this order.
    let mut served = (client, Some(place), holds);
    async move {
        let _ = &served; // all of it is this task's
        match served.0.serve().await {
            Ending::Gone | Ending::Stuck => {}
            Ending::Answered => {
                served.0.dialect().seat.is_busy();
                served.0.linger().await;
            }
            Ending::GivesWay => {
                // On the heap, as all that an idle client has no use for.
                let _farewell = Box::new(served.1.take().map(Place::give_up));
                served.0.linger().await;
            }
        }
    }
}

/// HTTP, as one client speaks it.
struct Connection {
    front: Rc<HttpFront>,
    /// Of the bytes that wait: those that are known to hold no end of a head.
    scanned: usize,
    /// Of half a head, how far it was judged.
    beginning: Option<Box<Beginning>>,
    output: Output,
    replies: Replies<QueuedAnswer>,
    window: usize,
    /// Answers were let go of: no more requests are taken until those at hand are answered.
    let_go: bool,
    /// Bytes of a request's body still to be dropped.
    body_left: u64,
    /// Whether the empty line that may precede a request was seen.
    blank_skipped: bool,
    habit: Habit,
    /// No more requests are taken; the connection ends when all is answered.
    closing: bool,
    /// The clock when the requests at hand were taken up: after the read, or after what held them up since.
    turn_ns: u64,
    /// The tick of the last request: one nanosecond apart within a batch.
    tick_ns: u64,
    /// What this client has been shown that is not held.
    seen: SeenKeys,
    /// Hits encoded since the last write.
    hits: u64,
    served_any: bool,
    /// Since when half a request lies here.
    partial_since_ns: Option<u64>,
    /// What those who look for a place see of it.
    seat: Seat,
    /// What the client had left to take when it was last found idle.
    left_to_take: u32,
    /// The turn of that.
    left_turn_ns: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Nobody takes what was fetched for it.
        self.replies = Replies::default();
        self.front.read.released();
    }
}

impl Connection {
    fn new(front: Rc<HttpFront>, seat: Seat) -> Self {
        let now_ns = now_ns();
        Connection {
            scanned: 0,
            beginning: None,
            output: Output::default(),
            replies: Replies::default(),
            window: FIRST_WINDOW,
            let_go: false,
            body_left: 0,
            blank_skipped: false,
            habit: Habit::default(),
            closing: false,
            turn_ns: now_ns,
            tick_ns: now_ns,
            seen: SeenKeys::default(),
            hits: 0,
            served_any: false,
            partial_since_ns: None,
            seat,
            left_to_take: u32::MAX,
            left_turn_ns: 0,
            front,
        }
    }

    fn set_clock(&mut self, now_ns: u64) {
        self.turn_ns = now_ns;
        self.tick_ns = now_ns.max(self.tick_ns + 1);
        self.front.refresh(now_ns);
    }
}

impl Dialect for Connection {
    fn buffers(&self) -> &BufferPool {
        &self.front.buffers
    }

    fn drain(&self) -> &Drain {
        &self.front.drain
    }

    fn write_timeout_ns(&self) -> u64 {
        self.front.timeouts.get().write_ns
    }

    fn is_crowded(&self) -> bool {
        self.front.read.is_crowded()
    }

    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn start(&mut self, cx: &mut Context<'_>) {
        self.seat.wakes(cx.waker());
    }

    fn collect(&mut self) -> Option<Ending> {
        None
    }

    fn is_last_output(&self) -> bool {
        // A response says so itself.
        false
    }

    fn written(&mut self, was_blocked: bool) {
        self.all_written(was_blocked);
    }

    fn held_up(&mut self, _encrypted: usize, cx: &mut Context<'_>) -> Option<Ending> {
        self.let_go(cx);
        None
    }

    fn poll_answers(&mut self, _input: &mut Input, cx: &mut Context<'_>) -> Result<bool, Ending> {
        Ok(self.answer(cx))
    }

    fn arrived(&mut self, now_ns: u64) {
        self.set_clock(now_ns);
    }

    fn takes_requests(&mut self) -> bool {
        !self.closing
    }

    fn requests(&mut self, bytes: &[u8], _cx: &mut Context<'_>) -> usize {
        self.process(bytes)
    }

    fn next(&mut self, input: &mut Input) -> Next {
        let ends = self.closing || input.is_last;
        if ends && self.replies.is_empty() && self.output.is_empty() {
            return Next::End(if input.is_last { Ending::Gone } else { Ending::Answered });
        }
        if ends || self.replies.len() >= self.window { Next::Wait } else { Next::Read }
    }

    fn due(&mut self, stream: &Stream, input: &Input, _cx: &mut Context<'_>) -> Result<u64, Ending> {
        self.deadline(stream, input)
    }

    fn overdue(&mut self, stream: &Stream) -> Option<Ending> {
        self.passed(stream)
    }
}

impl Connection {
    /// Starts the requests in `bytes`, as many as may be started now; how many bytes that used.
    fn process(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        let mut partial = false;
        // How many bytes there were when keys were last looked ahead at, less what that has seen.
        let mut unseen = bytes.len();
        while !self.closing && used < bytes.len() {
            let rest = &bytes[used..];
            if self.body_left > 0 {
                let dropped = (rest.len() as u64).min(self.body_left);
                self.body_left -= dropped;
                used += usize::try_from(dropped).unwrap_or(rest.len());
                self.request_ended();
                continue;
            }
            if self.output.is_full(self.front.output_bytes.get()) || self.replies.len() >= self.window {
                break;
            }
            // RFC 9112, section 2.2: one empty line before a request is passed over. Its CR may have come alone.
            if rest.starts_with(b"\r\n") && !self.blank_skipped {
                self.blank_skipped = true;
                self.scanned = 0;
                used += 2;
                continue;
            }
            let scanned = self.scanned;
            if scanned == 0
                && let Some(length) = self.fresh_request(rest, &mut unseen)
            {
                self.blank_skipped = false;
                used += length;
                self.request_ended();
                continue;
            }
            match find_end(rest, &mut self.scanned, &self.front.sizes.get().head) {
                Ok(Some(length)) => {
                    self.scanned = 0;
                    if scanned > 0 {
                        self.beginning = None;
                    }
                    self.blank_skipped = false;
                    used += length;
                    self.request(&rest[..length]);
                    self.request_ended();
                }
                Ok(None) => {
                    partial = self.may_begin(rest, scanned == 0);
                    break;
                }
                Err(refusal) => self.refuse(refusal_of(rest, refusal)),
            }
        }
        if partial || self.body_left > 0 {
            self.partial_since_ns.get_or_insert(self.turn_ns);
        } else {
            self.partial_since_ns = None;
        }
        used
    }

    /// Whether these bytes, perhaps the first of a head, may begin one. If not, it is refused.
    #[cold]
    fn may_begin(&mut self, bytes: &[u8], are_first: bool) -> bool {
        if are_first {
            self.beginning = None;
        }
        let beginning = self.beginning.get_or_insert_default();
        let judged = beginning.judge(bytes, &self.front.sizes.get().head);
        judged.map_err(|refusal| self.refuse(refusal_of(bytes, refusal))).is_ok()
    }

    /// If all of a request is here: the next one has its own time to arrive.
    fn request_ended(&mut self) {
        if self.body_left == 0 {
            self.partial_since_ns = None;
        }
    }
}

/// What is answered to bytes that begin no request.
#[cold]
fn refusal_of(bytes: &[u8], refusal: Refusal) -> Answer {
    if begins_tls(bytes) {
        tell_that_it_is_plain(PortName::Http);
    }
    Answer::Refused(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The task of a connection is this, 72 bytes that it holds beside, and 96 of tokio: 512, which is a size of jemalloc. The next is 640.
    #[test]
    fn an_idle_connection_has_a_task_of_512_bytes() {
        let size = size_of::<Client<Connection>>();
        assert!(size + 72 + 96 <= 512, "{size} bytes");
    }
}
