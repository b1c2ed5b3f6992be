//! The orderly end of a connection: what was said last arrives, instead of a reset.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The most time that one step of a farewell may take.
pub(in crate::front) const PATIENCE: Duration = Duration::from_secs(1);
/// The most that is read and dropped from a client that we have answered for the last time.
const DISCARDED_BYTES: usize = 1024 * 1024;

/// Says that nothing more will come and waits, bounded, until the client has seen it: closing a socket with unread
/// bytes in it would reset the connection and could take the last answer with it (RFC 9112, section 9.6).
pub(in crate::front) async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
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
