//! What an answer is made of: its status, its header fields, and the bytes of a value.

use std::time::{Duration, Instant, UNIX_EPOCH};

use testkit::{HttpClient, Response, wait_until};

use crate::support::{start, start_with};

const MIB: usize = 1 << 20;

/// Bytes of every kind that repeat at no power of two.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at % 251) ^ (at / 65_521)).to_le_bytes()[0]).collect()
}

/// The header fields in their order, all but `Date`, whose form is checked.
fn fields(response: &Response) -> Vec<(&str, &str)> {
    let date = response.header("Date").expect("a Date");
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    let others = response.headers.iter().filter(|(name, _)| name != "Date");
    others.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[track_caller]
fn cache_status(response: &Response) -> &str {
    let mut values = response.header_values("Cache-Status");
    let value = values.next().expect("a Cache-Status");
    assert_eq!(values.next(), None);
    value
}

#[test]
fn a_value_comes_back_to_the_byte_from_redis_and_from_memory() {
    let (redis, proxy) = start();
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut client = proxy.client();
    for (key, value) in [
        ("every", every_byte),
        ("empty", Vec::new()),
        ("line-ends", b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec()),
        ("just-copied", pattern(16 * 1024)),
        ("just-not-copied", pattern(16 * 1024 + 1)),
        ("mebibyte", pattern(MIB)),
    ] {
        redis.client().set(key, &value);
        for _ in 0..2 {
            let response = client.get_key(key);
            assert_eq!((response.status, response.body == value), (200, true), "{key}");
            assert_eq!(response.header("content-length"), Some(value.len().to_string().as_str()));
        }
    }
    assert_eq!(redis.command_calls("get"), 6);
}

#[test]
fn the_type_is_text_for_valid_utf_8_and_octets_for_the_rest() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    let text = "text/plain; charset=utf-8";
    let octets = "application/octet-stream";
    let cases = [
        (b"".as_slice(), text),
        (b"plain", text),
        ("\u{e9}\u{1f600}\u{10ffff}".as_bytes(), text),
        (b"\0\x01\x7f", text),
        (b"\xff", octets),
        (b"caf\xe9", octets),
        (b"cut \xe2\x82", octets),
        (b"\xed\xa0\x80", octets), // a surrogate
        (b"\xc0\xaf", octets),     // an overlong slash
    ];
    for (number, (value, expected)) in cases.into_iter().enumerate() {
        redis.client().set(number.to_string(), value);
        for _ in 0..2 {
            let response = client.get(&format!("/{number}"));
            assert_eq!(response.header("content-type"), Some(expected), "{value:?}");
        }
    }
}

#[test]
fn a_value_above_max_value_bytes_is_passed_through_and_not_kept() {
    // On a busy machine so many bytes may take their time.
    let (redis, proxy) = start_with(&[("UPSTREAM_TIMEOUT", "10s")]);
    let value = pattern(20 * MIB);
    redis.client().set("large", &value);
    let mut client = proxy.client();
    for calls in 1..=2 {
        let response = client.get("/large");
        assert_eq!((response.status, response.body == value), (200, true));
        assert_eq!(cache_status(&response), "redis-proxy; fwd=uri-miss");
        assert!(response.header("etag").is_some());
        assert_eq!(redis.command_calls("get"), calls);
    }
}

#[test]
fn a_value_above_max_reply_bytes_is_502_and_the_next_request_is_fine() {
    // On a busy machine so many bytes may take their time.
    let (redis, proxy) = start_with(&[("UPSTREAM_TIMEOUT", "10s")]);
    redis.client().command(&["SETRANGE", "huge", &(33 * MIB - 1).to_string(), "x"]);
    redis.client().set("small", "1");
    let mut client = proxy.client();
    let response = client.get("/huge");
    assert_eq!(response.status, 502);
    assert_eq!(response.text(), "the value has 34603008 bytes, more than MAX_REPLY_BYTES");
    assert_eq!(client.get("/small").body, b"1");
    assert_eq!(client.get("/huge").status, 502);
    assert_eq!(redis.command_calls("get"), 3, "an error is not kept");
}

