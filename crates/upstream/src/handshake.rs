//! What is said on a new connection before the first command: protocol, credentials, database, name.
//!
//! `HELLO 3` (Redis 6.0+) is tried first; a server that does not know it, or not RESP3, is spoken to in RESP2
//! (<https://redis.io/docs/latest/commands/hello/>).

use bytes::{Bytes, BytesMut};
use resp::{Decoder, Frame, encode_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::Backend;
use crate::connection::decoder_limits;
use crate::endpoint::{Endpoint, Secret};
use crate::hello::{Hello, unfit};
use crate::sink::Loss;
use crate::stream::Duplex;
use crate::tracking::{Tracking, track};

/// The name that `CLIENT LIST` shows for our connections.
pub(crate) const CLIENT_NAME: &[u8] = b"redis-proxy";

/// Takes a fresh stream to the point where commands may be sent, as who `endpoint` says we are now, and asks the server to track its reads if the target's are.
///
/// # Errors
/// [`Loss::Refused`] when Redis turns a step down (its text, with the password blotted out: servers before 6.0
/// echo the arguments of an unknown HELLO), [`Loss::Unfit`] when it is none to be served from, [`Loss::Unreachable`] when the stream ends or is not RESP.
pub(crate) async fn greet(
    stream: &mut dyn Duplex,
    backend: &Backend,
    endpoint: &Endpoint,
) -> Result<Tracking, Loss> {
    let mut talk = Talk::new(stream, endpoint);
    let password = endpoint.login.password.as_ref().map(|secret| secret.expose().as_bytes());
    let user = endpoint.login.username.as_deref().unwrap_or("default").as_bytes();

    // A name helps the operator. Said here it needs no right of its own: CLIENT SETNAME would stand in the ACL log of those
    // users who have none to it.
    let hello = match password {
        Some(password) => {
            talk.ask(&[b"HELLO", b"3", b"AUTH", user, password, b"SETNAME", CLIENT_NAME]).await?
        }
        None => talk.ask(&[b"HELLO", b"3", b"SETNAME", CLIENT_NAME]).await?,
    };
    if let Frame::Error(text) = &hello {
        if is_about_credentials(text) {
            return Err(refused(text, endpoint.login.password.as_ref()));
        }
        match (password, &endpoint.login.username) {
            (None, _) => {}
            // AUTH with a user is Redis 6.0+; a server without HELLO knows passwords only.
            (Some(password), None) => talk.demand(&[b"AUTH", password], endpoint).await?,
            (Some(password), Some(_)) => talk.demand(&[b"AUTH", user, password], endpoint).await?,
        }
    }
    let said = Hello::read(&hello);
    let in_cluster = endpoint.cluster.is_some();
    let mut why = said.as_ref().and_then(|hello| unfit(&hello.mode, in_cluster));
    if said.is_none_or(|hello| hello.mode.is_empty()) {
        // Then the first read tells.
        why = backend.was_moved().then(|| unfit("cluster", in_cluster)).flatten();
    }
    if let Some(why) = why {
        return Err(Loss::Unfit(why.into()));
    }
    if endpoint.db != 0 {
        talk.demand(&[b"SELECT", endpoint.db.to_string().as_bytes()], endpoint).await?;
    }
    if matches!(hello, Frame::Error(_)) {
        talk.ask(&[b"CLIENT", b"SETNAME", CLIENT_NAME]).await?;
    }
    let tracking = match backend.tracked {
        true => track(&mut talk, Hello::read(&hello).as_ref()).await?,
        false => Tracking::NotAsked,
    };
    talk.pass_over_pushes().await?;
    Ok(tracking)
}

/// Whether HELLO was turned down for what we said in it, and would be in other words: then RESP2 helps nothing. All
/// else (an unknown command in whatever wording, NOPROTO, NOPERM) is a server that is to be spoken to in RESP2.
pub fn is_about_credentials(text: &[u8]) -> bool {
    text.starts_with(b"WRONGPASS") || text.starts_with(b"NOAUTH") || text.starts_with(b"DENIED")
}

fn refused(text: &[u8], password: Option<&Secret>) -> Loss {
    let text = String::from_utf8_lossy(text);
    let text = match password {
        Some(secret) if !secret.expose().is_empty() => text.replace(secret.expose(), "***"),
        _ => text.into_owned(),
    };
    Loss::Refused(text.into())
}

/// One question, one answer.
pub(crate) struct Talk<'a> {
    stream: &'a mut dyn Duplex,
    decoder: Decoder,
    inbox: BytesMut,
    /// The first error that was said. A server that takes no further client says why and closes, and what is written to it then
    /// only meets a closed socket: its word counts, whatever the socket does afterwards.
    first_error: Option<Bytes>,
    password: Option<Secret>,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(stream: &'a mut dyn Duplex, endpoint: &Endpoint) -> Self {
        let decoder = Decoder::new(decoder_limits(endpoint));
        let password = endpoint.login.password.clone();
        Talk { stream, decoder, inbox: BytesMut::new(), first_error: None, password }
    }

    /// Whether nothing has come that was not asked for.
    pub(crate) fn is_quiet(&self) -> bool {
        self.inbox.is_empty()
    }

    /// What is told unasked before anything was read concerns nobody: a FLUSHALL tells all who are tracked.
    async fn pass_over_pushes(&mut self) -> Result<(), Loss> {
        while !self.inbox.is_empty() {
            match self.decoder.decode(&mut self.inbox) {
                Ok(Some(Frame::Push(_))) => {}
                Ok(None) => match self.stream.read_buf(&mut self.inbox).await {
                    Ok(0) => return Err(self.broken("closed during the handshake".into())),
                    Ok(_) => {}
                    Err(error) => return Err(self.broken(error.to_string())),
                },
                _ => return Err(Loss::Unreachable("bytes that answer nothing".into())),
            }
        }
        Ok(())
    }

    pub(crate) async fn ask(&mut self, arguments: &[&[u8]]) -> Result<Frame, Loss> {
        let mut out = BytesMut::new();
        encode_command(&mut out, arguments);
        self.say(&out).await?;
        self.listen().await
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) -> Result<(), Loss> {
        let written = match self.stream.write_all(bytes).await {
            Ok(()) => self.stream.flush().await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => Ok(()),
            Err(error) => {
                // What was said before that may lie here.
                while self.first_error.is_none() && self.hear().await.is_ok() {}
                Err(self.broken(error.to_string()))
            }
        }
    }

    /// The next reply; pushes are passed over.
    pub(crate) async fn listen(&mut self) -> Result<Frame, Loss> {
        self.hear().await.map_err(|why| self.broken(why))
    }

    async fn hear(&mut self) -> Result<Frame, String> {
        loop {
            match self.decoder.decode(&mut self.inbox) {
                Ok(Some(Frame::Push(_))) => {}
                Ok(Some(frame)) => {
                    if let (None, Frame::Error(text)) = (&self.first_error, &frame) {
                        self.first_error = Some(text.clone());
                    }
                    return Ok(frame);
                }
                Ok(None) => match self.stream.read_buf(&mut self.inbox).await {
                    Ok(0) => return Err("closed during the handshake".into()),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                },
                Err(error) => return Err(format!("not a redis: {error}")),
            }
        }
    }

    fn broken(&self, why: String) -> Loss {
        match &self.first_error {
            Some(text) => refused(text, self.password.as_ref()),
            None => Loss::Unreachable(why.into()),
        }
    }

    async fn demand(&mut self, arguments: &[&[u8]], endpoint: &Endpoint) -> Result<(), Loss> {
        match self.ask(arguments).await? {
            Frame::Error(text) => Err(refused(&text, endpoint.login.password.as_ref())),
            _ => Ok(()),
        }
    }
}
