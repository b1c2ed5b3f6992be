//! Credentials in files that change while the program runs.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Proxy, ProxyBuilder, RedisClient, RedisServer, Reply, StopOnDrop, wait_until};

use crate::support::{mkfifo, program};

const PATIENCE: Duration = Duration::from_secs(20);
const USER: &str = "cache";

/// A Redis with a user whose password changes, and the file that tells it.
struct Rotation {
    redis: RedisServer,
    admin: RedisClient,
    folder: tempfile::TempDir,
    round: usize,
    /// Whether a command prints the password.
    by_command: bool,
}

impl Rotation {
    fn new() -> Rotation {
        let redis = RedisServer::start();
        let admin = redis.client();
        let mut rotation = Rotation {
            redis,
            admin,
            folder: tempfile::tempdir().expect("a folder"),
            round: 0,
            by_command: false,
        };
        rotation.set_password();
        rotation.write();
        rotation
    }

    /// The password comes from a command, which is what stands in `script`.
    fn by_command() -> Rotation {
        let rotation = Rotation { by_command: true, ..Rotation::new() };
        rotation.set_script("cat \"$1\"");
        rotation
    }

    fn script(&self) -> PathBuf {
        self.folder.path().join("get-password")
    }

    fn set_script(&self, script: &str) {
        fs::write(self.script(), format!("echo noise-of-a-command >&2\n{script}\n")).expect("a file");
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    fn password(&self) -> String {
        format!("password-{}", self.round)
    }

    /// From now on Redis takes this password and no other.
    fn set_password(&mut self) {
        let password = format!(">{}", self.password());
        let user = ["ACL", "SETUSER", USER, "reset", "on", &password, "~*", "&*", "+@all"];
        assert_eq!(self.admin.command(&user), Reply::Simple("OK".into()));
    }

    fn write(&self) {
        // As a whole, as whoever rotates does it: a command that reads half of it has no password to tell.
        let next = self.path().with_extension("next");
        fs::write(&next, self.text() + "\n").expect("a file");
        fs::rename(next, self.path()).expect("a file");
    }

    fn text(&self) -> String {
        match self.folder.path().join("url").exists() {
            true => format!("redis://{USER}:{}@{}", self.password(), self.redis.address()),
            false => self.password(),
        }
    }

    /// Another password, at Redis and in the file, one a moment after the other; Redis cuts the user's connections.
    fn rotate(&mut self) {
        self.round += 1;
        let file_first = self.round.is_multiple_of(2);
        if file_first {
            self.write();
        }
        self.admin.command(&["CLIENT", "KILL", "USER", USER]);
        thread::sleep(Duration::from_millis(20));
        self.set_password();
        if !file_first {
            self.write();
        }
    }

    fn program(&self) -> ProxyBuilder {
        let source = match self.by_command {
            true => program().set(
                "REDIS_PASSWORD_COMMAND",
                format!("sh '{}' {}", self.script().display(), self.path().display()),
            ),
            false => program().set("REDIS_PASSWORD_FILE", self.path()),
        };
        source
            .set("REDIS_HOST", "127.0.0.1")
            .set("REDIS_PORT", self.redis.port().to_string())
            .set("REDIS_USERNAME", USER)
            .allow_warning("connection to redis lost")
            .allow_warning("lane lost")
            // The file and Redis do not change in one moment, and a new password is tried on what is open.
            .allow_warning("redis refuses to let an open connection log in again")
            .allow_warning("coherence is not in force")
    }
}

fn connects(proxy: &Proxy) -> f64 {
    proxy.metrics().value("redis_proxy_redis_connects_total")
}

/// Reads keys that are not held, without an end but `over`, and counts them; each must be answered.
fn read_on(proxy: &Proxy, over: &AtomicBool) -> usize {
    let mut client = proxy.client();
    let mut reads = 0;
    while !over.load(Ordering::Relaxed) {
        reads += 1;
        let response = client.get(&format!("/none-{reads}"));
        assert_eq!(response.status, 404, "{response:?}");
    }
    reads
}

#[test]
fn a_rotation_under_load_costs_no_answer() {
    for (mode, by_command) in [("ttl", false), ("tracking", false), ("ttl", true), ("tracking", true)] {
        let mut rotation = if by_command { Rotation::by_command() } else { Rotation::new() };
        let proxy = rotation.program().set("COHERENCE", mode).start();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let _end = StopOnDrop(&over);
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| read_on(&proxy, &over))).collect();
            for _ in 0..6 {
                let before = connects(&proxy);
                rotation.rotate();
                wait_until(PATIENCE, "a new connection", || connects(&proxy) > before);
                // A read that two rotations hit is lost with two connections.
                thread::sleep(Duration::from_millis(500));
            }
            over.store(true, Ordering::Relaxed);
            let reads: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("no error")).collect();
            assert!(reads.iter().all(|reads| *reads > 6), "{reads:?}");
        });
    }
}

