//! Where one request ends and the next begins: what two parsers could read differently is refused. The same heads are
//! judged one function at a time in `front/http/head/tests.rs`; bodies are in `bodies.rs`.

use testkit::Proxy;

use crate::support::{start, start_with};

const HOST: &str = "Host: h\r\n";

/// Sends bytes that must be refused: 400, a text, `Connection: close`, and an orderly close.
#[track_caller]
fn assert_refused(proxy: &Proxy, bytes: &[u8]) {
    let shown = bytes.escape_ascii();
    let mut client = proxy.client();
    client.send(bytes);
    let response = client.try_read_response().unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(response.status, 400, "{shown}: {response:?}");
    assert_eq!(response.header("connection"), Some("close"), "{shown}");
    assert!(!response.body.is_empty(), "{shown}");
    assert!(client.at_end(), "{shown}");
}

#[test]
fn what_two_parsers_could_read_differently_is_400_and_closes() {
    // One worker, so that the bystander shares all there is to share.
    let (redis, proxy) = start_with(&[("WORKERS", "1")]);
    redis.client().set("k", "1");
    let mut bystander = proxy.client();
    let mut count = 0;
    let mut refused = |bytes: &[u8]| {
        assert_refused(&proxy, bytes);
        assert_eq!(bystander.get("/k").body, b"1");
        count += 1;
    };

    each_refused(&mut refused);
    assert!(count >= 200, "{count}");
    assert_eq!(redis.command_calls("get"), 1, "nothing that was refused reached Redis");
}

