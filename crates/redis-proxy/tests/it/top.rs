//! `redis-proxy top` on a terminal, which is tmux's.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use testkit::{RedisServer, find_program, not_run, run_to_end, wait_until};

use crate::support::{program, start_with};

const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "top-token-planted";

/// What the shell of the terminal runs: the program, and then what it has left behind. It stays, so that it can be looked at.
const SCRIPT: &str = r#"cd "$1"; shift; stty -g >before
sh -c 'echo $$ >pid; exec "$@"' sh "$@"
code=$?; stty -g >after; cmp before after && echo "ended with $code"; exec sleep 600"#;

/// A terminal with `redis-proxy top` in it; gone when dropped.
struct TestTerminal(tempfile::TempDir);

impl TestTerminal {
    /// Starts it in this size, with these variables; none where there is no tmux.
    fn start(size: (u16, u16), environment: &[(&str, &str)], admin: &str) -> Option<TestTerminal> {
        let Some(_) = find_program("tmux") else {
            assert!(std::env::var_os("CLIENTS_REQUIRED").is_none(), "tmux is not installed");
            not_run("tmux is not installed");
            return None;
        };
        let terminal = TestTerminal(tempfile::tempdir().unwrap());
        let folder = terminal.0.path().to_str().unwrap();
        let (width, height) = (size.0.to_string(), size.1.to_string());
        let program = [env!("CARGO_BIN_EXE_redis-proxy"), "top", "--timeout", "1s", "--admin", admin];
        let arguments = [
            &["-u", "-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height][..],
            &["sh", "-c", SCRIPT, "sh", folder],
            &program,
        ];
        let mut command = terminal.tmux(&arguments.concat());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("LC_ALL", "C.UTF-8");
        let started = command.env("HOME", folder).envs(environment.iter().copied()).output().unwrap();
        assert!(started.status.success(), "{started:?}");
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.0.path().join("socket")).args(arguments).stdin(Stdio::null());
        command
    }

    fn told(&self, arguments: &[&str]) -> String {
        let output = self.tmux(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// The lines that are seen.
    fn picture(&self) -> Vec<String> {
        self.told(&["capture-pane", "-p"]).lines().map(str::to_owned).collect()
    }

    /// Waits until a line is seen with all of these words.
    #[track_caller]
    fn wait_line(&self, words: &[&str]) -> Vec<String> {
        let mut picture = Vec::new();
        for _ in 0..PATIENCE.as_millis() / 50 {
            picture = self.picture();
            if picture.iter().any(|line| words.iter().all(|word| line.contains(word))) {
                return picture;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{words:?} is not seen:\n{}", picture.join("\n"));
    }

    fn press(&self, key: &str) {
        self.told(&["send-keys", key]);
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.0.path().join("pid")).unwrap().trim().to_owned()
    }

    /// Waits for the end, after which the terminal is as it was before.
    #[track_caller]
    fn wait_end(&self, code: &str) -> String {
        let text = self.wait_line(&[&format!("ended with {code}")]).join("\n");
        assert_eq!(self.told(&["display", "-p", "#{alternate_on} #{cursor_flag}"]), "0 1\n", "{text}");
        text
    }
}

impl Drop for TestTerminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.tmux(&["kill-server"]).stderr(Stdio::null()).status();
    }
}

/// The lines of keys between the titles of a list and the last line, by their last word.
fn keys(picture: &[String], title: &str) -> Vec<String> {
    let at = picture.iter().position(|line| line.contains(title)).unwrap();
    let lines = picture[at + 1..].iter().filter(|line| !line.is_empty() && !line.starts_with("Tab"));
    lines.filter_map(|line| line.split_whitespace().next_back()).map(str::to_owned).collect()
}

/// An admin port with lists: `count` keys, the first of them with a name that a terminal must not obey.
fn serve(count: usize) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let keys = (0..count).map(|key| {
                let name = if key == 0 { "h\u{1b}]0;owned\u{7}\u{202e}\u{1b}[2Jx".to_owned() } else { format!("key:{key}") };
                serde_json::json!({"key": name, "partition": 0, "reads_per_s": 1000 - key, "error_per_s": 1.5, "share": 0.1, "hit_ratio": 0.9,
                    "bytes": key, "left_ms": 900})
            });
            let state = serde_json::json!({
                "at_ms": 1_764_500_000_000_u64,
                "program": {"version": "0.1.0", "uptime_s": number, "workers": 2, "resident_bytes": 47_185_920},
                "totals": {"http_requests": number * 500, "resp_commands": 0, "hits": number * 9, "misses": number, "errors": 0},
                "upstreams": [{"address": "10.9.8.7:6379", "connected": false, "why_not": "refused"}],
                "hot_keys": keys.collect::<Vec<_>>(),
                "hot_misses": [{"key": "missing:1", "partition": 0, "reason": "evicted", "misses_per_s": 7.5, "error_per_s": 1.0}],
                "prefixes": [{"prefix": "user:", "reads_per_s": 500, "error_per_s": 5, "hit_ratio": 0.9, "bytes": 4096, "invalidations_per_s": 8.5}],
                "slow_log": [{"id": 1, "at_ms": 1_764_499_990_000_u64, "total_us": 25000, "queued_us": 5, "redis_us": 24000, "delivered_us": 995,
                    "client": "127.0.0.1:5", "arguments": ["HGETALL", "big"]}],
            });
            let body = state.to_string();
            let _ = stream.read(&mut [0; 4096]);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    (address, requests)
}

