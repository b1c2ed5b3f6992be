//! The two directions of a connection, and Redis at their end.

use std::sync::Arc;

use bytes::BytesMut;
use resp::{Decoder, FrameLimits};
use sync::Mutex;
use sync::shuttle::future::block_on;
use sync::shuttle::thread;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, split};
use tokio::sync::mpsc::unbounded_channel;

use super::redis::Redis;

/// Connects Redis to one end of a stream. Each direction is a thread with a pace of its own.
pub(super) fn lay_wire(redis: &Arc<Mutex<Redis>>, end: DuplexStream) {
    let (commands, mut replies) = split(end);
    let (sender, mut sent) = unbounded_channel();
    let number = redis.lock().accept(sender);
    let redis = redis.clone();
    thread::spawn(move || block_on(serve(&redis, number, commands)));
    thread::spawn(move || {
        block_on(async move {
            while let Some(bytes) = sent.recv().await {
                if replies.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
    });
}

/// Redis' side of a connection: executes what comes until it is cut.
async fn serve(redis: &Mutex<Redis>, number: u64, mut commands: ReadHalf<DuplexStream>) {
    let (mut decoder, mut inbox) = (Decoder::new(limits()), BytesMut::new());
    while commands.read_buf(&mut inbox).await.is_ok_and(|read| read > 0) {
        while let Some(command) = decoder.decode(&mut inbox).expect("commands are RESP") {
            redis.lock().execute(number, &command);
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
