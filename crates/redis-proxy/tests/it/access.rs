//! Who may ask: by what name, how many at a time, with which token.

use std::fs;
use std::process::Command;
use std::time::Duration;

use testkit::{End, HttpClient, Proxy, RedisServer, Signal, wait_until};

use crate::support::{is_hit, program, start_with};

const PATIENCE: Duration = Duration::from_secs(20);

fn asks(target: &str, host: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn a_page_that_has_its_name_lead_to_the_loopback_reads_nothing() {
    let (redis, proxy) = start_with(&[("ALLOWED_HOSTS", "auto")]);
    redis.client().set("k", "v");
    let mut client = proxy.client();
    let mut ask = |host: &str| {
        client.send(asks("/k", host));
        client.read_response()
    };
    // Often enough that what is allowed is known by its bytes.
    for _ in 0..4 {
        for host in ["localhost", "127.0.0.1:5000", "[::1]", ""] {
            assert_eq!((ask(host).status, ask(host).text()), (200, "v"), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:5000", "proxy"] {
            for _ in 0..3 {
                let refused = ask(host);
                assert_eq!((refused.status, refused.reason.as_str()), (421, "Misdirected Request"), "{host}");
                assert!(refused.text().contains("ALLOWED_HOSTS"), "{}", refused.text());
                assert_eq!(refused.header("cross-origin-resource-policy"), Some("same-origin"));
            }
        }
    }
    let host = [("Host", "evil.example")];
    for (method, target) in
        [("HEAD", "/k"), ("OPTIONS", "/k"), ("OPTIONS", "*"), ("POST", "/k"), ("GET", "/")]
    {
        assert_eq!(proxy.client().request(method, target, &host).status, 421, "{method} {target}");
    }
    // The name in the target counts (RFC 9112, section 3.2.2).
    for (target, host, status) in [
        ("http://evil.example/k", "localhost", 421),
        ("http://localhost/k", "evil.example", 421),
        ("http://localhost/k", "localhost", 200),
    ] {
        assert_eq!(
            proxy.client().request("GET", target, &[("Host", host)]).status,
            status,
            "{target} {host}"
        );
    }
    let mut older = proxy.client();
    older.send("GET /k HTTP/1.0\r\n\r\n");
    assert_eq!(older.read_response().status, 200, "no browser speaks so");
    let admin = |host: &str| {
        HttpClient::connect(proxy.admin_address()).request("GET", "/metrics", &[("Host", host)]).status
    };
    assert_eq!(["localhost", "127.0.0.1", "evil.example", "proxy:5001"].map(admin), [200, 200, 421, 421]);
    assert_eq!(redis.command_calls("get"), 1);
}

#[test]
fn on_all_addresses_every_name_is_allowed_and_a_list_is_the_whole_of_it() {
    let (redis, proxy) =
        start_with(&[("ALLOWED_HOSTS", "auto"), ("HOST", "0.0.0.0"), ("ADMIN_HOST", "0.0.0.0")]);
    redis.client().set("k", "v");
    let get = |host: &str| proxy.client().request("GET", "/k", &[("Host", host)]).status;
    assert_eq!(["localhost", "proxy.internal"].map(get), [200, 200]);
    let (redis, proxy) = start_with(&[("ALLOWED_HOSTS", "localhost,[::1],proxy")]);
    redis.client().set("k", "v");
    let get = |host: &str| proxy.client().request("GET", "/k", &[("Host", host)]).status;
    assert_eq!(["localhost", "[::1]:5000", "PROXY"].map(get), [200; 3]);
    assert_eq!(["127.0.0.1", "proxy.internal"].map(get), [421; 2]);
}

#[test]
fn what_a_reload_forbids_is_forbidden_on_connections_that_are_open() {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let write = |text: &str| fs::write(&config, format!("redis_url = \"{}\"\n{text}", redis.url())).unwrap();
    write("allowed_hosts = \"*\"\ncontent_type = \"text/csv\"\n");
    let proxy = program().set("ALLOWED_HOSTS", "").arg("--config").arg(&config).start();
    let mut client = proxy.client();
    for _ in 0..4 {
        client.send(asks("/k", "evil.example"));
        let answer = client.read_response();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/csv")));
    }
    write("allowed_hosts = \"auto\"\nhttp_cache_control = \"max-age=1\"\n");
    proxy.signal(Signal::HUP);
    let changed = proxy.wait_log("\"reloaded\"", PATIENCE);
    assert_eq!(changed.field("changed"), Some("ALLOWED_HOSTS HTTP_CACHE_CONTROL CONTENT_TYPE"));
    client.send(asks("/k", "evil.example"));
    assert_eq!(client.read_response().status, 421);
    client.send(asks("/k", "localhost"));
    let answer = client.read_response();
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(answer.header("cache-control") == Some("max-age=1") && is_hit(&answer));
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn all_values_are_of_the_type_that_is_set() {
    let (redis, proxy) = start_with(&[("CONTENT_TYPE", "application/json")]);
    redis.client().set("text", "{}");
    redis.client().set("octets", b"\xff");
    redis.client().set("large", vec![b'x'; 20_000]);
    let mut client = proxy.client();
    for key in ["/text", "/octets", "/large"] {
        for _ in 0..3 {
            let answer = client.get(key);
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, Some("application/json")),
                "{key}"
            );
        }
        assert!(is_hit(&client.get(key)));
    }
    assert_eq!(client.get("/none").header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn what_a_reload_opens_waits_with_the_place_that_would_guard_it_and_a_new_limit_counts_those_who_are_in() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let write = |text: &str| {
        fs::write(&config, format!("redis_url = \"{}\"\n{text}", redis.url())).expect("a file");
    };
    write("");
    let proxy = program().set("RESP_PORT", "0").arg("--config").arg(&config).start();
    proxy.allow_warning("not reloaded");
    for (nth, opened) in
        ["resp_proxy_admin = \"all\"", "cors_origins = \"*\"", "max_clients_per_peer = 9"].iter().enumerate()
    {
        write(&format!("{opened}\nsocket_mode = \"0600\"\n"));
        proxy.signal(Signal::HUP);
        let line = proxy.wait_log_count("not reloaded", nth + 1, PATIENCE);
        assert!(line.raw.contains("guards the ports"), "{}", line.raw);
    }
    let mut clients: Vec<_> = (0..3).map(|_| proxy.resp_client()).collect();
    for client in &mut clients {
        client.ask("PING", "+PONG");
    }
    write("max_clients_per_peer = 3\n");
    proxy.signal(Signal::HUP);
    proxy.wait_log("\"reloaded\"", PATIENCE);
    assert_eq!(proxy.resp_client().line(), "-ERR max number of clients reached");
    drop(clients.pop());
    wait_until(PATIENCE, "a place that is given back", || {
        proxy.resp_client().send("PING\r\n").line() == "+PONG"
    });
}

#[test]
fn an_address_has_at_most_max_clients_per_peer() {
    let (redis, proxy) = start_with(&[("MAX_CLIENTS_PER_PEER", "2"), ("RESP_PORT", "0")]);
    redis.client().set("k", "v");
    let mut http = proxy.client();
    assert_eq!(http.get("/k").status, 200);
    let mut resp = proxy.redis_client();
    resp.command(&["PING"]);
    // One is of each port: they count together.
    let refused = proxy.client().get("/k");
    assert_eq!(
        (refused.status, refused.text(), refused.header("connection")),
        (503, "too many clients", Some("close"))
    );
    assert_eq!(proxy.resp_client().line(), "-ERR max number of clients reached");
    assert_eq!(http.get("/k").status, 200, "those who are in stay");
    drop(http);
    let mut again = None;
    wait_until(PATIENCE, "a place that is given back", || {
        let mut client = proxy.client();
        let is_in = client.get("/k").status == 200;
        again = is_in.then_some(client);
        is_in
    });
    assert_eq!(proxy.client().get("/k").status, 503);
    drop((again, resp));
    wait_until(PATIENCE, "both given back", || {
        let mut clients = [proxy.client(), proxy.client()];
        clients.iter_mut().all(|client| client.get("/k").status == 200)
    });
    let mut client = proxy.client();
    client.send("GET /k HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    client.read_response();
    assert_eq!(client.end(), End::Closed);
}

/// What a client asks with, beside its target.
#[derive(Clone, Copy, Debug)]
enum Port {
    Data,
    Admin,
}

/// A request and what becomes of it: without a token, with one that nobody knows, with one that reads, with one that purges, with that
/// of the admin port.
type Row = (Port, &'static str, &'static str, [u16; 5]);

const UNKNOWN: &str = "unknown-token-0000";
const READS: &str = "reads-planted-0001";
const PURGES: &str = "purge-planted-0002";
const ADMIN: &str = "admin-planted-0003";

const ENDPOINTS: [Row; 25] = [
    (Port::Data, "GET", "/k", [401, 401, 200, 403, 401]),
    (Port::Data, "HEAD", "/k", [401, 401, 200, 403, 401]),
    // Nobody is told whether there is such a key.
    (Port::Data, "GET", "/none", [401, 401, 404, 403, 401]),
    (Port::Data, "GET", "/list", [401, 401, 409, 403, 401]),
    (Port::Data, "GET", "/", [401, 401, 404, 403, 401]),
    (Port::Data, "GET", "/%zz", [401, 401, 400, 403, 401]),
    (Port::Data, "PURGE", "/k", [401, 401, 403, 200, 401]),
    (Port::Data, "PURGE", "/none", [401, 401, 403, 200, 401]),
    (Port::Data, "PURGE", "/", [401, 401, 403, 404, 401]),
    (Port::Data, "OPTIONS", "/k", [204; 5]),
    (Port::Data, "POST", "/k", [405; 5]),
    (Port::Data, "purge", "/k", [405; 5]),
    (Port::Admin, "GET", "/livez", [200; 5]),
    (Port::Admin, "GET", "/readyz", [200; 5]),
    (Port::Admin, "GET", "/metrics", [200; 5]),
    (Port::Admin, "GET", "/", [200; 5]),
    (Port::Admin, "GET", "/anything", [401, 401, 401, 401, 404]),
    (Port::Admin, "GET", "/insight.json", [401, 401, 401, 401, 200]),
    (Port::Admin, "GET", "/big-keys.json", [401, 401, 401, 401, 200]),
    (Port::Admin, "GET", "/events", [401, 401, 401, 401, 200]),
    (Port::Admin, "POST", "/purge?key=k", [401, 401, 401, 401, 200]),
    (Port::Admin, "POST", "/purge?prefix=k", [401, 401, 401, 401, 200]),
    (Port::Admin, "POST", "/purge?all=1", [401, 401, 401, 401, 200]),
    (Port::Admin, "POST", "/purge", [401, 401, 401, 401, 400]),
    (Port::Admin, "GET", "/purge?all=1", [401, 401, 401, 401, 405]),
];

/// Whether events come, which have no end, to who asks with this field.
fn begins_a_stream(proxy: &Proxy, authorization: Option<&str>) -> bool {
    let field = authorization.map(|field| format!("Authorization: {field}\r\n")).unwrap_or_default();
    let mut client = HttpClient::connect(proxy.admin_address());
    client.send(format!("GET /events HTTP/1.1\r\nHost: h\r\n{field}\r\n"));
    let (mut came, ok) = (Vec::new(), b"HTTP/1.1 200 OK\r\n");
    while came.len() < ok.len() {
        let more = client.read_some(4_096).expect("an answer");
        assert!(!more.is_empty(), "no answer");
        came.extend(more);
    }
    came.starts_with(ok)
}

#[test]
fn each_endpoint_takes_the_token_that_is_good_for_it() {
    let redis = RedisServer::start();
    redis.client().set("k", "value");
    redis.client().command(&["RPUSH", "list", "1"]);
    let tokens = tempfile::NamedTempFile::new().unwrap();
    let admin = tempfile::NamedTempFile::new().unwrap();
    fs::write(&tokens, format!("# tokens\n{READS}\n{PURGES} purge\n")).unwrap();
    fs::write(&admin, format!("{ADMIN}\n")).unwrap();
    let proxy = program()
        .redis(&redis)
        .set("READ_TOKENS_FILE", tokens.path())
        .set("ADMIN_TOKEN_FILE", admin.path())
        .set("LOG", "trace")
        .start();
    let mut connections = [proxy.client(), HttpClient::connect(proxy.admin_address())];
    let mut ask = |(port, method, target, _): Row, token: Option<&str>| {
        let field = token.map(|token| format!("Bearer {token}"));
        let fields: Vec<_> = field.iter().map(|field| ("Authorization", field.as_str())).collect();
        if target == "/events" && begins_a_stream(&proxy, field.as_deref()) {
            return 200;
        }
        let answer = connections[port as usize].request(method, target, &fields);
        let challenge = answer.header("www-authenticate");
        match answer.status {
            401 => {
                assert!(challenge == Some("Bearer") && (method == "HEAD" || answer.text().contains("token")))
            }
            _ => assert!(
                challenge
                    .is_none_or(|challenge| answer.status == 403 && challenge.starts_with("Bearer error"))
            ),
        }
        answer.status
    };
    let asked = [None, Some(UNKNOWN), Some(READS), Some(PURGES), Some(ADMIN)];
    // Often enough that what is accepted is known by its bytes.
    for _ in 0..4 {
        for row in ENDPOINTS {
            assert_eq!(asked.map(|token| ask(row, token)), row.3, "{row:?}");
            // One of its own length, and one that begins as it does.
            for near in [
                format!("{}1", &READS[..READS.len() - 2]),
                READS[..READS.len() - 1].into(),
                format!("{READS}0"),
            ] {
                assert_eq!(ask(row, Some(&near)), row.3[1], "{row:?} {near}");
            }
        }
    }
    // They end, and others come.
    fs::write(&tokens, "another-token-0009\n").unwrap();
    fs::write(&admin, "another-token-0010\n").unwrap();
    proxy.signal(Signal::HUP);
    // A look at the files may come before the signal, and between the two.
    wait_until(PATIENCE, "both taken over", || {
        let reloads: Vec<_> = proxy.log().into_iter().filter(|line| line.message == "reloaded").collect();
        ["READ_TOKENS_FILE", "ADMIN_TOKEN_FILE"]
            .iter()
            .all(|name| reloads.iter().any(|line| line.raw.contains(name)))
    });
    for row in ENDPOINTS {
        assert_eq!(asked.map(|token| ask(row, token)), [row.3[1]; 5], "{row:?}");
    }
    let row = ENDPOINTS[0];
    assert_eq!(
        [Some("another-token-0009"), Some("another-token-0010")].map(|token| ask(row, token)),
        [200, 401]
    );
    // All or nothing, and without a signal too.
    proxy.allow_warning("READ_TOKENS_FILE");
    fs::write(&tokens, "planted-wrong-0011 write\n").unwrap();
    proxy.wait_log("cannot be used", PATIENCE);
    fs::write(&admin, "another-token-0012\n").unwrap();
    proxy.signal(Signal::HUP);
    let why = proxy.wait_log("not reloaded", PATIENCE).raw;
    assert!(why.contains("READ_TOKENS_FILE") && why.contains("line 1"), "{why}");
    assert_eq!(ask(row, Some("another-token-0009")), 200);
    assert_eq!(ask(ENDPOINTS[16], Some("another-token-0010")), 404);
    fs::write(&tokens, "another-token-0013\n").unwrap();
    wait_until(PATIENCE, "both files taken over", || ask(ENDPOINTS[16], Some("another-token-0012")) == 404);
    assert_eq!(
        [Some("another-token-0009"), Some("another-token-0013")].map(|token| ask(row, token)),
        [401, 200]
    );
    let metrics = HttpClient::connect(proxy.admin_address()).get("/metrics");
    for line in proxy.log().iter().map(|line| line.raw.as_str()).chain([metrics.text()]) {
        assert!(!line.contains("planted") && !line.contains("another-token"), "{line}");
    }
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn a_token_is_asked_for_at_each_request_of_a_connection() {
    let (redis, proxy) = start_with(&[("READ_TOKEN", READS)]);
    redis.client().set("k", "value");
    let with = format!("GET /k HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {READS}\r\nAccept: */*\r\n\r\n");
    let mut client = proxy.client();
    for _ in 0..4 {
        client.send(&with);
        let answer = client.read_response();
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("private, no-cache")));
    }
    // Of the same length, the last letter another: known by its bytes it would be a hit.
    for _ in 0..4 {
        client.send(with.replace("0001", "0002"));
        let refused = client.read_response();
        assert_eq!(
            (refused.status, refused.header("cache-status"), refused.header("etag")),
            (401, None, None)
        );
        client.send("GET /k HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n");
        assert_eq!(client.read_response().status, 401);
        client.send(&with);
        assert!(is_hit(&client.read_response()));
    }
    // Pipelined, as known requests are read ahead.
    client.send([with.as_str(), &with.replace("0001", "9991"), &with].concat());
    assert_eq!([200, 401, 200], [(); 3].map(|()| client.read_response().status));
    for fields in [
        format!("Authorization: Basic {READS}\r\n"),
        format!("Authorization: {READS}\r\n"),
        "Authorization:\r\n".into(),
        format!("Authorization: Bearer {READS}\r\nAuthorization: Bearer {READS}\r\n"),
        format!("Proxy-Authorization: Bearer {READS}\r\n"),
        format!("X-Authorization: Bearer {READS}\r\n"),
    ] {
        client.send(format!("GET /k HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        assert_eq!(client.read_response().status, 401, "{fields}");
    }
    for target in [format!("/k?token={READS}"), format!("/k?access_token={READS}")] {
        assert_eq!(client.get(&target).status, 401, "a token in a target is none");
    }
    client.send(format!("GET /k HTTP/1.1\r\nHost: h\r\nauthorization:   bearer  {READS}  \r\n\r\n"));
    assert_eq!(client.read_response().status, 200);
    assert_eq!(client.request("PURGE", "/k", &[("Authorization", &format!("Bearer {READS}"))]).status, 403);
    assert_eq!(redis.command_calls("get"), 1);
    let (redis, proxy) = start_with(&[("READ_TOKEN", READS), ("HTTP_CACHE_CONTROL", "public, max-age=5")]);
    redis.client().set("k", "value");
    let answer = proxy.client().request("GET", "/k", &[("Authorization", &format!("Bearer {READS}"))]);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=5"), "the operator says otherwise");
}

#[test]
fn the_admin_port_without_a_token_is_for_this_machine_and_for_no_page() {
    let redis = RedisServer::start();
    let local = program().redis(&redis).set("ALLOWED_HOSTS", "auto").start();
    let anywhere = program().redis(&redis).set("ADMIN_HOST", "0.0.0.0").start();
    let ask = |at, fields: &[(&str, &str)]| HttpClient::connect(at).request("GET", "/anything", fields);
    let at = local.admin_address();
    let own = format!("127.0.0.1:{}", at.port());
    assert_eq!(ask(at, &[("Host", &own)]).status, 404);
    assert_eq!(ask(at, &[("Host", &own), ("Origin", &format!("http://{own}"))]).status, 404);
    for origin in ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "file://", ""] {
        let refused = ask(at, &[("Host", &own), ("Origin", origin)]);
        assert_eq!(
            (refused.status, refused.text()),
            (403, "a page of another origin may not ask this\n"),
            "{origin}"
        );
    }
    // A GET whose answer the page may not read says no origin.
    for (site, status) in
        [("same-origin", 404), ("none", 404), ("same-site", 403), ("cross-site", 403), ("", 403)]
    {
        assert_eq!(ask(at, &[("Host", &own), ("Sec-Fetch-Site", site)]).status, status, "{site}");
    }
    assert_eq!(ask(at, &[("Host", "evil.example"), ("Origin", "http://evil.example")]).status, 421);
    let refused = ask(anywhere.admin_address(), &[]);
    assert!(refused.status == 403 && refused.text().contains("ADMIN_TOKEN"), "{}", refused.text());
    assert_eq!(HttpClient::connect(anywhere.admin_address()).get("/readyz").status, 200);
}

#[test]
fn a_planted_secret_is_in_no_output() {
    const PLANTED: &str = "Planted-Secret-4711";
    let redis = RedisServer::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    let tokens = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, PLANTED).unwrap();
    fs::write(&tokens, format!("{PLANTED} read,purge\n{PLANTED}x")).unwrap();
    let (file, tokens) = (file.path().to_str().unwrap(), tokens.path().to_str().unwrap());
    let bad = format!("{PLANTED} \u{e9}");
    let outputs = |argument: &str, settings: &[(&str, &str)]| {
        let program = Command::new(env!("CARGO_BIN_EXE_redis-proxy"))
            .arg(argument)
            .env_clear()
            .envs(settings.iter().copied())
            .output()
            .unwrap();
        let text = [program.stdout, program.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!text.contains(PLANTED) && !text.is_empty(), "{settings:?}: {text}");
        (program.status.success(), text)
    };
    let given = [("READ_TOKEN", PLANTED), ("ADMIN_TOKEN", PLANTED)];
    let in_files = [("READ_TOKEN_FILE", file), ("ADMIN_TOKEN_FILE", file)];
    for settings in [&given[..], &in_files, &[("READ_TOKENS_FILE", tokens)]] {
        let (is_good, text) = outputs("--print-config", settings);
        assert!(is_good && (settings.len() == 1 || text.matches("\"***\"").count() == 2), "{text}");
        assert!(outputs("--check-config", settings).0);
    }
    for settings in [
        &[("READ_TOKEN", PLANTED), ("READ_TOKEN_FILE", file)][..],
        &[("READ_TOKEN", PLANTED), ("READ_TOKENS_FILE", tokens)],
        &[("READ_TOKEN_FILE", file), ("READ_TOKENS_FILE", tokens)],
        &[("READ_TOKEN", &bad)],
        &[("ADMIN_TOKEN", &bad)],
        &[("ADMIN_TOKEN", PLANTED), ("ADMIN_TOKEN_FILE", file)],
    ] {
        let (is_good, text) = outputs("--check-config", settings);
        let names = settings.iter().all(|(name, _)| text.contains(name));
        assert!(!is_good && names && text.lines().count() == 1, "{settings:?}: {text}");
    }
    // A program that runs, asked with it in every way, and that ends by a panic.
    let proxy = program()
        .redis(&redis)
        .set("READ_TOKEN", PLANTED)
        .set("ADMIN_TOKEN", PLANTED)
        .set("LOG", "trace")
        .set("ACCESS_LOG", "1")
        .start();
    let field = format!("Bearer {PLANTED}");
    for at in [proxy.address(), proxy.admin_address()] {
        for method in ["GET", "HEAD", "PURGE", "POST", "OPTIONS"] {
            for fields in [
                &[("Authorization", field.as_str())][..],
                &[("Authorization", PLANTED)],
                &[("Cookie", PLANTED), ("Expect", PLANTED)],
            ] {
                let answer = HttpClient::connect(at).request(method, "/readyz", fields);
                let told = answer.headers.iter().map(|(_, value)| value.as_str()).chain([answer.text()]);
                told.for_each(|text| assert!(!text.contains(PLANTED), "{text}"));
            }
        }
    }
    let metrics = HttpClient::connect(proxy.admin_address()).get("/metrics");
    assert!(!metrics.text().contains(PLANTED));
    assert!(proxy.log().iter().all(|line| !line.raw.contains(PLANTED)));
    assert_eq!(proxy.stop().code(), Some(0));
    let dead = Command::new(env!("CARGO_BIN_EXE_redis-proxy"))
        .env_clear()
        .envs(given)
        .envs([
            ("PORT", "0"),
            ("ADMIN_PORT", "0"),
            ("RESP_PORT", "off"),
            ("LOG", "trace"),
            ("REDIS_PROXY_DIES", "log"),
        ])
        .env("REDIS_URL", redis.url())
        .env("RUST_BACKTRACE", "full")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&dead.stderr);
    assert_eq!(dead.status.code(), Some(70), "{text}");
    assert!(text.contains("panicked") && !text.contains(PLANTED), "{text}");
}

/// The fields of CORS of an answer to a page of this origin.
fn cors(proxy: &Proxy, method: &str, origin: &str, fields: &[(&str, &str)]) -> (u16, Vec<(String, String)>) {
    let fields = [&[("Origin", origin)], fields].concat();
    let answer = proxy.client().request(method, "/k", &fields);
    let is_of_cors = |name: &str| name.starts_with("Access-Control") || name == "Vary";
    (answer.status, answer.headers.into_iter().filter(|(name, _)| is_of_cors(name)).collect())
}

#[test]
fn pages_of_origins_that_are_named_may_read_answers() {
    let settings = [("CORS_ORIGINS", "https://a.example,http://b.example:8080"), ("READ_TOKEN", READS)];
    let (redis, proxy) = start_with(&settings);
    redis.client().set("k", "v");
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let vary = || field("Vary", "Origin");
    let allowed = |origin: &str| {
        let exposed = field("Access-Control-Expose-Headers", "ETag, Age, Cache-Status");
        [field("Access-Control-Allow-Origin", origin), exposed, vary()]
    };
    let token = format!("Bearer {READS}");
    let with = [("Authorization", token.as_str())];
    let asks =
        [("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "authorization")];
    for _ in 0..3 {
        for origin in ["https://a.example", "http://b.example:8080"] {
            assert_eq!(cors(&proxy, "GET", origin, &with), (200, allowed(origin).into()));
            assert_eq!(cors(&proxy, "HEAD", origin, &with), (200, allowed(origin).into()));
            assert_eq!(cors(&proxy, "GET", origin, &[]), (401, allowed(origin).into()), "a page may see why");
            let (status, fields) = cors(&proxy, "OPTIONS", origin, &asks);
            let preflight = [
                field("Access-Control-Allow-Methods", "GET, HEAD"),
                field("Access-Control-Allow-Headers", "Authorization, If-None-Match, Cache-Control"),
                field("Access-Control-Max-Age", "7200"),
            ];
            assert_eq!((status, fields), (204, [&preflight[..], &allowed(origin)].concat()));
        }
        // Of what is refused a browser sees nothing, and caches are told that another may.
        for origin in ["https://evil.example", "http://a.example", "https://a.example:8443", "null"] {
            assert_eq!(cors(&proxy, "GET", origin, &with), (200, vec![vary()]), "{origin}");
            assert_eq!(cors(&proxy, "OPTIONS", origin, &asks), (204, vec![vary()]), "{origin}");
        }
    }
    let mut client = proxy.client();
    let both = [("Origin", "https://a.example"), ("Origin", "https://evil.example"), with[0]];
    assert_eq!(client.request("GET", "/k", &both).header("access-control-allow-origin"), None);
    let answer = client.request("GET", "/k", &with);
    assert_eq!((answer.header("vary"), answer.header("access-control-allow-origin")), (Some("Origin"), None));
}

#[test]
fn without_cors_no_page_may_and_with_a_star_all_without_their_credentials() {
    let (redis, proxy) = start_with(&[("CORS_ORIGINS", "none")]);
    redis.client().set("k", "v");
    let asks = [("Access-Control-Request-Method", "GET")];
    for _ in 0..3 {
        assert_eq!(cors(&proxy, "GET", "https://a.example", &[]), (200, vec![]));
        assert_eq!(cors(&proxy, "OPTIONS", "https://a.example", &asks), (204, vec![]));
    }
    let (redis, proxy) = start_with(&[("CORS_ORIGINS", "*")]);
    redis.client().set("k", "v");
    let mut client = proxy.client();
    for _ in 0..3 {
        for fields in [&[("Origin", "https://a.example")][..], &[]] {
            let answer = client.request("GET", "/k", fields);
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
            assert_eq!(
                (answer.header("vary"), answer.header("access-control-allow-credentials")),
                (None, None)
            );
            assert_eq!(answer.header("cross-origin-resource-policy"), Some("cross-origin"));
        }
    }
    let (status, fields) = cors(&proxy, "OPTIONS", "https://a.example", &asks);
    assert_eq!((status, fields.len()), (204, 5), "{fields:?}");
}