#[test]
fn lists_are_seen_chosen_sorted_and_resized_and_keys_end_it() {
    let start = |size| TestTerminal::start(size, &[], &format!("http://{}", serve(60).0));
    let Some(small) = start((80, 24)) else { return };
    let large = start((200, 50)).unwrap();
    for (terminal, height) in [(&small, 24), (&large, 50)] {
        let picture = terminal.wait_line(&["h\\x1b]0;owned\\x07"]);
        let text = picture.join("\n");
        assert_eq!(picture.len(), height, "{text}");
        for words in [
            "redis-proxy 0.1.0   up ",
            "10.9.8.7:6379 NOT connected: refused",
            "[1 hot keys]",
            "reads/s<",
            " 1,000 ",
            "key:1",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        assert!(picture[height - 1].starts_with("Tab 1-4 list"), "{text}");
        assert!(keys(&picture, "reads/s<").len() >= 8, "{text}");
        assert!(!terminal.told(&["display", "-p", "#{pane_title}"]).contains("owned"));
        // Of requests and hits between two answers; a busy machine may be late for one.
        wait_until(PATIENCE, "about 500 requests a second", || {
            let picture = terminal.picture();
            let line = picture.iter().find_map(|line| line.strip_prefix("requests/s http "));
            let rate = line.and_then(|line| line.split(' ').next()?.parse::<f64>().ok());
            rate.is_some_and(|rate| (300.0..600.0).contains(&rate))
        });
        terminal.wait_line(&["hits", "now 90.0%"]);
        // By the size, from the largest on: the fifth column.
        (0..4).for_each(|_| terminal.press("s"));
        let picture = terminal.wait_line(&["size<"]);
        assert_eq!(keys(&picture, "size<")[0], "key:59", "{}", picture.join("\n"));
        for (key, title, words) in [
            ("Tab", "[2 hot misses]", &["7.5", "evicted", "missing:1"][..]),
            ("3", "[3 prefixes]", &["500.0", "4.0KiB", "user:"]),
            ("4", "[4 slow log]", &["10s", "25.0ms", "HGETALL big"]),
            ("?", "[4 slow log]", &["s ", "sort the list by its next column"]),
            ("Tab", "[1 hot keys]", &["key:59"]),
        ] {
            terminal.press(key);
            terminal.wait_line(&[title]);
            terminal.wait_line(words);
        }
        (0..3).for_each(|_| terminal.press("Down"));
        wait_until(PATIENCE, "the list moved", || keys(&terminal.picture(), "size<")[0] == "key:56");
    }
    small.told(&["resize-window", "-x", "120", "-y", "40"]);
    wait_until(PATIENCE, "a picture of the new size", || {
        let picture = small.picture();
        picture.len() == 40 && picture[39].starts_with("Tab 1-4 list") && !picture[23].starts_with("Tab")
    });
    small.told(&["resize-window", "-x", "20", "-y", "5"]);
    small.wait_line(&["too small a terminal"]);
    small.told(&["resize-window", "-x", "80", "-y", "24"]);
    small.wait_line(&["Tab 1-4 list"]);
    small.press("q");
    small.wait_end("0");
    large.press("C-c");
    large.wait_end("0");
}

#[test]
fn it_says_that_the_program_is_away_and_comes_back_with_it() {
    let (redis, proxy) = start_with(&[]);
    redis.client().set("k", "v");
    let port = proxy.admin_address().port();
    let Some(terminal) = TestTerminal::start((80, 24), &[], &format!("http://127.0.0.1:{port}")) else {
        return;
    };
    terminal.wait_line(&["since the start -"]);
    // It listens before it is connected.
    terminal.wait_line(&["redis ", &format!("{} connected", redis.address())]);
    (0..4).for_each(|_| assert_eq!(proxy.get("/k").status, 200));
    terminal.wait_line(&["since the start 75.0%"]);
    proxy.pause_process();
    let picture = terminal.wait_line(&["AWAY for ", "no answer within 1s"]).join("\n");
    assert!(picture.contains("since the start 75.0%") && picture.contains(" old."), "{picture}");
    proxy.resume_process();
    wait_until(PATIENCE, "an answer", || !terminal.picture().join("\n").contains("AWAY"));
    assert_eq!(proxy.stop().code(), Some(0));
    terminal.wait_line(&["AWAY for ", "Connection refused"]);
    let again = program().redis(&redis).set("ADMIN_PORT", port.to_string()).start();
    let picture = terminal.wait_line(&["since the start -"]).join("\n");
    assert!(!picture.contains("AWAY"), "{picture}");
    drop(terminal);
    assert_eq!(again.stop().code(), Some(0));
}

#[test]
fn started_before_any_server_it_says_that_it_is_away_and_ends_with_q() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Some(terminal) = TestTerminal::start((80, 24), &[], &format!("http://{nobody}")) else { return };
    let text = terminal.wait_line(&["AWAY for ", "Connection refused"]).join("\n");
    assert!(!text.contains(" old.") && !text.contains("ADMIN_TOKEN"), "{text}");
    terminal.press("q");
    terminal.wait_end("0");
}

