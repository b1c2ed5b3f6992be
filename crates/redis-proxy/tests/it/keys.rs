//! From a request target to the key: percent-decoded once, nothing normalised.

use testkit::{HttpClient, RedisServer};

use crate::support::start;

/// Sets each key to a value of its own, so that an answer tells which key was asked for.
fn set_each<'a>(redis: &RedisServer, keys: impl IntoIterator<Item = &'a [u8]>) {
    let mut client = redis.client();
    for key in keys {
        client.set(key, value_of(key));
    }
}

fn value_of(key: &[u8]) -> Vec<u8> {
    [b"value of ", key].concat()
}

/// GET of a target of any bytes, on a connection that stays.
#[track_caller]
fn get_raw(client: &mut HttpClient, target: &[u8]) -> testkit::Response {
    client.send([b"GET ", target, b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat());
    client.read_response()
}

#[track_caller]
fn assert_names(client: &mut HttpClient, target: &[u8], key: &[u8]) {
    let response = get_raw(client, target);
    assert_eq!(response.status, 200, "{}: {response:?}", target.escape_ascii());
    assert_eq!(response.body, value_of(key), "{} names another key", target.escape_ascii());
}

#[test]
fn every_byte_can_be_written_as_an_escape() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    let mut redis_client = redis.client();
    for byte in 0..=255_u8 {
        let key = [b'a', byte, b'z'];
        redis_client.set(key, value_of(&key));
        assert_names(&mut client, format!("/a%{byte:02X}z").as_bytes(), &key);
        assert_names(&mut client, format!("/a%{byte:02x}z").as_bytes(), &key);
    }
    let all: Vec<u8> = (0..=255).collect();
    set_each(&redis, [all.as_slice()]);
    let escapes: String = all.iter().map(|byte| format!("%{byte:02x}")).collect();
    assert_names(&mut client, format!("/{escapes}").as_bytes(), &all);
}

#[test]
fn every_visible_character_but_three_stands_for_itself() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    let mut redis_client = redis.client();
    for byte in (b'!'..=b'~').filter(|byte| !b"#?%".contains(byte)) {
        let key = [b'a', byte, b'z'];
        redis_client.set(key, value_of(&key));
        assert_names(&mut client, &[b"/", key.as_slice()].concat(), &key);
    }
}

#[test]
fn raw_bytes_above_ascii_are_taken_where_they_are_utf_8_and_refused_where_not() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    for key in ["caf\u{e9}", "\u{7ff}\u{ffff}", "\u{1f600}"] {
        set_each(&redis, [key.as_bytes()]);
        assert_names(&mut client, format!("/{key}").as_bytes(), key.as_bytes());
    }
    for raw in [b"/caf\xe9".as_slice(), b"/\xff", b"/\x80", b"/\xe2\x82", b"/\xed\xa0\x80"] {
        let mut client = proxy.client();
        assert_eq!(get_raw(&mut client, raw).status, 400, "{}", raw.escape_ascii());
        assert!(client.at_end());
    }
}

#[test]
fn the_key_is_the_path_after_its_first_slash_and_nothing_else() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    let table: &[(&str, &str)] = &[
        ("/foo", "foo"),
        ("/a/b", "a/b"),
        ("//x", "/x"),
        ("//", "/"),
        ("/a%2Fb", "a/b"),
        ("/a%2fb", "a/b"),
        ("/a+b", "a+b"),
        ("/a%20b", "a b"),
        ("/foo.json", "foo.json"),
        ("/.", "."),
        ("/..", ".."),
        ("/a/../b", "a/../b"),
        ("/a//b/", "a//b/"),
        ("/a/./b", "a/./b"),
        ("/%2e%2E", ".."),
        ("/%2541", "%41"),
        ("/%2500", "%00"),
        ("/foo?x=1", "foo"),
        ("/foo?", "foo"),
        ("/foo?key=bar", "foo"),
        ("/foo?a?b", "foo"),
        ("/foo?%zz", "foo"),
        ("/foo%3Fx=1", "foo?x=1"),
        ("/foo%23x", "foo#x"),
        ("//?key=foo", "/"),
        ("/health", "health"),
        ("/metrics", "metrics"),
        ("/a;b=c,d:e@f", "a;b=c,d:e@f"),
        ("/{\"a\"|b}", "{\"a\"|b}"),
        ("/http://h/x", "http://h/x"),
    ];
    set_each(&redis, table.iter().map(|(_, key)| key.as_bytes()));
    for (target, key) in table {
        assert_names(&mut client, target.as_bytes(), key.as_bytes());
    }
}

