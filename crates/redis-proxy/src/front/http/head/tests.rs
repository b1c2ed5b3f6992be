//! Heads that two parsers could read differently, and those that all read alike. The same, and many more, come over a
//! socket in `tests/it/framing.rs`; here is what a socket cannot show: what exactly was understood, and when.

use super::*;

const LIMITS: HeadLimits = HeadLimits { method_bytes: 8, target_bytes: 40, head_bytes: 120, headers: 4 };

/// What becomes of `bytes` as the connection treats them, given to [`find_end`] in steps of `step` bytes. What comes at once is
/// understood alike in one pass.
fn judge(bytes: &[u8], step: usize) -> Result<Option<Head<'_>>, Refusal> {
    let judged = judge_in_steps(bytes, step);
    let at_once = parse_first(bytes, &LIMITS).map(|(head, _)| head);
    // Of a later version that is left to the other way.
    let is_later =
        (b'2'..=b'9').any(|digit| bytes.windows(8).any(|part| part == [b"HTTP/1.", &[digit][..]].concat()));
    if at_once.is_some() || !is_later {
        assert_eq!(
            at_once.as_ref(),
            judged.as_ref().ok().and_then(Option::as_ref),
            "{}",
            bytes.escape_ascii()
        );
    }
    judged
}

fn judge_in_steps(bytes: &[u8], step: usize) -> Result<Option<Head<'_>>, Refusal> {
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

/// The refusal of the shortest beginning of `text` that has one, and how long that is.
fn first_refusal(text: &[u8], limits: &HeadLimits) -> Option<(usize, Refusal)> {
    let mut beginning = Beginning::default();
    let judge = |known: usize| Some((known, beginning.judge(&text[..known], limits).err()?));
    let found = (0..=text.len()).find_map(judge);
    // However much of it comes at once.
    let at_once = Beginning::default().judge(text, limits).err();
    assert_eq!(at_once, found.map(|(_, refusal)| refusal), "{}", text.escape_ascii());
    found
}

const WIDE: HeadLimits = HeadLimits { method_bytes: 32, target_bytes: 200, head_bytes: 500, headers: 100 };

