//! Many clients over TLS at a time: what idle ones cost, and what a flood of half-open handshakes does to the others.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use testkit::{Proxy, RedisServer, StopOnDrop, wait_until};

use crate::authority::Authority;
use crate::tls::{PATIENCE, connect, tls_program, trusting};

type Client = StreamOwned<ClientConnection, TcpStream>;

fn ask(client: &mut Client) {
    assert!(is_answered(client).unwrap(), "an end instead of an answer");
}

/// Whether a client that asks is answered, or let go: with TLS 1.3 it may believe that it is through with its handshake before we do.
fn is_answered(client: &mut Client) -> std::io::Result<bool> {
    client.write_all(b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let (mut answer, mut length) = ([0; 4096], 0);
    while !answer[..length].ends_with(b"\r\n\r\nv") {
        let count = client.read(&mut answer[length..])?;
        if count == 0 {
            return Ok(false);
        }
        length += count;
    }
    Ok(true)
}

/// Whether a client that comes is let in and answered.
fn is_let_in(address: SocketAddr, authority: &Authority) -> bool {
    connect(address, trusting(authority)).and_then(|mut client| is_answered(&mut client)).unwrap_or(false)
}

fn start(authority: &Authority, max_clients: usize) -> (RedisServer, Proxy) {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let program =
        tls_program(authority).set("MAX_CLIENTS", max_clients.to_string()).set("IDLE_TIMEOUT", "1h");
    let proxy = program.allow_warning("lowered").redis(&redis).start();
    (redis, proxy)
}

/// Resident bytes for each of so many clients that have asked once and lie idle.
fn idle_bytes(clients: usize) -> usize {
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, clients + 100);
    // What is allocated once.
    (0..50).for_each(|_| ask(&mut connect(proxy.address(), trusting(&authority)).unwrap()));
    let before = proxy.resident_bytes();
    let mut open = Vec::new();
    for _ in 0..clients {
        let mut client = connect(proxy.address(), trusting(&authority)).unwrap();
        ask(&mut client);
        open.push(client);
    }
    wait_until(PATIENCE, "all to be here", || proxy.metrics().value("redis_proxy_clients") >= clients as f64);
    let grown = proxy.resident_bytes().saturating_sub(before);
    eprintln!("{clients} idle clients over TLS: {grown} bytes, {} each", grown / clients as u64);
    ask(&mut open[0]);
    usize::try_from(grown).unwrap() / clients
}

/// 10,000 of them may take 160 MiB.
const MOST_IDLE_BYTES: usize = (160 << 20) / 10_000;

#[test]
fn a_thousand_idle_clients_take_their_part_of_160_mib_for_ten_thousand() {
    let bytes = idle_bytes(1_000);
    assert!(bytes <= MOST_IDLE_BYTES, "{bytes} bytes each");
}

#[test]
#[ignore = "takes a minute and 20,000 files; make soak runs it"]
fn ten_thousand_idle_clients_take_at_most_160_mib() {
    let bytes = idle_bytes(10_000);
    assert!(bytes <= MOST_IDLE_BYTES, "{bytes} bytes each");
}

