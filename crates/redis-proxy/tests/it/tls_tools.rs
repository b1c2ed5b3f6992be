//! The tools that people have, over TLS: Redis' own, curl, and one that looks for weak spots. Each must be there (`scripts/deps`).
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::path::Path;
use std::time::Duration;

use testkit::{Proxy, RedisServer, RunOutput, find_program, run_to_end};

use crate::authority::Authority;
use crate::tls::tls_program;

fn run(tool: &str, arguments: &[&str]) -> RunOutput {
    let program =
        find_program(tool).unwrap_or_else(|| panic!("{tool} is not installed: scripts/deps installs it"));
    run_to_end(program, &[], arguments, Duration::from_secs(120))
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A program whose data ports ask for certificates, a client's certificate, and the authority's file.
fn start(authority: &Authority) -> (RedisServer, Proxy, [String; 3]) {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let ca = authority.file("ca.pem");
    let proxy = tls_program(authority).set("TLS_CLIENT_CA", &ca).redis(&redis).start();
    let [cert, key] = authority.sign("client", &["client"]);
    (redis, proxy, [text(&ca), text(&cert), text(&key)])
}

#[test]
fn redis_cli_and_redis_benchmark_speak_tls_with_a_certificate_of_their_own() {
    let authority = Authority::new();
    let (_redis, proxy, [ca, cert, key]) = start(&authority);
    let port = proxy.resp_address().port().to_string();
    let plain = ["-h", "127.0.0.1", "-p", &port, "--tls", "--cacert", &ca];
    let with = [&plain[..], &["--cert", &cert, "--key", &key]].concat();
    let said = |more: &[&str]| run("redis-cli", &[&with[..], more].concat());
    for version in [&["--tls-ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"][..], &["-3"]] {
        let output = said(&[version, &["GET", "k"]].concat());
        assert!(
            output.status.success() && output.stdout == "\"v\"\n" || output.stdout == "v\n",
            "{output:#?}"
        );
    }
    let output = said(&["-r", "3", "INCR", "n"]);
    assert_eq!(output.stdout, "1\n2\n3\n", "{output:#?}");
    let output = run("redis-cli", &[&plain[..], &["GET", "k"]].concat());
    assert!(!output.stdout.contains('v'), "without a certificate: {output:#?}");
    for arguments in
        [&["-c", "20"][..], &["-P", "16", "-c", "20"], &["-P", "16", "--threads", "2", "-d", "40000"]]
    {
        let tests = ["-n", "2000", "-q", "-t", "set,get,incr,lpush,mset"];
        let output = run("redis-benchmark", &[&with[..], &tests, arguments].concat());
        let lines =
            output.stdout.split(['\r', '\n']).filter(|line| line.contains("requests per second")).count();
        assert!(output.status.success() && lines >= 5, "{output:#?}");
    }
}

#[test]
fn curl_is_let_in_with_its_certificate_alone() {
    let authority = Authority::new();
    let (_redis, proxy, [ca, cert, key]) = start(&authority);
    let url = format!("https://127.0.0.1:{}/k", proxy.address().port());
    let with = ["--silent", "--show-error", "--cacert", &ca, "--cert", &cert, "--key", &key];
    let get = |more: &[&str]| run("curl", &[&with[..], more].concat());
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"], &["--http2"]] {
        let output =
            get(&[version, &["--write-out", " %{http_version} %{num_connects}", &url, &url]].concat());
        assert_eq!(output.stdout, "v 1.1 1v 1.1 0", "{version:?}: {output:#?}");
    }
    for refused in [
        &["--silent", "--show-error", "--cacert", &ca, &url][..],
        &["--silent", "--show-error", "--cert", &cert, "--key", &key, &url],
        &[&with[..], &["--tls-max", "1.1", "--tlsv1.0", &url]].concat(),
    ] {
        let output = run("curl", refused);
        assert!(!output.status.success() && output.stdout.is_empty(), "{refused:?}: {output:#?}");
    }
}

#[test]
fn sslscan_finds_nothing_weak() {
    let authority = Authority::new();
    let redis = RedisServer::start();
    let proxy = tls_program(&authority).set("TLS_PORTS", "http,resp,admin").redis(&redis).start();
    for address in [proxy.address(), proxy.resp_address(), proxy.admin_address()] {
        let output = run("sslscan", &["--no-colour", "--xml=-", &address.to_string()]);
        let report = &output.stdout;
        assert!(report.contains("<ssltest"), "{output:#?}");
        for (kind, version, enabled) in [
            ("ssl", "2", 0),
            ("ssl", "3", 0),
            ("tls", "1.0", 0),
            ("tls", "1.1", 0),
            ("tls", "1.2", 1),
            ("tls", "1.3", 1),
        ] {
            let line = format!("<protocol type=\"{kind}\" version=\"{version}\" enabled=\"{enabled}\" />");
            assert!(report.contains(&line), "{line}: {report}");
        }
        assert!(report.contains("<renegotiation supported=\"0\""), "{report}");
        assert!(!report.contains("<compression supported=\"1\""), "{report}");
        for version in ["TLSv1.2", "TLSv1.1", "TLSv1.0", "TLSv1.3"] {
            assert!(
                !report.contains(&format!("<heartbleed sslversion=\"{version}\" vulnerable=\"1\"")),
                "{report}"
            );
        }
        let ciphers: Vec<&str> = report.lines().filter(|line| line.contains("<cipher ")).collect();
        assert!(ciphers.len() >= 4, "{report}");
        for cipher in ciphers {
            // What it calls acceptable are the suites of TLS 1.3.
            let is_good = (cipher.contains("strength=\"strong\"") && cipher.contains("cipher=\"ECDHE-"))
                || (cipher.contains("strength=\"acceptable\"") && cipher.contains("cipher=\"TLS_"));
            let is_sealed = cipher.contains("GCM") || cipher.contains("CHACHA20");
            assert!(is_good && is_sealed, "{cipher}");
        }
    }
}
