//! A program that reads its settings from a file, which a test changes.

use std::fs;
use std::time::Duration;

use testkit::{Proxy, ProxyBuilder, RedisServer, Signal};

const PATIENCE: Duration = Duration::from_secs(20);

/// It, and what it stands before, which ends after it.
pub(crate) struct Reloaded<R = RedisServer> {
    pub(crate) proxy: Proxy,
    pub(crate) redis: R,
    url: String,
    folder: tempfile::TempDir,
    times: usize,
}

impl Reloaded {
    /// Before a Redis of its own.
    pub(crate) fn start(program: ProxyBuilder, settings: &str) -> Reloaded {
        let redis = RedisServer::start();
        let url = redis.url();
        Reloaded::before(redis, &url, program, settings)
    }
}

impl<R> Reloaded<R> {
    /// Before what stands at this address.
    pub(crate) fn before(redis: R, url: &str, program: ProxyBuilder, settings: &str) -> Reloaded<R> {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("config.toml");
        fs::write(&config, format!("redis_url = \"{url}\"\n{settings}")).expect("a file");
        let proxy = program.set("RESP_PORT", "0").arg("--config").arg(&config).start();
        Reloaded { proxy, redis, url: url.to_owned(), folder, times: 0 }
    }

    /// What has changed, in the program's words; with what waits for a restart it fails.
    #[track_caller]
    pub(crate) fn reload(&mut self, settings: &str) -> String {
        let text = format!("redis_url = \"{}\"\n{settings}", self.url);
        fs::write(self.folder.path().join("config.toml"), text).expect("a file");
        self.proxy.signal(Signal::HUP);
        self.times += 1;
        let line = self.proxy.wait_log_count("\"reloaded\"", self.times, PATIENCE);
        line.field("changed").unwrap_or_default().to_owned()
    }
}
