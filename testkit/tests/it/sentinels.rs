//! Sentinels, and what they do to a primary and its replicas.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{RedisClient, RedisServer, Reply, Sentinels, Server, wait_until};

use crate::PATIENCE;

fn role(node: &RedisServer) -> String {
    match node.client().command(&["ROLE"]) {
        Reply::Array(parts) => match &parts[0] {
            Reply::Bulk(role) => String::from_utf8(role.clone()).unwrap(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// What a sentinel says at its own port.
fn named_primary(client: &mut RedisClient) -> u16 {
    match client.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]) {
        Reply::Array(address) => match &address[1] {
            Reply::Bulk(port) => String::from_utf8(port.clone()).unwrap().parse().unwrap(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_planned_failover_moves_the_primary_and_the_old_one_becomes_a_replica() {
    let sentinels = Sentinels::builder().quick().start().unwrap();
    let old = sentinels.primary();
    assert_eq!((role(old).as_str(), role(sentinels.replicas()[0]).as_str()), ("master", "slave"));
    old.client().set("k", "v");
    let start = Instant::now();
    let new = sentinels.failover();
    assert_ne!(old.port(), new.port());
    assert_eq!((role(new).as_str(), new.client().get("k")), ("master", Some(b"v".to_vec())));
    for address in sentinels.addresses() {
        assert_eq!(named_primary(&mut RedisClient::connect(address)), new.port());
    }
    sentinels.wait_settled();
    assert_eq!(role(old), "slave");
    assert!(start.elapsed() < Duration::from_secs(10), "quick: {:?}", start.elapsed());
    let again = sentinels.failover();
    assert_eq!(again.port(), old.port(), "and back");
}

#[test]
fn a_primary_that_is_killed_or_stands_still_is_replaced_and_comes_back_as_a_replica() {
    let sentinels = Sentinels::builder().replicas(2).quick().start().unwrap();
    let first = sentinels.primary();
    first.kill();
    let second = sentinels.wait_moved(first);
    assert_eq!(role(second), "master");
    first.restart();
    sentinels.wait_settled();
    assert_eq!(role(first), "slave");
    // What sentinels have made of it is in its file.
    first.restart();
    assert_eq!(role(first), "slave");

    second.pause_process();
    let third = sentinels.wait_moved(second);
    assert_eq!(role(third), "master");
    second.resume_process();
    sentinels.wait_settled();
    assert_eq!(role(second), "slave");
}

#[test]
fn without_a_quorum_nothing_moves_until_it_is_there_again() {
    let sentinels = Sentinels::start();
    let [one, two, three] = sentinels.sentinels() else { panic!("three sentinels") };
    one.kill();
    two.pause_process();
    let primary = sentinels.primary();
    primary.kill();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(named_primary(&mut three.client()), primary.port());
    one.restart();
    two.resume_process();
    let new = sentinels.wait_moved(primary);
    assert_ne!(new.port(), primary.port());
    // It knows what it has learnt.
    one.restart();
    assert_eq!(named_primary(&mut one.client()), new.port());
}

#[test]
fn nodes_and_sentinels_want_the_logins_that_each_has() {
    for (node_user, sentinel_user) in [(None, None), (Some("app"), Some("watcher"))] {
        let builder = Sentinels::builder()
            .node_login(node_user, "node-pw")
            .sentinel_login(sentinel_user, "sentinel-pw");
        let sentinels = builder.start().unwrap();
        let address = sentinels.addresses()[0];
        let login = |user: Option<&str>| format!("{}:node-pw@", user.unwrap_or_default());
        assert!(sentinels.url().starts_with(&format!("redis+sentinel://{}{address},", login(node_user))));
        assert_eq!(sentinels.sentinel_login(), Some((sentinel_user, "sentinel-pw")));
        let auth = |address, user: Option<&str>, password| {
            let mut client = RedisClient::connect(address);
            let refused = client.command(&["ROLE"]);
            assert!(matches!(&refused, Reply::Error(text) if text.starts_with("NOAUTH")), "{refused:?}");
            let words: Vec<_> = ["AUTH"].into_iter().chain(user).chain([password]).collect();
            client.command(&words) == Reply::Simple("OK".into())
        };
        let node = sentinels.primary().address();
        assert!(auth(node, node_user, "node-pw") && auth(address, sentinel_user, "sentinel-pw"));
        assert!(!auth(node, sentinel_user, "sentinel-pw") && !auth(address, node_user, "node-pw"));
        let old = sentinels.primary().port();
        assert_ne!(sentinels.failover().port(), old);
    }
}

#[test]
fn with_tls_every_address_that_sentinels_tell_is_one_with_tls() {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&certificate, signed.cert.pem()).unwrap();
    fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let builder = Sentinels::builder().tls(&certificate, &key, &certificate);
    let sentinels = builder.start().unwrap();
    assert!(sentinels.url().starts_with("rediss+sentinel://"));
    let old = sentinels.primary().tls_address();
    let named = sentinels.sentinels().iter().map(|sentinel| named_primary(&mut sentinel.client()));
    assert!(named.into_iter().all(|port| port == old.port()));
    for address in [sentinels.addresses()[0], old] {
        let plain = RedisClient::connect(address).try_command(&["PING"]);
        assert!(plain.is_err(), "{plain:?}");
    }
    assert_ne!(sentinels.failover().tls_address(), old);
}

#[test]
fn any_server_is_watched() {
    for server in Server::ALL {
        let Some(sentinels) = Sentinels::builder().server(server).start() else { continue };
        let program = |node: &RedisServer| fs::read_link(format!("/proc/{}/exe", node.pid())).unwrap();
        let expected = server.program().unwrap().canonicalize().unwrap();
        assert!(sentinels.nodes().iter().all(|node| program(node) == expected), "{server}");
        sentinels.primary().client().set("k", "v");
        let new = sentinels.failover();
        wait_until(PATIENCE, "the value", || new.client().get("k").is_some());
    }
}
