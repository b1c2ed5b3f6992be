//! Clients that speak something else: they are told as soon as no request begins like theirs, and not when their time
//! is over.

use std::time::Instant;

use testkit::Proxy;

use crate::support::start_with;

/// Sends `start` and keeps the connection open. A request may still begin so.
#[track_caller]
fn assert_waits(proxy: &Proxy, start: &[u8], rest: &[u8]) {
    let mut client = proxy.client();
    for byte in start {
        client.send([*byte]);
    }
    client.send(rest);
    let response = client.read_response();
    assert_eq!(response.status, 200, "{} {}: {response:?}", start.escape_ascii(), rest.escape_ascii());
}

/// Sends all but the last byte of `start`, one by one, and then the last, which makes it impossible.
#[track_caller]
fn assert_told_at_the_last_byte(proxy: &Proxy, start: &[u8], status: u16) {
    let shown = start.escape_ascii();
    let mut client = proxy.client();
    let (last, before) = start.split_last().expect("a byte");
    for byte in before {
        client.send([*byte]);
    }
    let sent = Instant::now();
    client.send([*last]);
    let response = client.read_response();
    let waited = sent.elapsed();
    assert_eq!((response.status, response.header("connection")), (status, Some("close")), "{shown}");
    // 100 ms are promised; a busy machine may be late, and HEAD_TIMEOUT is far away.
    assert!(waited.as_secs() < 5, "{shown}: told after {waited:?}");
    assert!(client.at_end(), "{shown}");
}

#[test]
fn an_impossible_beginning_is_400_at_the_byte_that_makes_it_so() {
    let (redis, proxy) = start_with(&[("HEAD_TIMEOUT", "30s")]);
    redis.client().set("k", "1");
    for start in [
        // Redis, in both its forms.
        b"*1\r".as_slice(),
        b"PING\r",
        b"SET k v",
        b"AUTH user p",
        // HTTP/0.9, and versions that never were.
        b"GET /k\r",
        b"GET /k HTTP/2",
        b"GET /k HTTP/0",
        b"GET /k h",
        b"GET /k HTTP/1.2x",
        b"GET /k HTTP/1.10",
        b"GET /k HTTP/1.x",
        b"GET  ",
        b"GET /k  ",
        // TLS, and other bytes that no verb has.
        b"\x16",
        b"\0",
        b" ",
        b"\"",
        b"\r\n\x16",
        b"GET /\x01",
        // An answer instead of a question.
        b"HTTP/",
        // SSH, memcached.
        b"SSH-2.0-x\r",
        b"get k\r",
        b"METHODMETHODMETHODMETHODMETHODMETHODMETH",
        // Targets that name no key.
        b"GET k",
        b"GET http:/x",
        b"GET /%z",
        b"HEAD /%4 ",
        b"GET /a#",
        b"OPTIONS */",
        // Header fields.
        b"GET /k HTTP/1.1\r\n ",
        b"GET /k HTTP/1.1\r\nHost ",
        b"GET /k HTTP/1.1\r\nHost: h\r\n:",
        b"GET /k HTTP/1.1\r\nHost: h\r\nX: \0",
        b"GET /k HTTP/1.2\r\nHost: h\r\nX y",
        b"GET /k HTTP/1.1\r\nGET /",
        b"GET /k HTTP/1.1\r\nHost: h i",
        b"GET /k HTTP/1.1\r\nHost: h\r\nHost:",
        b"GET /k HTTP/1.1\r\nContent-Length: x",
        b"GET /k HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding:",
        b"GET /k HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r",
    ] {
        assert_told_at_the_last_byte(&proxy, start, 400);
    }
    assert_eq!(redis.command_calls("get"), 0);
    for start in [
        &b""[..],
        b"G",
        b"GET ",
        b"GET /k",
        b"GET /k HTTP/1.",
        b"GET /k HTTP/1.1",
        b"GET /k HTTP/1.1\r\nHost",
        b"GET /k HTTP/1.1\r\nHost: h\r",
    ] {
        let whole = b"GET /k HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_waits(&proxy, start, &whole[start.len()..]);
        assert_waits(&proxy, &[b"\r\n", start].concat(), &whole[start.len()..]);
    }
}

#[test]
fn whole_messages_of_other_protocols_are_told_at_once() {
    let (_redis, proxy) = start_with(&[("HEAD_TIMEOUT", "30s")]);
    for (bytes, status) in [
        (&b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"[..], 400),
        (b"PING\r\n", 400),
        (b"GET /k\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"PRI * HTTP/2", 505),
        (b"PRI / HTTP/2.0\r\n\r\n", 400),
    ] {
        let mut client = proxy.client();
        client.send(bytes);
        let response = client.read_response();
        assert_eq!(response.status, status, "{}", bytes.escape_ascii());
        assert!(client.at_end());
    }
}

#[test]
fn the_beginning_of_http_2_is_505() {
    let (_redis, proxy) = start_with(&[("HEAD_TIMEOUT", "30s")]);
    assert_told_at_the_last_byte(&proxy, b"PRI * HTTP/2", 505);
    let mut client = proxy.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.status, response.reason.as_str()), (505, "HTTP Version Not Supported"));
    assert!(client.at_end());
}
