//! The scripts of the client libraries against a redis-server: what fails there is not ours.

use std::path::Path;
use std::time::Duration;

use testkit::{RealClient, RedisServer};

#[test]
#[ignore = "installs clients from PyPI, npm and crates.io; make soak runs it"]
fn real_clients_work_with_redis_itself() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    for client in RealClient::PLAIN.into_iter().chain(RealClient::QUEUES) {
        let installed =
            client.install(&folder).unwrap_or_else(|error| panic!("{client:?} cannot be had: {error}"));
        let redis = RedisServer::start();
        let (steps, wrong) = installed.run(redis.address(), 3, Duration::from_secs(120), || redis.restart());
        assert_eq!(wrong, None);
        assert_eq!(steps.len(), client.steps(), "{client:?}: {steps:?}");
    }
}
