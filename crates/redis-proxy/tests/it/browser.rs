//! Chromium as it asks the program: what its pages may read, and what they may not.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use testkit::{Proxy, RedisServer};

use crate::chromium::{PATIENCE, chromium, is_installed};
use crate::support::program;

const TOKEN: &str = "browser-token-0001";

/// A page that asks the program twice with a token, and reports what it could read.
const PAGE: &str = r#"<script>
async function ask(headers) {
  try {
    const answer = await fetch("PROXY/k", { headers });
    return [answer.status, await answer.text(), answer.headers.get("age"), answer.headers.get("date")].join(":");
  } catch { return "refused"; }
}
async function all() {
  const told = [];
  told.push(await ask({ Authorization: "Bearer TOKEN" }));
  told.push(await ask({ Authorization: "Bearer TOKEN" }));
  told.push(await ask({}).then(text => text.split(":")[0]));
  location = "/report?" + told.join("|");
}
all();
</script>"#;

/// Serves the page at every path, and tells what is reported.
fn serve_page(proxy: SocketAddr) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let page = PAGE.replace("PROXY", &format!("http://localhost:{}", proxy.port())).replace("TOKEN", TOKEN);
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut line = String::new();
            if BufReader::new(&stream).read_line(&mut line).is_err() {
                continue;
            }
            let report = line.split(' ').nth(1).and_then(|target| target.strip_prefix("/report?"));
            let body = if report.is_some() { "" } else { &page };
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length";
            let _ = write!(&stream, "{head}: {}\r\n\r\n{body}", body.len());
            if let Some(report) = report
                && tell.send(report.to_owned()).is_err()
            {
                return;
            }
        }
    });
    (port, told)
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn options(proxy: &Proxy) -> f64 {
    proxy.metrics().value("redis_proxy_rejected_requests_total")
}

#[test]
fn a_page_of_an_origin_that_is_named_reads_and_another_does_not() {
    if !is_installed() {
        return;
    }
    let redis = RedisServer::start();
    redis.client().set("k", "value");
    // Its port is known once it listens, and so is that of the page: it is told by a file.
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let write = |origins: &str| {
        let text = format!(
            "redis_url = \"{}\"\nread_token = \"{TOKEN}\"\ncors_origins = \"{origins}\"\n",
            redis.url()
        );
        std::fs::write(&config, text).expect("a file");
    };
    write("none");
    let proxy = program().set("ALLOWED_HOSTS", "localhost,testkit").arg("--config").arg(&config).start();
    let (port, told) = serve_page(proxy.address());
    write(&format!("http://127.0.0.1:{port}"));
    proxy.signal(testkit::Signal::HUP);
    proxy.wait_log("\"reloaded\"", PATIENCE);
    let visit = |host: &str| {
        let profile = tempfile::tempdir().expect("a folder");
        let before = options(&proxy);
        let page = format!("http://{host}:{port}/");
        let mut chromium = chromium(profile.path(), &["--remote-debugging-port=0", &page]);
        let _running = Running(chromium.stdout(Stdio::null()).spawn().expect("chromium"));
        let report = told.recv_timeout(PATIENCE).expect("a report of the page");
        (report, options(&proxy) - before)
    };
    // What it may not see of a header field is null; the refusal for want of a token it may see. One preflight for two requests, and
    // one rejected request without a token.
    let (report, rejected) = visit("127.0.0.1");
    let told: Vec<_> = report.split('|').collect();
    assert_eq!(told, ["200:value:0:", "200:value:0:", "401"], "{report}");
    assert!((rejected - 2.0).abs() < 0.1, "a preflight, and a request without a token: {rejected}");
    // The same page by another name is another origin.
    let (report, rejected) = visit("localhost");
    assert_eq!(report, "refused|refused|refused");
    assert!(rejected >= 2.0, "{rejected}");
    assert_eq!(redis.command_calls("get"), 1);
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn a_name_that_a_page_has_lead_to_the_loopback_reads_nothing() {
    if !is_installed() {
        return;
    }
    let redis = RedisServer::start();
    redis.client().set("k", "the-value-of-k");
    let proxy = program().redis(&redis).set("ALLOWED_HOSTS", "auto").start();
    let shown = |host: &str| {
        let profile = tempfile::tempdir().expect("a folder");
        let page = format!("http://{host}:{}/k", proxy.address().port());
        let rules = "--host-resolver-rules=MAP evil.example 127.0.0.1";
        let told = chromium(profile.path(), &[rules, "--dump-dom", &page]).output().expect("chromium");
        String::from_utf8_lossy(&told.stdout).into_owned()
    };
    assert!(shown("localhost").contains("the-value-of-k"));
    let refused = shown("evil.example");
    assert!(refused.contains("ALLOWED_HOSTS") && !refused.contains("the-value-of-k"), "{refused}");
}
