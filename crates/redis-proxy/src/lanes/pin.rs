//! Pins: connections to Redis that belong to one client for as long as it has state there.
//!
//! A pin is driven by its client's own task. One that was given back clean serves the next client of its key.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use resp::{Decoder, Frame, FrameLimits, ReplyScanner, encode_command};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{JoinHandle, spawn_local, yield_now};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use upstream::{
    Cluster, Duplex, Endpoint, OpenError, RawConnection, SlotRedirection, Step, Tenure, sent_elsewhere,
};

use super::bounds::Permit;
use super::elsewhere::{Elsewhere, in_words, may_be_elsewhere};
use super::key::{Destination, LaneKey};
use super::shared::{UNREACHABLE, unfit, unfit_line};
use super::{HelloReply, Lanes};

/// Clean pins that a worker keeps for the next client.
pub(crate) const KEPT_PINS: usize = 16;

/// Why there is no pin.
#[derive(Debug)]
pub(crate) struct NoPin(Obstacle);

#[derive(Debug)]
enum Obstacle {
    /// MAX_PINNED are in use.
    TooMany,
    /// No connection, or Redis turns it down.
    Open(OpenError),
}

impl NoPin {
    const TOO_MANY: NoPin = NoPin(Obstacle::TooMany);

    pub(super) fn unreachable(why: &str) -> Self {
        NoPin::open(OpenError::Unreachable(why.into()))
    }

    fn open(error: OpenError) -> Self {
        NoPin(Obstacle::Open(error))
    }

    /// Whether its user may not be in the database that it would have been for.
    pub(crate) fn is_about_database(&self) -> bool {
        matches!(self.0, Obstacle::Open(OpenError::Refused(Step::Select, _)))
    }

    /// In words for a client, its code first.
    pub(crate) fn text(&self) -> Bytes {
        match &self.0 {
            Obstacle::TooMany => Bytes::from_static(b"ERR proxy: too many pinned connections"),
            Obstacle::Open(OpenError::Unreachable(_)) => Bytes::from_static(UNREACHABLE),
            Obstacle::Open(OpenError::Unfit(why)) => unfit(why),
            Obstacle::Open(OpenError::Refused(_, text)) => text.clone(),
        }
    }
}

/// The pins of a worker that nobody uses. A task closes them in time, and those that Redis has closed at once.
#[derive(Default)]
pub(super) struct SparePins {
    pins: RefCell<VecDeque<Spare>>,
    is_tended: Cell<bool>,
    /// Of that task.
    tender: RefCell<Option<Waker>>,
}

struct Spare {
    key: LaneKey,
    stream: PinStream,
    since: Instant,
}

/// From one look at spare pins to the next, at the latest.
const LOOK: Duration = Duration::from_secs(1);

/// A pin that is on its way to its client. Dropped, nobody waits for it.
pub(crate) struct Pinning(JoinHandle<Result<PinStream, NoPin>>);

impl Pinning {
    /// Ready with the pin, or why there is none.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<PinStream, NoPin>> {
        let lost = |_| Err(NoPin::unreachable("the runtime has ended"));
        Pin::new(&mut self.0).poll(cx).map(|ended| ended.unwrap_or_else(lost))
    }
}

impl Drop for Pinning {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Lanes {
    /// Gets a connection for one client: one that is left over, or a new one.
    pub(crate) fn pin(self: &Rc<Self>, key: LaneKey) -> Pinning {
        Pinning(spawn_local(self.clone().find_pin(key)))
    }

    /// The same after so long a pause.
    pub(crate) fn pin_later(self: &Rc<Self>, key: LaneKey, pause: Duration) -> Pinning {
        let lanes = self.clone();
        Pinning(spawn_local(async move {
            sleep(pause).await;
            lanes.find_pin(key).await
        }))
    }

    /// One that is left over, if nobody waits for one in turn: at once, so that a client that is about to block is overtaken by
    /// nobody. That Redis has closed it is known here as soon as what the client has sent.
    pub(crate) fn spare_pin(&self, key: &LaneKey) -> Option<PinStream> {
        let permit = Some(self.bounds.pins.take().filter(|_| self.turns.is_empty())?);
        loop {
            let mut stream = self.left_over(key)?;
            if stream.is_silent() {
                stream.permit = permit;
                return Some(stream);
            }
        }
    }

    /// The same for a client that is about to block. They get theirs in the order in which they have asked, and their tasks are
    /// woken in that order; so a task of its own does it, which waits for no client.
    pub(crate) fn pin_in_turn(self: &Rc<Self>, key: LaneKey) -> Pinning {
        let (lanes, turn) = (self.clone(), self.turns.take());
        Pinning(spawn_local(async move {
            let mut stream = lanes.clone().find_pin(key).await?;
            if turn.come().await {
                // The one before it is woken, and writes now.
                yield_now().await;
                // Two connections that have just been greeted are looked at by Redis in the order of that, once (epoll(7),
                // level-triggered). An answer comes behind what was sent before it on the other.
                let answered = timeout(lanes.endpoint.limits.connect_timeout(), stream.is_answered());
                if !answered.await.unwrap_or(false) {
                    return Err(NoPin::unreachable("no answer to PING"));
                }
            }
            Ok(stream)
        }))
    }

