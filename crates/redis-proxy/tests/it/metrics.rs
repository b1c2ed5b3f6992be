//! The metrics as those read them who are to: the parsers of both formats, and a Prometheus.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::{HttpClient, Metrics, Proxy, RedisServer, Response, find_program, not_run, wait_until};

use crate::support::start_resp_in;

const PATIENCE: Duration = Duration::from_secs(60);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A program with each kind of metric counted.
fn start_used() -> (RedisServer, Proxy) {
    let (redis, proxy) = start_resp_in("tracking", &[]);
    redis.client().set("k", "v");
    let mut client = proxy.client();
    for path in ["/k", "/k", "/k", "/absent"] {
        client.get(path);
    }
    let counted = "redis_proxy_request_duration_seconds_count{result=\"hit\"}";
    wait_until(PATIENCE, "hits to be counted", || proxy.metrics().value(counted) >= 2.0);
    (redis, proxy)
}

fn page(proxy: &Proxy, accept: Option<&str>) -> Response {
    let headers: Vec<_> = accept.map(|accept| ("Accept", accept)).into_iter().collect();
    HttpClient::connect(proxy.admin_address()).request("GET", "/metrics", &headers)
}

#[test]
fn prometheus_text_is_the_default_and_openmetrics_is_there_for_who_accepts_it() {
    let (_redis, proxy) = start_used();
    let plain = page(&proxy, None);
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(
        !plain.text().contains("# EOF")
            && plain.text().contains("# TYPE redis_proxy_lookups_total counter\n")
    );
    let open = page(&proxy, Some("application/openmetrics-text;version=1.0.0,*/*;q=0.1"));
    assert_eq!(open.header("content-type"), Some(OPEN_METRICS));
    assert!(open.text().ends_with("# EOF\n") && open.text().contains("# TYPE redis_proxy_lookups counter\n"));
    for text in [plain.text(), open.text()] {
        for line in text.lines() {
            let name = line.trim_start_matches("# TYPE ").trim_start_matches("# HELP ");
            assert!(name.starts_with("redis_proxy_") || line == "# EOF", "{line}");
        }
    }
    let names = |text: &str| Metrics::parse(text).samples.into_keys().collect::<Vec<_>>();
    assert_eq!(names(plain.text()), names(open.text()));
}

#[test]
fn each_format_is_read_by_its_own_parser() {
    let Some(python) = parsers() else { return };
    let (_redis, proxy) = start_used();
    for (format, accept) in [("text", "text/plain"), ("openmetrics", OPEN_METRICS)] {
        let text = page(&proxy, Some(accept)).text().to_owned();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, &text).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testkit/clients/metrics_parsers.py");
        let mut parser = Command::new(&python);
        parser.arg(script).arg(format).stdin(fs::File::open(&file).unwrap());
        let output = parser.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
        let families = said.lines().filter(|line| line.starts_with("family "));
        // What has no type is read as unknown, each sample a family of its own.
        let bad: Vec<_> =
            families.clone().filter(|line| line.contains("unknown") || line.contains("undoc")).collect();
        assert!(families.count() > 30 && bad.is_empty(), "{format}: {bad:?}");
        let metrics = Metrics::parse(&text);
        for result in ["hit", "miss"] {
            let count =
                metrics.value(&format!("redis_proxy_request_duration_seconds_count{{result=\"{result}\"}}"));
            let inf = format!("inf redis_proxy_request_duration_seconds_bucket {result} {count}");
            assert!(said.contains(&inf), "{format}: no {inf:?} in {said}");
        }
    }
}

/// A Python with the client library of Prometheus, which has both parsers.
fn parsers() -> Option<std::path::PathBuf> {
    const PACKAGE: &str = "prometheus-client==0.26.0";
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(PACKAGE.replace("==", "-"));
    let python = home.join("bin/python");
    let run = |program: &Path, arguments: &[&str]| -> Result<(), String> {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    let ready = home.join("ready");
    if !ready.exists() {
        let installed = run(Path::new("python3"), &["-m", "venv", home.to_str().unwrap()])
            .and_then(|()| run(&home.join("bin/pip"), &["install", "--quiet", PACKAGE]));
        if let Err(why) = installed {
            assert!(std::env::var_os("CLIENTS_REQUIRED").is_none(), "{PACKAGE} cannot be had: {why}");
            not_run(&format!("{PACKAGE} cannot be had: {why}"));
            return None;
        }
        fs::write(ready, "").unwrap();
    }
    Some(python)
}

/// A Prometheus that scrapes one program, killed when dropped.
struct Prometheus {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// `None` if it is not installed.
    fn start(proxy: &Proxy) -> Option<Prometheus> {
        let Some(program) = find_program("prometheus") else {
            assert!(std::env::var_os("CLIENTS_REQUIRED").is_none(), "prometheus is not installed");
            not_run("prometheus is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let target = proxy.admin_address();
        let text = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs: [{{job_name: proxy, \
             static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        fs::write(&config, text).unwrap();
        // It takes no port 0.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Some(Prometheus { process, address, _folder: folder })
    }

    /// The value of an instant query, if there is one.
    fn query(&self, query: &str) -> Option<f64> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let response = self.get(&format!("/api/v1/query?query={query}"))?;
        response["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    fn get(&self, target: &str) -> Option<serde_json::Value> {
        // It may not listen yet. HTTP/1.0 has no chunks.
        let mut stream = TcpStream::connect(&self.address).ok()?;
        write!(stream, "GET {target} HTTP/1.0\r\n\r\n").ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        serde_json::from_str(response.split_once("\r\n\r\n")?.1).ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_prometheus_reads_types_and_quantiles() {
    let (_redis, proxy) = start_used();
    let Some(prometheus) = Prometheus::start(&proxy) else { return };
    wait_until(PATIENCE, "a scrape", || prometheus.query("up") == Some(1.0));
    let lookups = "sum(redis_proxy_lookups_total)";
    wait_until(PATIENCE, "lookups", || prometheus.query(lookups).is_some_and(|count| count >= 4.0));
    for result in ["hit", "miss"] {
        let buckets = format!("redis_proxy_request_duration_seconds_bucket{{result=\"{result}\"}}");
        let median = prometheus.query(&format!("histogram_quantile(0.5, sum by (le) ({buckets}))")).unwrap();
        assert!(median > 0.0 && median < 10.0, "half of {result} took {median} s");
    }
    let types = prometheus.get("/api/v1/metadata").unwrap();
    let of = |name: &str| types["data"][name][0]["type"].as_str().unwrap_or("none").to_owned();
    assert_eq!(of("redis_proxy_request_duration_seconds"), "histogram");
    assert_eq!(of("redis_proxy_entries"), "gauge");
    // OpenMetrics describes a counter without its suffix.
    assert_eq!(of("redis_proxy_lookups"), "counter");
}
