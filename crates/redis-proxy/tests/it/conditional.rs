//! Entity tags, and requests that ask only for what has changed.

use testkit::{HttpClient, RedisServer, Response};

use crate::support::{program, start};

/// A key in memory, and its tag.
fn warm(redis: &RedisServer, client: &mut HttpClient) -> String {
    redis.client().set("k", "value");
    client.get("/k").header("etag").expect("an ETag").to_owned()
}

fn if_none_match(client: &mut HttpClient, target: &str, condition: &str) -> Response {
    client.request("GET", target, &[("If-None-Match", condition)])
}

#[test]
fn the_tag_is_strong_and_equal_on_all_instances() {
    let redis = RedisServer::start();
    let proxies = [program().redis(&redis).start(), program().redis(&redis).start()];
    redis.client().set("a", "value");
    redis.client().set("b", "value");
    redis.client().set("c", "Value");
    let tags: Vec<String> = proxies
        .iter()
        .flat_map(|proxy| {
            let mut client = proxy.client();
            ["/a", "/a", "/b", "/c"].map(|key| client.get(key).header("etag").expect("an ETag").to_owned())
        })
        .collect();
    let (same, other) = (&tags[0], &tags[3]);
    assert_eq!(tags, [same, same, same, other, same, same, same, other].map(String::clone));
    assert_ne!(same, other);
    let hex = same.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).expect("quotes");
    assert_eq!((hex.len(), hex.bytes().all(|byte| byte.is_ascii_hexdigit())), (32, true), "128 bits: {hex}");
    // BLAKE3 of `value`: a new version of the program must not make every cached tag wrong without saying so.
    assert_eq!(hex, "06444a4916ee6fecd2666eb790b06edd");
}

#[test]
fn a_tag_that_matches_is_304_without_asking_redis() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    let tag = warm(&redis, &mut client);
    for condition in [
        "*".to_owned(),
        tag.clone(),
        format!("W/{tag}"),
        format!("\"a\", {tag}"),
        format!("{tag}, \"a\""),
        format!("\"a\",W/\"b\",{tag}"),
        format!("\"with, comma\", {tag}"),
        format!("\"\",\t{tag}"),
        format!(", ,{tag},"),
        format!("\"W/\", W/{tag}"),
        format!("\"\u{e9}\", {tag}"),
    ] {
        let response = if_none_match(&mut client, "/k", &condition);
        assert_eq!((response.status, response.header("etag")), (304, Some(&*tag)), "{condition}");
        assert_eq!(response.header("content-length"), None, "{condition}");
        assert_eq!(response.header("cache-status"), Some("redis-proxy; hit"), "{condition}");
    }
    let head = client.request("HEAD", "/k", &[("If-None-Match", &tag)]);
    assert_eq!(head.status, 304);
    assert_eq!(redis.command_calls("get"), 1);
}

#[test]
fn a_tag_that_does_not_match_is_200_with_the_value() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    let tag = warm(&redis, &mut client);
    let bare = tag.trim_matches('"');
    for condition in [
        String::new(),
        "\"a\"".to_owned(),
        "\"*\"".to_owned(),
        "**".to_owned(),
        bare.to_owned(),
        format!("\"{bare}"),
        format!("{bare}\""),
        format!("w/{tag}"),
        format!("W/ {tag}"),
        format!("\"{}\"", bare.to_uppercase()),
        format!("\"{}\"", &bare[..31]),
        format!("\"{bare}0\""),
    ] {
        let response = if_none_match(&mut client, "/k", &condition);
        assert_eq!((response.status, response.text()), (200, "value"), "{condition}");
    }
    assert_eq!(redis.command_calls("get"), 1);
}

#[test]
fn several_fields_are_one_list() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    let tag = warm(&redis, &mut client);
    let ask = |client: &mut HttpClient, values: &[&str]| {
        let fields: Vec<_> = values.iter().map(|value| ("If-None-Match", *value)).collect();
        client.request("GET", "/k", &fields).status
    };
    assert_eq!(ask(&mut client, &["\"a\"", &tag]), 304);
    assert_eq!(ask(&mut client, &[&tag, "\"a\""]), 304);
    assert_eq!(ask(&mut client, &["\"a\"", "W/\"b\"", "\"c\", \"d\"", &format!("\"e\", {tag}")]), 304);
    assert_eq!(ask(&mut client, &["\"a\"", "\"b\""]), 200);
}

