//! Secrets that a program has, and is sent, are in nothing that it says: on no port, by no command, in no line.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use testkit::{HttpClient, Proxy, RedisServer, run_to_end, wait_until};

use crate::support::program;

const PATIENCE: Duration = Duration::from_secs(30);
const READS: &str = "planted-read-token-1";
const PURGES: &str = "planted-purge-token-2";
const ADMIN: &str = "planted-admin-token-3";
/// Of the proxy's own user, and of a Redis client.
const OWN: &str = "planted-own-password-4";
const ANNS: &str = "planted-anns-password-5";
/// One that is wrong everywhere.
const WRONG: &str = "planted-wrong-secret-6";
/// What they have in common.
const PLANTED: &str = "planted";

/// What the program has said, each with where that was.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, place: impl Into<String>, text: impl AsRef<[u8]>) {
        self.0.push((place.into(), String::from_utf8_lossy(text.as_ref()).into_owned()));
    }

    /// All answers of a port over HTTP to requests with and without a token.
    fn http(&mut self, port: &str, client: impl Fn() -> HttpClient, targets: &[String]) {
        for token in [None, Some(READS), Some(PURGES), Some(ADMIN), Some(WRONG)] {
            let field = token.map(|token| format!("Bearer {token}"));
            let fields: Vec<_> = field.iter().map(|field| ("Authorization", field.as_str())).collect();
            for target in targets {
                for method in ["GET", "HEAD", "POST", "PURGE", "OPTIONS", "DELETE"] {
                    let mut client = client();
                    client.send(request(method, target, &fields));
                    let answer = match method {
                        "HEAD" => client.read_head_response(),
                        _ => client.read_response(),
                    };
                    let head = format!("{:?}", answer.headers);
                    self.add(format!("{port}: {method} {target}: {}", answer.status), head + answer.text());
                }
            }
        }
    }

    /// The replies to commands, one client after the other.
    fn resp(&mut self, proxy: &Proxy, commands: &[&[&str]]) {
        let mut client = proxy.resp_client();
        for command in commands {
            let reply = client.send_command(command).reply();
            self.add(command.join(" "), reply);
        }
    }

    fn places(&self) -> usize {
        self.0.len()
    }

    #[track_caller]
    fn judge(&self) {
        for (place, text) in &self.0 {
            assert!(!text.contains(PLANTED), "in what is said to {place}: {text}");
        }
    }
}

fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n{fields}\r\n")
}