#[test]
fn redis_clients_that_are_the_proxys_user_go_on_after_a_rotation() {
    let mut rotation = Rotation::new();
    let proxy = rotation
        .program()
        .set("RESP_PORT", "0")
        .set("MAX_STALENESS", "5s")
        .set("RESP_IDENTITY", "proxy")
        .start();
    for round in 0..3 {
        let mut client = proxy.redis_client();
        let value = format!("value-{round}");
        client.set("k", &value);
        assert_eq!(client.get("k"), Some(value.into_bytes()));
        // What needs a connection of its own too.
        assert_eq!(client.command(&["MULTI"]), Reply::Simple("OK".into()));
        assert_eq!(client.command(&["DISCARD"]), Reply::Simple("OK".into()));
        rotation.rotate();
    }
}

#[test]
fn the_password_in_a_url_is_read_anew_as_well() {
    let mut rotation = Rotation::new();
    fs::write(rotation.folder.path().join("url"), "").expect("a file");
    rotation.write();
    let proxy = program()
        .set("REDIS_URL_FILE", rotation.path())
        .set("WORKERS", "1")
        .allow_warning("connection to redis lost")
        .start();
    for number in 0..3 {
        assert_eq!(proxy.get(&format!("/none-{number}")).status, 404);
        rotation.rotate();
    }
    assert_eq!(proxy.get("/none").status, 404);
}

#[test]
fn a_file_that_cannot_be_read_leaves_the_last_password_in_force() {
    let mut rotation = Rotation::new();
    let proxy = rotation.program().allow_warning("the credentials for redis cannot be read").start();
    assert_eq!(proxy.get("/one").status, 404);
    fs::remove_file(rotation.path()).expect("a file");
    rotation.admin.command(&["CLIENT", "KILL", "USER", USER]);
    let start = Instant::now();
    assert_eq!(proxy.get("/two").status, 404);
    proxy.wait_log("the credentials for redis cannot be read", PATIENCE);
    assert!(start.elapsed() < PATIENCE);
    assert!(!proxy.log().iter().any(|line| line.raw.contains("password-0")), "no secret is logged");
}

#[test]
fn a_file_that_has_become_a_pipe_leaves_the_last_password_in_force_and_holds_up_nobody() {
    let mut rotation = Rotation::new();
    let proxy = rotation.program().allow_warning("the credentials for redis cannot be read").start();
    assert_eq!(proxy.get("/one").status, 404);
    fs::remove_file(rotation.path()).expect("a file");
    mkfifo(&rotation.path());
    for round in 0..3 {
        rotation.admin.command(&["CLIENT", "KILL", "USER", USER]);
        wait_until(PATIENCE, "a connection", || proxy.get(&format!("/none-{round}")).status == 404);
    }
    let line = proxy.wait_log("the credentials for redis cannot be read", PATIENCE);
    assert!(line.raw.contains("no longer a regular file"), "{}", line.raw);
}

/// So long what a command has printed is good, and it is not run again.
const SHARED: Duration = Duration::from_millis(1100);

