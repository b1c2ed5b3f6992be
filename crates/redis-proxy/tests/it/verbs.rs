//! GET, HEAD and the rest; connections that stay, end, and carry many requests at once.

use std::collections::BTreeSet;

use testkit::{HttpClient, RedisServer, Reply};

use crate::support::{start, start_with};

/// The commands that Redis was asked to execute since the last reset, the test's own left out.
fn commands(redis: &RedisServer) -> BTreeSet<String> {
    let Reply::Bulk(info) = redis.client().command(&["INFO", "commandstats"]) else {
        panic!("no INFO");
    };
    let info = String::from_utf8(info).expect("text");
    let names = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
    // Nor the handshakes and pings of the program.
    let others = ["info", "config|resetstat", "ping", "hello", "client|setname", "client|setinfo"];
    names.filter(|name| !others.contains(name)).map(str::to_owned).collect()
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let (redis, proxy) = start();
    redis.client().set("k", "some value");
    redis.client().set("large", vec![b'x'; 100_000]);
    redis.client().command(&["RPUSH", "list", "1"]);
    let mut client = proxy.client();
    client.get("/k");
    client.get("/large");
    for target in ["/k", "/large", "/none", "/list", "/", "/%z"] {
        let get = client.get(target);
        let head = client.head(target);
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{target}");
        let fields = |response: &testkit::Response| -> Vec<_> {
            response.headers.iter().filter(|(name, _)| name != "Date").cloned().collect()
        };
        assert_eq!(fields(&head), fields(&get), "{target}");
    }
}

#[test]
fn head_fills_the_cache_and_counts_as_a_use() {
    let (redis, proxy) = start_with(&[("CAPACITY", "2")]);
    for key in ["a", "b", "c"] {
        redis.client().set(key, key);
    }
    let mut client = proxy.client();
    assert_eq!(client.head("/a").header("content-length"), Some("1"));
    client.get("/a");
    assert_eq!(redis.command_calls("get"), 1, "HEAD filled it");
    client.get("/b");
    client.head("/a");
    client.get("/c"); // b leaves: a was used after it
    client.get("/a");
    assert_eq!(redis.command_calls("get"), 3);
    client.get("/b");
    assert_eq!(redis.command_calls("get"), 4);
}

#[test]
fn any_other_verb_is_405_and_nothing_is_executed() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    let mut client = proxy.client();
    client.get("/warm");
    redis.reset_stats();
    for verb in [
        "POST", "PUT", "DELETE", "PATCH", "options", "TRACE", "CONNECT", "PURGE", "PROPFIND", "COPY", "LOCK",
        "MKCOL", "M-SEARCH", "LINK", "SET", "FLUSHALL", "get", "Get", "GETS", "GE", "head", "HEADS", "X",
        "!", "QUERY",
    ] {
        for target in ["/k", "/", "*", "/%zz", "h:80"] {
            let response = client.request(verb, target, &[]);
            assert_eq!(response.status, 405, "{verb} {target}");
            assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS"), "{verb}");
        }
    }
    let post = client.request("POST", "/k", &[("Content-Length", "0")]);
    assert_eq!(post.status, 405);
    client.send("PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nnew");
    assert_eq!(client.read_response().status, 405);
    assert_eq!(commands(&redis), BTreeSet::new());
    assert_eq!(client.get("/k").body, b"1");
    assert_eq!(commands(&redis), BTreeSet::from(["get".to_owned()]));
}

