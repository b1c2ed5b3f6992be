//! What is said on a new connection before the first command: protocol, credentials, database, name.
//!
//! `HELLO 3` (Redis 6.0+) is tried first; a server that does not know it, or not RESP3, is spoken to in RESP2
//! (<https://redis.io/docs/latest/commands/hello/>).

use std::sync::Arc;

use bytes::BytesMut;
use resp::{Decoder, Frame, encode_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connection::decoder_limits;
use crate::endpoint::Endpoint;
use crate::hello::Hello;
use crate::sink::Loss;
use crate::stream::Duplex;
use crate::tracking::{Tracking, track};

/// The name that `CLIENT LIST` shows for our connections.
pub(crate) const CLIENT_NAME: &[u8] = b"redis-proxy";

/// Takes a fresh stream to the point where commands may be sent; `tracked` asks the server to track its reads.
///
/// # Errors
/// [`Loss::Refused`] when Redis turns a step down (its text, with the password blotted out: servers before 6.0
/// echo the arguments of an unknown HELLO), [`Loss::Unreachable`] when the stream ends or is not RESP.
pub(crate) async fn greet(
    stream: &mut dyn Duplex,
    endpoint: &Endpoint,
    tracked: bool,
) -> Result<Tracking, Loss> {
    let mut talk = Talk { stream, decoder: Decoder::new(decoder_limits(endpoint)), inbox: BytesMut::new() };
    let password = endpoint.password.as_ref().map(|secret| secret.expose().as_bytes());
    let user = endpoint.username.as_deref().unwrap_or("default").as_bytes();

    let hello = match password {
        Some(password) => talk.ask(&[b"HELLO", b"3", b"AUTH", user, password]).await?,
        None => talk.ask(&[b"HELLO", b"3"]).await?,
    };
    if let Frame::Error(text) = &hello {
        if is_about_credentials(text) {
            return Err(refused(text, endpoint));
        }
        match (password, &endpoint.username) {
            (None, _) => {}
            // AUTH with a user is Redis 6.0+; a server without HELLO knows passwords only.
            (Some(password), None) => talk.demand(&[b"AUTH", password], endpoint).await?,
            (Some(password), Some(_)) => talk.demand(&[b"AUTH", user, password], endpoint).await?,
        }
    }
    if endpoint.db != 0 {
        talk.demand(&[b"SELECT", endpoint.db.to_string().as_bytes()], endpoint).await?;
    }
    // A name helps the operator; an ACL that forbids it is no reason to go without the data.
    talk.ask(&[b"CLIENT", b"SETNAME", CLIENT_NAME]).await?;
    let tracking = match tracked {
        true => track(&mut talk, Hello::read(&hello).as_ref()).await?,
        false => Tracking::NotAsked,
    };
    if !talk.inbox.is_empty() {
        return Err(Loss::Unreachable("bytes that answer nothing".into()));
    }
    Ok(tracking)
}

/// Whether HELLO was turned down for what we said in it, and would be in other words: then RESP2 helps nothing. All
/// else (an unknown command in whatever wording, NOPROTO, NOPERM) is a server that is to be spoken to in RESP2.
fn is_about_credentials(text: &[u8]) -> bool {
    text.starts_with(b"WRONGPASS") || text.starts_with(b"NOAUTH") || text.starts_with(b"DENIED")
}

fn refused(text: &[u8], endpoint: &Endpoint) -> Loss {
    let text = String::from_utf8_lossy(text);
    let text = match &endpoint.password {
        Some(secret) if !secret.expose().is_empty() => text.replace(secret.expose(), "***"),
        _ => text.into_owned(),
    };
    Loss::Refused(text.into())
}

/// One question, one answer.
pub(crate) struct Talk<'a> {
    pub(crate) stream: &'a mut dyn Duplex,
    pub(crate) decoder: Decoder,
    pub(crate) inbox: BytesMut,
}

impl Talk<'_> {
    pub(crate) async fn ask(&mut self, arguments: &[&[u8]]) -> Result<Frame, Loss> {
        let mut out = BytesMut::new();
        encode_command(&mut out, arguments);
        self.stream.write_all(&out).await.map_err(|error| unreachable(error.to_string()))?;
        self.stream.flush().await.map_err(|error| unreachable(error.to_string()))?;
        self.listen().await
    }

    /// The next reply; pushes are passed over.
    pub(crate) async fn listen(&mut self) -> Result<Frame, Loss> {
        loop {
            match self.decoder.decode(&mut self.inbox) {
                Ok(Some(Frame::Push(_))) => {}
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {
                    let read = self.stream.read_buf(&mut self.inbox).await;
                    if read.map_err(|error| unreachable(error.to_string()))? == 0 {
                        return Err(unreachable("closed during the handshake".into()));
                    }
                }
                Err(error) => return Err(unreachable(format!("not a redis: {error}"))),
            }
        }
    }

    async fn demand(&mut self, arguments: &[&[u8]], endpoint: &Endpoint) -> Result<(), Loss> {
        match self.ask(arguments).await? {
            Frame::Error(text) => Err(refused(&text, endpoint)),
            _ => Ok(()),
        }
    }
}

fn unreachable(why: String) -> Loss {
    Loss::Unreachable(Arc::from(why))
}
