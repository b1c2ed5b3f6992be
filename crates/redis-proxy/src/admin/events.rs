//! `/events`: the object of `/insight.json` once a second, as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), made once for all who listen.
//!
//! A stream is bounded in every way: few at a time, one event that waits to be written, and an end for whoever takes none. It ends too
//! when the program does, and when what let it in is in force no more.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use sync::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::connections::{AdminPermit, AnswerGuard, EndConnection};
use crate::access::AccessSettings;

/// Streams at the same time: a quarter of the connections of the port, so that probes find one.
pub(super) const MOST_STREAMS: usize = 16;
/// Events that wait until one before them is written.
const WAITING_EVENTS: usize = 1;
/// A stream to which so many events in a row could not be given ends.
const MOST_MISSED: u32 = 10;

/// Those who listen.
#[derive(Default)]
pub(super) struct EventStreams {
    open: Mutex<Vec<EventStream>>,
}

struct EventStream {
    events: Sender<Bytes>,
    /// Events in a row that found the one before them still waiting.
    missed: u32,
    let_in_by: AccessSettings,
    connection: EndConnection,
}

/// What a stream writes, until its sender is gone.
pub(super) struct EventBody {
    events: Receiver<Bytes>,
    /// A connection that streams is not idle.
    _asking: AnswerGuard,
}

impl EventStreams {
    /// One more on the connection of `permit`, let in by `access`, that begins with `event`. Where there are [`MOST_STREAMS`], the one
    /// that has taken nothing for longest ends for it; None if all take what they are given.
    pub(super) fn open(
        &self,
        permit: &AdminPermit,
        access: &AccessSettings,
        event: impl FnOnce() -> String,
    ) -> Option<EventBody> {
        let mut open = self.open.lock();
        open.retain(|stream| !stream.events.is_closed());
        if open.len() >= MOST_STREAMS {
            let stalled = open.iter().enumerate().filter(|(_, stream)| stream.missed > 0);
            let (at, _) = stalled.max_by_key(|(_, stream)| stream.missed)?;
            open.swap_remove(at).connection.end();
        }
        let (sender, events) = channel(WAITING_EVENTS);
        // There is room for one.
        let _ = sender.try_send(written(event()));
        let let_in_by = access.clone();
        open.push(EventStream { events: sender, missed: 0, let_in_by, connection: permit.ending() });
        Some(EventBody { events, _asking: permit.asking() })
    }

    /// Gives an event to all who may have it by `access`; the others end. It is made if there is anybody.
    pub(super) fn tell(&self, access: &AccessSettings, event: impl FnOnce() -> String) {
        let mut open = self.open.lock();
        open.retain(|stream| !stream.events.is_closed() && stream.let_in_by.is_same_for_admin(access));
        if !open.is_empty() {
            let event = written(event());
            open.retain_mut(|stream| stream.takes(&event));
        }
    }

    /// Ends all.
    pub(super) fn end(&self) {
        self.open.lock().clear();
    }
}

impl EventStream {
    /// Whether it goes on.
    fn takes(&mut self, event: &Bytes) -> bool {
        match self.events.try_send(event.clone()) {
            Ok(()) => self.missed = 0,
            Err(TrySendError::Closed(_)) => return false,
            Err(TrySendError::Full(_)) => self.missed += 1,
        }
        if self.missed >= MOST_MISSED {
            // What it does not take holds up the end of the answer as well.
            self.connection.end();
        }
        self.missed < MOST_MISSED
    }
}

/// An event of one line of JSON.
fn written(json: String) -> Bytes {
    Bytes::from(["data: ", &json, "\n\n"].concat())
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.events.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::connections::Connections;

    async fn next(body: &mut EventBody) -> Option<Bytes> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))
            .await
            .map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn an_event_is_made_once_for_all_and_for_nobody_never() {
        let (streams, access) = (EventStreams::default(), AccessSettings::default());
        streams.tell(&access, || unreachable!("nobody listens"));
        let permit = Connections::new().permit().await;
        let mut bodies: Vec<_> =
            (0..3).map(|_| streams.open(&permit, &access, || "first".into()).unwrap()).collect();
        let mut made = 0;
        for body in &mut bodies {
            assert_eq!(next(body).await.unwrap(), "data: first\n\n");
        }
        streams.tell(&access, || {
            made += 1;
            "second".into()
        });
        for body in &mut bodies {
            assert_eq!(next(body).await.unwrap(), "data: second\n\n");
        }
        assert_eq!(made, 1);
        streams.end();
        for body in &mut bodies {
            assert_eq!(next(body).await, None);
        }
    }

    #[tokio::test]
    async fn one_that_takes_nothing_ends_and_the_others_go_on() {
        let (streams, access) = (EventStreams::default(), AccessSettings::default());
        let connections = Connections::new();
        let (idle, reading) = (connections.permit().await, connections.permit().await);
        let mut takes_none = streams.open(&idle, &access, || "first".into()).unwrap();
        let mut takes_all = streams.open(&reading, &access, || "first".into()).unwrap();
        for _ in 0..MOST_MISSED {
            next(&mut takes_all).await.unwrap();
            assert_eq!(streams.open.lock().len(), 2);
            streams.tell(&access, || "more".into());
        }
        assert_eq!(streams.open.lock().len(), 1);
        // Its connection is told to end, and it has nothing but the event that waited.
        idle.is_wanted().await;
        assert!(next(&mut takes_none).await.is_some() && next(&mut takes_none).await.is_none());
        assert!(next(&mut takes_all).await.is_some());
    }

    #[tokio::test]
    async fn there_are_few_and_who_has_left_makes_room() {
        let (streams, access) = (EventStreams::default(), AccessSettings::default());
        let permit = Connections::new().permit().await;
        let mut bodies: Vec<_> =
            (0..MOST_STREAMS).map(|_| streams.open(&permit, &access, String::new).unwrap()).collect();
        assert!(streams.open(&permit, &access, String::new).is_none());
        bodies.pop();
        bodies.push(streams.open(&permit, &access, String::new).unwrap());
        // One that takes nothing makes room as well.
        for body in &mut bodies[1..] {
            next(body).await.unwrap();
        }
        streams.tell(&access, || "more".into());
        let mut another = streams.open(&permit, &access, || "another".into()).unwrap();
        assert!(next(&mut another).await.is_some());
        assert!(next(&mut bodies[0]).await.is_some() && next(&mut bodies[0]).await.is_none());
        assert!(next(&mut bodies[1]).await.is_some());
        assert!(streams.open(&permit, &access, String::new).is_none());
    }
}