/// Each of the bytes that are refused.
pub(crate) fn each_refused(refused: &mut dyn FnMut(&[u8])) {
    // The request line.
    for line in [
        "GET  /k HTTP/1.1",
        "GET /k  HTTP/1.1",
        "GET\t/k HTTP/1.1",
        "GET /k\tHTTP/1.1",
        " GET /k HTTP/1.1",
        "\tGET /k HTTP/1.1",
        "GET /k HTTP/1.1 ",
        "GET /k HTTP/1.1\t",
        "GET /k",
        "GET",
        "GET ",
        "/k",
        "/k HTTP/1.1",
        "GET  HTTP/1.1",
        "GET HTTP/1.1",
        "GET /k http/1.1",
        "GET /k Http/1.1",
        "GET /k HTTP/0.9",
        "GET /k HTTP/2.0",
        "GET /k HTTP/2",
        "GET /k HTTP/1.10",
        "GET /k HTTP/01.1",
        "GET /k HTTP/1,1",
        "GET /k HTTP/1.",
        "GET /k HTTP/+1.1",
        "GET /k HTTP 1.1",
        "GET /k HTTPS/1.1",
        "GET /k /l HTTP/1.1",
        "GET /a b HTTP/1.1",
        "G(T /k HTTP/1.1",
        "GET: /k HTTP/1.1",
        "GE\0T /k HTTP/1.1",
        "GET /\0k HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /k\x0b HTTP/1.1",
        "GET /k HTTP/1.1\0",
        "\u{feff}GET /k HTTP/1.1",
        "GET\u{a0}/k HTTP/1.1",
    ] {
        refused(format!("{line}\r\n{HOST}\r\n").as_bytes());
    }
    // The ends of lines.
    for head in [
        "GET /k HTTP/1.1\nHost: h\n\n",
        "GET /k HTTP/1.1\nHost: h\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: h\n\r\n",
        "GET /k HTTP/1.1\r\nHost: h\r\n\n",
        "GET /k HTTP/1.1\r\r\nHost: h\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: h\r\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: h\r\n\rX: y\r\n\r\n",
        "GET /k\rHTTP/1.1\r\nHost: h\r\n\r\n",
        "\nGET /k HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\n\r\nGET /k HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\n\nGET /k HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\r\nGET /k HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\n GET /k HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        refused(head.as_bytes());
    }
    // A header field, beside a good Host.
    for field in [
        "X : y",
        "X\t: y",
        " X: y",
        "\tX: y",
        "X",
        "X y",
        ": y",
        ":",
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X:\r\n a",
        "X(: y",
        "X\0: y",
        "X Y: z",
        "X\u{e9}: y",
        "\"X\": y",
        "X: \0",
        "X: a\x01b",
        "X: a\x0bb",
        "X: \x7f",
        "X: a\x1bb",
        "X@: y",
        "X=y",
        "GET /l HTTP/1.1",
    ] {
        refused(format!("GET /k HTTP/1.1\r\n{HOST}{field}\r\n\r\n").as_bytes());
        refused(format!("GET /k HTTP/1.1\r\n{field}\r\n{HOST}\r\n").as_bytes());
    }
    // Host: exactly one and well formed; in HTTP/1.0 at most one.
    for fields in [
        "",
        "X: y\r\n",
        "Host: h\r\nHost: h\r\n",
        "Host: h\r\nhost: i\r\n",
        "Host: \r\nHost: h\r\n",
        "Host: h i\r\n",
        "Host: h,i\r\nHost: j\r\n",
        "Host: h/x\r\n",
        "Host: u@h\r\n",
        "Host: h?x\r\n",
        "Host: h#x\r\n",
        "Host: h:\u{e9}\r\n",
        "Host: h:80:80\r\n",
        "Host: h:port\r\n",
        "Host: h:+80\r\n",
        "Host: [::1\r\n",
        "Host: ::1]\r\n",
        "Host: []\r\n",
        "Host: [::g]\r\n",
        "Host: [::1]x\r\n",
        "Host: [v1.a b]\r\n",
        "Host: [vx]\r\n",
        "Host: [1:2]\r\n",
        "Host: [1.2.3.4]\r\n",
        "Host: \u{e9}\r\n",
        "Host: h\\x\r\n",
        "Host: h\"\r\n",
        "Host: <h>\r\n",
        "Host: %zz\r\n",
        "Host: %4\r\n",
        "Host: http://h\r\n",
    ] {
        refused(format!("GET /k HTTP/1.1\r\n{fields}\r\n").as_bytes());
        if fields.contains("Host") {
            refused(format!("GET /k HTTP/1.0\r\n{fields}\r\n").as_bytes());
        }
    }
    // The length of the body.
    for fields in [
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 5,5",
        "Content-Length: 5, 5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: ",
        "Content-Length: 0x5",
        "Content-Length: 5.0",
        "Content-Length: 5;",
        "Content-Length: five",
        "Content-Length: \u{0665}",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999999999",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\ncontent-length: 6",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked;",
        "Transfer-Encoding: gzip;",
        "Transfer-Encoding: gzip;q",
        "Transfer-Encoding: gzip;q=",
        "Transfer-Encoding: gzip;q=\"1",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: gzip",
        "Transfer-Encoding: gzip\r\nContent-Length: 0",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: c\u{212a}unked",
        "Transfer-Encoding: chun ked",
        "Transfer-Encoding\0: chunked",
    ] {
        refused(format!("GET /k HTTP/1.1\r\n{HOST}{fields}\r\n\r\n0\r\n\r\n").as_bytes());
        refused(format!("POST /k HTTP/1.1\r\n{HOST}{fields}\r\n\r\n0\r\n\r\n").as_bytes());
    }
    refused(format!("GET /k HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").as_bytes());
    refused(format!("GET /k HTTP/1.0\r\n{HOST}Transfer-Encoding: gzip\r\n\r\n").as_bytes());
    refused(b"GET /k HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n");
    refused(b"GET /k HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    // What is no HTTP at all.
    refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
    refused(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\n");
    refused(b"\0\r\n\r\n");
}

#[test]
fn a_refused_head_answers_those_before_it_and_none_behind_it() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    let mut client = proxy.client();
    let good = format!("GET /k HTTP/1.1\r\n{HOST}\r\n");
    client.send(format!("{good}{good}GET /k HTTP/1.1\r\n\r\n{good}{good}"));
    assert_eq!(client.read_response().status, 200, "a miss");
    assert_eq!(client.read_response().status, 200);
    assert_eq!(client.read_response().status, 400);
    assert!(client.at_end());
}

#[test]
fn a_refused_head_behind_answers_that_fill_the_output_is_refused_all_the_same() {
    let (redis, proxy) = start();
    redis.client().set("large", vec![b'v'; 20_000]);
    redis.client().set("small", "v");
    let mut client = proxy.client();
    client.get("/large");
    client.get("/small");
    for (ask, count) in [("/large", 1), ("/small", 300)] {
        let mut client = proxy.client();
        let mut bytes = format!("GET {ask} HTTP/1.1\r\n{HOST}\r\n").repeat(count);
        // Refused before it is whole, so that not one of its bytes is used.
        bytes.push_str("X\n");
        client.send(bytes);
        for _ in 0..count {
            assert_eq!(client.read_response().status, 200);
        }
        assert_eq!(client.read_response().status, 400, "behind {count} of {ask}");
        assert!(client.at_end());
    }
}

#[test]
fn what_all_parsers_read_alike_is_accepted() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    let mut client = proxy.client();
    for head in [
        "GET /k HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost:h\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: \t h \t\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /k HTTP/1.1\r\nhOsT: h:80\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: h:\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: [::ffff:1.2.3.4]\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: [v1.a:b]\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: a-b_c.%41~!$&'()*+,;=\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: h\r\nX:\r\nX: \u{e9}\tb \"c\" (d)\r\n!#$%&'*+-.^_`|~: y\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: h\r\nContent-Length: 0005\r\n\r\nabcde",
        "GET /k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /k HTTP/1.2\r\nHost: h\r\n\r\n",
        "GET /k HTTP/1.9\r\nHost: h\r\nX: y\r\nContent-Length: 5\r\n\r\nabcde",
        "GET /k HTTP/1.0\r\nConnection: keep-alive\r\nHost: h\r\n\r\n",
        "\r\nGET /k HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        client.send(head);
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (200, "1"), "{head:?}");
    }
}

