//! The floor answers what it is asked: a floor that drops or garbles answers would be too low.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

const REQUEST: &[u8] = b"GET /key HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The program with an answer of its own, ended with the test.
struct Noop {
    child: Child,
    port: u16,
    answer: Vec<u8>,
}

impl Noop {
    fn start(name: &str, answer_bytes: usize) -> Self {
        let answer: Vec<u8> = (0..answer_bytes).map(|at| b"abcdefghijklmnopqrstuvwxyz0"[at % 27]).collect();
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&file, &answer).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_noop"))
            .args(["0", &REQUEST.len().to_string()])
            .arg(file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Noop { child, port: line.trim().parse().unwrap(), answer }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    /// Reads `count` answers.
    fn expect(&self, client: &mut TcpStream, count: usize) {
        let mut read = vec![0; self.answer.len() * count];
        client.read_exact(&mut read).unwrap();
        assert!(read == self.answer.repeat(count), "the bytes of {count} answers");
    }
}

impl Drop for Noop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing is left to read once the client has said that it sends no more.
fn expect_end(mut client: TcpStream) {
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes too many", rest.len());
}

#[test]
fn each_request_of_a_batch_is_answered_however_it_is_cut() {
    let noop = Noop::start("small", 377);
    let (mut first, mut second) = (noop.connect(), noop.connect());
    first.write_all(&REQUEST.repeat(16)).unwrap();
    second.write_all(REQUEST).unwrap();
    noop.expect(&mut second, 1);
    noop.expect(&mut first, 16);
    // More than one read, and more than one block of answers.
    first.write_all(&REQUEST.repeat(5_000)).unwrap();
    noop.expect(&mut first, 5_000);
    for piece in REQUEST.repeat(3).chunks(7) {
        second.write_all(piece).unwrap();
    }
    noop.expect(&mut second, 3);
    expect_end(first);
    expect_end(second);
}

#[test]
fn an_answer_that_the_client_takes_slowly_comes_whole() {
    let noop = Noop::start("large", 1024 * 1024);
    let mut client = noop.connect();
    let mut sender = client.try_clone().unwrap();
    let requests = thread::spawn(move || sender.write_all(&REQUEST.repeat(64)).unwrap());
    thread::sleep(Duration::from_millis(200));
    noop.expect(&mut client, 64);
    requests.join().unwrap();
    expect_end(client);
}
