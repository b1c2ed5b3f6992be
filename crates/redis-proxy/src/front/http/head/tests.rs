//! Heads that two parsers could read differently, and those that all read alike. The same, and many more, come over a
//! socket in `tests/it/framing.rs`; here is what a socket cannot show: what exactly was understood, and when.

use super::*;

const LIMITS: HeadLimits = HeadLimits { method_bytes: 8, target_bytes: 40, head_bytes: 120, headers: 4 };

/// What becomes of `bytes` as the connection treats them, given to [`find_end`] in steps of `step` bytes.
fn judge(bytes: &[u8], step: usize) -> Result<Option<Head<'_>>, Refusal> {
    let mut scanned = 0;
    let mut known = 0;
    while known < bytes.len() {
        known = (known + step).min(bytes.len());
        if let Some(length) = find_end(&bytes[..known], &mut scanned, &LIMITS)? {
            return parse(&bytes[..length], &LIMITS).map(Some);
        }
        assert_eq!(scanned, known, "nothing is looked at twice");
    }
    Ok(None)
}

#[track_caller]
fn head(text: &str) -> Head<'_> {
    judge(text.as_bytes(), text.len()).expect(text).expect("a whole head")
}

#[track_caller]
fn with(fields: &str) -> Result<(Body, bool, bool), Refusal> {
    let text = format!("GET / HTTP/1.1\r\nHost:\r\n{fields}\r\n");
    judge(text.as_bytes(), text.len())
        .map(|head| head.expect("a whole head"))
        .map(|head| (head.body, head.keep_alive, head.expects_continue))
}