#[test]
fn every_answer_has_these_fields_and_no_others() {
    let (redis, proxy) = start();
    redis.client().set("k", "value");
    redis.client().command(&["RPUSH", "list", "1"]);
    let mut client = proxy.client();
    let etag = client.get("/k").header("etag").expect("an ETag").to_owned();
    let text = ("Content-Type", "text/plain; charset=utf-8");
    let nosniff = ("X-Content-Type-Options", "nosniff");
    let own = ("Cross-Origin-Resource-Policy", "same-origin");
    let status = |value| ("Cache-Status", value);
    let (hit, miss) = ("redis-proxy; hit", "redis-proxy; fwd=uri-miss");
    let stays = ("Keep-Alive", "timeout=59");
    let allow = ("Allow", "GET, HEAD, OPTIONS");
    let (tag, age, cached) = (("ETag", etag.as_str()), ("Age", "0"), ("Cache-Control", "no-cache"));

    let value = [text, ("Content-Length", "5"), tag, age, cached, status(hit), nosniff, own, stays];
    assert_eq!(fields(&client.get("/k")), value);
    assert_eq!(fields(&client.head("/k")), value);
    let unmodified = client.request("GET", "/k", &[("If-None-Match", "*")]);
    assert_eq!((unmodified.status, unmodified.reason.as_str()), (304, "Not Modified"));
    assert_eq!(fields(&unmodified), [tag, age, cached, status(hit), nosniff, own, stays]);

    let no_store = ("Cache-Control", "no-store");
    let failed = client.request("GET", "/k", &[("If-Match", "\"other\"")]);
    assert_eq!((failed.status, failed.reason.as_str()), (412, "Precondition Failed"));
    let length = failed.body.len().to_string();
    assert_eq!(
        fields(&failed),
        [tag, text, ("Content-Length", &length), no_store, status(hit), nosniff, own, stays]
    );
    let verbs = client.request("OPTIONS", "/k", &[]);
    assert_eq!((verbs.status, verbs.reason.as_str()), (204, "No Content"));
    assert_eq!(fields(&verbs), [allow, no_store, nosniff, own, stays]);
    let long = format!("/{}", "a".repeat(20_000));
    let cases = [
        ("GET", "/none", 404, "Not Found", None, Some(miss)),
        ("GET", "/list", 409, "Conflict", None, Some(miss)),
        ("GET", "/", 404, "Not Found", None, None),
        ("GET", "/%zz", 400, "Bad Request", None, None),
        ("POST", "/k", 405, "Method Not Allowed", Some(allow), None),
        ("GET", &long, 414, "URI Too Long", None, None),
    ];
    for (method, target, code, reason, extra, cache) in cases {
        let response = client.request(method, target, &[]);
        assert_eq!((response.status, response.reason.as_str()), (code, reason));
        let length = response.body.len().to_string();
        assert_ne!(length, "0", "{code} says what is wrong");
        let mut expected: Vec<_> = extra.into_iter().collect();
        expected.extend([text, ("Content-Length", &length), no_store]);
        // Only where the cache had a say.
        expected.extend(cache.map(status));
        expected.extend([nosniff, own, stays]);
        assert_eq!(fields(&response), expected, "{code}");
    }
    let mut client = proxy.client();
    client.send("GET /k HTTP/1.1\r\n\r\n");
    let refused = client.read_response();
    assert_eq!((refused.status, fields(&refused).last()), (400, Some(&("Connection", "close"))));
    assert_eq!((refused.header("cache-status"), refused.header("keep-alive")), (None, None));
}

#[test]
fn a_key_that_is_not_in_redis_is_404_until_it_is_set() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    for calls in 1..=2 {
        let response = client.get("/k");
        assert_eq!((response.status, response.text()), (404, "key not found"));
        assert_eq!(redis.command_calls("get"), calls, "an absence is not kept");
    }
    redis.client().set("k", "1");
    assert_eq!(client.get("/k").body, b"1");
}

#[test]
fn a_key_of_another_type_is_409_with_the_text_of_redis_and_never_kept() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    for (key, command) in [("l", "LPUSH"), ("s", "SADD"), ("p", "PFADD")] {
        redis.client().command(&[command, key, "1"]);
    }
    redis.client().command(&["HSET", "h", "f", "1"]);
    redis.client().command(&["ZADD", "z", "1", "m"]);
    redis.client().command(&["XADD", "x", "*", "f", "1"]);
    for key in ["/l", "/s", "/h", "/z", "/x"] {
        let response = client.get(key);
        assert_eq!(response.status, 409, "{key}");
        assert_eq!(response.text(), "WRONGTYPE Operation against a key holding the wrong kind of value");
    }
    assert_eq!(client.get("/p").status, 200, "a HyperLogLog is a string");
    assert_eq!(client.get("/l").status, 409);
    assert_eq!(redis.command_calls("get"), 7);
    redis.client().del("l");
    redis.client().set("l", "now a string");
    assert_eq!(client.get("/l").text(), "now a string");
}

