//! A connection to Redis that belongs to its caller: opened and greeted here, and its bytes are the caller's own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::{Bytes, BytesMut};
use resp::{Frame, Protocol, encode_command};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::endpoint::Endpoint;
use crate::handshake::{CLIENT_NAME, Talk, is_about_credentials};
use crate::hello::{mode_by_info, text, unfit};
use crate::sink::Loss;
use crate::stream::{Duplex, open};

/// Who a connection is to Redis.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Credentials {
    /// Nobody said anything: Redis' `default` user, if that needs no password.
    #[default]
    None,
    /// `AUTH password`.
    Password(Password),
    /// `AUTH user password`.
    User(Bytes, Password),
}

impl Credentials {
    /// Who the endpoint says we are.
    pub fn of(endpoint: &Endpoint) -> Credentials {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let password = endpoint.login.password.as_ref().map(|secret| Password(bytes(secret.expose())));
        match (&endpoint.login.username, password) {
            (_, None) => Credentials::None,
            (None, Some(password)) => Credentials::Password(password),
            (Some(user), Some(password)) => Credentials::User(bytes(user), password),
        }
    }

    /// Appends the AUTH that says it; nothing where nobody says anything.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Credentials::None => {}
            Credentials::Password(password) => encode_command(out, &[b"AUTH", &password.0]),
            Credentials::User(user, password) => encode_command(out, &[b"AUTH", user, &password.0]),
        }
    }
}

/// A password as a client gave it: any bytes, which no log and no error shows.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(pub Bytes);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a fresh connection is made to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    /// Who it is.
    pub login: Credentials,
    /// The database that is selected; 0 sends no SELECT.
    pub db: u32,
    /// The version of RESP that Redis answers in.
    pub protocol: Protocol,
}

/// A stream at the point where commands may be sent.
pub struct RawConnection {
    /// The bytes, both ways.
    pub stream: Box<dyn Duplex>,
    /// The generation of the node that it leads to.
    pub generation: u64,
    /// What Redis says of itself in its answer to HELLO; an error's text where it says nothing (before 6.0, or to
    /// somebody who has yet to log in).
    pub hello: Result<Vec<(Frame, Frame)>, Bytes>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// No connection could be made. A later attempt may succeed.
    Unreachable(Arc<str>),
    /// The server is none that can be served from, for this reason: a node of a cluster, a sentinel.
    Unfit(Arc<str>),
    /// Redis turned a step down: its own text, without the leading dash.
    Refused(Step, Bytes),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Unreachable(why) | OpenError::Unfit(why) => f.write_str(why),
            OpenError::Refused(_, text) => f.write_str(&String::from_utf8_lossy(text)),
        }
    }
}

/// What a server is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A Redis that can be served from: a node of a cluster, if the endpoint is of one, and none else.
    Redis,
    /// A sentinel.
    Sentinel,
}

impl Expected {
    /// Why a server in this mode is not what is expected, for an operator.
    fn misses(self, mode: &str, in_cluster: bool) -> Option<&'static str> {
        match self {
            Expected::Redis => unfit(mode, in_cluster),
            Expected::Sentinel if mode == "sentinel" => None,
            Expected::Sentinel => Some("it is no sentinel"),
        }
    }
}

/// A step of the greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// AUTH.
    Auth,
    /// HELLO 3.
    Hello,
    /// SELECT.
    Select,
}

/// Opens a connection to `endpoint` and makes it what `greeting` says, within the connect time-out. Credentials and
/// database of the endpoint are not used. It leads to where the node is when it is handed out, wherever that was before.
///
/// # Errors
/// [`OpenError::Refused`] when Redis turns a step down, [`OpenError::Unfit`] when it is none to be served from,
/// [`OpenError::Unreachable`] for all else.
pub async fn open_raw(endpoint: &Endpoint, greeting: &Greeting) -> Result<RawConnection, OpenError> {
    open_expected(endpoint, greeting, Expected::Redis).await
}

