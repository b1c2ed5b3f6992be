//! Client libraries as people use them, through the proxy: the scripts of `testkit/clients/`, with a restart of Redis in them.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use testkit::{Cluster, InstalledClient, Proxy, RealClient, Sentinels, not_run, wait_until};

use crate::resp_cluster::{PATIENCE, before};
use crate::support::{program_without_redis, start_resp};

/// Runs a library's script against a program before one Redis; an error if it cannot be installed.
fn run(client: RealClient) -> Result<(), String> {
    let installed = install(client)?;
    let (redis, proxy) = start_resp(&[]);
    run_before(&proxy, client, &installed, 3, || redis.restart());
    Ok(())
}

/// The same before a cluster of three nodes, where there is one database. One of the nodes is restarted.
fn run_before_cluster(client: RealClient, settings: &[(&str, &str)]) -> Result<(), String> {
    let installed = install(client)?;
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[&[("RESP_COHERENCE", "tracking")], settings].concat());
    run_before(&proxy, client, &installed, 0, || cluster.node_of(cluster.slot_of("after")).restart());
    Ok(())
}

fn install(client: RealClient) -> Result<InstalledClient, String> {
    /// Two would install into one folder.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    client.install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients"))
}

#[track_caller]
fn run_before(
    proxy: &Proxy,
    client: RealClient,
    installed: &InstalledClient,
    database: u32,
    restart: impl FnMut(),
) {
    for warning in ["redis unavailable", "lost", "coherence is not in force"] {
        proxy.allow_warning(warning);
    }
    let (steps, wrong) = installed.run(proxy.resp_address(), database, Duration::from_secs(120), restart);
    assert_eq!(wrong, None);
    assert_eq!(steps.len(), client.steps(), "{client:?}: {steps:?}");
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

#[test]
fn redis_py_works_before_a_cluster_as_before_one_redis() {
    if let Err(why) = run_before_cluster(RealClient::RedisPy, &[]) {
        assert!(std::env::var_os("CLIENTS_REQUIRED").is_none(), "redis-py cannot be had: {why}");
        not_run(&format!("redis-py cannot be had: {why}"));
    }
}

#[test]
#[ignore = "installs clients from npm and crates.io; make soak runs it"]
fn other_clients_work_before_a_cluster_as_before_one_redis() {
    for client in [RealClient::Ioredis, RealClient::NodeRedis, RealClient::RedisRs] {
        run_before_cluster(client, &[]).unwrap_or_else(|error| panic!("{client:?} cannot be had: {error}"));
    }
}

#[test]
#[ignore = "installs clients from PyPI and npm; make soak runs it"]
fn queues_work_before_a_cluster() {
    for client in RealClient::QUEUES {
        run_before_cluster(client, &[]).unwrap_or_else(|error| panic!("{client:?} cannot be had: {error}"));
    }
}

/// With one Redis behind the emulated node, with a primary that sentinels name, and with a cluster.
#[test]
#[ignore = "installs clients from PyPI and npm; make soak runs it"]
fn clients_of_clusters_work_with_an_emulated_node() {
    let emulate = [("RESP_CLUSTER", "emulate")];
    for client in RealClient::OF_CLUSTERS {
        let installed = install(client).unwrap_or_else(|why| panic!("{client:?} cannot be had: {why}"));
        let (redis, proxy) = start_resp(&emulate);
        run_before(&proxy, client, &installed, 0, || redis.restart());
        // The primary is back before they take it for down.
        let sentinels =
            Sentinels::builder().down_after(Duration::from_secs(20)).start().expect("a redis-server");
        let program = program_without_redis().sentinels(&sentinels).set("RESP_PORT", "0");
        let proxy = program.set("RESP_CLUSTER", "emulate").allow_warning("sentinel").start();
        let mut known = proxy.resp_client();
        wait_until(PATIENCE, "the primary to be known", || known.send("SET known 0\r\n").line() == "+OK");
        run_before(&proxy, client, &installed, 0, || sentinels.nodes()[0].restart());
        run_before_cluster(client, &emulate).expect("it is there");
    }
}
