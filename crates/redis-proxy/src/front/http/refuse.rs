//! Turning a connection away: its request is read first and the close is orderly, so that the answer arrives
//! instead of a reset.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::HttpSettings;
use super::answer::{Answer, Form, Moment, encode};
use super::head::find_end;
use crate::clock::{Date, now_ns};

/// The most time one refusal may take, its parts together about three times this.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most that is read and dropped from a client that we have answered for the last time.
const DISCARDED_BYTES: usize = 1024 * 1024;

/// Answers the first request on `stream` with 503 and closes.
pub(crate) async fn refuse(mut stream: TcpStream, settings: &HttpSettings) {
    let mut head = Vec::new();
    let mut scanned = 0;
    let read = async {
        while matches!(find_end(&head, &mut scanned, &settings.head), Ok(None)) {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    if matches!(timeout(PATIENCE, read).await, Ok(Err(_))) {
        return;
    }
    let now_ns = now_ns();
    let mut out = Vec::new();
    let form = Form { head_only: head.starts_with(b"HEAD "), http10: false, close: true };
    let mut date = Date::new(now_ns);
    let moment = Moment { now_ns, date: date.at(now_ns), cache_control: b"no-store", detail: b"" };
    encode(&mut out, &Answer::Busy, form, None, &moment);
    if matches!(timeout(PATIENCE, stream.write_all(&out)).await, Ok(Ok(()))) {
        linger(&mut stream).await;
    }
}

/// Says that nothing more will come and waits, bounded, until the client has seen it: closing a socket with unread
/// bytes in it would reset the connection and could take the last answer with it (RFC 9112, section 9.6).
pub(super) async fn linger(stream: &mut TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let discard = async {
        let mut dropped = 0;
        let mut scratch = vec![0; 4096];
        while dropped < DISCARDED_BYTES {
            match stream.read(&mut scratch).await {
                Ok(0) | Err(_) => return,
                Ok(count) => dropped += count,
            }
        }
    };
    // A client that keeps sending or never closes is cut off.
    let _ = timeout(PATIENCE, discard).await;
}
