//! Debian's Prometheus, as one that scrapes the program.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use testkit::{Proxy, find_program, not_run};

/// A Prometheus that scrapes some programs as the job `redis-proxy`, killed when dropped.
pub(crate) struct Prometheus {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

/// One of the programs of Debian's package; `None` if it is not installed.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let found = find_program(program);
    if found.is_none() {
        assert!(std::env::var_os("CLIENTS_REQUIRED").is_none(), "{program} is not installed");
        not_run(&format!("{program} is not installed"));
    }
    found
}

impl Prometheus {
    /// One that goes by these rules, if any; `None` if it is not installed.
    pub(crate) fn start(programs: &[&Proxy], rules: Option<&Path>) -> Option<Prometheus> {
        let program = installed("prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let targets: Vec<_> = programs.iter().map(|proxy| format!("\"{}\"", proxy.admin_address())).collect();
        let rules: Vec<_> = rules.iter().map(|path| format!("\"{}\"", path.display())).collect();
        let text = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\nrule_files: [{}]\n\
             scrape_configs: [{{job_name: redis-proxy, static_configs: [{{targets: [{}]}}]}}]\n",
            rules.join(", "),
            targets.join(", ")
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
    pub(crate) fn query(&self, query: &str) -> Option<f64> {
        self.series(query).ok()?.first()?["value"][1].as_str()?.parse().ok()
    }

    /// What an instant query finds.
    ///
    /// # Errors
    /// What is wrong with it, in Prometheus' words; that it does not answer.
    pub(crate) fn series(&self, query: &str) -> Result<Vec<serde_json::Value>, String> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let response = self.get(&format!("/api/v1/query?query={escaped}")).ok_or("no answer")?;
        match response["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(response["error"].to_string()),
        }
    }

    /// The answer of its interface, if there is one.
    pub(crate) fn get(&self, target: &str) -> Option<serde_json::Value> {
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