#[test]
fn options_is_204_with_the_verbs_and_asks_nothing() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    let mut client = proxy.client();
    for target in ["*", "/k", "/none", "/", "/?key=k", "http://h/k", "http://h"] {
        let response = client.request("OPTIONS", target, &[]);
        assert_eq!(
            (response.status, response.header("allow")),
            (204, Some("GET, HEAD, OPTIONS")),
            "{target}"
        );
        assert_eq!(response.header("cache-status"), None);
    }
    for target in ["/%zz", "h:80", "**", "k"] {
        assert_eq!(client.request("OPTIONS", target, &[]).status, 400, "{target}");
    }
    client.send(
        "OPTIONS /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /k HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    assert_eq!((client.read_response().status, client.read_response().text()), (204, "1"));
    client.send("OPTIONS * HTTP/1.0\r\n\r\n");
    assert_eq!(client.read_response().header("connection"), Some("close"));
    assert_eq!(redis.command_calls("get"), 1);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let (redis, proxy) = start_with(&[("MAX_KEY_BYTES", "64")]);
    for number in 0..100 {
        redis.client().set(format!("k{number}"), format!("value {number}"));
    }
    redis.client().command(&["RPUSH", "list", "1"]);
    redis.client().set("large", vec![b'x'; 40_000]);
    let mut client = proxy.client();
    for number in 0..50 {
        client.get(&format!("/k{number}")); // hits; the others are misses
    }
    let long = format!("/{}", "a".repeat(65));
    let requests: Vec<(&str, String, u16, Option<String>)> = (0..1000)
        .map(|number| match number % 10 {
            1 => ("GET", format!("/none{number}"), 404, Some("key not found".to_owned())),
            3 => ("POST", "/k1".to_owned(), 405, None),
            5 => ("GET", "/%zz".to_owned(), 400, None),
            6 => ("GET", "/list".to_owned(), 409, None),
            7 => ("HEAD", format!("/k{}", number % 100), 200, Some(String::new())),
            8 => ("GET", long.clone(), 414, None),
            9 => ("GET", "/large".to_owned(), 200, Some("x".repeat(40_000))),
            _ => {
                let key = number * 7 % 100;
                ("GET", format!("/k{key}"), 200, Some(format!("value {key}")))
            }
        })
        .collect();
    let bytes: String = requests
        .iter()
        .map(|(verb, target, _, _)| format!("{verb} {target} HTTP/1.1\r\nHost: h\r\n\r\n"))
        .collect();
    client.send(bytes);
    for (number, (verb, target, status, body)) in requests.iter().enumerate() {
        let response = if *verb == "HEAD" { client.read_head_response() } else { client.read_response() };
        assert_eq!(response.status, *status, "request {number}: {verb} {target}");
        if let Some(body) = body {
            assert!(response.body == body.as_bytes(), "request {number}: {verb} {target}");
        }
    }
    assert_eq!(client.get("/k1").body, b"value 1");
}

#[test]
fn a_connection_of_http_1_1_stays_until_the_client_says_close() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    for (fields, stays) in [
        ("", true),
        ("Connection: keep-alive\r\n", true),
        ("Connection: upgrade\r\n", true),
        ("Connection: closed\r\n", true),
        ("Connection: close\r\n", false),
        ("connection:CLOSE\r\n", false),
        ("Connection: foo, close\r\n", false),
        ("Connection: foo ,\tClose , bar\r\n", false),
        ("Connection: keep-alive\r\nConnection: close\r\n", false),
        ("Connection: close, keep-alive\r\n", false),
    ] {
        let mut client = proxy.client();
        client.send(format!("GET /k HTTP/1.1\r\nHost: h\r\n{fields}\r\nGET /k HTTP/1.1\r\nHost: h\r\n\r\n"));
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (200, "1"));
        assert_eq!(response.header("connection"), if stays { None } else { Some("close") }, "{fields:?}");
        if stays {
            assert_eq!(client.read_response().status, 200, "{fields:?}");
        } else {
            assert!(client.at_end(), "{fields:?}: the request after close is not answered");
        }
    }
}

#[test]
fn a_connection_of_http_1_0_ends_unless_the_client_says_keep_alive() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    let ask = |client: &mut HttpClient, target: &str, fields: &str| {
        client.send(format!("GET {target} HTTP/1.0\r\n{fields}\r\n"));
        client.read_response()
    };
    for target in ["/k", "/none", "/%zz", "/"] {
        for fields in ["", "Host: h\r\n", "Connection: close\r\n", "Connection: keep-alive, close\r\n"] {
            let mut client = proxy.client();
            assert_eq!(ask(&mut client, target, fields).header("connection"), Some("close"), "{fields:?}");
            assert!(client.at_end(), "{target} {fields:?}");
        }
        let mut client = proxy.client();
        for _ in 0..2 {
            let response = ask(&mut client, target, "Connection: Keep-Alive\r\n");
            assert_eq!(response.header("connection"), Some("keep-alive"), "{target}");
        }
        assert_eq!(client.get("/k").header("connection"), None, "HTTP/1.1 on the same connection");
    }
}