#[test]
fn the_parts_of_a_head_are_understood() {
    let plain = head("GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((plain.method, plain.target, plain.http10), (Method::Get, b"/a?b".as_slice(), false));
    assert_eq!((plain.keep_alive, plain.body, plain.expects_continue), (true, Body::Length(0), false));
    assert_eq!(plain.if_none_match, None);
    assert_eq!(head("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").method, Method::Head);
    assert_eq!(head("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").method, Method::Options);
    for other in ["POST", "get", "Get", "GETS", "GE", "!#$%&'*+"] {
        let text = format!("{other} * HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(head(&text).method, Method::Other, "{other}");
    }
    let old = head("GET / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    assert_eq!((old.http10, old.keep_alive, old.expects_continue), (true, false, false));
}

#[test]
fn the_fields_that_mean_something_are_read_whatever_their_case() {
    let closing = |fields: &str| !with(fields).expect(fields).1;
    assert!(closing("Connection: close\r\n") && closing("cONNECTION:a, CLOSE\t,b\r\n"));
    assert!(!closing("Connection: closed\r\n") && !closing("X-Connection: close\r\n"));
    let body = |fields: &str| with(fields).expect(fields).0;
    assert_eq!(body("content-LENGTH: 007\r\n"), Body::Length(7));
    assert_eq!(body("Content-Length: 18446744073709551615\r\n"), Body::Length(u64::MAX));
    assert_eq!(body("transfer-encoding: Chunked\r\n"), Body::Chunked);
    assert!(with("Expect: 100-Continue\r\n").expect("fine").2);
    assert!(!with("Expect: 100-continue, a\r\n").expect("fine").2);
    let conditions = head("GET / HTTP/1.1\r\nHost:\r\nIf-None-Match: \"a\"\r\nif-none-match:W/\"b\"\r\n\r\n");
    assert_eq!(conditions.if_none_match, Some(Tags::Joined(b"\"a\", W/\"b\"".to_vec())));
    assert_eq!(conditions.if_match, None);
    let fresh = |directives: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost:\r\nCache-Control: {directives}\r\n\r\n");
        head(&text).no_cache
    };
    for yes in
        ["no-cache", "a, No-Cache", "max-age=0", "MAX-AGE=00,b", "max-age=\"0\"", "max-stale, max-age=0"]
    {
        assert!(fresh(yes), "{yes}");
    }
    for no in [
        "",
        "max-age",
        "max-age=",
        "max-age=1",
        "max-age=01",
        "max-age=0.0",
        "max-age=-0",
        "s-maxage=0",
        "max-age = 0",
    ] {
        assert!(!fresh(no), "{no}");
    }
}

#[test]
fn an_ambiguous_length_is_refused() {
    for fields in [
        "Content-Length: +5",
        "Content-Length: -0",
        "Content-Length: 5,5",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\nContent-Length: 0",
        "Transfer-Encoding: gzip, identity",
        "Transfer-Encoding: gzip;",
        "Transfer-Encoding: chunked;q=1",
    ] {
        assert!(matches!(with(&format!("{fields}\r\n")), Err(Refusal::Bad(_))), "{fields}");
    }
    for coding in ["gzip", "identity", "x;y=z", "x ; y = \"\\\"\" ; a=b"] {
        assert_eq!(
            with(&format!("Transfer-Encoding: {coding}\r\n")),
            Err(Refusal::UnknownCoding),
            "{coding}"
        );
    }
    let old = b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(judge(old, 99).err(), Some(Refusal::Bad("Transfer-Encoding in HTTP/1.0")));
}

#[test]
fn a_host_is_a_name_or_an_address_and_maybe_a_port() {
    for yes in [
        "",
        "h",
        "a.b",
        "h:",
        "h:80",
        "127.0.0.1:5000",
        "[::]",
        "[::1]:80",
        "[1:2:3:4:5:6:7:8]",
        "[::ffff:1.2.3.4]",
        "[v1.a:b]",
        "[VfF.~]",
        "%41",
        "a_b-c~d!$&'()*+,;=",
    ] {
        assert!(is_authority(yes.as_bytes()), "{yes}");
    }
    for no in [
        "h h",
        "h/",
        "u@h",
        "h?",
        "h#",
        "h:a",
        "h:80:80",
        "h:123456",
        "[",
        "[]",
        "[::1",
        "::1]",
        "[::g]",
        "[::1]a",
        "[1.2.3.4]",
        "[1:2]",
        "[::1%25eth0]",
        "[v1]",
        "[v1.]",
        "[v.a]",
        "[vg.a]",
        "[v1.a b]",
        "[v1.a/b]",
        "%",
        "%4",
        "%zz",
        "\u{e9}",
        "h\\",
        "\"h\"",
        "h\0",
    ] {
        assert!(!is_authority(no.as_bytes()), "{no}");
    }
}

#[test]
fn the_verdict_is_the_same_however_the_head_arrives() {
    let long = |count: usize| "x".repeat(count);
    for text in [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET".to_owned(),
        "GET / HTTP/1.1\nHost: h\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: h\r\rX: y\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: h\r\n\rX\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: h\n\r\n".to_owned(),
        "\r\n".to_owned(),
        "\r\r\n".to_owned(),
        "\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", long(39)),
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", long(40)),
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", long(80)),
        format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", long(8)),
        format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", long(9)),
        format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", long(80)),
        format!("GET / HTTP/1.1\r\nHost:{}\r\n\r\n", long(111)),
        format!("GET / HTTP/1.1\r\nHost:{}\r\n\r\n", long(112)),
        format!("GET / HTTP/1.1\r\nHost:{}\r\n\r\n", long(500)),
        format!("GET / HTTP/1.1\r\nHost:\r\n{}\r\n", "X:\r\n".repeat(3)),
        format!("GET / HTTP/1.1\r\nHost:\r\n{}\r\n", "X:\r\n".repeat(4)),
    ] {
        let whole = judge(text.as_bytes(), text.len());
        for step in 1..text.len() {
            let cut = judge(text.as_bytes(), step);
            assert_eq!(format!("{cut:?}"), format!("{whole:?}"), "{text:?} in steps of {step}");
        }
    }
}

#[test]
fn a_limit_holds_to_the_byte_and_before_the_end_is_there() {
    let refusal = |text: String| judge(text.as_bytes(), 1).err();
    let target = |count: usize| format!("GET {} HTTP/1.1\r\nHost:\r\n\r\n", "/".repeat(count));
    assert_eq!((refusal(target(40)), refusal(target(41))), (None, Some(Refusal::TargetTooLong)));
    let method = |count: usize| format!("{} / HTTP/1.1\r\nHost:\r\n\r\n", "M".repeat(count));
    let too_long = Some(Refusal::Bad("the method is too long"));
    assert_eq!((refusal(method(8)), refusal(method(9))), (None, too_long));
    let section = |count: usize| format!("GET / HTTP/1.1\r\nHost:\r\n{}\r\n\r\n", "X".repeat(count));
    assert_eq!(refusal(section(109)), Some(Refusal::Bad("a header name is malformed")));
    assert_eq!(refusal(section(110)), Some(Refusal::HeadTooLarge));
    // Without their ends.
    assert_eq!(refusal(format!("GET {}", "/".repeat(80))), Some(Refusal::TargetTooLong));
    assert_eq!(refusal("M".repeat(80)), too_long);
    assert_eq!(refusal(format!("GET / HTTP/1.1\r\n{}", "X".repeat(121))), Some(Refusal::HeadTooLarge));
    assert_eq!(refusal(format!("GET / HTTP/1.1\r\n{}", "X".repeat(120))), None);
}

#[test]
fn a_beginning_is_possible_as_long_as_a_good_head_begins_so() {
    for good in [
        "GET / HTTP/1.1\r\nHost: h\r\nX:\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.2\r\nHost: h\r\nX: y\r\n\r\n",
        "\r\n",
    ] {
        for known in 0..good.len() {
            for before in 0..=known {
                assert_eq!(check_beginning(&good.as_bytes()[..known], before), Ok(()), "{known} of {good:?}");
            }
        }
    }
}

#[test]
fn a_version_that_is_not_known_is_named() {
    let refusal = |text: &str| judge(text.as_bytes(), text.len()).err();
    assert_eq!(refusal("PRI * HTTP/2.0\r\n\r\n"), Some(Refusal::Version2));
    for text in ["GET / HTTP/2.0", "GET / HTTP/1.11", "GET / HTTP/1.", "PRI * HTTP/3.0", "GET / HTTP/1.2 "] {
        let text = format!("{text}\r\nHost: h\r\n\r\n");
        assert!(matches!(refusal(&text), Some(Refusal::Bad(_))), "{text}");
    }
    let later = head("GET /a HTTP/1.7\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!((later.method, later.target, later.http10), (Method::Get, &b"/a"[..], false));
    assert!(!later.keep_alive);
}
