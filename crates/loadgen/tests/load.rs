//! The generator against servers that misbehave by script: nothing that goes wrong may be missing from the report.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::{Options, Report, command, run};
use serde_json::Value;

const VALUE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Status: x; hit\r\n\r\nhello";

/// What a server does about a request.
enum Deed {
    Answer(&'static str),
    /// Writes this, then closes.
    AnswerAndClose(&'static str),
    /// Closes with a reset.
    Reset,
    Ignore,
}

/// A server that asks `deed` about each request, numbered from 0 over all connections. It ends with the test.
fn server(deed: impl Fn(usize) -> Deed + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (deed, number) = (Arc::new(deed), Arc::new(AtomicUsize::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (deed, number) = (deed.clone(), number.clone());
            thread::spawn(move || converse(stream.unwrap(), &*deed, &number));
        }
    });
    address
}

fn converse(mut stream: TcpStream, deed: &dyn Fn(usize) -> Deed, number: &AtomicUsize) {
    let mut input = Vec::new();
    let mut room = [0; 64 * 1024];
    loop {
        match stream.read(&mut room) {
            Ok(count @ 1..) => input.extend_from_slice(&room[..count]),
            _ => return,
        }
        while let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            input.drain(..end + 4);
            // The generator may have gone.
            match deed(number.fetch_add(1, Ordering::Relaxed)) {
                Deed::Answer(text) => drop(stream.write_all(text.as_bytes())),
                Deed::AnswerAndClose(text) => return drop(stream.write_all(text.as_bytes())),
                Deed::Reset => {
                    let linger = Some(Duration::ZERO);
                    return socket2::SockRef::from(&stream).set_linger(linger).unwrap();
                }
                Deed::Ignore => {}
            }
        }
    }
}

fn options(address: SocketAddr, args: &[&str]) -> Options {
    let url = format!("http://{address}");
    let args = [&["bench", &url, "--warmup", "0"], args].concat();
    Options::from_matches(&command().try_get_matches_from(args).unwrap()).unwrap()
}

fn load(address: SocketAddr, args: &[&str]) -> (Report, Value) {
    let report = run(&options(address, args)).unwrap();
    let json = serde_json::from_str(&report.json()).unwrap();
    (report, json)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_stall_is_in_the_latency_of_all_that_were_due_in_it() {
    // Of a thousand requests, 200 are due while the server sleeps. In a closed loop 4 of them would be slow.
    let begin = Instant::now();
    let (from, to) = (Duration::from_millis(500), Duration::from_millis(700));
    let address = server(move |_| {
        if (from..to).contains(&begin.elapsed()) {
            thread::sleep(to - begin.elapsed());
        }
        Deed::Answer(VALUE)
    });
    let (report, json) = load(address, &["--rate", "1000", "--duration", "1", "--connections", "4"]);
    let latency = &json["latency_us"];
    assert!(report.is_sound(), "{json}");
    assert_eq!((&json["requests"], &json["answers"]), (&1000.into(), &1000.into()), "{json}");
    assert!(number(&latency["p99"]) > 150_000.0 && number(&latency["max"]) < 400_000.0, "{latency:#}");
    assert!(number(&latency["p90"]) > 60_000.0, "{latency:#}");
    assert!(number(&latency["p50"]) < 60_000.0, "{latency:#}");
}

#[test]
fn a_closed_loop_keeps_the_depth_and_counts_hits() {
    let address = server(|number| {
        Deed::Answer(if number % 4 == 0 {
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nCache-Status: x; fwd=uri-miss\r\n\r\n."
        } else {
            VALUE
        })
    });
    let args =
        ["--rate", "max", "--pipeline", "8", "--connections", "2", "--duration", "0.3", "--threads", "2"];
    let (report, json) = load(address, &args);
    assert!(report.is_sound(), "{json}");
    assert_eq!(json["requests"], json["answers"]);
    assert!(number(&json["answers"]) > 100.0 && (number(&json["hit_ratio"]) - 0.75).abs() < 0.01, "{json}");
    assert!(json["lag_us"].is_null(), "{json}");
}

#[test]
fn the_same_seed_asks_for_the_same_keys() {
    let asked = |seed: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reading = thread::spawn(move || {
            let mut bytes = vec![0; 50 * 45];
            listener.accept().unwrap().0.read_exact(&mut bytes).unwrap();
            String::from_utf8(bytes).unwrap().replace(&address.to_string(), "")
        });
        let args =
            ["--rate", "1000", "--duration", "0.2", "--connections", "1", "--zipf", "1", "--seed", seed];
        load(address, &args);
        reading.join().unwrap()
    };
    let first = asked("7");
    assert!(first.starts_with("GET /key:"), "{first}");
    assert_eq!(first, asked("7"));
    assert_ne!(first, asked("8"));
}

