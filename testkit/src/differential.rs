//! The same bytes to two servers: do the same bytes come back?
//!
//! Each case is a connection of its own: requests well formed and broken, then a sentinel, then the end of our side, and
//! all that is answered until the other side ends. The sentinel's echo tells whether the connection was still open and in
//! step, so that a missing close is a missing byte. Before each case both servers are emptied.
//!
//! Cases are made so that a right answer is one and only one: nothing that depends on the clock, on chance or on the order
//! of a hash table (`cases.rs`). What is left is taken out by [`normal`]. A difference that is meant must be explained:
//! the caller gives a function that names the reason.
//!
//! A difference found is made small before it is shown: pieces are taken out of the case for as long as it still differs.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::{Random, RedisClient, RedisServer};

mod cases;

/// For an answer that does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of an answer that are shown.
const SHOWN: usize = 400;

/// The last request of each case.
const SENTINEL: &[u8] = b"\r\n*2\r\n$4\r\nECHO\r\n$8\r\nsentinel\r\n";

/// One of the two sides: the address to talk to, and the server behind it.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// Where the cases are sent.
    pub address: SocketAddr,
    /// Whose data they change.
    pub redis: &'a RedisServer,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Differences {
    /// Cases sent.
    pub cases: usize,
    /// Cases in which all of the sentinel came back: the connection was still in step.
    pub in_step: usize,
    /// Differences that have a reason, by reason.
    pub explained: BTreeMap<&'static str, usize>,
    /// Those that have none, made small: what was sent, what the first side answered, what the second.
    pub unexplained: Vec<[String; 3]>,
}

/// Why a difference is meant, given what was sent and what the two sides answered.
pub type Explain = fn(&[u8], &[u8], &[u8]) -> Option<&'static str>;

/// Sends `cases` random cases to both sides. Ends early when ten differences have no reason.
///
/// # Panics
/// When a server does not answer or end within 10 s.
pub fn compare(sides: [Side<'_>; 2], seed: u64, cases: usize, explain: Explain) -> Differences {
    let mut random = Random::new(seed);
    let mut pair = Pair { sides, control: sides.map(|side| side.redis.client()) };
    let mut found = Differences::default();
    while found.cases < cases && found.unexplained.len() < 10 {
        found.cases += 1;
        let case = cases::random(&mut random);
        let answers = pair.ask(&case);
        found.in_step += usize::from(ends_with_sentinel(&answers[0]));
        if differ(&answers[0], &answers[1]) {
            match explain(&case, &answers[0], &answers[1]) {
                Some(reason) => *found.explained.entry(reason).or_default() += 1,
                None => {
                    // Before anything is asked again, which may fail.
                    eprintln!("SEED={seed}, case {}: {}", found.cases, case.escape_ascii());
                    found.unexplained.push(pair.smallest(case, answers, explain));
                }
            }
        }
    }
    found
}

/// Both servers.
struct Pair<'a> {
    sides: [Side<'a>; 2],
    control: [RedisClient; 2],
}

impl Pair<'_> {
    /// What both answer to a case, normalised.
    fn ask(&mut self, case: &[u8]) -> [Vec<u8>; 2] {
        for (control, side) in self.control.iter_mut().zip(self.sides) {
            // A case may have killed all clients.
            if control.try_command(&["FLUSHALL"]).is_err() {
                *control = side.redis.client();
                control.command(&["FLUSHALL"]);
            }
        }
        let streams = self.sides.map(|side| send(side.address, case));
        streams.map(|stream| normal(&receive(stream, case)))
    }

    /// Takes pieces out of a case that differs, for as long as it differs without a reason.
    fn smallest(&mut self, mut case: Vec<u8>, mut answers: [Vec<u8>; 2], explain: Explain) -> [String; 3] {
        let mut size = case.len().next_power_of_two();
        while size > 0 {
            let mut at = 0;
            while at < case.len() {
                let mut less = case.clone();
                less.drain(at..case.len().min(at + size));
                let [one, other] = self.ask(&less);
                if differ(&one, &other) && explain(&less, &one, &other).is_none() {
                    case = less;
                    answers = [one, other];
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        // Those that differed: a difference may be one of chance.
        let [one, other] = answers;
        // Around the first byte that differs.
        let at =
            one.iter().zip(&other).take_while(|(one, other)| one == other).count().saturating_sub(SHOWN / 2);
        let [one, other] = [&one, &other].map(|answer| &answer[at..answer.len().min(at + SHOWN)]);
        [&case, one, other].map(|bytes| bytes.escape_ascii().to_string())
    }
}

fn send(address: SocketAddr, case: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a listening server");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    // A server that closes at an error may do so before all is sent.
    let _ = stream.write_all(&[case, SENTINEL].concat());
    let _ = stream.shutdown(Shutdown::Write);
    stream
}

fn receive(mut stream: TcpStream, case: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => answer,
        // It closed with bytes of ours unread.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("{error} for {}: {}", case.escape_ascii(), answer.escape_ascii()),
    }
}

fn ends_with_sentinel(answer: &[u8]) -> bool {
    answer.ends_with(b"$8\r\nsentinel\r\n")
}

/// Whether two answers are not those of servers that are alike.
fn differ(one: &[u8], other: &[u8]) -> bool {
    let both = |text: &[u8]| [one, other].iter().all(|answer| memchr::memmem::find(answer, text).is_some());
    // The state of the server: damage can turn CLUSTER INFO into INFO, and CONFIG GET into CONFIG GET *.
    if one == other || both(b"redis_version:") || both(b"latency-monitor-threshold") {
        return false;
    }
    // UNSUBSCRIBE without a name leaves the channels in the order of a hash table.
    if both(b"unsubscribe\r\n") {
        let [mut one, mut other] =
            [one, other].map(|answer| answer.split(|byte| *byte == b'\n').collect::<Vec<_>>());
        one.sort_unstable();
        other.sort_unstable();
        return one != other;
    }
    true
}

/// An answer without what differs between two servers that are alike: the client's number in HELLO's reply.
fn normal(answer: &[u8]) -> Vec<u8> {
    const ID: &[u8] = b"$2\r\nid\r\n:";
    let mut normal = Vec::new();
    let mut rest = answer;
    while let Some(at) = memchr::memmem::find(rest, ID) {
        let (before, after) = rest.split_at(at + ID.len());
        normal.extend_from_slice(before);
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &after[digits..];
    }
    normal.extend_from_slice(rest);
    normal
}