#[test]
fn a_beginning_is_possible_as_long_as_a_good_head_begins_so() {
    let targets = [
        "/",
        "/%41%ff",
        "/a?b=%zz&key=1&key=2",
        "/?key=%41&b=%zz",
        "/?a=%&ke=&key",
        "//?key=%zz",
        "/é",
        "http://h",
        "HTTPS://[::1]:80/%41",
        "hTTp://%41:?key=b",
        "http://[v1.a:b]?",
        "http://:1/",
    ];
    let sections = [
        "Host: h\r\nX:\r\n",
        "host:\r\n",
        "Host: [1:2:3:4:5:6:7:8]:80 \r\n",
        "Host:\ta%41 \t \r\n",
        "Host: h:\r\nX: é\t\r\n",
        "Host: h\r\nContent-Length: 18446744073709551615\r\n",
        "Host: h\r\nContent-Length:  007 \r\n",
        "Host: h\r\nTransfer-Encoding: chunked \r\n",
        "Host: h\r\nTransfer-Encoding: x;y=\"a,\"\r\n",
    ];
    let mut heads =
        vec!["GET / HTTP/1.0\r\n\r\n".into(), "OPTIONS * HTTP/1.2\r\nHost:\r\n\r\n".into(), "\r".into()];
    heads.push("POST k*#%zz HTTP/1.1\r\nHost: h\r\n\r\n".into());
    heads.extend(targets.map(|target| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")));
    heads.extend(sections.map(|section| format!("GET / HTTP/1.1\r\n{section}\r\n")));
    for good in heads {
        assert_eq!(first_refusal(good.as_bytes(), &WIDE), None, "{good:?}");
    }
}

#[test]
fn a_beginning_is_refused_at_the_byte_that_makes_it_impossible() {
    let too_many = "X:\r\n".repeat(100);
    for (text, wanted) in [
        ("*1\r", "the request line is malformed"),
        ("GET  ", "the request line is malformed"),
        ("GET /a\x7f", "the request line is malformed"),
        ("METHODMETHODMETHODMETHODMETHODMET", "the method is too long"),
        ("GET k", "the target must begin with '/' or 'http://'"),
        ("GET *", "the target must begin with '/' or 'http://'"),
        ("OPTIONS */", "the target must begin with '/' or 'http://'"),
        ("GET http:/x", "the target must begin with '/' or 'http://'"),
        ("GET httpt", "the target must begin with '/' or 'http://'"),
        ("HEAD http ", "the target must begin with '/' or 'http://'"),
        ("GET http:// ", "the target's authority is malformed"),
        ("GET http:///", "the target's authority is malformed"),
        ("GET http://u@", "the target's authority is malformed"),
        ("GET http://h:a", "the target's authority is malformed"),
        ("GET http://[::1/", "the target's authority is malformed"),
        ("GET http://%4/", "the target's authority is malformed"),
        ("GET /#", "a raw '#' in the target: write %23"),
        ("GET /%z", "a '%' must be followed by two hex digits"),
        ("GET /%4z", "a '%' must be followed by two hex digits"),
        ("GET /%4 ", "a '%' must be followed by two hex digits"),
        ("GET /a%?", "a '%' must be followed by two hex digits"),
        ("GET /?a&key=%4&", "a '%' must be followed by two hex digits"),
        ("GET http://h?key=%z", "a '%' must be followed by two hex digits"),
        ("GET /?key=&key=", "more than one 'key=' in the query"),
        ("GET / HTTP/2", "the version must be HTTP/1.0 or HTTP/1.1"),
        ("GET / HTTP/1.11", "the version must be HTTP/1.0 or HTTP/1.1"),
        ("GET / HTTP/1.1\r\n ", "a header name is malformed"),
        ("GET / HTTP/1.1\r\n:", "a header name is malformed"),
        ("GET / HTTP/1.1\r\nHost ", "a header name is malformed"),
        ("GET / HTTP/1.1\r\nX\r", "a header name is malformed"),
        ("GET / HTTP/1.1\r\nX: \0", "a header value is malformed"),
        ("GET / HTTP/1.1\r\nX:\x7f", "a header value is malformed"),
        ("GET / HTTP/1.1\r\nHost: h/", "Host is malformed"),
        ("GET / HTTP/1.1\r\nHost: h i", "Host is malformed"),
        ("GET / HTTP/1.1\r\nHost: h:123456", "Host is malformed"),
        ("GET / HTTP/1.1\r\nHost: [v.", "Host is malformed"),
        ("GET / HTTP/1.1\r\nHost: [:::]", "Host is malformed"),
        ("GET / HTTP/1.1\r\nHost: %4\r", "Host is malformed"),
        ("GET / HTTP/1.1\r\nHost: h\r\nhost:", "more than one Host"),
        ("GET / HTTP/1.1\r\n\r", "Host is missing"),
        ("GET / HTTP/1.1\r\nContent-Length: x", "Content-Length must be digits"),
        ("GET / HTTP/1.1\r\nContent-Length: 5 5", "Content-Length must be digits"),
        ("GET / HTTP/1.1\r\nContent-Length: \r", "Content-Length must be digits"),
        ("GET / HTTP/1.1\r\nContent-Length: 18446744073709551616", "Content-Length is too large"),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length:", "more than one Content-Length"),
        (
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding:",
            "both Content-Length and Transfer-Encoding",
        ),
        (
            "GET / HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length:",
            "both Content-Length and Transfer-Encoding",
        ),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r", "Transfer-Encoding must be one 'chunked'"),
        (
            "GET / HTTP/1.1\r\nTransfer-Encoding: x\r\nTransfer-Encoding:",
            "Transfer-Encoding must be one 'chunked'",
        ),
        ("GET / HTTP/1.0\r\nTransfer-Encoding:", "Transfer-Encoding in HTTP/1.0"),
    ] {
        let refusal = (text.len(), Refusal::Bad(wanted));
        assert_eq!(first_refusal(text.as_bytes(), &WIDE), Some(refusal), "{text:?}");
    }
    let refused = |text: &[u8]| first_refusal(text, &WIDE).map(|(at, refusal)| (at == text.len(), refusal));
    assert_eq!(refused(b"PRI * HTTP/2"), Some((true, Refusal::Version2)));
    assert_eq!(refused(b"GET /\xc3/"), Some((true, Refusal::Bad("the request line is malformed"))));
    assert_eq!(refused(b"GET /\xc3 "), Some((true, Refusal::Bad("the request line is malformed"))));
    let many = format!("GET / HTTP/1.1\r\n{too_many}Y");
    assert_eq!(refused(many.as_bytes()), Some((true, Refusal::TooManyHeaders)));
    let long = format!("GET /{}", "x".repeat(200));
    assert_eq!(refused(long.as_bytes()), Some((true, Refusal::TargetTooLong)));
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