    pub(super) async fn find_pin(self: Rc<Self>, key: LaneKey) -> Result<PinStream, NoPin> {
        let permit = self.bounds.pins.take().ok_or(NoPin::TOO_MANY)?;
        while let Some(mut stream) = self.left_over(&key) {
            // What Redis has closed by now is seen once the runtime has looked at its sockets.
            yield_now().await;
            if stream.is_silent() {
                stream.permit = Some(permit);
                return Ok(stream);
            }
        }
        self.open_pin(permit, &key).await
    }

    /// A new connection that proves who the client is.
    ///
    /// # Errors
    /// As [`pin`](Self::pin); what Redis says of the credentials is in it.
    pub(crate) async fn prove(self: Rc<Self>, key: LaneKey) -> Result<PinStream, NoPin> {
        let permit = self.bounds.pins.take().ok_or(NoPin::TOO_MANY)?;
        self.open_pin(permit, &key).await
    }

    async fn open_pin(&self, permit: Permit, key: &LaneKey) -> Result<PinStream, NoPin> {
        let endpoint = self.endpoint.at(key.to.node());
        let connection = self.open(&endpoint, &key.greeting()).await.map_err(NoPin::open)?;
        self.stats.pin_opens.add(1);
        Ok(PinStream::new(connection, &endpoint, key.to, permit))
    }

    /// Takes back a pin on which nothing of its client is left.
    pub(crate) fn unpin(self: &Rc<Self>, key: &LaneKey, mut stream: PinStream) {
        stream.permit = None;
        let mut spare = self.spare_pins.pins.borrow_mut();
        if spare.len() >= KEPT_PINS {
            spare.pop_front();
        }
        spare.push_back(Spare { key: key.clone(), stream, since: Instant::now() });
        if !self.spare_pins.is_tended.replace(true) {
            spawn_local(self.clone().tend());
        } else if let Some(waker) = self.spare_pins.tender.take() {
            waker.wake();
        }
    }

    /// Closes spare pins until none is left.
    async fn tend(self: Rc<Self>) {
        loop {
            let idle = self.limits.get().idle;
            let oldest = self.spare_pins.pins.borrow().front().map(|spare| spare.since);
            let Some(oldest) = oldest else {
                self.spare_pins.is_tended.set(false);
                return;
            };
            let changed = poll_fn(|cx| self.poll_spare_pins(cx));
            // The time that they may lie idle may change.
            let due = (oldest + idle).min(Instant::now() + LOOK);
            if timeout_at(due, changed).await.is_err() {
                self.spare_pins.pins.borrow_mut().retain(|spare| spare.since.elapsed() < idle);
            }
            self.spare_pins.tender.take();
        }
    }

    /// Drops those that Redis has closed. Ready when their number has changed.
    fn poll_spare_pins(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut pins = self.spare_pins.pins.borrow_mut();
        let before = pins.len();
        // What says something unasked is of no use either.
        pins.retain_mut(|spare| spare.stream.poll_read(cx, &mut [0]).is_pending());
        if pins.len() != before || pins.is_empty() {
            return Poll::Ready(());
        }
        self.spare_pins.tender.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// The one given back last: it is the least likely to have been closed by Redis meanwhile.
    fn left_over(&self, key: &LaneKey) -> Option<PinStream> {
        let mut spare = self.spare_pins.pins.borrow_mut();
        while let Some(at) = spare.iter().rposition(|spare| spare.key == *key) {
            let found = spare.remove(at)?;
            if found.since.elapsed() <= self.limits.get().idle {
                return Some(found.stream);
            }
        }
        None
    }
}

/// The stream of a pin with what is to be written to it.
pub(crate) struct PinStream {
    stream: Box<dyn Duplex>,
    /// As long as Redis is where it leads.
    tenure: Tenure,
    outbox: BytesMut,
    flushed: bool,
    is_shut: bool,
    pub(crate) scanner: ReplyScanner,
    /// The id that Redis knows this connection by.
    pub(crate) upstream_id: Option<i64>,
    /// What Redis said of itself.
    pub(crate) facts: HelloReply,
    /// The cluster that it is a node of, and which.
    node_of: Option<(Cluster, Destination)>,
    permit: Option<Permit>,
}

impl PinStream {
    fn new(connection: RawConnection, endpoint: &Endpoint, to: Destination, permit: Permit) -> Self {
        let facts = HelloReply::new(connection.hello);
        let upstream_id = match facts.field(b"id") {
            Some(Frame::Integer(id)) => Some(*id),
            _ => None,
        };
        PinStream {
            stream: connection.stream,
            tenure: Tenure::new(&endpoint.node, connection.generation),
            outbox: BytesMut::new(),
            flushed: true,
            is_shut: false,
            scanner: ReplyScanner::new(),
            upstream_id,
            facts,
            node_of: endpoint.cluster.clone().map(|cluster| (cluster, to)),
            permit: Some(permit),
        }
    }

