//! Redis' own suite through the RESP port.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use testkit::{Cluster, TclSuite};

use crate::resp_cluster::before;
use crate::support::start_resp;

/// The suite reads the stream of commands to replicas, and hears of every key that changes: whoever else writes makes it fail.
const ALONE: (&str, &str) = ("CANARY_KEY", "off");
/// Three times as long as they take on two busy cores. A test that waits for ever is not waited for.
const QUICK: Duration = Duration::from_secs(300);
/// Two suites at a time would look for ports among the same.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The suite, and the repository; none if it is not wanted.
fn suite() -> Option<(TclSuite, PathBuf)> {
    if std::env::var("TCL_SUITE").is_ok_and(|off| off == "off") {
        eprintln!("SKIPPED: TCL_SUITE=off, Redis' own suite is not run");
        return None;
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let suite = TclSuite::fetch(&repository).unwrap_or_else(|error| {
        panic!("Redis' own suite cannot be had (TCL_SUITE=off leaves it out): {error}")
    });
    Some((suite, repository))
}

/// Runs these units, or all, and judges them by `docs/tcl-exceptions.txt`.
fn run(cached: bool, units: &[&str], timeout: Duration) {
    let Some((suite, repository)) = suite() else { return };
    let _turn = ONE_AT_A_TIME.lock();
    // The suite reads what Redis counts and shows of its connections: none is to be opened or closed meanwhile without need.
    let cache = if cached { ("RESP_COHERENCE", "tracking") } else { ("RESP_COHERENCE", "off") };
    let (_redis, proxy) = start_resp(&[cache, ALONE, ("WORKERS", "1"), ("RESP_LANE_IDLE", "1h")]);
    // Scripts of the suite keep Redis busy for seconds.
    proxy.allow_warning("coherence is not in force");
    proxy.allow_warning("connection to redis lost");
    proxy.allow_warning("redis unavailable");
    let run = suite.run(proxy.resp_address(), units, timeout);
    let exceptions = exceptions(&repository, "docs/tcl-exceptions.txt");
    // Those of this class are about reads from the cache.
    let exceptions: Vec<&str> =
        exceptions.lines().filter(|line| cached || !line.starts_with("cached ")).collect();
    println!("{}", run.summary());
    run.judge(&exceptions.join("\n")).unwrap_or_else(|wrong| panic!("{wrong}"));
}

fn exceptions(repository: &Path, list: &str) -> String {
    std::fs::read_to_string(repository.join(list)).expect("the list")
}

/// Runs these units, or all, with an emulated node before a cluster of three, and judges them by `docs/tcl-exceptions-cluster.txt`.
fn run_before_cluster(units: &[&str], timeout: Duration) {
    let Some((suite, repository)) = suite() else { return };
    let _turn = ONE_AT_A_TIME.lock();
    let cluster = Cluster::start();
    let settings =
        [("RESP_CLUSTER", "emulate"), ("RESP_COHERENCE", "tracking"), ALONE, ("RESP_LANE_IDLE", "1h")];
    let proxy = before(&cluster, &settings);
    for warning in ["connection to redis lost", "redis unavailable", "watch"] {
        proxy.allow_warning(warning);
    }
    let exceptions = exceptions(&repository, "docs/tcl-exceptions-cluster.txt");
    let named = |class: &str, word: usize| -> Vec<&str> {
        let lines = exceptions.lines().filter(|line| line.split(' ').next() == Some(class));
        lines.filter_map(|line| line.splitn(3, ' ').nth(word)).collect()
    };
    let (skipped, skipped_units) = (named("skipped", 2), named("unit", 1));
    let run = suite.run_in_cluster(proxy.resp_address(), &skipped, &skipped_units, units, timeout);
    println!("{}", run.summary());
    let judged =
        exceptions.lines().filter(|line| !line.starts_with("skipped ") && !line.starts_with("unit "));
    run.judge(&judged.collect::<Vec<_>>().join("\n")).unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// Without those whose tests block one client and let another write without a look whether the first has arrived.
fn quick_units() -> Vec<&'static str> {
    let units = TclSuite::QUICK_UNITS.iter().copied();
    units.filter(|unit| *unit != "unit/type/stream-cgroups").collect()
}

#[test]
fn quick_units_of_redis_own_suite_pass_with_reads_from_the_cache() {
    run(true, &quick_units(), QUICK);
}

#[test]
#[ignore = "the same units pass with the cache in make test, which takes a minute; make soak runs them"]
fn quick_units_of_redis_own_suite_pass_through_the_proxy() {
    run(false, &quick_units(), QUICK);
}

/// "BRPOPLPUSH with multiple blocked clients" blocks two at a time, and waits for ever for the first if the second is served
/// before it.
#[test]
#[ignore = "20 runs take minutes; make soak runs them"]
fn the_list_unit_of_redis_own_suite_ends_each_time() {
    let Some((suite, _)) = suite() else { return };
    let _turn = ONE_AT_A_TIME.lock();
    let (_redis, proxy) =
        start_resp(&[("RESP_COHERENCE", "off"), ("WORKERS", "1"), ("RESP_LANE_IDLE", "1h")]);
    for _ in 0..20 {
        let run = suite.run(proxy.resp_address(), &["unit/type/list"], Duration::from_secs(300));
        println!("{}", run.summary());
        // What blocks for a second may fail on a busy machine; whether it passes is for the whole suite to say.
        let (passed, failed, _) = run.counts();
        assert!(passed + failed > 200, "{}", run.summary());
    }
}

#[test]
#[ignore = "all units take some ten minutes; make soak runs them"]
fn redis_own_suite_passes_through_the_proxy() {
    run(false, &[], Duration::from_secs(3600));
}

#[test]
#[ignore = "all units take some ten minutes; make soak runs them"]
fn redis_own_suite_passes_with_reads_from_the_cache() {
    run(true, &[], Duration::from_secs(3600));
}

/// Of those that the suite runs against a cluster: types of values, deadlines, transactions, channels, a walk through all keys, functions,
/// what is told of all nodes.
const CLUSTER_UNITS: &[&str] = &[
    "unit/scan",
    "unit/type/string",
    "unit/type/incr",
    "unit/type/hash",
    "unit/type/set",
    "unit/expire",
    "unit/multi",
    "unit/pubsub",
    "unit/bitops",
    "unit/bitfield",
    "unit/protocol",
    "unit/keyspace",
    "unit/info-command",
    "unit/quit",
    "unit/lazyfree",
    "unit/functions",
    "unit/slowlog",
    "unit/introspection",
];

#[test]
fn units_of_redis_own_suite_pass_before_a_cluster() {
    run_before_cluster(CLUSTER_UNITS, QUICK);
}

#[test]
#[ignore = "all units take some ten minutes; make soak runs them"]
fn redis_own_suite_passes_before_a_cluster() {
    run_before_cluster(&[], Duration::from_secs(3600));
}
