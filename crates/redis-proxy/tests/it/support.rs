//! What every test starts with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use testkit::{Proxy, ProxyBuilder, RedisServer, wait_until};

/// The built program, not yet started.
pub(crate) fn program() -> ProxyBuilder {
    Proxy::builder(env!("CARGO_BIN_EXE_redis-proxy"))
}

/// A Redis of its own and the program in front of it, with default settings.
pub(crate) fn start() -> (RedisServer, Proxy) {
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).start();
    (redis, proxy)
}

/// A Redis of its own and the program in front of it, with these settings.
pub(crate) fn start_with(settings: &[(&str, &str)]) -> (RedisServer, Proxy) {
    let redis = RedisServer::start();
    let program = settings.iter().fold(program(), |program, (name, value)| program.set(name, value));
    let proxy = program.redis(&redis).start();
    (redis, proxy)
}

/// A Redis of its own and the program in front of it with a port for Redis clients. How late a proof may be is no matter
/// of these tests.
pub(crate) fn start_resp(settings: &[(&str, &str)]) -> (RedisServer, Proxy) {
    start_with(&[&[("RESP_PORT", "0"), ("MAX_STALENESS", "5s")], settings].concat())
}

/// Waits until hits are what the mode promises.
#[track_caller]
pub(crate) fn wait_in_force(proxy: &Proxy) {
    wait_until(Duration::from_secs(10), "the promise in force", || {
        proxy.metrics().value("redis_proxy_coherence_in_force") == 1.0
    });
}

/// A Redis and a program before it, with both fronts in a mode of coherence, with its promise in force.
#[track_caller]
pub(crate) fn start_resp_in(mode: &str, settings: &[(&str, &str)]) -> (RedisServer, Proxy) {
    let modes = [("COHERENCE", mode), ("RESP_COHERENCE", mode)];
    let (redis, proxy) = start_resp(&[&modes, settings].concat());
    if mode != "ttl" {
        wait_in_force(&proxy);
    }
    (redis, proxy)
}

/// Threads of the program that serve clients, where a test is about more than one of them.
pub(crate) const WORKERS: usize = 2;

/// A program that may say that Redis is away.
pub(crate) fn program_without_redis() -> ProxyBuilder {
    let program = program().allow_warning("redis unavailable").allow_warning("connection to redis lost");
    program.allow_warning("coherence is not in force")
}

/// Writes `count` keys from 0 on, `value-of` and the key as values, in one command.
pub(crate) fn set_numbered(redis: &RedisServer, count: usize) {
    let script = "for i = 0, ARGV[1] - 1 do redis.call('SET', i, 'value-of-' .. i) end return 0";
    let reply = redis.client().command(&["EVAL", script, "0", &count.to_string()]);
    assert_eq!(reply, testkit::Reply::Integer(0));
}

/// Measures from now on; then tells by how much this machine was late for the sleeps of a thread that does nothing else, at the
/// most: as late it may be for any other.
pub(crate) fn lateness() -> impl FnOnce() -> Duration {
    const NAP: Duration = Duration::from_millis(10);
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    let naps = thread::spawn(move || {
        let mut late = Duration::ZERO;
        while !told.load(Ordering::Relaxed) {
            let begun = Instant::now();
            thread::sleep(NAP);
            late = late.max(begun.elapsed().saturating_sub(NAP));
        }
        late
    });
    move || {
        over.store(true, Ordering::Relaxed);
        naps.join().expect("naps")
    }
}

/// A pipe with a name, to which nobody writes.
pub(crate) fn mkfifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
}

/// Whether an answer says that it came from memory.
pub(crate) fn is_hit(response: &testkit::Response) -> bool {
    response.header("cache-status") == Some("redis-proxy; hit")
}

/// Numbers without end, the same for the same seed; the seed is printed, and `SEED` sets it.
pub(crate) fn random_numbers() -> impl FnMut(usize) -> usize {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos());
    let seed: u64 = seed.unwrap_or(u64::from(now)) | 1;
    eprintln!("SEED={seed}");
    random_numbers_from(seed)
}

/// Numbers without end, the same for the same seed.
pub(crate) fn random_numbers_from(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed | 1;
    move |below| {
        // xorshift64* (Vigna, 2016).
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        usize::try_from(state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).map_or(0, |number| number % below)
    }
}
