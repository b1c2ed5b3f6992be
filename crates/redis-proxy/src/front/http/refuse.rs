//! Turning a connection away: its request is read first and the close is orderly, so that the answer arrives
//! instead of a reset.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::answer::{Answer, AnswerContext, Framing, encode};
use super::conditional::Conditions;
use super::head::HeadLimits;
use super::head::{Beginning, find_end};
use super::{HttpSettings, HttpSizes};
use crate::clock::now_ns;
use crate::front::client::{PATIENCE, linger};
use crate::live::LiveSettings;
use crate::readthrough::Detail;

/// Answers the first request on `stream` with 503 and closes. Once `hurry` is ready it waits neither for the rest of
/// the request nor for the client to see its answer.
pub(crate) async fn refuse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    settings: &HttpSettings,
    live: &Arc<LiveSettings>,
    hurry: impl Future<Output = ()>,
) {
    let mut hurry = pin!(hurry);
    let mut head = Vec::new();
    let limits = HttpSizes::of(&live.sizes).head;
    // What is here is read first, in a hurry too: bytes that are left unread would reset the connection.
    let hurried = tokio::select! {
        biased;
        read = timeout(PATIENCE, read_head(&mut stream, &mut head, &limits)) => match read {
            Ok(Err(_)) => return,
            _ => false,
        },
        () = &mut hurry => true,
    };
    let out = busy(settings, live, head.starts_with(b"HEAD "));
    if !matches!(timeout(PATIENCE, stream.write_all(&out)).await, Ok(Ok(()))) {
        return;
    }
    // Begun in a hurry too: it says that this was all, and reads what is here.
    tokio::select! {
        biased;
        () = linger(&mut stream) => {}
        () = async { if !hurried { hurry.await } } => {}
    }
}

/// Reads up to the end of the head, or to where none can be any more.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    head: &mut Vec<u8>,
    limits: &HeadLimits,
) -> io::Result<()> {
    let mut scanned = 0;
    let mut beginning = Beginning::default();
    loop {
        let found = find_end(head, &mut scanned, limits);
        if !matches!(found, Ok(None)) || beginning.judge(head, limits).is_err() {
            return Ok(());
        }
        if stream.read_buf(head).await? == 0 {
            return Ok(());
        }
    }
}

fn busy(settings: &HttpSettings, live: &Arc<LiveSettings>, head_only: bool) -> Vec<u8> {
    let now_ns = now_ns();
    let mut out = Vec::new();
    let framing = Framing { head_only, http10: false, close: true, origin: None };
    let policy = settings.policy(live, 0);
    let mut tail = settings.tail(&policy);
    tail.refresh(now_ns);
    let context = AnswerContext { now_ns, tail: &tail, policy: &policy, detail: Detail::NONE };
    encode(&mut out, &Answer::Busy, framing, Conditions::default(), &context);
    out
}
