//! The metrics as those read them who are to: the parsers of both formats, and a Prometheus.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::{HttpClient, Metrics, Proxy, RedisServer, Response, wait_until};

use crate::prometheus_server::Prometheus;
use crate::python_package::python_with;
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
    // The client library of Prometheus, which has both parsers.
    let Some(python) = python_with("prometheus-client==0.26.0") else { return };
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

#[test]
fn a_prometheus_reads_types_and_quantiles() {
    let (_redis, proxy) = start_used();
    let Some(prometheus) = Prometheus::start(&[&proxy], None) else { return };
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
