//! The limits of a request, each at its last allowed byte and one above.

use std::time::Duration;

use testkit::{HttpClient, Proxy, Response, run_to_end};

use crate::support::{start, start_with};

/// Sends a head, on a new connection, and reads the answer.
#[track_caller]
fn ask(proxy: &Proxy, head: impl AsRef<[u8]>) -> (HttpClient, Response) {
    let mut client = proxy.client();
    client.send(head);
    let response = client.read_response();
    (client, response)
}

#[track_caller]
fn assert_answered(proxy: &Proxy, head: &str) {
    let (mut client, response) = ask(proxy, head);
    assert_eq!(response.status, 404, "{response:?}");
    assert_eq!(client.get("/none").status, 404, "the connection stays");
}

#[track_caller]
fn assert_refused(proxy: &Proxy, head: &str, status: u16) {
    let (mut client, response) = ask(proxy, head);
    assert_eq!((response.status, response.header("connection")), (status, Some("close")), "{response:?}");
    assert!(client.at_end());
}

/// A head whose target is this long and names a short key.
fn with_target(length: usize) -> String {
    let target = format!("/k?{}", "x".repeat(length - 3));
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A head whose header section, the empty line included, is this long.
fn with_section(length: usize) -> String {
    let fixed = "Host: h\r\nX: \r\n\r\n".len();
    format!("GET /k HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(length - fixed))
}

fn with_fields(count: usize) -> String {
    format!("GET /k HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(count - 1))
}

fn with_method(length: usize) -> String {
    format!("{} /k HTTP/1.1\r\nHost: h\r\n\r\n", "M".repeat(length))
}

fn with_key(length: usize) -> String {
    format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "k".repeat(length))
}

#[test]
fn the_defaults_hold_to_the_byte() {
    let (_redis, proxy) = start();
    assert_answered(&proxy, &with_target(65_536));
    assert_refused(&proxy, &with_target(65_537), 414);
    assert_answered(&proxy, &with_section(32_768));
    assert_refused(&proxy, &with_section(32_769), 431);
    assert_answered(&proxy, &with_fields(100));
    assert_refused(&proxy, &with_fields(101), 431);
    assert_eq!(ask(&proxy, with_method(32)).1.status, 405);
    assert_refused(&proxy, &with_method(33), 400);
    assert_answered(&proxy, &with_key(16_384));
    assert_eq!(ask(&proxy, with_key(16_385)).1.status, 414);
}

#[test]
fn each_limit_is_a_setting() {
    let (_redis, proxy) = start_with(&[
        ("MAX_TARGET_BYTES", "100"),
        ("MAX_HEAD_BYTES", "200"),
        ("MAX_HEADERS", "3"),
        ("MAX_METHOD_BYTES", "5"),
        ("MAX_KEY_BYTES", "10"),
    ]);
    assert_answered(&proxy, &with_target(100));
    assert_refused(&proxy, &with_target(101), 414);
    assert_answered(&proxy, &with_section(200));
    assert_refused(&proxy, &with_section(201), 431);
    assert_answered(&proxy, &with_fields(3));
    assert_refused(&proxy, &with_fields(4), 431);
    assert_eq!(ask(&proxy, with_method(5)).1.status, 405);
    assert_refused(&proxy, &with_method(6), 400);
    assert_answered(&proxy, &with_key(10));
    assert_eq!(ask(&proxy, with_key(11)).1.status, 414);
}

#[test]
fn more_than_256_header_fields_cannot_be_allowed() {
    let (_redis, proxy) = start_with(&[("MAX_HEADERS", "256")]);
    assert_answered(&proxy, &with_fields(256));
    assert_refused(&proxy, &with_fields(257), 431);
    let setting = [("MAX_HEADERS", "257")];
    let refused =
        run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &setting, &["--check-config"], Duration::from_secs(10));
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("MAX_HEADERS"), "{}", refused.stderr);
}

#[test]
fn a_limit_may_be_larger_than_what_is_read_at_once() {
    let (_redis, proxy) = start_with(&[("MAX_TARGET_BYTES", "1000000"), ("MAX_HEAD_BYTES", "1000000")]);
    assert_answered(&proxy, &with_target(1_000_000));
    assert_refused(&proxy, &with_target(1_000_001), 414);
    assert_answered(&proxy, &with_section(1_000_000));
    assert_refused(&proxy, &with_section(1_000_001), 431);
}

#[test]
fn the_key_is_measured_decoded_and_a_long_one_does_not_close() {
    let (_redis, proxy) = start_with(&[("MAX_KEY_BYTES", "10")]);
    let mut client = proxy.client();
    assert_eq!(client.get(&format!("/{}", "%41".repeat(10))).status, 404);
    assert_eq!(client.get(&format!("/{}", "%41".repeat(11))).status, 414);
    assert_eq!(client.get(&format!("/?key={}", "a".repeat(10))).status, 404);
    assert_eq!(client.get(&format!("/?key={}", "a".repeat(11))).status, 414);
    assert_eq!(client.head(&format!("/{}", "a".repeat(11))).status, 414);
    assert_eq!(client.get("/k").status, 404);
}

#[test]
fn a_head_without_end_is_refused_as_soon_as_it_is_too_long() {
    let (_redis, proxy) =
        start_with(&[("MAX_TARGET_BYTES", "1000"), ("MAX_HEAD_BYTES", "1000"), ("MAX_KEY_BYTES", "10")]);
    // None of these has the end of its line or of its head: a program that waits for that answers 408 in 10 s.
    let target = format!("GET /{}", "x".repeat(1100));
    let name = format!("GET /k HTTP/1.1\r\n{}", "x".repeat(1001));
    let value = format!("GET /k HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(1000));
    let fields = format!("GET /k HTTP/1.1\r\nHost: h\r\n{}", "X: y\r\n".repeat(200));
    let method = "M".repeat(1100);
    for (head, status) in [(&target, 414), (&name, 431), (&value, 431), (&fields, 431), (&method, 400)] {
        assert_refused(&proxy, head, status);
    }
}

#[test]
fn a_limit_judges_alike_however_the_head_arrives() {
    let (_redis, proxy) = start_with(&[
        ("MAX_TARGET_BYTES", "100"),
        ("MAX_HEAD_BYTES", "200"),
        ("MAX_METHOD_BYTES", "5"),
        ("MAX_KEY_BYTES", "10"),
    ]);
    let heads = [with_target(100), with_target(101), with_target(300), with_section(200), with_section(201)];
    for head in heads.into_iter().chain([with_method(6), with_method(300)]) {
        let whole = ask(&proxy, &head).1.status;
        let mut client = proxy.client();
        for byte in head.as_bytes() {
            // Refused before its end: the rest cannot be sent, or is dropped.
            if client.try_send([*byte]).is_err() {
                break;
            }
        }
        assert_eq!(client.read_response().status, whole, "{head}");
    }
}

#[test]
fn a_limit_on_bodies_of_zero_closes_behind_any_body() {
    let (_redis, proxy) = start_with(&[("MAX_BODY_BYTES", "0")]);
    let (mut client, response) = ask(&proxy, "GET /k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!((response.status, response.header("connection")), (404, Some("close")));
    assert!(client.at_end());
    let (mut client, response) = ask(&proxy, "GET /k HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((response.status, response.header("connection")), (404, None));
    assert_eq!(client.get("/k").status, 404);
}
