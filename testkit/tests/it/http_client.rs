//! The raw client against a server that says what a test tells it to.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use testkit::{End, HttpClient, get_key, key_target, metrics};

use crate::{MOMENT, PATIENCE};

/// Serves one connection.
fn serve(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    address
}

/// Reads a request head.
fn read_request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Answers the first request with these bytes and closes.
fn answer(bytes: impl AsRef<[u8]> + Send + 'static) -> SocketAddr {
    serve(move |mut stream| {
        read_request(&mut stream);
        stream.write_all(bytes.as_ref()).unwrap();
    })
}

#[test]
fn pipelined_responses_are_told_apart_and_bodies_are_exact() {
    let body: Vec<u8> = (0..=255).collect();
    let first = [b"HTTP/1.1 200 OK\r\nContent-Length: 256\r\nAge: 0\r\n\r\n".as_slice(), &body].concat();
    let rest = b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let mut client = HttpClient::connect(answer([first.as_slice(), rest].concat()));
    let response = client.get("/");
    assert_eq!((response.status, response.reason.as_str(), response.header("age")), (200, "OK", Some("0")));
    assert_eq!(response.body, body);
    assert_eq!(client.read_response().header("etag"), Some("\"a\""));
    assert_eq!(client.read_response().status, 404);
    assert!(client.at_end());
}

#[test]
fn the_request_is_what_the_test_says() {
    let address = serve(|mut stream| {
        let request = read_request(&mut stream);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{request}", request.len());
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let response = HttpClient::connect(address).request("GET", "/%00", &[("host", "a"), ("X-B", "c")]);
    assert_eq!(response.text(), "GET /%00 HTTP/1.1\r\nhost: a\r\nX-B: c\r\n\r\n");
}

#[test]
fn a_response_to_head_has_a_length_and_no_body() {
    let mut client = HttpClient::connect(answer("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"));
    let response = client.head("/");
    assert_eq!((response.header("content-length"), response.body.len()), (Some("7"), 0));
    assert!(client.at_end());
}

#[test]
fn a_key_of_any_bytes_has_a_target() {
    assert_eq!(key_target(b"a-Z_0.~"), "/a-Z_0.~");
    assert_eq!(key_target(b"/ %\0\xFF?#"), "/%2F%20%25%00%FF%3F%23");
    assert_eq!(key_target(b""), "/?key=");
    let address = serve(|mut stream| {
        assert!(read_request(&mut stream).starts_with("GET /%0A HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    assert_eq!(get_key(address, b"\n").status, 200);
}

#[test]
fn what_is_no_response_is_an_error_of_its_kind() {
    let cases = [
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", ErrorKind::InvalidData),
        ("HTTP/1.1 200 OK\r\n\r\n", ErrorKind::InvalidData),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", ErrorKind::UnexpectedEof),
        ("HTTP/1.1 200 OK\r\nContent-", ErrorKind::UnexpectedEof),
        ("", ErrorKind::UnexpectedEof),
    ];
    for (bytes, kind) in cases {
        let mut client = HttpClient::connect(answer(bytes));
        client.send("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(client.try_read_response().unwrap_err().kind(), kind, "{bytes:?}");
    }
}

#[test]
#[should_panic(expected = "malformed response: no Content-Length")]
fn a_malformed_response_fails_the_test() {
    HttpClient::connect(answer("HTTP/1.1 200 OK\r\n\r\n")).get("/");
}

#[test]
fn the_ends_of_a_connection_are_told_apart() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = HttpClient::connect(open.local_addr().unwrap());
    client.set_read_timeout(MOMENT);
    assert_eq!(client.end(), End::Open);
    assert_eq!(client.try_read_response().unwrap_err().kind(), ErrorKind::TimedOut);

    let mut bytes = HttpClient::connect(answer("ab"));
    bytes.send("\r\n\r\n");
    assert_eq!(bytes.end(), End::Bytes(b"ab".to_vec()));
    assert_eq!(bytes.end(), End::Closed);

    // Closing with bytes unread resets.
    let mut reset = HttpClient::connect(serve(|stream| drop(stream.peek(&mut [0]))));
    reset.send("x");
    assert_eq!(reset.end(), End::Reset);
}

#[test]
fn a_client_ends_with_a_fin_or_a_reset() {
    for is_reset in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = HttpClient::connect(listener.local_addr().unwrap());
        let (mut stream, peer) = listener.accept().unwrap();
        assert_eq!(client.local_address(), peer);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if is_reset {
            client.reset();
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        } else {
            client.shutdown_write();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            stream.write_all(b"x").unwrap();
            assert_eq!(client.read_some(9).unwrap(), b"x");
        }
    }
}

#[test]
fn a_small_receive_buffer_is_full_early() {
    let room = |connect: fn(SocketAddr) -> HttpClient| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = connect(listener.local_addr().unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_write_timeout(Some(MOMENT)).unwrap();
        let mut sent = 0;
        while let Ok(count) = stream.write(&[0; 4096]) {
            sent += count;
        }
        drop(client);
        sent
    };
    let [small, usual] =
        [room(|to| HttpClient::connect_with_receive_buffer(to, 4096)), room(HttpClient::connect)];
    assert!(small < usual, "{small} bytes, {usual} usually");
}

#[test]
fn metrics_are_fetched_from_their_page() {
    let address = serve(|mut stream| {
        assert!(read_request(&mut stream).starts_with("GET /metrics HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nhits_total 3\n\n").unwrap();
    });
    assert_eq!(metrics(address).value("hits_total"), 3.0);
}

#[test]
#[should_panic(expected = "the answer to /metrics: 404")]
fn a_page_without_metrics_fails_the_test() {
    metrics(answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
}