#[test]
fn the_banner_on_the_admin_port_names_the_program_its_version_and_the_documents() {
    let (_redis, proxy) = start();
    let response = HttpClient::connect(proxy.admin_address()).get("/");
    assert_eq!(response.status, 200);
    assert!(response.text().starts_with(&format!("redis-proxy {}\n", env!("CARGO_PKG_VERSION"))));
    for text in ["docs/", "/livez", "/readyz", "/metrics"] {
        assert!(response.text().contains(text), "{text}");
    }
}

#[test]
fn cache_status_tells_a_hit_a_miss_a_coalesced_miss_and_what_is_not_kept() {
    let (redis, proxy) = start_with(&[("MAX_VALUE_BYTES", "10")]);
    redis.client().set("k", "1");
    redis.client().set("large", "more than ten bytes");
    let mut client = proxy.client();
    for (target, first, second, later) in [
        ("/k", "fwd=uri-miss; stored", "fwd=uri-miss; stored; collapsed", "hit"),
        ("/large", "fwd=uri-miss", "fwd=uri-miss; collapsed", "fwd=uri-miss"),
        ("/none", "fwd=uri-miss", "fwd=uri-miss; collapsed", "fwd=uri-miss"),
    ] {
        // Both arrive before Redis can answer the first.
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").repeat(2));
        for expected in [first, second] {
            assert_eq!(cache_status(&client.read_response()), format!("redis-proxy; {expected}"), "{target}");
        }
        assert_eq!(cache_status(&client.get(target)), format!("redis-proxy; {later}"), "{target}");
    }
    assert_eq!(redis.command_calls("get"), 1 + 2 + 2);
}

#[test]
fn age_is_the_whole_seconds_since_the_fetch_was_sent() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    let mut client = proxy.client();
    let age = |client: &mut HttpClient| -> u64 {
        client.get("/k").header("age").expect("an Age").parse().expect("a number")
    };
    let before = Instant::now();
    assert_eq!(age(&mut client), 0, "of a miss");
    let fetched = Instant::now();
    for expected in [1, 2] {
        wait_until(Duration::from_secs(10), "the next second", || {
            let least = fetched.elapsed().as_secs();
            let age = age(&mut client);
            assert!((least..=before.elapsed().as_secs()).contains(&age));
            age == expected
        });
    }
}

#[test]
fn date_is_the_second_of_an_answer_that_no_request_of_this_turn_has_caused() {
    let (_redis, proxy) = start_with(&[("WORKERS", "1"), ("HEAD_TIMEOUT", "2500ms")]);
    let mut client = proxy.client();
    assert_eq!(client.get("/none").status, 404);
    client.send("GET");
    let late = client.read_response();
    let now = UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let date = httpdate::parse_http_date(late.header("date").expect("a Date")).expect("a date");
    let date = date.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(late.status == 408 && date + 1 >= now && date <= now, "{date} at {now}: {late:?}");
}

#[test]
fn http_cache_control_is_that_of_values_alone() {
    let (redis, proxy) = start_with(&[("HTTP_CACHE_CONTROL", "public, max-age=5")]);
    redis.client().set("k", "1");
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.get("/k").header("cache-control"), Some("public, max-age=5"));
    }
    let unmodified = client.request("GET", "/k", &[("If-None-Match", "*")]);
    assert_eq!(unmodified.header("cache-control"), Some("public, max-age=5"));
    for target in ["/none", "/", "/%z"] {
        assert_eq!(client.get(target).header("cache-control"), Some("no-store"), "{target}");
    }
}

#[test]
fn keep_alive_is_the_idle_timeout_less_a_second() {
    for (timeout, told) in [("5s", Some("timeout=4")), ("2500ms", Some("timeout=1")), ("1500ms", None)] {
        let (_redis, proxy) = start_with(&[("IDLE_TIMEOUT", timeout)]);
        let mut client = proxy.client();
        assert_eq!(client.get("/none").header("keep-alive"), told, "{timeout}");
        client.send("GET /none HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let old = client.read_response();
        assert_eq!((old.header("connection"), old.header("keep-alive")), (Some("keep-alive"), told));
        client.send("GET /none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(client.read_response().header("keep-alive"), None);
    }
}

#[test]
fn date_is_the_second_of_the_answer_on_every_worker() {
    let (redis, proxy) = start_with(&[("WORKERS", "3")]);
    redis.client().set("k", "1");
    let mut clients: Vec<_> = (0..6).map(|_| proxy.client()).collect();
    let now = || UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let began = now();
    let mut last = 0;
    while now() < began + 3 {
        for client in &mut clients {
            let before = now();
            let date = client.get("/k").header("date").expect("a Date").to_owned();
            let date = httpdate::parse_http_date(&date).expect("a date");
            let date = date.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
            assert!((before..=now()).contains(&date), "{date} between {before} and {}", now());
            assert!(date >= last, "{date} after {last}");
            last = date;
        }
    }
}
