//! TLS on the listeners: who is let in, what is spoken, and that what is behind it is as without.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use testkit::{HttpClient, Proxy, ProxyBuilder, RawClient, RedisServer};

use crate::authority::Authority;
use crate::framing::each_refused;
use crate::support::{is_hit, program, set_numbered};
use crate::tls_tunnel::{TlsTunnel, client_config};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The program, told to speak TLS with a certificate of this authority.
pub(crate) fn tls_program(authority: &Authority) -> ProxyBuilder {
    let [cert, key] = authority.sign("own", &["127.0.0.1", "localhost"]);
    program().set("RESP_PORT", "0").set("MAX_STALENESS", "5s").set("TLS_CERT", cert).set("TLS_KEY", key)
}

pub(crate) fn trusting(authority: &Authority) -> ClientConfig {
    client_config(&authority.file("ca.pem"), None, ALL_VERSIONS)
}

fn showing(authority: &Authority, own: &[PathBuf; 2]) -> ClientConfig {
    client_config(&authority.file("ca.pem"), Some(own), ALL_VERSIONS)
}

/// A connection over TLS after its handshake.
pub(crate) fn connect(
    address: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let tls = ClientConnection::new(Arc::new(config), ServerName::from(address.ip())).unwrap();
    let mut stream = StreamOwned::new(tls, socket);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

/// Whether a client so is let in: it is only told so once it has asked.
fn lets_in(address: SocketAddr, config: ClientConfig, asked: &[u8], answered: &[u8]) -> bool {
    let Ok(mut stream) = connect(address, config) else { return false };
    let mut answer = vec![0; answered.len()];
    stream.write_all(asked).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == answered
}

fn lets_in_http(address: SocketAddr, config: ClientConfig) -> bool {
    lets_in(address, config, b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 ")
}

fn lets_in_resp(address: SocketAddr, config: ClientConfig) -> bool {
    lets_in(address, config, b"GET k\r\n", b"$1\r\nv\r\n")
}

fn lets_in_admin(address: SocketAddr, config: ClientConfig) -> bool {
    lets_in(address, config, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 ")
}

fn start(authority: &Authority, settings: &[(&str, &str)]) -> (RedisServer, Proxy) {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let program =
        settings.iter().fold(tls_program(authority), |program, (name, value)| program.set(name, value));
    let proxy = program.redis(&redis).start();
    (redis, proxy)
}

#[test]
fn both_data_ports_speak_tls_and_the_admin_port_does_not_unless_it_is_told_to() {
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, &[]);
    for version in [&TLS12, &TLS13] {
        let config = || client_config(&authority.file("ca.pem"), None, &[version]);
        assert!(lets_in_http(proxy.address(), config()), "{version:?}");
        assert!(lets_in_resp(proxy.resp_address(), config()), "{version:?}");
    }
    assert_eq!(proxy.metrics().value("redis_proxy_tls_handshakes_total{outcome=\"done\"}"), 4.0);
    let (_redis, proxy) = start(&authority, &[("TLS_PORTS", "admin, resp")]);
    assert_eq!(proxy.get("/k").text(), "v");
    assert!(lets_in_resp(proxy.resp_address(), trusting(&authority)));
    assert!(lets_in_admin(proxy.admin_address(), trusting(&authority)));
}

#[test]
fn the_protocol_is_agreed_on_for_http_alone() {
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, &[]);
    let offering = |protocols: &[&[u8]]| {
        let mut config = trusting(&authority);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config
    };
    let agreed = |address, config| connect(address, config).unwrap().conn.alpn_protocol().map(<[u8]>::to_vec);
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    assert_eq!(agreed(proxy.address(), offering(both)), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(proxy.address(), offering(&[])), None);
    assert_eq!(agreed(proxy.resp_address(), offering(both)), None);
    let error = connect(proxy.address(), offering(&[b"h2"])).err().unwrap();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn large_values_long_pipelines_and_slow_readers_are_served_to_the_byte() {
    let authority = Authority::new();
    let (redis, proxy) = start(&authority, &[("MAX_VALUE_BYTES", "8MiB"), ("UPSTREAM_TIMEOUT", "20s")]);
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    redis.client().set("large", &large);
    set_numbered(&redis, 500);
    let http = TlsTunnel::to(proxy.address(), trusting(&authority));
    let resp = TlsTunnel::to(proxy.resp_address(), trusting(&authority));
    let mut client = HttpClient::connect(http.address);
    for _ in 0..3 {
        assert!(client.get("/large").body == large);
    }
    assert!(is_hit(&client.get("/large")));
    let request = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", n % 500);
    client.send((0..5_000).map(request).collect::<String>());
    for n in 0..5_000 {
        assert_eq!(client.read_response().text(), format!("value-of-{}", n % 500), "{n}");
    }
    let mut client = RawClient::connect(resp.address);
    let mut expected = format!("${}\r\n", large.len()).into_bytes();
    expected.extend_from_slice(&large);
    expected.extend_from_slice(b"\r\n");
    for _ in 0..3 {
        client.send("GET large\r\n").expect(&expected);
    }
    let mut writer = client.twin();
    let sender = std::thread::spawn(move || {
        writer.send((0..5_000).map(|n| format!("GET {}\r\n", n % 500)).collect::<String>());
    });
    for n in 0..5_000 {
        let value = format!("value-of-{}", n % 500);
        client.expect(format!("${}\r\n{value}\r\n", value.len()));
    }
    sender.join().unwrap();
    // A command that is passed on as it comes, and what a slow reader is due.
    let mut set = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", large.len()).into_bytes();
    set.extend_from_slice(&large);
    set.extend_from_slice(b"\r\n");
    client.send(set).expect("+OK\r\n");
    assert!(redis.client().get("big").as_deref() == Some(&large[..]));
    // More than the kernel holds for it, so that also the last piece has to wait for room.
    const TIMES: usize = 4;
    let mut stream = connect(proxy.address(), trusting(&authority)).unwrap();
    stream.write_all(&b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n".repeat(TIMES - 1)).unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let (mut answers, mut part) = (Vec::new(), vec![0; 100_000]);
    loop {
        match stream.read(&mut part).unwrap() {
            0 => break,
            count => answers.extend_from_slice(&part[..count]),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(answers.len() > TIMES * large.len() && answers.ends_with(&large), "{} bytes", answers.len());
}

#[test]
fn the_end_is_told_in_tls_and_a_client_that_says_that_nothing_follows_gets_all_its_answers() {
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, &[("IDLE_TIMEOUT", "300ms")]);
    let mut stream = connect(proxy.address(), trusting(&authority)).unwrap();
    // An end without a word would be an error here.
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "idle");
    let mut stream = connect(proxy.resp_address(), trusting(&authority)).unwrap();
    stream.write_all(b"GET k\r\nQUIT\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "$1\r\nv\r\n+OK\r\n");
    for (address, asked) in [
        (proxy.resp_address(), &b"GET k\r\nGET none\r\n"[..]),
        (proxy.address(), b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let mut stream = connect(address, trusting(&authority)).unwrap();
        stream.write_all(asked).unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains("$1\r\nv\r\n$-1\r\n") || text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

#[test]
fn clients_without_a_certificate_are_let_in_where_none_is_asked_for_and_nowhere_else() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let ca = authority.file("ca.pem");
    let ca = ca.to_str().unwrap();
    let good = authority.sign("client", &["client"]);
    let foreign = stranger.sign("client", &["client"]);
    let expired = authority.sign_expired("expired", &["client"]);
    // By what TLS_CLIENT_PORTS says: who must show a certificate at http, resp, admin.
    let cases = [
        (None, [true, true, false]),
        (Some("http"), [true, false, false]),
        (Some("admin"), [false, false, true]),
        (Some("http,resp,admin"), [true, true, true]),
    ];
    for (ports, must) in cases {
        let mut settings = vec![("TLS_CLIENT_CA", ca), ("TLS_PORTS", "http,resp,admin")];
        settings.extend(ports.map(|ports| ("TLS_CLIENT_PORTS", ports)));
        let (_redis, proxy) = start(&authority, &settings);
        for (own, is_good) in
            [(None, false), (Some(&good), true), (Some(&foreign), false), (Some(&expired), false)]
        {
            let config = || match own {
                None => trusting(&authority),
                Some(own) => showing(&authority, own),
            };
            let found = [
                lets_in_http(proxy.address(), config()),
                lets_in_resp(proxy.resp_address(), config()),
                lets_in_admin(proxy.admin_address(), config()),
            ];
            let expected = must.map(|must| is_good || !must);
            assert_eq!(found, expected, "{ports:?} {own:?}");
        }
        proxy.wait_log("a client's tls handshake failed", PATIENCE);
    }
}

#[test]
fn a_client_that_knows_another_name_or_authority_ends_the_handshake_and_nothing_else() {
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, &[]);
    let stranger = Authority::new();
    assert!(connect(proxy.address(), trusting(&stranger)).is_err());
    let named = |name: &'static str| {
        let socket = TcpStream::connect(proxy.address()).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let mut tls = ClientConnection::new(Arc::new(trusting(&authority)), name).unwrap();
        tls.complete_io(&mut &socket).map(drop)
    };
    assert!(named("localhost").is_ok() && named("elsewhere").is_err());
    assert!(lets_in_http(proxy.address(), trusting(&authority)));
}

#[test]
fn a_plain_client_at_a_port_of_tls_is_told_so_in_its_own_words_and_in_the_log_once() {
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, &[("TLS_PORTS", "http,resp,admin")]);
    for address in [proxy.address(), proxy.admin_address()] {
        for _ in 0..3 {
            let mut client = HttpClient::connect(address);
            let answer = client.get("/k");
            assert_eq!((answer.status, answer.text()), (400, "this port speaks TLS\r\n"));
            assert!(client.at_end());
        }
    }
    assert!(RawClient::connect(proxy.resp_address()).ask("PING", "-ERR this port speaks TLS").at_end());
    for port in ["http", "resp", "admin"] {
        let told = |line: &&testkit::LogLine| {
            line.raw.contains("a plain client came") && line.field("port") == Some(port)
        };
        testkit::wait_until(PATIENCE, port, || proxy.log().iter().any(|line| told(&line)));
        assert_eq!(proxy.log().iter().filter(told).count(), 1, "{port}");
    }
}

#[test]
fn a_client_of_tls_at_a_plain_port_is_closed_at_once_and_told_of_in_the_log() {
    let authority = Authority::new();
    let redis = RedisServer::start();
    let proxy = program().set("RESP_PORT", "0").redis(&redis).start();
    for address in [proxy.address(), proxy.resp_address(), proxy.admin_address()] {
        let since = Instant::now();
        assert!(connect(address, trusting(&authority)).is_err());
        assert!(since.elapsed() < PATIENCE / 4, "{:?}", since.elapsed());
    }
    for port in ["http", "resp", "admin"] {
        let is_told = || {
            let lines = proxy.log();
            lines
                .iter()
                .any(|line| line.raw.contains("a client of tls came") && line.field("port") == Some(port))
        };
        testkit::wait_until(PATIENCE, port, is_told);
    }
}

/// What a client hears until the end of its connection, without the date.
fn heard(address: SocketAddr, bytes: &[u8]) -> String {
    let mut client = HttpClient::connect(address);
    client.send(bytes);
    client.shutdown_write();
    let mut heard = Vec::new();
    while let Ok(part) = client.read_some(64 * 1024)
        && !part.is_empty()
    {
        heard.extend(part);
    }
    let text = String::from_utf8_lossy(&heard).into_owned();
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("Date: ")).collect()
}

#[test]
fn malformed_requests_are_answered_over_tls_as_in_plain() {
    let authority = Authority::new();
    let (redis, proxy) = start(&authority, &[]);
    let plain = program().redis(&redis).start();
    let tunnel = TlsTunnel::to(proxy.address(), trusting(&authority));
    let mut count = 0;
    each_refused(&mut |bytes| {
        let expected = heard(plain.address(), bytes);
        assert!(expected.starts_with("HTTP/1.1 "), "{}", bytes.escape_ascii());
        assert_eq!(heard(tunnel.address, bytes), expected, "{}", bytes.escape_ascii());
        count += 1;
    });
    assert!(count >= 200, "{count}");
}

/// A handshake message in a record of this version.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 3, 1][..], &length, payload].concat()
}

#[test]
fn handshakes_that_are_broken_cut_or_stall_end_and_hold_up_nobody() {
    let authority = Authority::new();
    let (_redis, proxy) =
        start(&authority, &[("HEAD_TIMEOUT", "700ms"), ("WORKERS", "1"), ("TLS_HANDSHAKES", "1")]);
    let mut kept = connect(proxy.address(), trusting(&authority)).unwrap();
    let noise: Vec<u8> = (0..2000_u32).map(|n| (n * 7919 % 251) as u8).collect();
    let hello = {
        let mut tls =
            ClientConnection::new(Arc::new(trusting(&authority)), ServerName::from(proxy.address().ip()))
                .unwrap();
        let mut bytes = Vec::new();
        tls.write_tls(&mut bytes).unwrap();
        bytes
    };
    let cut: Vec<Vec<u8>> = (1..hello.len()).step_by(31).map(|end| hello[..end].to_vec()).collect();
    let broken = [
        record(22, &[]),
        record(22, &noise[..300]),
        record(22, &[1, 0, 0, 4, 3, 3, 0, 0]),
        [22, 3, 1, 0xff, 0xff].to_vec(),
        [&[22, 3, 1, 0x40, 0], &noise[..]].concat(),
        record(22, &[[1, 0xff, 0xff, 0xff].as_slice(), &noise[..500]].concat()),
        [hello.clone(), record(23, &noise[..100])].concat(),
        [hello.clone(), hello.clone()].concat(),
        // SSL 2.0 and 3.0.
        [0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10].to_vec(),
        [22, 3, 0, 0, 4, 1, 0, 0, 0].to_vec(),
    ];
    let mut open = Vec::new();
    for bytes in broken.iter().chain(&cut) {
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        open.push(stream);
        kept.write_all(b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(kept.read(&mut [0; 4096]).unwrap() > 0);
    }
    let since = Instant::now();
    assert!(lets_in_http(proxy.address(), trusting(&authority)), "those who stall hold up nobody");
    assert!(since.elapsed() < PATIENCE / 2);
    for stream in &mut open {
        // Each ends, with or without an alert.
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    for outcome in ["refused", "late"] {
        let sample = format!("redis_proxy_tls_handshakes_total{{outcome=\"{outcome}\"}}");
        assert!(proxy.metrics().value(&sample) > 0.0, "{outcome}");
    }
    testkit::wait_until(PATIENCE, "their places to be free", || {
        proxy.metrics().value("redis_proxy_clients") == 1.0
    });
}

#[test]
fn a_flood_of_half_open_handshakes_takes_half_of_the_places_and_the_oldest_end() {
    const MAX_CLIENTS: usize = 60;
    let authority = Authority::new();
    let max_clients = MAX_CLIENTS.to_string();
    let (_redis, proxy) = start(&authority, &[("MAX_CLIENTS", &max_clients)]);
    let mut kept: Vec<_> = (0..5).map(|_| connect(proxy.address(), trusting(&authority)).unwrap()).collect();
    let ask = |stream: &mut StreamOwned<ClientConnection, TcpStream>| {
        stream.write_all(b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    };
    let mut flood = Vec::new();
    for round in 0..200 {
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        if round % 2 == 0 {
            stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        }
        flood.push(stream);
        ask(&mut kept[round % 5]);
        if round % 20 == 0 {
            let held = proxy.metrics().value("redis_proxy_clients");
            // Some who have left may still be seen off.
            assert!(held <= (5 + MAX_CLIENTS / 2 + 12) as f64, "{held}");
            assert!(lets_in_http(proxy.address(), trusting(&authority)), "{round}");
            assert!(lets_in_resp(proxy.resp_address(), trusting(&authority)), "{round}");
        }
    }
    testkit::wait_until(PATIENCE, "the oldest to have ended", || {
        let crowded = proxy.metrics().value("redis_proxy_tls_handshakes_total{outcome=\"crowded\"}");
        crowded >= (200 - MAX_CLIENTS / 2) as f64
    });
    let mut first = &flood[0];
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(!matches!(first.read(&mut [0; 10]), Ok(1..)), "the oldest has ended");
}

#[test]
fn a_client_for_whom_there_is_no_place_is_told_by_an_alert() {
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, &[("MAX_CLIENTS", "2"), ("MAX_WAITING", "0")]);
    // Each is through with its handshake before the next one comes.
    let held = [(); 2].map(|()| {
        let mut stream = connect(proxy.resp_address(), trusting(&authority)).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
        stream
    });
    for address in [proxy.address(), proxy.resp_address()] {
        let error = connect(address, trusting(&authority)).err().unwrap();
        assert!(error.to_string().contains("InternalError"), "{error}");
    }
    drop(held);
    testkit::wait_until(PATIENCE, "a place", || lets_in_http(proxy.address(), trusting(&authority)));
}

#[test]
fn a_client_that_reads_nothing_over_tls_holds_a_bounded_piece_and_is_closed() {
    const READERS: usize = 20;
    let authority = Authority::new();
    let (redis, proxy) = start(&authority, &[("WRITE_TIMEOUT", "2s"), ("MAX_VALUE_BYTES", "16MiB")]);
    redis.client().set("large", vec![b'x'; 8_000_000]);
    let before = proxy.resident_bytes();
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let mut stream = connect(proxy.address(), trusting(&authority)).unwrap();
            for _ in 0..50 {
                stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            }
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    testkit::wait_until(PATIENCE, "their places to be free", || {
        proxy.metrics().value("redis_proxy_clients") == 0.0
    });
    drop(readers);
}

#[test]
fn check_health_asks_over_tls_and_takes_no_other_program_for_its_own() {
    let authority = Authority::new();
    let [cert, key] = authority.sign("own", &["elsewhere"]);
    let ca = authority.file("ca.pem");
    let redis = RedisServer::start();
    let tls = |program: ProxyBuilder, client_ports: &str| {
        let program = program.set("TLS_CERT", &cert).set("TLS_KEY", &key).set("TLS_PORTS", "admin");
        program.set("TLS_CLIENT_CA", &ca).set("TLS_CLIENT_PORTS", client_ports)
    };
    let check = |proxy: &Proxy, cert: &PathBuf, key: &PathBuf| {
        let port = proxy.admin_address().port().to_string();
        let env = [
            ("ADMIN_PORT", port.as_str()),
            ("TLS_PORTS", "admin"),
            ("TLS_CERT", cert.to_str().unwrap()),
            ("TLS_KEY", key.to_str().unwrap()),
        ];
        testkit::run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &env, &["--check-health"], PATIENCE)
            .status
            .code()
    };
    let [other_cert, other_key] = authority.sign("other", &["127.0.0.1"]);
    let proxy = tls(program(), "admin").redis(&redis).start();
    assert_eq!(check(&proxy, &cert, &key), Some(0), "it shows its own certificate");
    assert_eq!(check(&proxy, &other_cert, &other_key), Some(1));
}

#[test]
fn a_session_is_resumed_where_no_certificate_is_asked_for_and_nowhere_else() {
    let authority = Authority::new();
    let ca = authority.file("ca.pem");
    let own = authority.sign("client", &["client"]);
    let cases = [(false, HandshakeKind::Resumed), (true, HandshakeKind::Full)];
    for (asks, expected) in cases {
        let settings: &[_] = if asks { &[("TLS_CLIENT_CA", ca.to_str().unwrap())] } else { &[] };
        let (_redis, proxy) = start(&authority, settings);
        for version in [&TLS12, &TLS13] {
            // What it learns is kept in the configuration.
            let config = client_config(&ca, Some(&own), &[version]);
            let kinds = [(); 2].map(|()| {
                let mut stream = connect(proxy.resp_address(), config.clone()).unwrap();
                stream.write_all(b"GET k\r\n").unwrap();
                stream.read_exact(&mut [0; 7]).unwrap();
                stream.conn.handshake_kind().unwrap()
            });
            assert_eq!(kinds, [HandshakeKind::Full, expected], "{version:?}");
        }
    }
}

#[test]
fn handshakes_that_stall_do_not_hold_up_the_end_of_the_program() {
    let authority = Authority::new();
    let (_redis, proxy) = start(&authority, &[]);
    let mut half = TcpStream::connect(proxy.address()).unwrap();
    half.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    let silent = TcpStream::connect(proxy.resp_address()).unwrap();
    testkit::wait_until(PATIENCE, "both to be here", || proxy.metrics().value("redis_proxy_clients") == 2.0);
    let since = Instant::now();
    assert_eq!(proxy.stop().code(), Some(0));
    // HEAD_TIMEOUT and SHUTDOWN_TIMEOUT are ten seconds.
    assert!(since.elapsed() < Duration::from_secs(6), "{:?}", since.elapsed());
    drop((half, silent));
}

#[test]
fn what_is_encrypted_for_redis_clients_that_read_nothing_counts_as_unread() {
    const READERS: usize = 10;
    let authority = Authority::new();
    let ca = trusting(&authority);
    let settings: &[_] = &[("TLS_PORTS", "resp"), ("RESP_COHERENCE", "ttl")];
    let (redis, proxy) = start(&authority, settings);
    let plain = program().set("RESP_PORT", "0").set("RESP_COHERENCE", "ttl");
    let plain = plain.redis(&redis).start();
    redis.client().set("large", vec![b'x'; 1_000_000]);
    let unread = |proxy: &Proxy| proxy.metrics().value("redis_proxy_resp_unread_bytes");
    // In memory it is nobody's, and so nothing of it is unread in plain.
    plain.redis_client().get("large").unwrap();
    let mut first = connect(proxy.resp_address(), ca.clone()).unwrap();
    first.write_all(b"GET large\r\n").unwrap();
    first.read_exact(&mut vec![0; 1_000_000 + "$1000000\r\n\r\n".len()]).unwrap();
    let plain_readers: Vec<_> = (0..READERS)
        .map(|_| {
            let mut client = plain.resp_client();
            client.send("GET large\r\n".repeat(30));
            client
        })
        .collect();
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let mut stream = connect(proxy.resp_address(), ca.clone()).unwrap();
            stream.write_all(&b"GET large\r\n".repeat(30)).unwrap();
            stream
        })
        .collect();
    // Of the last piece of each what the kernel has not taken, but the first 16 KiB.
    testkit::wait_until(PATIENCE, "them to be counted", || unread(&proxy) >= (READERS * 4 * 1024) as f64);
    let (found, in_plain) = (unread(&proxy), unread(&plain));
    assert!(found <= (READERS * 48 * 1024) as f64 && in_plain == 0.0, "{found}, {in_plain}");
    assert_eq!(unread(&plain), 0.0);
    drop((readers, plain_readers));
    testkit::wait_until(PATIENCE, "nothing is unread", || unread(&proxy) == 0.0);
}