    /// Where it leads is no longer what it was, as far as this connection has told: in a cluster the map of slots is asked for.
    pub(crate) fn doubt(&self) {
        if let Some((cluster, to)) = &self.node_of {
            cluster.node(to.node()).doubt();
        }
    }

    /// Whether it leads to a node of a cluster.
    pub(crate) fn is_of_cluster(&self) -> bool {
        self.node_of.is_some()
    }

    /// Whether an error may send its reader elsewhere: a node of a cluster's, or of one that has not told that it is none.
    pub(crate) fn may_send_elsewhere(&self) -> bool {
        self.node_of.is_some() || self.facts.hello.is_err()
    }

    /// What an error says of a command that is none of this node's.
    pub(crate) fn elsewhere(&self, reply: &[u8]) -> Option<Elsewhere> {
        let error = reply.get(1..).unwrap_or_default();
        let Some((cluster, to)) = &self.node_of else {
            return sent_elsewhere(error).map(|why| Elsewhere { words: unfit_line(why), next: None });
        };
        // A script may have said it.
        let next = match cluster.hearsay(error, to.node()) {
            Some(SlotRedirection::Moved(node)) => Some((Destination::of(node), false)),
            Some(SlotRedirection::Ask(node)) => Some((Destination::of(node), true)),
            Some(SlotRedirection::Later) | None => None,
        };
        // No node sends anybody to itself: a script has said it, once it was carried out here.
        let place = |to: Destination| cluster.node(to.node()).place().address;
        let next = next.filter(|(next, _)| place(*next) != place(*to));
        may_be_elsewhere(reply).then(|| Elsewhere { words: in_words(reply).to_vec(), next })
    }

    /// Where to put what is to be written.
    pub(crate) fn outbox(&mut self) -> &mut BytesMut {
        &mut self.outbox
    }

    /// Bytes that wait to be written.
    pub(crate) fn backlog(&self) -> usize {
        self.outbox.len()
    }

    /// # Errors
    /// Redis is elsewhere by now: nothing is to be asked here any more.
    fn check_place(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        match mutant::has_departed(self.tenure.poll_over(cx).is_ready()) {
            true => Err(std::io::Error::other("redis is elsewhere")),
            false => Ok(()),
        }
    }

    /// Writes as much as the kernel takes. Ready when nothing is left, or with an error that ends the pin.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check_place(cx)?;
        while !self.outbox.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.outbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.outbox.advance(count);
                    self.flushed = false;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if !self.flushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flushed = true,
                other => return other,
            }
        }
        if self.outbox.capacity() > 0 {
            self.outbox = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Shuts our side: Redis sees the end behind what was written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.is_shut = true;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Whether our side is shut: nothing can be sent any more.
    pub(crate) fn is_shut(&self) -> bool {
        self.is_shut
    }

    /// One read; 0 is the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        self.check_place(cx)?;
        let mut buffer = ReadBuf::new(room);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What Redis answers to a request, where nothing else is on its way; `None` if that is lost, or above these limits.
    pub(crate) async fn ask(&mut self, request: &[&[u8]], limits: FrameLimits) -> Option<Frame> {
        encode_command(&mut self.outbox, request);
        poll_fn(|cx| self.poll_write(cx)).await.ok()?;
        let (mut decoder, mut bytes, mut room) = (Decoder::new(limits), BytesMut::new(), vec![0; 16 * 1024]);
        loop {
            if let Some(frame) = decoder.decode(&mut bytes).ok()? {
                return bytes.is_empty().then_some(frame);
            }
            let count = poll_fn(|cx| self.poll_read(cx, &mut room)).await.ok()?;
            if count == 0 {
                return None;
            }
            bytes.extend_from_slice(&room[..count]);
        }
    }

    /// Whether Redis answers a PING, with whatever.
    async fn is_answered(&mut self) -> bool {
        self.outbox.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
        if poll_fn(|cx| self.poll_write(cx)).await.is_err() {
            return false;
        }
        let mut room = [0; 256];
        loop {
            let count = match poll_fn(|cx| self.poll_read(cx, &mut room)).await {
                Ok(count) if count > 0 => count,
                _ => return false,
            };
            match self.scanner.scan(&room[..count]) {
                Ok(scanned) if scanned.whole => return scanned.len == count,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    /// Whether Redis has neither closed it nor said anything unasked.
    fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        self.poll_read(&mut Context::from_waker(std::task::Waker::noop()), &mut byte).is_pending()
    }
}
