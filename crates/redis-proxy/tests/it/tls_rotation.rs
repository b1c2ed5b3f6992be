//! Certificates that change while the program runs.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use testkit::{Proxy, RedisServer, Signal, StopOnDrop, wait_until};

use crate::authority::Authority;
use crate::support::program;
use crate::tls::{PATIENCE, connect, trusting};

/// The certificate that a new connection is shown.
fn shown(proxy: &Proxy, authority: &Authority) -> CertificateDer<'static> {
    let stream = connect(proxy.address(), trusting(authority)).unwrap();
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

fn of(files: &[PathBuf; 2]) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&files[0]).unwrap()
}

/// Puts a pair where the program looks for it, each file at once.
fn put(pair: &[PathBuf; 2], at: &[PathBuf; 2]) {
    for (from, to) in pair.iter().zip(at) {
        let next = to.with_extension("next");
        fs::copy(from, &next).unwrap();
        fs::rename(&next, to).unwrap();
    }
}

fn start_at(redis: &RedisServer, at: &[PathBuf; 2]) -> Proxy {
    redis.client().set("k", "v");
    program().set("RESP_PORT", "0").set("TLS_CERT", &at[0]).set("TLS_KEY", &at[1]).redis(redis).start()
}

fn wait_shown(proxy: &Proxy, authority: &Authority, pair: &[PathBuf; 2]) {
    wait_until(PATIENCE, "the new certificate", || shown(proxy, authority) == of(pair));
}

