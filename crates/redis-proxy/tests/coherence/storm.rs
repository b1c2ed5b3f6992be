//! A hundred thousand invalidations at once: none delays another beyond the bound, and memory stays flat.

use std::time::{Duration, Instant};

use testkit::{Reply, Workload, seed, wait_until};

use crate::fault::Fault;
use crate::stand::{Mode, Setup, is_soak};

const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: usize = 100_000;
/// Keys a script: short enough that Redis' other clients go on between two.
const BATCH: usize = 2_000;

#[test]
fn a_storm_of_invalidations_delays_none_beyond_the_bound() {
    let mut setup = Setup::new(Mode::Tracking, Fault::Calm);
    setup.settings.push(("CAPACITY", "200000".to_owned()));
    let stand = setup.start();
    let invalidations = || stand.proxy.metrics().value("redis_proxy_link_invalidations_total");
    write_all(&stand.redis);
    let mut client = stand.proxy.client();
    let read_all = |client: &mut testkit::HttpClient| {
        for first in (0..KEYS).step_by(50) {
            let keys = first..first + 50;
            let requests: String =
                keys.clone().map(|key| format!("GET /s{key} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
            client.send(requests);
            keys.for_each(|key| assert_eq!(client.read_response().status, 200, "s{key}"));
        }
    };
    read_all(&mut client);
    let resident = stand.proxy.resident_bytes();
    let workload = Workload::new(seed());
    let run = workload.run(&stand.primary, &stand.proxy, || {
        for _ in 0..if is_soak() { 20 } else { 1 } {
            let before = invalidations();
            let begun = Instant::now();
            write_all(&stand.redis);
            let written = begun.elapsed();
            wait_until(PATIENCE, "all invalidations", || invalidations() - before >= KEYS as f64);
            let rate = KEYS as f64 / begun.elapsed().as_secs_f64();
            eprintln!("{KEYS} writes took {written:?}; {rate:.0} invalidations a second applied");
            read_all(&mut client);
        }
    });
    let verdict = run.history.check(&Mode::Tracking.promise());
    let grown = stand.proxy.resident_bytes().saturating_sub(resident);
    eprintln!("storm SEED={}: {}; {} MiB more", workload.seed, verdict.plain, grown >> 20);
    let first: Vec<String> = verdict.violations.iter().take(5).map(ToString::to_string).collect();
    assert!(first.is_empty(), "SEED={}: {}", workload.seed, first.join("\n"));
    assert!(run.history.reads.len() > 1000);
    assert!(grown <= 32 << 20, "{} MiB more than before the storm", grown >> 20);
}

/// A new value for every key of the storm.
fn write_all(redis: &testkit::RedisServer) {
    let script =
        "for i = ARGV[1], ARGV[1] + ARGV[2] - 1 do redis.call('SET', 's' .. i, ARGV[1]) end return 1";
    let mut client = redis.client();
    for first in (0..KEYS).step_by(BATCH) {
        let (first, batch) = (first.to_string(), BATCH.to_string());
        // `%.0f`: Lua would write large numbers with an exponent.
        let reply = client.command(&[
            "EVAL",
            &script.replace("'s' .. i", "string.format('s%.0f', i)"),
            "0",
            &first,
            &batch,
        ]);
        assert_eq!(reply, Reply::Integer(1));
    }
}
