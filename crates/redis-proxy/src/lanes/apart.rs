//! Requests to several nodes of a cluster, to each on a connection that nobody else uses meanwhile: what may wait there would hold up others
//! on a shared lane.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::task::{JoinHandle, spawn_local};

use super::Lanes;
use super::elsewhere::{in_words, may_be_elsewhere};
use super::key::LaneKey;
use super::merge::{Merge, Merger};
use super::pin::{NoPin, PinStream};

/// More is no answer to what is asked so.
const MOST_BYTES: usize = 64 * 1024;

/// The answers that are on their way. Dropped, nobody waits for them, and connections without theirs are closed.
pub(crate) struct AskedApart {
    asked: Vec<AskedNode>,
    merger: Option<Merger>,
}

/// One node, of which the answer is here or on its way.
struct AskedNode {
    answering: JoinHandle<Vec<u8>>,
    answer: Option<Vec<u8>>,
}

/// Sends requests on a connection of their own each, of so many commands, and makes one reply of the last reply of each. A command that is
/// refused before the last is the answer in its place.
pub(crate) fn ask_apart(
    lanes: &Rc<Lanes>,
    requests: Vec<(LaneKey, BytesMut)>,
    commands: usize,
    how: Merge,
) -> AskedApart {
    let ask = |(key, request): (LaneKey, BytesMut)| {
        let lanes = lanes.clone();
        let answering = spawn_local(async move {
            let answer = ask_one(&lanes, &key, &request, commands).await;
            answer.unwrap_or_else(|why| [b"-", &why.text()[..], b"\r\n"].concat())
        });
        AskedNode { answering, answer: None }
    };
    AskedApart { asked: requests.into_iter().map(ask).collect(), merger: Some(Merger::new(how)) }
}

async fn ask_one(
    lanes: &Rc<Lanes>,
    key: &LaneKey,
    request: &[u8],
    commands: usize,
) -> Result<Vec<u8>, NoPin> {
    let mut stream = lanes.clone().find_pin(key.clone()).await?;
    stream.outbox().extend_from_slice(request);
    let answer = exchange(&mut stream, commands).await.map_err(|error| NoPin::unreachable(&error))?;
    lanes.unpin(key, stream);
    Ok(answer)
}

/// Writes what is to be written and reads so many replies: the first error among them, or else the last.
async fn exchange(stream: &mut PinStream, replies: usize) -> Result<Vec<u8>, String> {
    poll_fn(|cx| stream.poll_write(cx)).await.map_err(|error| error.to_string())?;
    let (mut reply, mut answer, mut whole) = (Vec::new(), Vec::new(), 0);
    let mut room = [0; 1024];
    while whole < replies {
        let read = poll_fn(|cx| stream.poll_read(cx, &mut room)).await;
        let count = read.map_err(|error| error.to_string())?;
        let mut bytes = &room[..count];
        if bytes.is_empty() || reply.len() > MOST_BYTES {
            return Err("no answer".into());
        }
        while !bytes.is_empty() {
            let scanned = stream.scanner.scan(bytes).map_err(|error| error.to_string())?;
            let (piece, rest) = bytes.split_at(scanned.len);
            reply.extend_from_slice(piece);
            bytes = rest;
            if scanned.whole {
                whole += 1;
                if !answer.starts_with(b"-") {
                    answer = std::mem::take(&mut reply);
                }
                reply.clear();
            }
        }
    }
    Ok(match may_be_elsewhere(&answer) {
        true => in_words(&answer).to_vec(),
        false => answer,
    })
}

impl AskedApart {
    /// Ready with what is made of the answers, once.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        for node in self.asked.iter_mut().filter(|node| node.answer.is_none()) {
            let answered = ready!(Pin::new(&mut node.answering).poll(cx));
            // It ends with the runtime alone.
            node.answer = Some(answered.unwrap_or_default());
        }
        let Some(mut merger) = self.merger.take() else { return Poll::Pending };
        self.asked.iter().filter_map(|node| node.answer.as_ref()).for_each(|answer| merger.take(answer));
        Poll::Ready(merger.finish().0)
    }
}

impl Drop for AskedApart {
    fn drop(&mut self) {
        self.asked.iter().for_each(|node| node.answering.abort());
    }
}
