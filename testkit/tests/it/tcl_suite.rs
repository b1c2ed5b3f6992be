//! Redis' own suite against a redis-server: what fails there is not ours.

use std::path::Path;
use std::time::Duration;

use testkit::{RedisServer, TclSuite};

#[test]
#[ignore = "the suite through the proxy is in make test; make soak runs both"]
fn redis_passes_its_own_suite() {
    if std::env::var("TCL_SUITE").is_ok_and(|off| off == "off") {
        eprintln!("SKIPPED: TCL_SUITE=off, Redis' own suite is not run");
        return;
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let suite = TclSuite::fetch(repository).unwrap_or_else(|error| {
        panic!("Redis' own suite cannot be had (TCL_SUITE=off leaves it out): {error}")
    });
    let redis = RedisServer::start();
    let run = suite.run(redis.address(), TclSuite::QUICK_UNITS, Duration::from_secs(600));
    let exceptions = std::fs::read_to_string(repository.join("docs/tcl-exceptions.txt")).unwrap();
    let server: String = exceptions
        .lines()
        .filter(|line| line.starts_with("server "))
        .map(|line| format!("{line}\n"))
        .collect();
    println!("{}", run.summary());
    run.judge(&server).unwrap_or_else(|wrong| panic!("{wrong}"));
}
