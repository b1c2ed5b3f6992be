//! Bodies, which mean nothing here: they are dropped or end the connection, and no byte of them becomes a request.

use testkit::{HttpClient, RedisServer};

use crate::support::start_with;

const HOST: &str = "Host: h\r\n";

/// A body that is a whole request for `/evil`, again and again, `length` bytes long.
fn evil(length: usize) -> String {
    let request = format!("GET /evil HTTP/1.1\r\n{HOST}\r\n");
    request.repeat(length / request.len() + 1)[..length].to_owned()
}

fn assert_no_evil(redis: &RedisServer) {
    redis.client().command(&["FLUSHALL"]);
    assert_eq!(redis.command_calls("get"), 1, "a body was taken for a request");
}

#[test]
fn a_body_within_the_limit_is_dropped_and_the_next_request_answered() {
    let (redis, proxy) = start_with(&[("MAX_BODY_BYTES", "1000")]);
    redis.client().set("k", "1");
    let mut client = proxy.client();
    for length in [1, 2, 41, 999, 1000] {
        for verb in ["GET", "POST", "HEAD"] {
            let head = format!("{verb} /k HTTP/1.1\r\n{HOST}Content-Length: {length}\r\n\r\n");
            client.send(format!("{head}{}GET /k HTTP/1.1\r\n{HOST}\r\n", evil(length)));
            let first = if verb == "HEAD" { client.read_head_response() } else { client.read_response() };
            assert_eq!(first.status, if verb == "POST" { 405 } else { 200 });
            assert_eq!(client.read_response().text(), "1", "{verb} with {length} bytes");
            // The body in pieces, the answer before its end.
            client.send(&head);
            let first = if verb == "HEAD" { client.read_head_response() } else { client.read_response() };
            assert_eq!(first.header("connection"), None);
            let body = evil(length);
            client.send(&body[..length / 2]);
            client.send(format!("{}GET /k HTTP/1.1\r\n{HOST}\r\n", &body[length / 2..]));
            assert_eq!(client.read_response().text(), "1", "{verb} with {length} bytes in pieces");
        }
    }
    assert_no_evil(&redis);
}

#[test]
fn a_body_above_the_limit_or_chunked_closes_behind_the_answer() {
    let (redis, proxy) = start_with(&[("MAX_BODY_BYTES", "1000")]);
    redis.client().set("k", "1");
    for (field, body) in [
        ("Content-Length: 1001".to_owned(), evil(1001)),
        ("Content-Length: 300000".to_owned(), evil(300_000)),
        ("Content-Length: 18446744073709551615".to_owned(), evil(100)),
        ("Transfer-Encoding: chunked".to_owned(), format!("0\r\n\r\n{}", evil(100))),
        ("Transfer-Encoding: CHUNKED".to_owned(), format!("29\r\n{}\r\n0\r\n\r\n", evil(41))),
    ] {
        let mut client = proxy.client();
        client.send(format!("GET /k HTTP/1.1\r\n{HOST}{field}\r\n\r\n{body}"));
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (200, "1"), "{field}");
        assert_eq!(response.header("connection"), Some("close"), "{field}");
        assert!(client.at_end(), "{field}");
    }
    assert_no_evil(&redis);
}

#[test]
fn expect_100_continue_is_answered_where_a_body_is_read_and_all_else_ignored() {
    let (redis, proxy) = start_with(&[("MAX_BODY_BYTES", "1000")]);
    redis.client().set("k", "1");
    let mut client = proxy.client();
    let send = |client: &mut HttpClient, version: &str, fields: &str| {
        client.send(format!("GET /k HTTP/{version}\r\n{HOST}{fields}\r\n"));
    };
    for value in ["100-continue", "100-Continue"] {
        send(&mut client, "1.1", &format!("Expect: {value}\r\nContent-Length: 5\r\n"));
        let interim = client.read_response();
        assert_eq!((interim.status, interim.headers.len()), (100, 0), "{value}");
        assert_eq!(client.read_response().text(), "1");
        client.send("abcde");
    }
    // Nothing to continue with.
    for fields in ["Expect: 100-continue\r\n", "Expect: 100-continue\r\nContent-Length: 0\r\n"] {
        send(&mut client, "1.1", fields);
        assert_eq!(client.read_response().status, 200, "{fields:?}");
    }
    for value in ["", "200-ok", "100-continue, x", "100-continue;q=1", "x=y"] {
        send(&mut client, "1.1", &format!("Expect: {value}\r\nContent-Length: 5\r\n"));
        assert_eq!(client.read_response().status, 200, "{value}");
        client.send("abcde");
    }
    send(&mut client, "1.0", "Connection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 5\r\n");
    assert_eq!(client.read_response().status, 200, "HTTP/1.0 knows no interim answers");
    client.send("abcde");
    // A body that will not be read is not asked for.
    for fields in ["Content-Length: 1001\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = proxy.client();
        send(&mut client, "1.1", &format!("Expect: 100-continue\r\n{fields}"));
        let response = client.read_response();
        assert_eq!((response.status, response.header("connection")), (200, Some("close")), "{fields:?}");
    }
    send(&mut client, "1.1", "");
    assert_eq!(client.read_response().status, 200);
}