async fn open_expected(
    endpoint: &Endpoint,
    greeting: &Greeting,
    expected: Expected,
) -> Result<RawConnection, OpenError> {
    let opening = async {
        loop {
            let now = endpoint.node.generation();
            tokio::select! {
                opened = open_now(endpoint, greeting, expected) => match opened {
                    Ok(connection) if connection.generation != endpoint.node.generation() => {}
                    outcome => return outcome,
                },
                () = endpoint.node.left(now) => {}
            }
        }
    };
    let outcome = match timeout(endpoint.limits.connect_timeout(), opening).await {
        Ok(outcome) => outcome,
        Err(_) => Err(unreachable(endpoint.too_late())),
    };
    note_unreachable(endpoint, &outcome);
    outcome
}

/// Of a node of a cluster: another has its slots, or soon will, so the map of slots is asked for.
fn note_unreachable<T>(endpoint: &Endpoint, outcome: &Result<T, OpenError>) {
    if endpoint.cluster.is_some() && matches!(outcome, Err(OpenError::Unreachable(_))) {
        endpoint.node.doubt();
    }
}

async fn open_now(
    endpoint: &Endpoint,
    greeting: &Greeting,
    expected: Expected,
) -> Result<RawConnection, OpenError> {
    let resolved = AtomicBool::new(false);
    let (mut stream, generation) =
        open(endpoint, &resolved).await.map_err(|error| unreachable(error.to_string()))?;
    let hello = greet_as(&mut *stream, endpoint, greeting, expected).await?;
    Ok(RawConnection { stream, generation, hello })
}

/// Opens a connection as [`open_raw`] does, as who the endpoint says we are at this moment.
///
/// # Errors
/// As [`open_raw`].
pub async fn open_as_ourselves(
    endpoint: &Endpoint,
    greeting: &Greeting,
    expected: Expected,
) -> Result<RawConnection, OpenError> {
    let start = Instant::now();
    loop {
        let who = endpoint.as_of_now().await;
        let greeting = Greeting { login: Credentials::of(&who), ..greeting.clone() };
        match open_expected(endpoint, &greeting, expected).await {
            Err(OpenError::Refused(Step::Auth, _)) if endpoint.may_disagree(start).await => {}
            outcome => return outcome,
        }
    }
}

/// Asks one question on a connection of its own, as who the endpoint says we are.
///
/// # Errors
/// As [`open_raw`]; an error reply is an answer.
pub async fn ask_once(endpoint: &Endpoint, question: &[&[u8]]) -> Result<Frame, OpenError> {
    let greeting = Greeting { login: Credentials::of(endpoint), db: 0, protocol: Protocol::Resp2 };
    let mut stream = open_as_ourselves(endpoint, &greeting, Expected::Redis).await?.stream;
    let mut talk = Talk::new(&mut *stream, endpoint);
    match timeout(endpoint.limits.connect_timeout(), talk.ask(question)).await {
        Ok(Ok(frame)) => Ok(frame),
        Ok(Err(loss)) => Err(unreachable(loss.to_string())),
        Err(_) => Err(unreachable("no answer in time".into())),
    }
}