#[test]
fn without_the_token_it_says_what_it_lacks_and_shows_nothing() {
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).set("ADMIN_TOKEN", TOKEN).start();
    let admin = format!("http://{}", proxy.admin_address());
    let Some(terminal) = TestTerminal::start((80, 24), &[], &admin) else { return };
    terminal.wait_line(&["REFUSED: ", "401"]);
    let picture = terminal.wait_line(&["[1 hot keys]"]).join("\n");
    let words = picture.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("a token is needed") && words.contains("set ADMIN_TOKEN or ADMIN_TOKEN_FILE for top."),
        "{picture}"
    );
    assert!(!picture.contains("clients") && !picture.contains("planted"), "{picture}");
    let let_in = TestTerminal::start((80, 24), &[("ADMIN_TOKEN", TOKEN)], &admin).unwrap();
    let picture = let_in.wait_line(&["clients ", "http 0"]).join("\n");
    assert!(!picture.contains("REFUSED") && !picture.contains("planted"), "{picture}");
    let arguments = fs::read(format!("/proc/{}/cmdline", let_in.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains("planted"));
}

#[test]
fn the_terminal_is_given_back_on_every_way_out() {
    let (address, requests) = serve(1);
    let admin = format!("http://{address}");
    for (signal, code) in [("TERM", "143"), ("INT", "130"), ("HUP", "129"), ("QUIT", "131")] {
        let Some(terminal) = TestTerminal::start((80, 24), &[], &admin) else { return };
        terminal.wait_line(&["[1 hot keys]"]);
        let killed = Command::new("kill").args(["-s", signal, &terminal.pid()]).status().unwrap();
        assert!(killed.success());
        terminal.wait_end(code);
    }
    // The terminal itself goes.
    let terminal = TestTerminal::start((80, 24), &[], &admin).unwrap();
    terminal.wait_line(&["[1 hot keys]"]);
    let process = format!("/proc/{}", terminal.pid());
    terminal.told(&["kill-pane"]);
    wait_until(PATIENCE, "the end without a terminal", || !fs::exists(&process).unwrap());
    // There is none.
    let asked = requests.load(Ordering::Relaxed);
    let output = run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &[], &["top", "--admin", &admin], PATIENCE);
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(2), ""), "{output:?}");
    assert!(output.stderr.lines().count() == 1 && output.stderr.contains("redis-proxy stats"), "{output:?}");
    assert_eq!(requests.load(Ordering::Relaxed), asked);
}
