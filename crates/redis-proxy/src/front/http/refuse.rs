//! Turning a connection away: its request is read first and the close is orderly, so that the answer arrives
//! instead of a reset.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::HttpSettings;
use super::answer::{Answer, Form, Moment, encode};
use super::conditional::Conditions;
use super::head::{check_beginning, find_end};
use crate::clock::now_ns;
use crate::front::linger::{PATIENCE, linger};
use crate::readthrough::Detail;

/// Answers the first request on `stream` with 503 and closes.
pub(crate) async fn refuse(mut stream: TcpStream, settings: &HttpSettings) {
    let mut head = Vec::new();
    let mut scanned = 0;
    let read = async {
        loop {
            let known = scanned;
            let found = find_end(&head, &mut scanned, &settings.head);
            if !matches!(found, Ok(None)) || check_beginning(&head, known).is_err() {
                break;
            }
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
    let mut tail = settings.tail();
    let moment = Moment { now_ns, tail: tail.at(now_ns, true), cache_control: b"", detail: Detail::NONE };
    encode(&mut out, &Answer::Busy, form, Conditions::default(), &moment);
    if matches!(timeout(PATIENCE, stream.write_all(&out)).await, Ok(Ok(()))) {
        linger(&mut stream).await;
    }
}