/// Asks `questions` on a fresh connection of nobody's: not a word is said about who we are. As many answers as came before
/// Redis closed it.
///
/// # Errors
/// [`OpenError::Unreachable`] when no answer comes within the connect time-out, or the server takes no further client.
pub async fn ask_as_nobody(endpoint: &Endpoint, questions: &[&[&[u8]]]) -> Result<Vec<Frame>, OpenError> {
    let asking = async {
        let resolved = AtomicBool::new(false);
        let (mut stream, _) =
            open(endpoint, &resolved).await.map_err(|error| unreachable(error.to_string()))?;
        let mut out = BytesMut::new();
        questions.iter().for_each(|question| encode_command(&mut out, question));
        // What was said before the connection was closed is read all the same.
        let _ = stream.write_all(&out).await;
        let _ = stream.flush().await;
        let mut talk = Talk::new(&mut *stream, endpoint);
        let mut answers = Vec::new();
        while answers.len() < questions.len() {
            match listen(&mut talk).await {
                Ok(answer) => answers.push(answer),
                Err(error) if answers.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(answers)
    };
    let outcome = match timeout(endpoint.limits.connect_timeout(), asking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(unreachable(format!("no answer within {:?}", endpoint.limits.connect_timeout()))),
    };
    note_unreachable(endpoint, &outcome);
    outcome
}

/// All steps in one write: a greeting costs one round trip.
async fn greet_as(
    stream: &mut dyn Duplex,
    endpoint: &Endpoint,
    greeting: &Greeting,
    expected: Expected,
) -> Result<Result<Vec<(Frame, Frame)>, Bytes>, OpenError> {
    let mut out = BytesMut::new();
    greeting.login.encode(&mut out);
    let resp3 = greeting.protocol == Protocol::Resp3;
    encode_command(&mut out, &[b"HELLO", if resp3 { b"3" } else { b"2" }, b"SETNAME", CLIENT_NAME]);
    if greeting.db != 0 {
        encode_command(&mut out, &[b"SELECT", greeting.db.to_string().as_bytes()]);
    }
    let mut talk = Talk::new(stream, endpoint);
    talk.say(&out).await.map_err(unopened)?;
    if greeting.login != Credentials::None {
        demand(&mut talk, Step::Auth).await?;
    }
    let hello = match listen(&mut talk).await? {
        // What follows is refused in the words that any command would be.
        Frame::Error(text) if text.starts_with(b"NOAUTH") => {
            let what_follows = match greeting.db {
                0 => talk.ask(&[b"PING"]).await.map_err(unopened),
                _ => listen(&mut talk).await,
            };
            let text = match what_follows {
                Ok(Frame::Error(text)) if text.starts_with(b"NOAUTH") => text,
                _ => text,
            };
            return Err(OpenError::Refused(Step::Auth, text));
        }
        Frame::Error(text) if resp3 => return Err(OpenError::Refused(Step::Hello, text)),
        Frame::Error(text) => Err(text),
        Frame::Map(pairs) => Ok(pairs),
        Frame::Array(items) => Ok(pairs(items)),
        other => return Err(unreachable(format!("not an answer to HELLO: {other:?}"))),
    };
    if let Some(why) =
        hello.as_ref().ok().and_then(|pairs| expected.misses(&mode(pairs), endpoint.cluster.is_some()))
    {
        return Err(OpenError::Unfit(why.into()));
    }
    if greeting.db != 0 {
        demand(&mut talk, Step::Select).await?;
    }
    if hello.is_err() {
        talk.ask(&[b"CLIENT", b"SETNAME", CLIENT_NAME]).await.map_err(unopened)?;
    }
    if hello.as_ref().is_err_and(|text| !is_about_credentials(text)) {
        let info = talk.ask(&[b"INFO", b"server"]).await.map_err(unopened)?;
        if let Some(why) =
            mode_by_info(&info).and_then(|mode| expected.misses(&mode, endpoint.cluster.is_some()))
        {
            return Err(OpenError::Unfit(why.into()));
        }
    }
    match talk.is_quiet() {
        true => Ok(hello),
        false => Err(unreachable("bytes that answer nothing".into())),
    }
}

/// What HELLO says of the server's mode.
fn mode(hello: &[(Frame, Frame)]) -> String {
    let mode = hello.iter().find(|(key, _)| text(key).as_deref() == Some("mode"));
    mode.and_then(|(_, value)| text(value)).unwrap_or_default()
}

/// A map as RESP2 writes it.
fn pairs(items: Vec<Frame>) -> Vec<(Frame, Frame)> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| items.next().zip(items.next())).collect()
}

/// The next answer. What a server says that takes no further client is none: it says so unasked, to whomever.
async fn listen(talk: &mut Talk<'_>) -> Result<Frame, OpenError> {
    match talk.listen().await.map_err(unopened)? {
        Frame::Error(text) if text.starts_with(b"ERR max number of clients") => {
            Err(unreachable(String::from_utf8_lossy(&text).into_owned()))
        }
        answer => Ok(answer),
    }
}

fn unopened(loss: Loss) -> OpenError {
    match loss {
        Loss::Unreachable(why) => OpenError::Unreachable(why),
        other => unreachable(other.to_string()),
    }
}

async fn demand(talk: &mut Talk<'_>, step: Step) -> Result<(), OpenError> {
    match listen(talk).await? {
        Frame::Error(text) => Err(OpenError::Refused(step, text)),
        _ => Ok(()),
    }
}

fn unreachable(why: String) -> OpenError {
    OpenError::Unreachable(why.into())
}