#[test]
fn many_connections_that_come_at_once_share_the_run_of_a_command() {
    let mut rotation = Rotation::by_command();
    let (held, count) = (rotation.folder.path().join("held"), rotation.folder.path().join("count"));
    let (held, count) = (held.display(), count.display());
    rotation.set_script(&format!(
        "mkdir {held} || {{ echo overlap >>{count}; exit 1; }}; echo run >>{count}; sleep 0.05; rmdir {held}; cat \"$1\""
    ));
    let proxy = rotation.program().set("WORKERS", "8").start();
    let runs = || fs::read_to_string(rotation.folder.path().join("count")).expect("it was run");
    wait_until(PATIENCE, "a connection a worker", || connects(&proxy) >= 8.0);
    thread::sleep(SHARED);
    let before = (connects(&proxy), runs().lines().count());
    rotation.admin.command(&["CLIENT", "KILL", "USER", USER]);
    wait_until(PATIENCE, "new connections", || connects(&proxy) >= before.0 + 8.0);
    let runs = runs();
    let (overlaps, more) = (runs.matches("overlap").count(), runs.lines().count() - before.1);
    assert!(overlaps == 0 && (1..8).contains(&more), "{runs}");
}

#[test]
fn a_command_that_fails_or_hangs_leaves_the_last_password_in_force_and_is_told_once() {
    for script in
        ["echo password-of-nobody; exit 1", "sleep 60", "exec >&-; sleep 60", "yes password-of-nobody"]
    {
        let mut rotation = Rotation::by_command();
        let proxy = rotation
            .program()
            .set("WORKERS", "1")
            .allow_warning("the credentials for redis cannot be read")
            .start();
        assert_eq!(proxy.get("/none").status, 404);
        rotation.set_script(script);
        thread::sleep(SHARED);
        for round in 0..3 {
            let start = Instant::now();
            rotation.admin.command(&["CLIENT", "KILL", "USER", USER]);
            assert_eq!(proxy.get(&format!("/none-{round}")).status, 404, "{script}");
            assert!(start.elapsed() < Duration::from_secs(3), "{script}: {:?}", start.elapsed());
        }
        let line = proxy.wait_log("the credentials for redis cannot be read", PATIENCE);
        let log = proxy.log();
        assert!(
            log.iter().all(|line| !line.raw.contains("password-") && !line.raw.contains("noise")),
            "{}",
            line.raw
        );
        let told = log.iter().filter(|line| line.raw.contains("the credentials for redis cannot be read"));
        assert_eq!(told.count(), 1, "{script}");
        // With it the command.
        assert_eq!(proxy.stop().code(), Some(0), "{script}");
    }
}

#[test]
fn what_a_slow_command_prints_is_used_once_it_is_there() {
    let mut rotation = Rotation::by_command();
    rotation.set_script("sleep 2; cat \"$1\"");
    let proxy = rotation
        .program()
        .set("WORKERS", "1")
        .allow_warning("the credentials for redis cannot be read")
        .allow_warning("redis unavailable")
        .start();
    assert_eq!(proxy.get("/none").status, 404);
    rotation.rotate();
    wait_until(PATIENCE, "a connection with the new password", || proxy.get("/other").status == 404);
}

#[test]
fn a_command_ends_with_the_program() {
    let rotation = Rotation::by_command();
    let proxy = rotation
        .program()
        .set("WORKERS", "1")
        .allow_warning("the credentials for redis cannot be read")
        .start();
    assert_eq!(proxy.get("/none").status, 404);
    let pid = rotation.folder.path().join("pid");
    rotation.set_script(&format!("echo $$ >{}; sleep 60", pid.display()));
    thread::sleep(SHARED);
    rotation.redis.client().command(&["CLIENT", "KILL", "USER", USER]);
    let number = || fs::read_to_string(&pid).ok().filter(|text| text.ends_with('\n'));
    wait_until(PATIENCE, "a run", || number().is_some());
    assert_eq!(proxy.stop().code(), Some(0));
    let stat = format!("/proc/{}/stat", number().expect("its number").trim());
    // An orphan stays a zombie where init does not reap.
    wait_until(Duration::from_secs(2), "the end of the command", || {
        fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z"))
    });
}
