//! The canary: a key that is read on the link and written elsewhere, to see that the invalidation arrives.
//!
//! A server, or something in front of it, may accept tracking and never deliver. Nothing in its answers would show that,
//! so it is tried: before what a new connection brought is served, and then once a minute.
//!
//! It is set and deleted within one transaction, so that no other client ever sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use resp::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use upstream::{Doubt, Incarnation, Loss, Sink, Tracking, Upstream, no_right_to};

use super::Link;
use super::sink::{LinkTicket, News};
use crate::clock::now_ns;
use crate::readthrough::cluster::SlotWatch;

/// How long each step may take; a server that is slower is asked again later.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CanaryVerdict {
    /// The invalidation was there before the answer that had to be behind it, whose PING was sent at this instant.
    Delivered { proof_ns: u64 },
    /// It was not.
    NotDelivered,
    /// The canary could not be read or written, for this reason; nothing is known.
    NotWritten(String),
    /// PTTL is refused to this user, for this reason.
    NoDeadline(String),
    /// The connection was lost, or too slow: to be tried again.
    Unfinished,
}

/// The connection that the canary is written on, not the link's own: the writer is to be another client.
pub(super) enum CanaryWriter {
    /// An ordinary one.
    Own(Upstream<oneshot::Sender<Frame>>),
    /// In a cluster that of the node's slot watch.
    Watch(Arc<SlotWatch>),
}

impl CanaryWriter {
    /// Sends commands that belong together. Without a connection the replies' senders end at once.
    fn send_all(&self, commands: Vec<(&[&[u8]], oneshot::Sender<Frame>)>) {
        // Not sent: the receivers learn it.
        let _ = match self {
            CanaryWriter::Own(upstream) => upstream.send_all(commands),
            CanaryWriter::Watch(watch) => watch.send_all(commands),
        };
    }

    /// It may lead to where Redis was before; a node of a cluster stays where it is.
    pub(super) fn renew(&self) {
        if let CanaryWriter::Own(upstream) = self {
            upstream.renew();
        }
    }
}

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

    fn connected(&self, _incarnation: Incarnation, _tracking: &Tracking) {}

    fn disconnected(&self, _loss: &Loss) {}
}

/// The key by which delivery is tried on a link: in a cluster one of a slot that its node has; none if there is no such.
pub(super) fn key(link: &Link) -> Option<Box<[u8]>> {
    let key = link.settings.canary_key.as_ref()?;
    match &link.placed {
        None => Some(key.clone()),
        Some(placed) => placed.watch.as_ref()?.canary_key(key),
    }
}

/// Whether this is such a key.
pub(super) fn is_key(link: &Link, key: &[u8]) -> bool {
    let Some(canary) = link.settings.canary_key.as_deref() else { return false };
    match &link.placed {
        None => key == canary,
        Some(_) => key.strip_prefix(canary).is_some_and(|rest| rest.starts_with(b"{")),
    }
}

/// Tries once. `news` tells of pushes that named the canary.
pub(super) async fn try_delivery(
    link: &Link,
    writer: &CanaryWriter,
    key: &[u8],
    news: &mut mpsc::UnboundedReceiver<News>,
) -> CanaryVerdict {
    let on_link = async |arguments: &[&[u8]]| {
        let (sender, receiver) = oneshot::channel();
        // Not sent: the receiver ends at once.
        let _ = link.upstream.send(arguments, LinkTicket::Told { sender, sent_ns: now_ns() });
        timeout(PATIENCE, receiver).await.ok()?.ok()
    };
    match on_link(&[b"PTTL", key]).await {
        None => return CanaryVerdict::Unfinished,
        Some(Frame::Error(text)) if let Some(why) = no_right_to(&text) => {
            return CanaryVerdict::NoDeadline(why);
        }
        Some(_) => {}
    }
    match on_link(&[b"GET", key]).await {
        None => return CanaryVerdict::Unfinished,
        Some(Frame::Error(text)) => return CanaryVerdict::refused(&text),
        Some(_) => {}
    }
    // A push of an earlier try, or of another program's canary, says nothing of the write to come; but the read above
    // is tracked once only, so one that comes between it and the write has used it up and counts.
    if let Err(verdict) = write(writer, key).await {
        return verdict;
    }
    let written_ns = now_ns();
    let proof_ns = now_ns();
    // Behind the push is whatever it answers: a user may have no right to PING.
    if on_link(&[b"PING"]).await.is_none() {
        return CanaryVerdict::Unfinished;
    }
    let mut delivered = false;
    while let Ok(told) = news.try_recv() {
        match told {
            News::CanaryPushed { at_ns } => {
                delivered = true;
                link.counts.push_lag_ns.store(at_ns.saturating_sub(written_ns), Ordering::Relaxed);
            }
            // The connection changed under the try.
            News::Connected | News::Lost => return CanaryVerdict::Unfinished,
        }
    }
    if delivered { CanaryVerdict::Delivered { proof_ns } } else { CanaryVerdict::NotDelivered }
}

