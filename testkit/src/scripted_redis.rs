//! A Redis that answers what a test wants: malformed, cut, endless, late or none.
//!
//! Everything but GET is answered as Redis 7 does, as far as a client needs it to set up a connection, unless the test
//! says otherwise; so the program takes it for a Redis until the answer that the test is about.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::Reply;
use crate::reply::read_reply;

/// What a [`ScriptedRedis`] does with a GET.
#[derive(Clone, Debug)]
pub enum Action {
    /// Sends these bytes.
    Reply(Vec<u8>),
    /// Sends these bytes and closes.
    ReplyThenClose(Vec<u8>),
    /// Closes.
    Close,
    /// Answers nothing more on this connection, which stays open and is still read.
    Silence,
    /// Sends the bytes in pieces.
    Slow {
        /// All bytes.
        bytes: Vec<u8>,
        /// Bytes a piece.
        chunk: usize,
        /// Pause before each piece but the first.
        every: Duration,
    },
}

impl Action {
    /// A well-formed reply with this value.
    pub fn value(value: impl AsRef<[u8]>) -> Action {
        Action::Reply(bulk(value.as_ref()))
    }
}

/// A TCP server on a free port that speaks as much RESP as a test needs; a thread a connection.
pub struct ScriptedRedis {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
}

/// How a [`ScriptedRedis`] answers.
#[derive(Default)]
pub struct ScriptedRedisBuilder {
    answers: Vec<(String, Vec<u8>)>,
}

type OnGet = dyn Fn(&[u8], usize) -> Action + Send + Sync;

struct Shared {
    on_get: Box<OnGet>,
    answers: Vec<(String, Vec<u8>)>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    commands: Vec<Vec<Vec<u8>>>,
    accepted: usize,
    /// The connections that live, with the number of their acceptance.
    connections: Vec<(usize, Arc<Connection>)>,
    is_ending: bool,
}

struct Connection {
    stream: TcpStream,
    /// Held for a whole answer, so that [`ScriptedRedis::send_to_all`] does not write into it.
    writing: Mutex<()>,
}

impl ScriptedRedisBuilder {
    /// Answers this command (`AUTH`, `CLIENT TRACKING`) with these bytes instead.
    #[must_use]
    pub fn answer(mut self, command: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.answers.push((command.to_owned(), bytes.as_ref().to_vec()));
        self
    }

    /// Refuses HELLO as a Redis before 6 does.
    #[must_use]
    pub fn refuse_hello(self) -> Self {
        self.answer("HELLO", "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n")
    }

    /// Starts it. `on_get` gets the key and the number of GETs that came before, on all connections.
    pub fn start(self, on_get: impl Fn(&[u8], usize) -> Action + Send + Sync + 'static) -> ScriptedRedis {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let shared = Arc::new(Shared {
            on_get: Box::new(on_get),
            answers: self.answers,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        thread::spawn({
            let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
            move || {
                while let Ok((stream, _)) = listener.accept() {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || shared.serve(stream));
                }
            }
        });
        ScriptedRedis { address: listener.local_addr().expect("a bound socket"), listener, shared }
    }
}

impl ScriptedRedis {
    /// Starts one that answers everything but GET as Redis 7 does.
    pub fn start(on_get: impl Fn(&[u8], usize) -> Action + Send + Sync + 'static) -> ScriptedRedis {
        ScriptedRedis::builder().start(on_get)
    }

    /// One with choices.
    pub fn builder() -> ScriptedRedisBuilder {
        ScriptedRedisBuilder::default()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All commands so far with their arguments, in the order they came.
    pub fn commands(&self) -> Vec<Vec<Vec<u8>>> {
        self.shared.lock().commands.clone()
    }

    /// How often this command (`GET`, `CLIENT TRACKING`) came.
    pub fn calls(&self, command: &str) -> usize {
        self.shared.lock().calls(command)
    }

    /// Waits until this command came `count` times, or more often.
    ///
    /// # Panics
    /// When it did not within `timeout`.
    #[track_caller]
    pub fn wait_calls(&self, command: &str, count: usize, timeout: Duration) {
        let state = self.shared.lock();
        let (state, wait) = self
            .shared
            .changed
            .wait_timeout_while(state, timeout, |state| state.calls(command) < count)
            .unwrap();
        let found = state.calls(command);
        drop(state);
        assert!(!wait.timed_out(), "waited {timeout:?} in vain for {count} {command}, there were {found}");
    }

    /// The connections accepted since the start.
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    /// The connections open now.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// Sends bytes nobody asked for on all open connections: a push, a stray reply.
    pub fn send_to_all(&self, bytes: impl AsRef<[u8]>) {
        let connections = self.shared.lock().connections.clone();
        for (_, connection) in connections {
            // One that its client has closed meanwhile is none of ours.
            let _ = connection.write(bytes.as_ref());
        }
    }
}

impl Drop for ScriptedRedis {
    fn drop(&mut self) {
        // On Linux this ends the accept(2) that waits.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Read);
        let mut state = self.shared.lock();
        state.is_ending = true;
        for (_, connection) in &state.connections {
            connection.close();
        }
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        let connection = Arc::new(Connection { stream, writing: Mutex::new(()) });
        let number = {
            let mut state = self.lock();
            if state.is_ending {
                return;
            }
            let number = state.accepted;
            state.accepted += 1;
            state.connections.push((number, Arc::clone(&connection)));
            number
        };
        match self.answer_all(&connection) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => eprintln!("scripted Redis: {error}"),
            // The client is gone, or the script said to close.
            _ => {}
        }
        connection.close();
        self.lock().connections.retain(|(other, _)| *other != number);
    }