#[test]
fn one_empty_line_before_a_request_is_skipped_however_it_arrives() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    let mut client = proxy.client();
    let request = format!("\r\nGET /k HTTP/1.1\r\n{HOST}\r\n");
    client.send(request.repeat(3));
    for _ in 0..3 {
        assert_eq!(client.read_response().status, 200);
    }
    // The program has seen the first part once it has answered what came with it.
    let ask = format!("GET /k HTTP/1.1\r\n{HOST}\r\n");
    for cut in 1..4 {
        client.send(format!("{ask}{}", &request[..cut]));
        assert_eq!(client.read_response().status, 200);
        client.send(&request[cut..]);
        assert_eq!(client.read_response().status, 200, "cut after {cut}");
    }
    client.send(format!("GET /k HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc{request}"));
    assert_eq!(client.read_response().status, 200);
    assert_eq!(client.read_response().status, 200, "as a browser sends it behind a body");
    client.send(format!("\r\n{request}"));
    assert_eq!(client.read_response().status, 400, "two are too many");
    assert!(client.at_end());
}

#[test]
fn one_well_formed_coding_that_is_not_known_is_501_and_closes() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    for coding in ["gzip", "identity", "xchunked", "br;q=1", "a ; b=c;d = \"e;\\\"f\"", "GZIP"] {
        for verb in ["GET", "POST", "HEAD"] {
            let mut client = proxy.client();
            client.send(format!("{verb} /k HTTP/1.1\r\n{HOST}Transfer-Encoding: {coding}\r\n\r\n"));
            let response = client.read_response();
            assert_eq!((response.status, response.reason.as_str()), (501, "Not Implemented"), "{coding}");
            assert_eq!(response.header("connection"), Some("close"), "{coding}");
            assert!(client.at_end(), "{coding}");
        }
    }
    assert_eq!(redis.command_calls("get"), 0);
}

#[test]
fn a_later_version_of_http_1_is_read_as_1_1() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    let mut client = proxy.client();
    for version in 2..=9 {
        client.send(format!("GET /k HTTP/1.{version}\r\n{HOST}\r\n"));
        let response = client.read_response();
        assert_eq!((response.text(), response.header("connection")), ("1", None), "HTTP/1.{version}");
        // Byte by byte it is no beginning of something else.
        for byte in format!("GET /k HTTP/1.{version}\r\n{HOST}If-None-Match: *\r\n\r\n").bytes() {
            client.send([byte]);
        }
        assert_eq!(client.read_response().status, 304);
    }
    client.send("GET /k HTTP/1.2\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_response().header("connection"), Some("close"));
    assert!(client.at_end());
    for bad in [
        "GET /k HTTP/1.2\r\n\r\n",
        "GET /\0 HTTP/1.2\r\nHost: h\r\n\r\n",
        "GET /k HTTP/1.2\r\nHost: h\r\nX y\r\n\r\n",
    ] {
        assert_refused(&proxy, bad.as_bytes());
    }
}

#[test]
fn upgrade_is_ignored() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    let mut client = proxy.client();
    for protocol in ["websocket", "h2c", "TLS/1.0", "HTTP/2.0"] {
        let fields = [
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", protocol),
            ("HTTP2-Settings", "AAMAAABk"),
        ];
        let response = client.request("GET", "/k", &fields);
        assert_eq!((response.status, response.header("upgrade")), (200, None), "{protocol}");
    }
    assert_eq!(client.request("OPTIONS", "*", &[("Upgrade", "h2c")]).status, 204);
}

#[test]
fn nothing_of_a_request_is_in_a_header_of_its_answer() {
    let (redis, proxy) = start();
    let marker = "zqzqz";
    redis.client().set(marker, "1");
    redis.client().command(&["RPUSH", "zqzqz-list", "1"]);
    let fields = ["X", "Origin", "Connection", "If-None-Match", "Expect", "Accept", "Cookie", "Via", "TE"]
        .map(|name| (name, marker));
    let mut client = proxy.client();
    for target in [
        "/zqzqz",
        "/zqzqz-list",
        "/zqzqz-none",
        "/zqzqz?zqzqz=zqzqz",
        "/?zqzqz",
        "/zqzqz%zz",
        "/%0d%0aX-Zqzqz:%20zqzqz",
        "/zqzqz%0d%0a%0d%0aHTTP/1.1%20200%20zqzqz",
        "http://zqzqz/none",
    ] {
        for verb in ["GET", "GET", "HEAD", "POST", "ZQZQZ"] {
            let response = client.request(verb, target, &fields);
            for (name, value) in &response.headers {
                let line = format!("{name}: {value}").to_ascii_lowercase();
                assert!(!line.contains(marker), "{verb} {target}: {line}");
            }
        }
    }
    for head in ["GET /zqzqz HTTP/zqzqz", "ZQZQZ", "GET /k HTTP/1.1\r\nHost: zqzqz zqzqz"] {
        let mut client = proxy.client();
        client.send(format!("{head}\r\n\r\n"));
        assert!(!format!("{:?}", client.read_response().headers).contains(marker), "{head}");
    }
}