/// Sets and deletes the canary, which is in nobody's sight before or after: one that an older version has left goes with it.
async fn write(writer: &CanaryWriter, key: &[u8]) -> Result<(), CanaryVerdict> {
    let steps: [&[&[u8]]; 4] = [&[b"MULTI"], &[b"SET", key, b"1"], &[b"DEL", key], &[b"EXEC"]];
    // First without the key: where MULTI is refused, what follows would run one by one, in everybody's sight.
    for transaction in [&[steps[0], steps[3]][..], &steps] {
        match refusal(writer, transaction).await {
            Some(None) => {}
            None => return Err(CanaryVerdict::Unfinished),
            Some(Some(text)) => {
                // Where EXEC is refused the connection is still within the transaction.
                let (sender, _unread) = oneshot::channel();
                writer.send_all(vec![(&[b"DISCARD"], sender)]);
                return Err(CanaryVerdict::refused(&text));
            }
        }
    }
    Ok(())
}

/// The first error among the replies to `steps`, sent in one write; none if they do not all come in time.
async fn refusal(writer: &CanaryWriter, steps: &[&[&[u8]]]) -> Option<Option<Bytes>> {
    let (senders, replies): (Vec<_>, Vec<_>) = steps.iter().map(|_| oneshot::channel()).unzip();
    writer.send_all(steps.iter().copied().zip(senders).collect());
    let mut refusal = None;
    for reply in replies {
        let text = match timeout(PATIENCE, reply).await.ok()?.ok()? {
            Frame::Error(text) => Some(text),
            Frame::Array(results) => results.into_iter().find_map(|result| match result {
                Frame::Error(text) => Some(text),
                _ => None,
            }),
            _ => None,
        };
        refusal = refusal.or(text);
    }
    Some(refusal)
}

impl CanaryVerdict {
    /// Redis would not write it. While a script runs too long, or its data is being loaded, it takes nothing from anybody, which says
    /// nothing of the canary's rights and passes.
    fn refused(text: &[u8]) -> CanaryVerdict {
        let passes: [&[u8]; 5] = [b"BUSY ", b"LOADING ", b"MOVED ", b"ASK ", b"CLUSTERDOWN "];
        let passes = passes.iter().any(|code| text.starts_with(code));
        match passes {
            true => CanaryVerdict::Unfinished,
            false => CanaryVerdict::NotWritten(String::from_utf8_lossy(text).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_takes_nothing_for_now_is_asked_again() {
        for text in ["BUSY Redis is busy running a script.", "LOADING Redis is loading the dataset in memory"]
        {
            assert!(matches!(CanaryVerdict::refused(text.as_bytes()), CanaryVerdict::Unfinished), "{text}");
        }
        for text in ["NOPERM no permissions", "READONLY You can't write", "BUSYKEY there is one"] {
            assert!(
                matches!(CanaryVerdict::refused(text.as_bytes()), CanaryVerdict::NotWritten(_)),
                "{text}"
            );
        }
    }
}