    /// Answers commands until the connection ends or is to be closed.
    fn answer_all(&self, connection: &Connection) -> io::Result<()> {
        let mut reader = BufReader::new(&connection.stream);
        let mut is_silent = false;
        loop {
            let command = read_command(&mut reader)?;
            let gets = {
                let mut state = self.lock();
                let gets = state.calls("GET");
                state.commands.push(command.clone());
                self.changed.notify_all();
                gets
            };
            if is_silent {
                continue;
            }
            let scripted = self.answers.iter().find(|(name, _)| is_command(&command, name));
            let action = match (scripted, command.as_slice()) {
                (Some((_, bytes)), _) => Action::Reply(bytes.clone()),
                (None, [name, key]) if name.eq_ignore_ascii_case(b"GET") => (self.on_get)(key, gets),
                (None, command) => Action::Reply(answer_of_redis_7(command)),
            };
            match action {
                Action::Reply(bytes) => connection.write(&bytes)?,
                Action::ReplyThenClose(bytes) => return connection.write(&bytes),
                Action::Close => return Ok(()),
                Action::Silence => is_silent = true,
                Action::Slow { bytes, chunk, every } => {
                    self.write_slowly(connection, &bytes, chunk, every)?
                }
            }
        }
    }

    fn write_slowly(
        &self,
        connection: &Connection,
        bytes: &[u8],
        chunk: usize,
        every: Duration,
    ) -> io::Result<()> {
        let _writing = connection.writing.lock().unwrap();
        for (at, piece) in bytes.chunks(chunk).enumerate() {
            if at > 0 {
                let state = self.lock();
                let pause = self.changed.wait_timeout_while(state, every, |state| !state.is_ending);
                drop(pause.unwrap());
            }
            (&connection.stream).write_all(piece)?;
        }
        Ok(())
    }
}

impl State {
    fn calls(&self, name: &str) -> usize {
        self.commands.iter().filter(|command| is_command(command, name)).count()
    }
}

impl Connection {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap();
        (&self.stream).write_all(bytes)
    }

    fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn read_command(reader: &mut BufReader<&TcpStream>) -> io::Result<Vec<Vec<u8>>> {
    let not_a_command =
        |found| io::Error::new(io::ErrorKind::InvalidData, format!("not a command: {found:?}"));
    let Reply::Array(arguments) = read_reply(reader)? else {
        return Err(not_a_command("no array".to_owned()));
    };
    let bytes = |argument| match argument {
        Reply::Bulk(bytes) => Ok(bytes),
        other => Err(not_a_command(format!("{other:?}"))),
    };
    arguments.into_iter().map(bytes).collect()
}

/// Whether a command is of this name: `GET`, or two words such as `CLIENT TRACKING`.
fn is_command(command: &[Vec<u8>], name: &str) -> bool {
    let mut words = command.iter();
    name.split(' ').all(|word| words.next().is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes())))
}

/// What Redis 7.0 says to the commands of a connection's set-up.
fn answer_of_redis_7(command: &[Vec<u8>]) -> Vec<u8> {
    let is = |name| is_command(command, name);
    let argument = command.get(1).map(Vec::as_slice);
    if is("HELLO") {
        return match argument {
            Some(b"3") => hello("%7", 3),
            None | Some(b"2") => hello("*14", 2),
            Some(_) => b"-NOPROTO unsupported protocol version\r\n".to_vec(),
        };
    }
    if is("PING") {
        return argument.map_or_else(|| b"+PONG\r\n".to_vec(), bulk);
    }
    if is("CLIENT ID") {
        return b":7\r\n".to_vec();
    }
    if is("PTTL") {
        return b":-1\r\n".to_vec();
    }
    if is("COMMAND INFO") {
        return [format!("*{}\r\n", command.len() - 2), "*-1\r\n".repeat(command.len() - 2)]
            .concat()
            .into_bytes();
    }
    if ["AUTH", "SELECT", "CLIENT", "READONLY"].into_iter().any(is) {
        return b"+OK\r\n".to_vec();
    }
    let name = String::from_utf8_lossy(command.first().map_or(b"", Vec::as_slice));
    format!("-ERR unknown command '{name}', with args beginning with: \r\n").into_bytes()
}

fn hello(header: &str, protocol: u8) -> Vec<u8> {
    format!(
        "{header}\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:{protocol}\r\n\
         $2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
    )
    .into_bytes()
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
