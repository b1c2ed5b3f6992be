//! The canary: a key that is read on the link and written elsewhere, to see that the invalidation arrives.
//!
//! A server, or something in front of it, may accept tracking and never deliver. Nothing in its answers would show that,
//! so it is tried: before what a new connection brought is served, and then once a minute.

use std::sync::atomic::Ordering;
use std::time::Duration;

use resp::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use upstream::{Doubt, Loss, Sink, Tracking, Upstream};

use super::Link;
use super::sink::{News, Ticket};
use crate::clock::now_ns;

/// How long the canary lives in Redis.
const LIFE_MS: &str = "60000";
/// How long each step may take; a server that is slower is asked again later.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The invalidation was there before the answer that had to be behind it, whose PING was sent at this instant.
    Delivered { proof_ns: u64 },
    /// It was not.
    NotDelivered,
    /// The canary could not be written, for this reason; nothing is known.
    NotWritten(String),
    /// The connection was lost, or too slow: to be tried again.
    Unfinished,
}

/// The connection that the canary is written on: an ordinary one, so that the writer is another client.
pub(super) type Writer = Upstream<oneshot::Sender<Frame>>;

/// Where the writer's replies go.
pub(super) struct WriterSink;

impl Sink for WriterSink {
    type Ticket = oneshot::Sender<Frame>;

    fn reply(&self, ticket: Self::Ticket, frame: Frame) -> Result<(), Doubt> {
        let _ = ticket.send(frame);
        Ok(())
    }

    fn push(&self, _items: Vec<Frame>) {}

    /// The receiver learns it by the sender's end.
    fn lost(&self, _ticket: Self::Ticket, _loss: &Loss) {}

    fn connected(&self, _incarnation: u64, _tracking: &Tracking) {}

    fn disconnected(&self, _loss: &Loss) {}
}

/// Tries once. `news` tells of pushes that named the canary.
pub(super) async fn try_delivery(
    link: &Link,
    writer: &Writer,
    key: &[u8],
    news: &mut mpsc::UnboundedReceiver<News>,
) -> Verdict {
    let on_link = |arguments: &[&[u8]]| {
        let (sender, receiver) = oneshot::channel();
        // Not sent: the receiver ends at once.
        let _ = link.upstream.send(arguments, Ticket::Told { sender, sent_ns: now_ns() });
        receiver
    };
    if !matches!(timeout(PATIENCE, on_link(&[b"GET", key])).await, Ok(Ok(_))) {
        return Verdict::Unfinished;
    }
    // A push of an earlier try, or of another program's canary, says nothing of the write to come; but the read above
    // is tracked once only, so one that comes between it and the write has used it up and counts.
    let (sender, written) = oneshot::channel();
    if writer.send(&[b"SET", key, b"1", b"PX", LIFE_MS.as_bytes()], sender).is_err() {
        return Verdict::Unfinished;
    }
    match timeout(PATIENCE, written).await {
        Ok(Ok(Frame::Error(text))) => {
            return Verdict::NotWritten(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Verdict::Unfinished,
    }
    let written_ns = now_ns();
    let proof_ns = now_ns();
    if !matches!(timeout(PATIENCE, on_link(&[b"PING"])).await, Ok(Ok(Frame::Simple(_)))) {
        return Verdict::Unfinished;
    }
    let mut delivered = false;
    while let Ok(told) = news.try_recv() {
        match told {
            News::CanaryPushed { at_ns } => {
                delivered = true;
                link.counts.push_lag_ns.store(at_ns.saturating_sub(written_ns), Ordering::Relaxed);
            }
            // The connection changed under the try.
            News::Connected | News::Lost => return Verdict::Unfinished,
        }
    }
    if delivered { Verdict::Delivered { proof_ns } } else { Verdict::NotDelivered }
}