#[test]
fn a_miss_fetches_and_then_compares() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    let tag = warm(&redis, &mut client);
    redis.client().set("same", "value");
    redis.client().set("other", "another");
    let response = if_none_match(&mut client, "/same", &tag);
    assert_eq!((response.status, response.header("etag")), (304, Some(&*tag)));
    assert_eq!(response.header("cache-status"), Some("redis-proxy; fwd=uri-miss; stored"));
    assert_eq!(if_none_match(&mut client, "/other", &tag).text(), "another");
    assert_eq!(client.get("/same").header("cache-status"), Some("redis-proxy; hit"));
    assert_eq!(redis.command_calls("get"), 3);
}

#[test]
fn a_star_matches_a_value_and_nothing_else() {
    let (redis, proxy) = start();
    redis.client().command(&["RPUSH", "list", "1"]);
    redis.client().set("empty", "");
    let mut client = proxy.client();
    for (target, status) in [("/none", 404), ("/list", 409), ("/", 404), ("/%z", 400), ("/empty", 304)] {
        assert_eq!(if_none_match(&mut client, target, "*").status, status, "{target}");
    }
}

#[test]
fn if_match_that_does_not_hold_is_412_with_the_tag() {
    let (redis, proxy) = start();
    redis.client().command(&["RPUSH", "list", "1"]);
    let mut client = proxy.client();
    let tag = warm(&redis, &mut client);
    redis.client().set("cold", "value");
    let weak = format!("W/{tag}");
    let list = format!("\"a\", {weak}, {tag}");
    let ask = |client: &mut HttpClient, target: &str, is: &str, is_not: Option<&str>| {
        let is_not = is_not.map(|value| ("If-None-Match", value));
        let fields: Vec<_> = [("If-Match", is)].into_iter().chain(is_not).collect();
        client.request("GET", target, &fields)
    };
    for holds in ["*", &tag, &list] {
        assert_eq!(ask(&mut client, "/k", holds, None).text(), "value", "{holds}");
        assert_eq!(ask(&mut client, "/k", holds, Some(&tag)).status, 304, "{holds}");
        assert_eq!(ask(&mut client, "/k", holds, Some("\"a\"")).status, 200, "{holds}");
    }
    for fails in ["\"a\"", &weak, "", tag.trim_matches('"')] {
        // Before If-None-Match, whatever that says.
        for is_not in [None, Some("*"), Some("\"a\"")] {
            let response = ask(&mut client, "/k", fails, is_not);
            assert_eq!((response.status, response.header("etag")), (412, Some(&*tag)), "{fails}");
            assert_eq!(response.header("cache-control"), Some("no-store"));
            assert_eq!(response.header("cache-status"), Some("redis-proxy; hit"));
        }
    }
    // After a fetch, too, and to HEAD without a body.
    assert_eq!(ask(&mut client, "/cold", "\"a\"", None).status, 412);
    assert_eq!(client.request("HEAD", "/k", &[("If-Match", "\"a\"")]).status, 412);
    let two = client.request("GET", "/k", &[("If-Match", "\"a\""), ("if-match", &tag)]);
    assert_eq!(two.status, 200, "several fields are one list");
    // Only where the answer would be 200 or 304.
    for (target, status) in [("/none", 404), ("/list", 409), ("/", 404), ("/%z", 400)] {
        for condition in ["*", "\"a\""] {
            assert_eq!(ask(&mut client, target, condition, None).status, status, "{target}");
        }
    }
}

#[test]
fn other_conditions_and_ranges_are_ignored() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    let tag = warm(&redis, &mut client);
    let date = "Fri, 01 Jan 2100 00:00:00 GMT";
    for (name, value) in [
        ("If-Modified-Since", date),
        ("If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT"),
        ("If-Range", &tag),
        ("Range", "bytes=0-1"),
        ("Cache-Control", "no-cache, no-store, max-age=0, only-if-cached"),
        ("Pragma", "no-cache"),
        ("Accept", "image/png"),
        ("Accept-Encoding", "gzip"),
    ] {
        let response = client.request("GET", "/k", &[(name, value)]);
        assert_eq!((response.status, response.text()), (200, "value"), "{name}");
    }
    assert_eq!(redis.command_calls("get"), 1);
}
