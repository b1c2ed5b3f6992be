//! Client libraries as people use them, through the proxy: the scripts of `testkit/clients/`, with a restart of Redis in them.

use std::path::Path;
use std::time::Duration;

use testkit::{RealClient, not_run};

use crate::support::start_resp;

/// Runs a library's script; an error if it cannot be installed.
fn run(client: RealClient) -> Result<(), String> {
    let installed = client.install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients"))?;
    let (redis, proxy) = start_resp(&[]);
    for warning in ["redis unavailable", "lost", "coherence is not in force"] {
        proxy.allow_warning(warning);
    }
    let (steps, wrong) = installed.run(proxy.resp_address(), Duration::from_secs(120), || redis.restart());
    assert_eq!(wrong, None);
    assert_eq!(steps.len(), client.steps(), "{client:?}: {steps:?}");
    Ok(())
}

#[test]
fn redis_py_works_through_the_proxy() {
    if let Err(why) = run(RealClient::RedisPy) {
        assert!(std::env::var_os("CLIENTS_REQUIRED").is_none(), "redis-py cannot be had: {why}");
        not_run(&format!("redis-py cannot be had: {why}"));
    }
}

#[test]
#[ignore = "installs clients from npm and crates.io; make soak runs it"]
fn other_clients_work_through_the_proxy() {
    for client in [RealClient::Ioredis, RealClient::NodeRedis, RealClient::RedisRs] {
        run(client).unwrap_or_else(|error| panic!("{client:?} cannot be had: {error}"));
    }
}
