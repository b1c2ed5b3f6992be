//! The two directions of a connection, and a server at their end.

use bytes::{Bytes, BytesMut};
use resp::{Decoder, Frame, FrameLimits};
use sync::shuttle::future::block_on;
use sync::shuttle::thread;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, duplex, split};
use tokio::sync::mpsc::UnboundedReceiver;

/// A connection to a server that executes commands and says what comes by `sent`. Each direction is a thread with a pace of its own;
/// `lag` is called before something is said.
pub(in crate::readthrough) fn lay_wire(
    mut sent: UnboundedReceiver<Bytes>,
    lag: impl Fn() + Send + 'static,
    execute: impl Fn(&Frame) + Send + 'static,
) -> DuplexStream {
    let (ours, theirs) = duplex(4096);
    let (commands, mut replies) = split(theirs);
    thread::spawn(move || block_on(serve(execute, commands)));
    thread::spawn(move || {
        block_on(async move {
            while let Some(bytes) = sent.recv().await {
                lag();
                if replies.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
    });
    ours
}

/// The server's side of a connection: executes what comes until it is cut.
async fn serve(execute: impl Fn(&Frame), mut commands: ReadHalf<DuplexStream>) {
    let (mut decoder, mut inbox) = (Decoder::new(limits()), BytesMut::new());
    while commands.read_buf(&mut inbox).await.is_ok_and(|read| read > 0) {
        while let Some(command) = decoder.decode(&mut inbox).expect("commands are RESP") {
            execute(&command);
        }
    }
}

fn limits() -> FrameLimits {
    FrameLimits {
        max_bulk_bytes: 64,
        max_frame_bytes: 1024,
        max_elements: 16,
        max_depth: 4,
        max_line_bytes: 64,
    }
}