#[test]
fn a_status_is_counted_and_its_latency_is_not() {
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    let address = server(move |number| Deed::Answer(if number % 2 == 0 { busy } else { VALUE }));
    let (report, json) = load(address, &["--rate", "100", "--duration", "0.2", "--connections", "1"]);
    assert_eq!(json["statuses"], serde_json::json!({ "200": 10, "503": 10 }));
    assert!(report.is_sound());
    let address = server(move |_| Deed::Answer(busy));
    let (report, json) = load(address, &["--rate", "100", "--duration", "0.2", "--connections", "1"]);
    assert!(!report.is_sound() && json["latency_us"].is_null(), "{json}");
}

/// The errors of ten requests a second apart of 10 ms, of which the sixth meets `deed`.
fn errors(deed: fn() -> Deed) -> Value {
    let address = server(move |number| if number == 5 { deed() } else { Deed::Answer(VALUE) });
    let (report, json) = load(address, &["--rate", "100", "--duration", "0.3", "--connections", "1"]);
    assert!(!report.is_sound(), "{json}");
    assert!(number(&json["answers"]) >= 5.0, "{json}");
    json["errors"].clone()
}

#[test]
fn every_way_to_break_an_answer_is_told_by_name() {
    assert_eq!(errors(|| Deed::Reset)["reset"], 1);
    assert_eq!(errors(|| Deed::AnswerAndClose(""))["closed"], 1);
    assert_eq!(
        errors(|| Deed::AnswerAndClose("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"))["short"],
        1
    );
    assert_eq!(errors(|| Deed::AnswerAndClose("HTTP/1.1 2"))["short"], 1);
    assert_eq!(errors(|| Deed::Answer("+PONG\r\n"))["garbled"], 1);
    assert_eq!(errors(|| Deed::Answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nunasked"))["garbled"], 1);
    // The last of the requests has no answer left.
    assert_eq!(errors(|| Deed::Ignore)["unanswered"], 1);
    // While the connection is gone the next ones are due.
    assert!(number(&errors(|| Deed::Reset)["unconnected"]) >= 5.0);
}

#[test]
fn a_connection_closed_in_order_is_made_again_without_an_error() {
    let last = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let address = server(move |_| Deed::AnswerAndClose(last));
    let (report, json) = load(address, &["--rate", "max", "--duration", "0.2", "--connections", "1"]);
    assert!(report.is_sound(), "{json}");
    assert!(number(&json["answers"]) >= 5.0 && json["reconnects"] == json["answers"], "{json}");
}

#[test]
fn what_cannot_be_outstanding_is_overload() {
    let address = server(|_| Deed::Ignore);
    let args = ["--rate", "1000", "--duration", "0.1", "--connections", "2", "--max-outstanding", "10"];
    let (report, json) = load(address, &args);
    assert_eq!(json["errors"], serde_json::json!({ "overload": 80, "unanswered": 20 }));
    assert!(!report.is_sound());
}

#[test]
fn a_server_that_goes_away_is_refused_until_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let going = thread::spawn(move || drop((listener.accept(), listener)));
    let (report, json) = load(address, &["--rate", "100", "--duration", "0.5", "--connections", "1"]);
    going.join().unwrap();
    assert!(!report.is_sound() && number(&json["errors"]["refused"]) >= 2.0, "{json}");
    let refused = run(&options(address, &[])).unwrap_err().to_string();
    assert!(refused.starts_with(&format!("cannot connect to {address}: ")), "{refused}");
}