#[test]
fn a_bad_escape_and_a_raw_hash_are_400_and_the_connection_stays() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    for target in [
        "/%",
        "/%4",
        "/%zz",
        "/%4g",
        "/%g4",
        "/a%",
        "/%%41",
        "/%+1",
        "/%-1",
        "/%u0041",
        "/?key=%",
        "/?key=%4",
        "/?key=%zz",
        "/#",
        "/a#b",
        "/#a",
        "/a?#",
        "/?key=a#b",
    ] {
        let response = client.get(target);
        assert_eq!(response.status, 400, "{target}");
        let names_it = if target.contains('#') { "%23" } else { "hex digits" };
        assert!(response.text().contains(names_it), "{target}: {}", response.text());
    }
    assert_eq!(redis.command_calls("get"), 0);
}

#[test]
fn on_the_path_alone_the_query_names_the_key() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    let table: &[(&str, &str)] = &[
        ("/?key=foo", "foo"),
        ("/?key=a%2Fb", "a/b"),
        ("/?key=a/../b", "a/../b"),
        ("/?key=//x", "//x"),
        ("/?key=a+b", "a b"),
        ("/?key=a%20b", "a b"),
        ("/?key=a%2Bb", "a+b"),
        ("/?key=+%2b+", " + "),
        ("http://h?key=c+d", "c d"),
        ("/?key=.", "."),
        ("/?key=..", ".."),
        ("/?key=a=b", "a=b"),
        ("/?key=a%26b", "a&b"),
        ("/?key=a?b", "a?b"),
        ("/?x=1&key=a&y=2", "a"),
        ("/?&&key=a", "a"),
        ("/?key=", ""),
        ("/?x=1&key=", ""),
        ("http://h?key=foo", "foo"),
        ("http://h/?key=foo", "foo"),
    ];
    set_each(&redis, table.iter().map(|(_, key)| key.as_bytes()));
    for (target, key) in table {
        assert_names(&mut client, target.as_bytes(), key.as_bytes());
    }
    for twice in ["/?key=a&key=b", "/?key=a&key=a", "/?key=&key=", "/?key=a&x=1&key=b"] {
        let response = client.get(twice);
        assert_eq!((response.status, response.text()), (400, "more than one 'key=' in the query"), "{twice}");
    }
}

#[test]
fn the_path_alone_without_a_key_is_404_and_says_how_to_ask() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    for target in ["/", "/?", "/?x=1", "/?keys=1", "/?KEY=1", "/?key", "/?%6bey=1", "http://h", "http://h/"] {
        let response = client.get(target);
        // Clients make `/` of the keys `.`, `..` and the empty one: 200 would look like a value.
        assert_eq!(response.status, 404, "{target}");
        assert!(response.text().contains("/{key}") && response.text().contains("/?key="), "{target}");
        assert_eq!(client.head(target).headers.len(), response.headers.len());
    }
    assert_eq!(redis.command_calls("get"), 0);
}

#[test]
fn absolute_form_names_the_same_key() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    set_each(&redis, ["foo", "/x", "a/b", ".."].map(str::as_bytes));
    for (target, key) in [
        ("http://h/foo", "foo"),
        ("HTTP://H:80/foo", "foo"),
        ("https://example.org:8443/foo?x=1", "foo"),
        ("http://127.0.0.1/a%2fb", "a/b"),
        ("http://[::1]:5000/foo", "foo"),
        ("http://h//x", "/x"),
        ("http://h/..", ".."),
    ] {
        assert_names(&mut client, target.as_bytes(), key.as_bytes());
    }
    for target in [
        "*",
        "foo",
        "h:80",
        "ftp://h/a",
        "http:/h",
        "http:///a",
        "http://u@h/a",
        "http://u:p@h/a",
        "http://h:port/a",
        "http://h:123456/a",
        "http://[::1/a",
        "http://[::g]/a",
        "://h/a",
    ] {
        assert_eq!(client.get(target).status, 400, "{target}");
    }
}