#[test]
fn a_new_pair_is_taken_over_by_itself_and_open_connections_go_on() {
    let authority = Authority::new();
    let pairs = ["one", "two"].map(|name| authority.sign(name, &["127.0.0.1"]));
    let at = [authority.file("now.pem"), authority.file("now.key")];
    put(&pairs[0], &at);
    let redis = RedisServer::start();
    let proxy = start_at(&redis, &at);
    let mut kept = connect(proxy.address(), trusting(&authority)).unwrap();
    assert_eq!(shown(&proxy, &authority), of(&pairs[0]));
    put(&pairs[1], &at);
    wait_shown(&proxy, &authority, &pairs[1]);
    let line = proxy.wait_log("\"reloaded\"", PATIENCE);
    assert_eq!(line.field("changed"), Some("TLS_CERT TLS_KEY"));
    kept.write_all(b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(kept.read(&mut [0; 4096]).unwrap() > 0);
    // At SIGHUP they are read as well, whether they have changed or not.
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.wait_log_count("\"reloaded\"", 2, PATIENCE).field("changed"), Some(""));
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn kubernetes_swaps_the_link_to_a_folder() {
    let authority = Authority::new();
    let pairs = ["one", "two"].map(|name| authority.sign(name, &["127.0.0.1"]));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let publish = |version: &str, pair: &[PathBuf; 2]| {
        fs::create_dir(at(version)).unwrap();
        fs::copy(&pair[0], at(version).join("tls.crt")).unwrap();
        fs::copy(&pair[1], at(version).join("tls.key")).unwrap();
        // Of one time, so that only what the link leads to tells them apart.
        for name in ["tls.crt", "tls.key"] {
            let file = fs::File::options().write(true).open(at(version).join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        symlink(version, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    publish("..2026_1", &pairs[0]);
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), at(name)).unwrap();
    }
    let redis = RedisServer::start();
    let proxy = start_at(&redis, &[at("tls.crt"), at("tls.key")]);
    assert_eq!(shown(&proxy, &authority), of(&pairs[0]));
    publish("..2026_2", &pairs[1]);
    fs::remove_dir_all(at("..2026_1")).unwrap();
    wait_shown(&proxy, &authority, &pairs[1]);
}

#[test]
fn a_pair_that_cannot_be_used_is_one_line_and_the_old_one_stays() {
    let authority = Authority::new();
    let pairs = ["one", "two"].map(|name| authority.sign(name, &["127.0.0.1"]));
    let at = [authority.file("now.pem"), authority.file("now.key")];
    put(&pairs[0], &at);
    let redis = RedisServer::start();
    let proxy = start_at(&redis, &at);
    proxy.allow_warning("cannot be used");
    proxy.allow_warning("not reloaded");
    let whole = fs::read_to_string(&pairs[1][0]).unwrap();
    let spoil: [(&str, &dyn Fn()); 4] = [
        ("not that of", &|| put(&[at[0].clone(), pairs[1][1].clone()], &at)),
        ("TLS_CERT", &|| fs::write(&at[0], &whole[..whole.len() / 2]).unwrap()),
        ("TLS_KEY", &|| fs::write(&at[1], "").unwrap()),
        ("TLS_CERT", &|| fs::remove_file(&at[0]).unwrap()),
    ];
    for (nth, (word, spoil)) in spoil.iter().enumerate() {
        spoil();
        let line = proxy.wait_log_count("cannot be used", nth + 1, PATIENCE);
        assert!(line.raw.contains(word), "{}", line.raw);
        assert_eq!(shown(&proxy, &authority), of(&pairs[0]), "{word}");
        // Whatever is looked at meanwhile, it is told once.
        thread::sleep(Duration::from_millis(2500));
        assert_eq!(proxy.log().iter().filter(|line| line.raw.contains("cannot be used")).count(), nth + 1);
        proxy.signal(Signal::HUP);
        proxy.wait_log_count("not reloaded", nth + 1, PATIENCE);
        assert_eq!(shown(&proxy, &authority), of(&pairs[0]), "{word}");
        put(&pairs[0], &at);
    }
    put(&pairs[1], &at);
    wait_shown(&proxy, &authority, &pairs[1]);
    assert_eq!(proxy.stop().code(), Some(0));
    assert!(proxy.log().iter().all(|line| !line.raw.contains("PRIVATE KEY")));
}

#[test]
fn a_certificate_of_ours_that_has_ended_is_turned_down_until_another_takes_its_place() {
    let authority = Authority::new();
    let ended = authority.sign_expired("ended", &["127.0.0.1"]);
    let good = authority.sign("good", &["127.0.0.1"]);
    let at = [authority.file("now.pem"), authority.file("now.key")];
    put(&ended, &at);
    let redis = RedisServer::start();
    let proxy = start_at(&redis, &at);
    let told = connect(proxy.address(), trusting(&authority)).map(drop).unwrap_err().to_string();
    assert!(told.contains("expired"), "{told}");
    assert!(
        proxy.wait_log("a client's tls handshake failed", PATIENCE).raw.to_lowercase().contains("expired")
    );
    put(&good, &at);
    wait_until(PATIENCE, "the new one", || connect(proxy.address(), trusting(&authority)).is_ok());
    assert_eq!(shown(&proxy, &authority), of(&good));
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn twenty_rotations_under_load_fail_no_request() {
    let authority = Authority::new();
    let pairs = ["one", "two"].map(|name| authority.sign(name, &["127.0.0.1"]));
    let at = [authority.file("now.pem"), authority.file("now.key")];
    put(&pairs[0], &at);
    let redis = RedisServer::start();
    let proxy = start_at(&redis, &at);
    // A signal may still be on its way when the next pair is half there.
    proxy.allow_warning("not reloaded");
    let (over, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let ask = |stream: &mut dyn ReadWrite| {
        let mut answer = [0; 4096];
        let is_good = stream.write_all(b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n").is_ok()
            && stream.read(&mut answer).is_ok_and(|count| answer[..count].ends_with(b"\r\n\r\nv"));
        asked.fetch_add(1, Ordering::Relaxed);
        failed.fetch_add(usize::from(!is_good), Ordering::Relaxed);
    };
    thread::scope(|scope| {
        let _end = StopOnDrop(&over);
        // One keeps its connections, the other makes new ones.
        scope.spawn(|| {
            let connect = || connect(proxy.address(), trusting(&authority)).unwrap();
            let mut kept: Vec<_> = (0..1_000).map(|_| connect()).collect();
            while !over.load(Ordering::Relaxed) {
                kept.iter_mut().for_each(|stream| ask(stream));
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                match connect(proxy.address(), trusting(&authority)) {
                    Ok(mut stream) => ask(&mut stream),
                    Err(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        // SIGHUP takes a pair over at once; every fifth is left to be found.
        for round in 1..=20 {
            put(&pairs[round % 2], &at);
            if round % 5 > 0 {
                proxy.signal(Signal::HUP);
            }
            let since = Instant::now();
            while shown(&proxy, &authority) != of(&pairs[round % 2]) && since.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(10));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(shown(&proxy, &authority), of(&pairs[0]));
    assert!(
        proxy.log().iter().filter(|line| line.field("changed") == Some("TLS_CERT TLS_KEY")).count() >= 20
    );
    let (asked, failed) = (asked.into_inner(), failed.into_inner());
    assert!(asked > 200, "{asked}");
    assert_eq!(failed, 0, "of {asked}");
    assert_eq!(proxy.stop().code(), Some(0));
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

#[test]
fn sighup_takes_over_which_ports_speak_tls() {
    let authority = Authority::new();
    let [cert, key] = authority.sign("one", &["127.0.0.1"]);
    let redis = RedisServer::start();
    let config = authority.file("config.toml");
    let write = |text: &str| fs::write(&config, format!("redis_url = \"{}\"\n{text}", redis.url())).unwrap();
    let files = format!("tls_cert = {cert:?}\ntls_key = {key:?}\n");
    write("");
    let proxy = program().arg("--config").arg(&config).start();
    assert_eq!(proxy.get("/k").status, 404);
    write(&files);
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.wait_log("\"reloaded\"", PATIENCE).field("changed"), Some("TLS_CERT TLS_KEY"));
    connect(proxy.address(), trusting(&authority)).unwrap();
    assert_eq!(proxy.get("/k").status, 400);
    write(&format!("{files}tls_ports = \"resp\"\n"));
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.wait_log_count("\"reloaded\"", 2, PATIENCE).field("changed"), Some("TLS_PORTS"));
    assert_eq!(proxy.get("/k").status, 404);
    assert_eq!(proxy.stop().code(), Some(0));
}
