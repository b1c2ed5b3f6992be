//! `redis-proxy bench` as a user has it: against the program and a real Redis.

use std::time::Duration;

use serde_json::Value;
use testkit::{RunOutput, run_to_end};

use crate::support::{start, start_with};

const PATIENCE: Duration = Duration::from_secs(30);

fn bench(arguments: &[&str]) -> RunOutput {
    // A setting of a server is none of its business, not even a bad one.
    let arguments = [&["bench"], arguments].concat();
    run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &[("CAPACITY", "none")], &arguments, PATIENCE)
}

#[test]
fn a_load_on_the_program_is_reported_as_json() {
    let (redis, proxy) = start_with(&[("CAPACITY", "50")]);
    let (url, redis_at) = (format!("http://{}", proxy.address()), redis.address().to_string());
    let output = bench(&[
        &url,
        "--rate",
        "2000",
        "--warmup",
        "0.5",
        "--duration",
        "2",
        "--connections",
        "8",
        "--keys",
        "100",
        "--zipf",
        "1.2",
        "--fill",
        "--redis",
        &redis_at,
        "--value-bytes",
        "1KiB",
        "--seed",
        "3",
        "--json",
    ]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let json: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number: {json:#}"));

    assert_eq!((&json["requests"], &json["errors"]), (&4000.into(), &serde_json::json!({})));
    assert_eq!(json["statuses"], serde_json::json!({ "200": 4000 }));
    assert!((number(&json["achieved_rate"]) / 2000.0 - 1.0).abs() < 0.05, "{json:#}");
    assert_eq!(number(&json["body_bytes"]), 4000.0 * 1024.0);
    let parameters = &json["parameters"];
    assert_eq!(
        (&parameters["seed"], &parameters["zipf"], &parameters["url"]),
        (&3.into(), &1.2.into(), &url.into())
    );

    // The program counts the same hits; the warm-up's too.
    let ratio = number(&json["hit_ratio"]);
    let metrics = proxy.metrics();
    let of = |result: &str| metrics.value(&format!("redis_proxy_lookups_total{{result=\"{result}\"}}"));
    let (hits, all) = (of("hit"), of("hit") + of("miss") + of("collapsed"));
    assert_eq!(all, 5000.0);
    assert!(ratio > 0.5 && ratio < 1.0 && (ratio - hits / all).abs() < 0.03, "{ratio} and {hits} of {all}");

    let latency = &json["latency_us"];
    let quantiles = ["p50", "p90", "p99", "p99.9", "p99.99", "max"].map(|name| number(&latency[name]));
    assert!(quantiles.is_sorted() && quantiles[0] > 1.0, "{latency}");
    assert!(number(&json["lag_us"]["p99"]) >= 0.0);
}

#[test]
fn a_load_on_the_program_is_reported_as_a_table() {
    let (redis, proxy) = start();
    let (url, redis_at) = (format!("http://{}", proxy.address()), redis.address().to_string());
    let output = bench(&[
        &url,
        "--rate",
        "max",
        "--pipeline",
        "16",
        "--warmup",
        "0",
        "--duration",
        "0.3",
        "--connections",
        "2",
        "--fill",
        "--redis",
        &redis_at,
        "--keys",
        "100",
    ]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for expected in ["answers ", "  200 ", "errors                0", "hit ratio ", "p99.9 ", "max "] {
        assert!(output.stdout.contains(expected), "{expected:?} in {}", output.stdout);
    }
}

#[test]
fn what_is_wrong_with_a_bench_is_one_line() {
    let cases: [(&[&str], i32, &str); 6] = [
        (&["http://127.0.0.1:1"], 1, "cannot connect to 127.0.0.1:1: Connection refused"),
        (
            &["--fill", "--redis", "127.0.0.1:1"],
            1,
            "cannot fill the redis at 127.0.0.1:1: Connection refused",
        ),
        (&["--rate", "fast"], 2, "--rate"),
        (&["--rat", "1"], 2, "did you mean --rate?"),
        (&["--capacity", "1"], 2, "\"--capacity\" is no flag"),
        (&["--threads", "2", "--connections", "1"], 2, "--threads 2 is more than --connections 1"),
    ];
    for (arguments, code, expected) in cases {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(output.stdout.is_empty() && output.stderr.lines().count() == 1, "{output:?}");
        assert!(output.stderr.starts_with("redis-proxy: ") && output.stderr.contains(expected), "{output:?}");
    }
}

#[test]
fn a_server_that_has_no_values_is_no_result() {
    let (_redis, proxy) = start();
    let url = format!("http://{}", proxy.address());
    let output =
        bench(&[&url, "--rate", "200", "--warmup", "0", "--duration", "0.2", "--connections", "1", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let json: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(json["statuses"], serde_json::json!({ "404": 40 }), "{json:#}");
}