/// The first event of the stream of the admin port.
fn event(proxy: &Proxy) -> String {
    let mut socket = TcpStream::connect(proxy.admin_address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = request("GET", "/events", &[("Authorization", &format!("Bearer {ADMIN}"))]);
    socket.write_all(head.as_bytes()).unwrap();
    BufReader::new(socket).lines().map(Result::unwrap).find(|line| line.starts_with("data: ")).unwrap()
}

#[test]
fn secrets_are_in_nothing_that_the_program_says() {
    let redis = RedisServer::start();
    let mut admin = redis.client();
    for (user, password) in [("cache", OWN), ("ann", ANNS)] {
        admin.command(&["ACL", "SETUSER", user, "on", &format!(">{password}"), "~*", "&*", "+@all"]);
    }
    admin.set("k", "value");
    admin.command(&["RPUSH", "list", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let tokens = file("tokens", &format!("{READS}\n{PURGES} read,purge\n"));
    let config = file("config.toml", &format!("admin_token = \"{ADMIN}\"\nslowlog_threshold = \"1us\"\n"));
    let proxy = program()
        .set("REDIS_HOST", "127.0.0.1")
        .set("REDIS_PORT", redis.port().to_string())
        .set("REDIS_USERNAME", "cache")
        .set("REDIS_PASSWORD_FILE", file("password", OWN))
        .set("READ_TOKENS_FILE", &tokens)
        .set("LOG", "trace")
        .set("ACCESS_LOG", "1")
        .set("RESP_PORT", "0")
        .set("RESP_PROXY_ADMIN", "all")
        .set("CORS_ORIGINS", "https://a.example")
        .set("MAX_KEY_BYTES", "64")
        .arg("--config")
        .arg(&config)
        .start();
    for text in ["redis unavailable", "connection to redis lost", "coherence is not in force", "not reloaded"]
    {
        proxy.allow_warning(text);
    }
    proxy.allow_warning("a file has changed and cannot be used");
    proxy.allow_warning("redis does not answer");
    let mut said = Said::default();

    let ann: &[&[&str]] = &[
        &["AUTH", "ann", WRONG],
        &["AUTH", ANNS],
        &["AUTH", "ann", ANNS, WRONG],
        &["HELLO", "3", "AUTH", "ann", WRONG],
        &["HELLO", "3", "AUTH", "ann", ANNS, "SETNAME", "n"],
        &["HELLO", "2", "AUTH", "ann", ANNS],
        &["GET", "k"],
        &["GET", "list"],
        &["ACL", "SETUSER", "bob", "on", ">planted-bobs-password-7"],
        &["CONFIG", "SET", "masterauth", "planted-masters-password-8"],
        &["MIGRATE", "127.0.0.1", "1", "none", "0", "10", "AUTH", WRONG],
        &["NOSUCH"],
        &["CLIENT", "LIST"],
        &["CLIENT", "INFO"],
        &["INFO"],
        &["ACL", "LOG"],
        &["SLOWLOG", "GET", "128"],
        &["PROXY", "STATS"],
        &["PROXY", "HELP"],
        &["PROXY", "CACHE", "GET", "k"],
        &["PROXY", "CACHE", "FLUSH", "PREFIX", "none"],
        &["PROXY", "HOTKEYS"],
        &["PROXY", "MISSES"],
        &["PROXY", "PREFIXES"],
        &["PROXY", "BIGKEYS"],
        &["PROXY", "SLOWLOG", "GET", "128"],
        &["PROXY", "NOSUCH"],
    ];
    said.resp(&proxy, ann);
    let is_of_slow_log =
        |(place, text): &(String, String)| place.starts_with("PROXY SLOWLOG") && text.contains("masterauth");
    assert!(said.0.iter().any(is_of_slow_log), "all is slow");
    let long = format!("/{}", "k".repeat(65));
    let of_data = ["/k", "/none", "/list", "/%zz", "*", &long].map(str::to_owned);
    said.http("http", || proxy.client(), &of_data);
    let of_admin =
        ["/", "/livez", "/readyz", "/metrics", "/insight.json", "/big-keys.json", "/purge?key=k", "/nosuch"];
    said.http("admin", || HttpClient::connect(proxy.admin_address()), &of_admin.map(str::to_owned));
    said.add("/events", event(&proxy));
    let field = format!("Bearer {ADMIN}");
    let asks = [("Accept", "text/html"), ("Authorization", field.as_str())];
    let page = HttpClient::connect(proxy.admin_address()).request("GET", "/", &asks);
    assert!(page.text().contains("<script"), "{}", page.text());
    said.add("the page", page.text());

    let [url, admin_url] =
        [proxy.address(), proxy.admin_address()].map(|address| format!("http://{address}"));
    let environment = [("READ_TOKEN", READS), ("ADMIN_TOKEN", ADMIN)];
    for arguments in [
        &["get", "--url", &url, "k"][..],
        &["get", "--url", &url, "none"],
        &["stats", "--admin", &admin_url],
        &["stats", "--admin", &admin_url, "--json"],
        &["health", "--admin", &admin_url],
        &["purge", "--admin", &admin_url, "k"],
        &["--print-config", "--config", config.to_str().unwrap()],
        &["--check-config", "--config", config.to_str().unwrap()],
        &["--help"],
        &["--man"],
    ] {
        let wrong = [("READ_TOKEN", WRONG), ("ADMIN_TOKEN", WRONG)];
        for environment in [&environment[..], &wrong] {
            let output = run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), environment, arguments, PATIENCE);
            said.add(arguments.join(" "), output.stdout + &output.stderr);
        }
    }
    said.add("ps", fs::read(format!("/proc/{}/cmdline", proxy.pid())).unwrap());

    // Files that are bad, one after the other.
    fs::write(&tokens, format!("{WRONG} planted-right-9\n")).unwrap();
    proxy.wait_log("cannot be used", PATIENCE);
    fs::write(&config, format!("admin_token = \"{ADMIN} \u{e9}\"\nnosuch = \"{WRONG}\"\n")).unwrap();
    proxy.signal(testkit::Signal::HUP);
    proxy.wait_log("not reloaded", PATIENCE);
    // And a Redis that is away.
    redis.kill();
    wait_until(PATIENCE, "redis to be missed", || {
        HttpClient::connect(proxy.admin_address()).get("/readyz").status == 503
    });
    said.http("http without redis", || proxy.client(), &["/none".to_owned()]);
    said.http(
        "admin without redis",
        || HttpClient::connect(proxy.admin_address()),
        &["/readyz".to_owned(), "/insight.json".to_owned()],
    );
    said.resp(&proxy, &[&["AUTH", "ann", ANNS], &["HELLO", "3", "AUTH", "ann", ANNS], &["GET", "k"]]);
    assert_eq!(proxy.stop().code(), Some(0));
    for line in proxy.log() {
        said.add("the log", line.raw);
    }
    assert!(said.places() > 400, "{}", said.places());
    said.judge();
}
