//! A connection for questions and answers, one after the other, on which the server may also speak unasked.

use std::collections::VecDeque;

use bytes::BytesMut;
use resp::{Decoder, Frame, Protocol, encode_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::connection::decoder_limits;
use crate::endpoint::{Endpoint, SharedLimits};
use crate::hello::Hello;
use crate::raw::{Credentials, Expected, Greeting, OpenError, open_as_ourselves};
use crate::sink::Loss;
use crate::stream::Duplex;

/// What a server may have said unasked that nobody has [heard](Conversation::heard); one that says more loses its connection.
const MOST_UNHEARD: usize = 1024;

/// A connection of one task's own. Dropping it closes it.
pub struct Conversation {
    stream: Box<dyn Duplex>,
    decoder: Decoder,
    inbox: BytesMut,
    unheard: VecDeque<Vec<Frame>>,
    limits: SharedLimits,
    hello: Hello,
}

impl Conversation {
    /// Opens one in RESP3 to where the node of `endpoint` is, as who the endpoint says we are, within the connect time-out.
    ///
    /// # Errors
    /// As [`open_raw`](crate::open_raw); [`OpenError::Unfit`] also of a server that is not what was `expected`.
    pub async fn open(endpoint: &Endpoint, expected: Expected) -> Result<Conversation, OpenError> {
        let greeting = Greeting { login: Credentials::of(endpoint), db: 0, protocol: Protocol::Resp3 };
        let connection = open_as_ourselves(endpoint, &greeting, expected).await?;
        let hello = connection.hello.map(Frame::Map).ok().and_then(|hello| Hello::read(&hello));
        Ok(Conversation {
            stream: connection.stream,
            decoder: Decoder::new(decoder_limits(endpoint)),
            inbox: BytesMut::new(),
            unheard: VecDeque::new(),
            limits: endpoint.limits.clone(),
            hello: hello.unwrap_or_default(),
        })
    }

    /// What the server said of itself when it was opened.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Asks all `questions` in one write; their answers in that order, errors among them.
    ///
    /// # Errors
    /// The connection is lost, or silent for the silence time-out; it is of no use any more.
    pub async fn ask(&mut self, questions: &[&[&[u8]]]) -> Result<Vec<Frame>, Loss> {
        let patience = self.limits.silence_timeout();
        let asking = async {
            self.tell(questions).await?;
            let mut answers = Vec::with_capacity(questions.len());
            while answers.len() < questions.len() {
                match self.next().await? {
                    Frame::Push(said) if self.unheard.len() < MOST_UNHEARD => self.unheard.push_back(said),
                    Frame::Push(_) => return Err(Loss::Garbled("more than anybody hears".into())),
                    answer => answers.push(answer),
                }
            }
            Ok(answers)
        };
        timeout(patience, asking).await.unwrap_or(Err(Loss::Silent))
    }

    /// Says what is answered by what is [heard](Self::heard), if at all, such as SUBSCRIBE in RESP3.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn tell(&mut self, commands: &[&[&[u8]]]) -> Result<(), Loss> {
        let mut out = BytesMut::new();
        commands.iter().for_each(|command| encode_command(&mut out, command));
        let telling = async {
            self.stream.write_all(&out).await.map_err(closed)?;
            self.stream.flush().await.map_err(closed)
        };
        timeout(self.limits.silence_timeout(), telling).await.unwrap_or(Err(Loss::Silent))
    }

    /// What the server says unasked, the next of it. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn heard(&mut self) -> Result<Vec<Frame>, Loss> {
        if let Some(said) = self.unheard.pop_front() {
            return Ok(said);
        }
        match self.next().await? {
            Frame::Push(said) => Ok(said),
            _ => Err(Loss::Garbled("an answer to nothing".into())),
        }
    }

    async fn next(&mut self) -> Result<Frame, Loss> {
        loop {
            match self.decoder.decode(&mut self.inbox) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => match self.stream.read_buf(&mut self.inbox).await {
                    Ok(0) => return Err(Loss::Closed("closed by redis".into())),
                    Ok(_) => {}
                    Err(error) => return Err(closed(error)),
                },
                Err(error) => return Err(Loss::Garbled(error.to_string().into())),
            }
        }
    }
}

fn closed(error: std::io::Error) -> Loss {
    Loss::Closed(error.to_string().into())
}
