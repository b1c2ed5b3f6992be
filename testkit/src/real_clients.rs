//! Client libraries that people use, from their registries, with a script each (`testkit/clients/`).
//!
//! A script takes a host, a port and the number of a database, prints `ok` and a step for each thing that worked, and `restart` when Redis is to be
//! restarted; it goes on when it reads `restarted`. It ends with a code other than zero when something did not work.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::child::{PATIENCE, Process, command, find_program};

/// A client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RealClient {
    /// Python's; it speaks both protocol versions.
    RedisPy,
    /// One of JavaScript's; RESP2.
    Ioredis,
    /// The other of JavaScript's; both versions.
    NodeRedis,
    /// Rust's; both versions.
    RedisRs,
    /// Python's, as a client of a cluster.
    RedisPyCluster,
    /// The first of JavaScript's, as a client of a cluster.
    IoredisCluster,
    /// The second.
    NodeRedisCluster,
    /// Rust's.
    RedisRsCluster,
    /// A queue of tasks, by redis-py.
    Celery,
    /// A queue of jobs, by ioredis.
    BullMq,
}

impl RealClient {
    /// Those of one Redis.
    pub const PLAIN: [RealClient; 4] = [Self::RedisPy, Self::Ioredis, Self::NodeRedis, Self::RedisRs];
    /// Those of a cluster, which use its first database.
    pub const OF_CLUSTERS: [RealClient; 4] =
        [Self::RedisPyCluster, Self::IoredisCluster, Self::NodeRedisCluster, Self::RedisRsCluster];
    /// Queues.
    pub const QUEUES: [RealClient; 2] = [Self::Celery, Self::BullMq];

    /// What is installed, with its version: the folder's name.
    fn package(self) -> &'static str {
        match self {
            Self::RedisPy | Self::RedisPyCluster => "redis==8.1.0",
            Self::Ioredis | Self::IoredisCluster => "ioredis@6.0.0",
            Self::NodeRedis | Self::NodeRedisCluster => "redis@6.3.1",
            Self::RedisRs | Self::RedisRsCluster => "redis-rs",
            Self::Celery => "celery[redis]==5.7.0",
            Self::BullMq => "bullmq@6.7.0",
        }
    }

    /// How many steps its script has.
    pub fn steps(self) -> usize {
        match self {
            Self::Ioredis => 9,
            Self::RedisPy | Self::NodeRedis | Self::RedisRs => 18,
            Self::RedisPyCluster | Self::RedisRsCluster => 10,
            Self::IoredisCluster | Self::Celery | Self::BullMq => 4,
            Self::NodeRedisCluster => 6,
        }
    }

    /// Installs it below `folder`, if it is not there.
    ///
    /// # Errors
    /// There is no `python3`, `npm` or `cargo`, or no registry; the text says which.
    pub fn install(self, folder: &Path) -> Result<InstalledClient, String> {
        let home = folder.join(self.package().replace("==", "-"));
        let ready = home.join("ready");
        if !ready.exists() {
            let _ = fs::remove_dir_all(&home);
            fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
            let path = home.to_str().ok_or("a path that is no text")?;
            match self {
                Self::RedisPy | Self::RedisPyCluster | Self::Celery => {
                    run("python3", &["-m", "venv", path])?;
                    run(&format!("{path}/bin/pip"), &["install", "--quiet", self.package()])?;
                }
                Self::Ioredis
                | Self::NodeRedis
                | Self::IoredisCluster
                | Self::NodeRedisCluster
                | Self::BullMq => {
                    let own = ["install", "--no-audit", "--no-fund", "--prefix", path, self.package()];
                    // What it speaks to Redis with is for its user to bring.
                    let beside = (self == Self::BullMq).then(|| Self::Ioredis.package());
                    run("npm", &own.into_iter().chain(beside).collect::<Vec<_>>())?;
                }
                Self::RedisRs | Self::RedisRsCluster => {
                    let manifest = scripts().join("redis_rs/Cargo.toml");
                    let manifest = manifest.to_str().ok_or("a path that is no text")?;
                    run(
                        "cargo",
                        &["build", "--quiet", "--locked", "--manifest-path", manifest, "--target-dir", path],
                    )?;
                }
            }
            fs::write(ready, "").map_err(|error| error.to_string())?;
        }
        Ok(InstalledClient { client: self, home })
    }
}

/// A client library that can be run.
#[derive(Debug)]
pub struct InstalledClient {
    client: RealClient,
    home: PathBuf,
}

impl InstalledClient {
    /// Runs its script against a database of `address`; `restart` restarts the Redis there. Answers the steps that worked, and what went
    /// wrong, if something did.
    ///
    /// # Panics
    /// When it still runs after `timeout`.
    #[track_caller]
    pub fn run(
        &self,
        address: SocketAddr,
        database: u32,
        timeout: Duration,
        mut restart: impl FnMut(),
    ) -> (Vec<String>, Option<String>) {
        let (program, script) = match self.client {
            RealClient::RedisPy => (self.home.join("bin/python"), Some("redis_py.py")),
            RealClient::Ioredis => (node(), Some("ioredis.mjs")),
            RealClient::NodeRedis => (node(), Some("node_redis.mjs")),
            RealClient::RedisRs | RealClient::RedisRsCluster => {
                (self.home.join("debug/redis-rs-client"), None)
            }
            RealClient::RedisPyCluster => (self.home.join("bin/python"), Some("redis_py_cluster.py")),
            RealClient::Celery => (self.home.join("bin/python"), Some("celery_tasks.py")),
            RealClient::IoredisCluster => (node(), Some("ioredis_cluster.mjs")),
            RealClient::NodeRedisCluster => (node(), Some("node_redis_cluster.mjs")),
            RealClient::BullMq => (node(), Some("bullmq.mjs")),
        };
        let mut client = command(&program);
        client.current_dir(&self.home).args(script.map(|script| scripts().join(script)));
        client.args([address.ip().to_string(), address.port().to_string(), database.to_string()]);
        client.args((self.client == RealClient::RedisRsCluster).then_some("cluster"));
        let errors = self.home.join("stderr");
        client.stdin(Stdio::piped()).stdout(Stdio::piped());
        client.stderr(fs::File::create(&errors).expect("a file in our own folder"));
        let (process, pipes) = Process::spawn(client, |child| (child.stdin.take(), child.stdout.take()));
        let (mut stdin, stdout) = (pipes.0.unwrap(), pipes.1.unwrap());
        let mut steps = Vec::new();
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| process.wait_exit(timeout).or_else(|| Some(process.kill())));
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match line.strip_prefix("ok ") {
                    Some(step) => steps.push(step.to_owned()),
                    None if line == "restart" => {
                        restart();
                        let _ = stdin.write_all(b"restarted\n");
                    }
                    None => {}
                }
            }
            watch.join().expect("it only waits")
        });
        let status = process.wait_exit(PATIENCE).expect("it has ended");
        let wrong = (!status.success()).then(|| {
            let errors = fs::read_to_string(&errors).unwrap_or_default();
            format!("{:?} after {:?}: {status}\n{errors}", self.client, steps.last())
        });
        (steps, wrong)
    }
}

fn node() -> PathBuf {
    find_program("node").expect("npm brought node")
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Runs a program to its end, with our environment: it knows where the registries are.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
