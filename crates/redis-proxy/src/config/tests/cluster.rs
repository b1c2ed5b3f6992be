//! A cluster: its nodes, who we are there, and what goes with it and what does not.

use upstream::{Address, Secret, Tls};

use super::{Pairs, Settings, error, file, printed, settings};
use crate::config::Topology;

const CLUSTER: (&str, &str) = ("REDIS_CLUSTER", "h1:7000, h2");

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.into(), port }
}

/// The nodes that are given; none where there is no cluster.
fn seeds(args: &[&str], env: Pairs<'_>) -> Vec<Address> {
    match settings(args, env).nodes.topology {
        Topology::Cluster { seeds } => seeds,
        Topology::Single | Topology::Sentinel(_) => Vec::new(),
    }
}

#[test]
fn nodes_of_a_cluster_have_the_port_of_redis_where_none_is_given() {
    let expected = [tcp("h1", 7000), tcp("h2", 6379)];
    assert_eq!(seeds(&[], &[CLUSTER]), expected);
    assert_eq!(seeds(&["--redis-cluster", "h1:7000,h2"], &[]), expected);
    assert_eq!(seeds(&[], &[("REDIS_CLUSTER", "[::1]:7,[::2]")]), [tcp("::1", 7), tcp("::2", 6379)]);
    for text in ["h1,", "h1;h2", "::1", "::1:6379", "h1:0", "h1:99999", "redis://h1", "h1:port", ","] {
        let text = error(&[], &[("REDIS_CLUSTER", text)]);
        assert!(text.starts_with("REDIS_CLUSTER=") && text.contains("that of 6379"), "{text}");
    }
    assert!(matches!(Settings::default().nodes.topology, Topology::Single));
    let read = settings(&[], &[CLUSTER]);
    let why = read.redis.node.place().address.expect_err("nobody has told yet");
    assert!(why.contains("the cluster"), "{why}");
    assert!(read.nodes.sentinels().is_none());
}

#[test]
fn what_is_said_of_redis_is_said_of_every_node_of_a_cluster() {
    let env = [
        CLUSTER,
        ("REDIS_USERNAME", "u"),
        ("REDIS_PASSWORD", "pw"),
        ("REDIS_DB", "3"),
        ("REDIS_TLS", "on"),
        ("REDIS_ADDRESS_MAP", "a:1=b:2"),
    ];
    let read = settings(&[], &env);
    assert_eq!(
        (read.redis.login.username.as_deref(), read.redis.login.password),
        (Some("u"), Some(Secret::new("pw")))
    );
    assert_eq!((read.redis.db, read.redis.tls), (3, Some(Tls::default())));
    assert_eq!(read.nodes.address_map.reach(&tcp("a", 1)), tcp("b", 2));
    let dir = tempfile::tempdir().unwrap();
    let password = file(&dir, "password", "SECRET\n");
    let read = settings(&[], &[CLUSTER, ("REDIS_PASSWORD_FILE", &password)]);
    assert!(read.redis.login.source.is_some(), "the file is read anew");
}

#[test]
fn a_url_names_a_cluster_and_the_login_of_redis() {
    let dir = tempfile::tempdir().unwrap();
    let url = ("REDIS_URL", "redis+cluster://u:SECRET@h1:7000,h2/5");
    assert_eq!(seeds(&[], &[url]), [tcp("h1", 7000), tcp("h2", 6379)]);
    let read = settings(&[], &[url]);
    assert_eq!(
        (read.redis.login.username.as_deref(), read.redis.login.password),
        (Some("u"), Some(Secret::new("SECRET")))
    );
    assert_eq!((read.redis.db, read.redis.tls), (5, None));
    assert_eq!(settings(&[], &[("REDIS_URL", "rediss+cluster://h1")]).redis.tls, Some(Tls::default()));
    let ca = file(&dir, "ca.pem", "x");
    let tls = settings(&[], &[("REDIS_URL", "rediss+cluster://h1"), ("REDIS_TLS_CA", &ca)]);
    assert!(tls.redis.tls.is_some());
    let path = file(&dir, "url", "redis+cluster://:SECRET@h1\n");
    assert_eq!(seeds(&[], &[("REDIS_URL_FILE", &path)]), [tcp("h1", 6379)]);

    for part in [
        CLUSTER,
        ("REDIS_SENTINELS", "h1"),
        ("REDIS_MASTER_NAME", "m"),
        ("REDIS_HOST", "h"),
        ("REDIS_PORT", "1"),
        ("REDIS_USERNAME", "u"),
        ("REDIS_PASSWORD", "SECRET"),
        ("REDIS_DB", "0"),
        ("REDIS_TLS_CA", &ca),
    ] {
        let text = error(&[], &[url, part]);
        assert!(text.starts_with("REDIS_URL (environment) and ") && text.contains(part.0), "{text}");
    }
}

#[test]
fn a_cluster_excludes_an_address_and_sentinels() {
    for part in
        [("REDIS_HOST", "h"), ("REDIS_PORT", "6379"), ("REDIS_SENTINELS", "h1"), ("REDIS_MASTER_NAME", "m")]
    {
        let text = error(&[], &[CLUSTER, part]);
        let expected = format!("REDIS_CLUSTER (environment) and {} (environment) are both set", part.0);
        assert!(text.starts_with(&expected), "{text}");
    }
    for url in ["redis://:SECRET@h", "redis+sentinel://h/m", "redis+cluster://h"] {
        let text = error(&[], &[CLUSTER, ("REDIS_URL", url)]);
        assert!(
            text.starts_with("REDIS_URL (environment) and REDIS_CLUSTER (environment) are both set"),
            "{text}"
        );
    }
    let text = error(&["--with-redis"], &[CLUSTER]);
    assert!(text.starts_with("WITH_REDIS (flag) and REDIS_CLUSTER (environment) are both set"), "{text}");
    assert!(!settings(&["--with-redis=auto"], &[CLUSTER]).with_redis, "it is an address");
    assert!(!settings(&["--with-redis=auto"], &[("REDIS_URL", "redis+cluster://h1")]).with_redis);
    assert_eq!(seeds(&[], &[CLUSTER, ("REDIS_PORT", "tcp://10.0.0.1:6379")]).len(), 2, "nobody's choice");
    for name in ["REDIS_SENTINEL_USERNAME", "REDIS_SENTINEL_PASSWORD", "REDIS_SENTINEL_TLS_SERVER_NAME"] {
        let text = error(&[], &[CLUSTER, (name, "SECRET")]);
        assert!(text.starts_with(&format!("{name} (environment) is set, and there are no sent")), "{text}");
    }
}

#[test]
fn print_config_shows_a_cluster() {
    let text = printed(&["--print-config"], &[CLUSTER, ("REDIS_PASSWORD", "SECRET")]);
    let rows: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let row = "REDIS_CLUSTER = \"h1:7000,h2:6379\" # environment";
    assert!(rows.iter().any(|found| found == row), "{row} is not in\n{text}");
    assert!(text.contains("Redis is the cluster of h1:7000,h2:6379, database 0"), "{text}");
}