/// The time within which 99 of 100 requests of one client after another are answered, of so many.
fn p99(clients: &mut [Client], requests: usize) -> Duration {
    let mut times: Vec<_> = (0..requests)
        .map(|n| {
            let since = Instant::now();
            let count = clients.len();
            ask(&mut clients[n % count]);
            since.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[requests * 99 / 100]
}

/// The p99 of kept connections without a flood, and during one that keeps `half_open` handshakes on their way.
fn flooded(half_open: usize, max_clients: usize, requests: usize) -> (Duration, Duration) {
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, max_clients);
    let mut kept: Vec<_> = (0..20).map(|_| connect(proxy.address(), trusting(&authority)).unwrap()).collect();
    p99(&mut kept, requests / 10);
    let quiet = p99(&mut kept, requests);
    let over = AtomicBool::new(false);
    let hello = {
        let mut tls =
            ClientConnection::new(Arc::new(trusting(&authority)), proxy.address().ip().into()).unwrap();
        let mut bytes = Vec::new();
        tls.write_tls(&mut bytes).unwrap();
        bytes
    };
    let during = thread::scope(|scope| {
        let _end = StopOnDrop(&over);
        scope.spawn(|| {
            let mut open = std::collections::VecDeque::new();
            // Those that say nothing, half of what they have to say, and all but their last word.
            for round in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(mut stream) = TcpStream::connect(proxy.address()) else { continue };
                let said = [0, hello.len() / 2, hello.len()][round % 3];
                let _ = stream.write_all(&hello[..said]);
                open.push_back(stream);
                if open.len() > half_open {
                    open.pop_front();
                }
                if round > half_open {
                    // From here on it only keeps its number.
                    thread::sleep(Duration::from_millis(2));
                }
            }
        });
        let held = || {
            let metrics = proxy.metrics();
            let outcome = |name: &str| {
                metrics.value(&format!("redis_proxy_tls_handshakes_total{{outcome=\"{name}\"}}"))
            };
            metrics.value("redis_proxy_clients") + outcome("crowded") + outcome("left") >= half_open as f64
        };
        wait_until(Duration::from_secs(60), "the flood", held);
        let during = p99(&mut kept, requests);
        // Whoever is honest is let in meanwhile.
        ask(&mut connect(proxy.address(), trusting(&authority)).unwrap());
        over.store(true, Ordering::Relaxed);
        during
    });
    eprintln!("p99 {quiet:?} without, {during:?} with {half_open} half-open handshakes");
    (quiet, during)
}

#[test]
fn half_open_handshakes_hold_up_nobody_who_is_connected() {
    let (quiet, during) = flooded(500, 700, 2_000);
    // On a machine with other work a p99 of a millisecond means little.
    assert!(during < 4 * quiet + Duration::from_millis(20), "{quiet:?}, {during:?}");
}

#[test]
#[ignore = "takes a minute and 20,000 files; make soak runs it"]
fn ten_thousand_half_open_handshakes_leave_the_p99_of_the_others_below_twice() {
    let (quiet, during) = flooded(10_000, 15_000, 20_000);
    assert!(during < 2 * quiet + Duration::from_millis(1), "{quiet:?}, {during:?}");
}

#[test]
fn a_crowd_that_says_what_is_no_handshake_and_stays_gives_its_places_back() {
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, 40);
    for warning in ["speaks TLS", "was refused"] {
        proxy.allow_warning(warning);
    }
    let mut kept = connect(proxy.address(), trusting(&authority)).unwrap();
    let mut crowd = Vec::new();
    for round in 0..300 {
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        // A byte of each of our protocols in plain, and a hello that is none.
        let said: [&[u8]; 3] = [b"G", b"*", &[22, 3, 1, 0, 4, 1, 0, 0, 0]];
        let _ = stream.write_all(said[round % 3]);
        crowd.push(stream);
        if round % 30 == 0 {
            ask(&mut kept);
        }
    }
    // They are all open at their ends.
    wait_until(PATIENCE, "an honest client to be let in", || is_let_in(proxy.address(), &authority));
    wait_until(PATIENCE, "the places of the crowd", || proxy.metrics().value("redis_proxy_clients") == 1.0);
    ask(&mut kept);
    let outcome = |name: &str| {
        proxy.metrics().value(&format!("redis_proxy_tls_handshakes_total{{outcome=\"{name}\"}}"))
    };
    assert!(outcome("plain") > 0.0 && outcome("refused") > 0.0);
    drop(crowd);
}

#[test]
fn with_two_places_handshakes_do_not_cut_each_other_for_ever() {
    const TIMES: usize = 10;
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, 2);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // One that never says anything takes the one place for handshakes again and again.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect(proxy.address()) else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                let _ = stream.read(&mut [0; 16]);
            }
        });
        let honest: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut done, mut tries, end) = (0, 0, Instant::now() + 2 * PATIENCE);
                    while done < TIMES && Instant::now() < end {
                        tries += 1;
                        done += usize::from(is_let_in(proxy.address(), &authority));
                    }
                    (done, tries)
                })
            })
            .collect();
        let honest: Vec<_> = honest.into_iter().map(|client| client.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        eprintln!("{honest:?} times let in, of so many tries");
        assert!(honest.iter().all(|(done, _)| *done == TIMES), "{honest:?}");
    });
}
