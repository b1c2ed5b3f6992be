//! Sentinels, their login, and what else is said of a primary that moves.

use std::time::Duration;

use upstream::{Address, Secret, Tls};

use super::{Pairs, Settings, error, file, printed, settings};
use crate::config::nodes::SentinelSettings;

const SENTINELS: (&str, &str) = ("REDIS_SENTINELS", "h1:26379, h2");
const NAME: (&str, &str) = ("REDIS_MASTER_NAME", "mymaster");

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.into(), port }
}

fn sentinels(env: Pairs<'_>) -> SentinelSettings {
    settings(&[], env).nodes.sentinels().cloned().expect("sentinels")
}

#[test]
fn sentinels_and_the_name_of_the_primary_go_together() {
    let read = sentinels(&[SENTINELS, NAME]);
    assert_eq!(
        (read.addresses, read.master_name.as_str()),
        (vec![tcp("h1", 26_379), tcp("h2", 26_379)], "mymaster")
    );
    assert!(
        read.username.is_none() && read.password.is_none() && read.source.is_none() && read.tls.is_none()
    );
    let v6 = sentinels(&[("REDIS_SENTINELS", "[::1]:7,[::2]"), NAME]);
    assert_eq!(v6.addresses, [tcp("::1", 7), tcp("::2", 26_379)]);
    assert_eq!(error(&[], &[SENTINELS]), "REDIS_SENTINELS (environment) is set without REDIS_MASTER_NAME");
    assert_eq!(error(&[], &[NAME]), "REDIS_MASTER_NAME (environment) is set without REDIS_SENTINELS");
    for text in ["h1,", "h1;h2", "::1", "::1:26379", "h1:0", "h1:99999", "redis://h1", "h1:port", ","] {
        let text = error(&[], &[("REDIS_SENTINELS", text), NAME]);
        assert!(text.starts_with("REDIS_SENTINELS=") && text.contains("that of 26379"), "{text}");
    }
    assert!(Settings::default().nodes.sentinels().is_none());
}

#[test]
fn what_is_said_of_redis_goes_with_sentinels_and_is_not_theirs() {
    let redis = [("REDIS_USERNAME", "u"), ("REDIS_PASSWORD", "pw"), ("REDIS_DB", "3"), ("REDIS_TLS", "on")];
    let read = settings(&[], &[SENTINELS, NAME, redis[0], redis[1], redis[2], redis[3]]);
    assert_eq!(
        (read.redis.login.username.as_deref(), read.redis.login.password),
        (Some("u"), Some(Secret::new("pw")))
    );
    assert_eq!((read.redis.db, read.redis.tls), (3, Some(Tls::default())));
    let theirs = read.nodes.sentinels().cloned().expect("sentinels");
    assert!(theirs.username.is_none() && theirs.password.is_none() && theirs.tls.is_none());
}

#[test]
fn sentinels_have_a_login_and_tls_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, password) = (file(&dir, "ca.pem", "x"), file(&dir, "password", "SECRET\n"));
    let read = settings(
        &[],
        &[
            SENTINELS,
            NAME,
            ("REDIS_SENTINEL_USERNAME", "su"),
            ("REDIS_SENTINEL_PASSWORD", "spw"),
            ("REDIS_SENTINEL_TLS_CA", &ca),
            ("REDIS_SENTINEL_TLS_SERVER_NAME", "sentinel.test"),
        ],
    );
    assert!(
        read.redis.login.username.is_none()
            && read.redis.login.password.is_none()
            && read.redis.tls.is_none()
    );
    let theirs = read.nodes.sentinels().cloned().expect("sentinels");
    assert_eq!((theirs.username.as_deref(), theirs.password), (Some("su"), Some(Secret::new("spw"))));
    let server_name = Some("sentinel.test".into());
    assert_eq!(theirs.tls, Some(Tls { ca: Some(ca.clone().into()), server_name, ..Tls::default() }));

    let from_file = sentinels(&[SENTINELS, NAME, ("REDIS_SENTINEL_PASSWORD_FILE", &password)]);
    assert_eq!(from_file.password, Some(Secret::new("SECRET")));
    assert!(from_file.source.is_some(), "the file is read anew");
    assert!(
        settings(&[], &[SENTINELS, NAME, ("REDIS_SENTINEL_PASSWORD_FILE", &password)])
            .redis
            .login
            .source
            .is_none()
    );

    let tls = |env: (&str, &str)| sentinels(&[SENTINELS, NAME, env]).tls;
    assert_eq!(tls(("REDIS_SENTINEL_TLS", "on")), Some(Tls::default()));
    assert_eq!(tls(("REDIS_SENTINEL_TLS", "off")), None);
    assert_eq!(tls(("REDIS_TLS", "on")), None);
    let cases: [(Pairs<'_>, [&str; 2]); 4] = [
        (&[("REDIS_SENTINEL_USERNAME", "u")], ["REDIS_SENTINEL_USERNAME", "without REDIS_SENTINEL_PASSWORD"]),
        (&[("REDIS_SENTINEL_TLS", "off"), ("REDIS_SENTINEL_TLS_CA", &ca)], ["REDIS_SENTINEL_TLS ", "TLS_CA"]),
        (&[("REDIS_SENTINEL_TLS_CERT", &ca)], ["REDIS_SENTINEL_TLS_CERT", "without REDIS_SENTINEL_TLS_KEY"]),
        (&[("REDIS_SENTINEL_TLS_CA", "/nowhere")], ["REDIS_SENTINEL_TLS_CA=", "No such file"]),
    ];
    for (env, words) in cases {
        let text = error(&[], &[&[SENTINELS, NAME], env].concat());
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn a_url_names_sentinels_and_the_login_of_redis() {
    let dir = tempfile::tempdir().unwrap();
    let url = ("REDIS_URL", "redis+sentinel://u:SECRET@h1:7,h2/mymaster/5");
    let read = settings(&[], &[url, ("REDIS_SENTINEL_PASSWORD", "spw")]);
    assert_eq!(
        (read.redis.login.username.as_deref(), read.redis.login.password),
        (Some("u"), Some(Secret::new("SECRET")))
    );
    assert_eq!((read.redis.db, read.redis.tls), (5, None));
    let theirs = read.nodes.sentinels().cloned().expect("sentinels");
    assert_eq!(
        (theirs.addresses, theirs.master_name.as_str()),
        (vec![tcp("h1", 7), tcp("h2", 26_379)], "mymaster")
    );
    assert_eq!((theirs.username, theirs.password, theirs.tls), (None, Some(Secret::new("spw")), None));
    let tls = settings(&[], &[("REDIS_URL", "rediss+sentinel://h1/m")]);
    assert_eq!(tls.redis.tls, Some(Tls::default()));
    assert_eq!(tls.nodes.sentinels().cloned().expect("sentinels").tls, None);
    let ca = file(&dir, "ca.pem", "x");
    assert!(
        settings(&[], &[("REDIS_URL", "rediss+sentinel://h1/m"), ("REDIS_TLS_CA", &ca)]).redis.tls.is_some()
    );
    let path = file(&dir, "url", "redis+sentinel://:SECRET@h1/m\n");
    assert!(settings(&[], &[("REDIS_URL_FILE", &path)]).nodes.sentinels().is_some());

    let cases = [
        SENTINELS,
        NAME,
        ("REDIS_HOST", "h"),
        ("REDIS_PORT", "1"),
        ("REDIS_USERNAME", "u"),
        ("REDIS_PASSWORD", "SECRET"),
        ("REDIS_DB", "0"),
        ("REDIS_TLS_CA", &ca),
    ];
    for part in cases {
        let text = error(&[], &[url, part]);
        assert!(text.starts_with("REDIS_URL (environment) and ") && text.contains(part.0), "{text}");
    }
}

#[test]
fn sentinels_exclude_an_address() {
    for part in [("REDIS_HOST", "h"), ("REDIS_PORT", "6379")] {
        let text = error(&[], &[SENTINELS, NAME, part]);
        assert!(text.starts_with("REDIS_SENTINELS (environment) and ") && text.contains(part.0), "{text}");
        assert!(text.contains("are both set"), "{text}");
    }
    let text = error(&[], &[SENTINELS, NAME, ("REDIS_URL", "redis://:SECRET@h")]);
    assert!(
        text.starts_with("REDIS_URL (environment) and REDIS_SENTINELS (environment) are both set"),
        "{text}"
    );
    let text = error(&["--with-redis"], &[SENTINELS, NAME]);
    assert!(text.starts_with("WITH_REDIS (flag) and REDIS_SENTINELS (environment) are both set"), "{text}");
    assert!(!settings(&["--with-redis=auto"], &[SENTINELS, NAME]).with_redis, "they are an address");
    assert!(!settings(&["--with-redis=auto"], &[("REDIS_URL", "redis+sentinel://h1/m")]).with_redis);
    let injected = ("REDIS_PORT", "tcp://10.0.0.1:6379");
    assert!(settings(&[], &[SENTINELS, NAME, injected]).nodes.sentinels().is_some(), "it is nobody's choice");
}

#[test]
fn a_login_for_sentinels_without_sentinels_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let secret = file(&dir, "secret", "SECRET");
    for (name, value) in [
        ("REDIS_SENTINEL_USERNAME", "u"),
        ("REDIS_SENTINEL_PASSWORD", "SECRET"),
        ("REDIS_SENTINEL_PASSWORD_FILE", &secret),
        ("REDIS_SENTINEL_TLS", "off"),
        ("REDIS_SENTINEL_TLS_CA", &secret),
        ("REDIS_SENTINEL_TLS_CERT", &secret),
        ("REDIS_SENTINEL_TLS_KEY", &secret),
        ("REDIS_SENTINEL_TLS_SERVER_NAME", "h"),
    ] {
        for other in [("REDIS_HOST", "h"), ("REDIS_URL", "redis://h"), ("WITH_REDIS", "on")] {
            let text = error(&[], &[(name, value), other]);
            assert!(
                text.starts_with(&format!("{name} (environment) is set, and there are no sentinels")),
                "{text}"
            );
        }
    }
}

#[test]
fn the_address_map_the_witnesses_and_the_renewed_login_have_their_values() {
    let nodes = |env: Pairs<'_>| settings(&[], env).nodes;
    let default = nodes(&[]);
    assert_eq!((default.witnesses, default.reauth), (true, None));
    assert_eq!(default.address_map.reach(&tcp("a", 1)), tcp("a", 1));
    let read = nodes(&[
        ("REDIS_ADDRESS_MAP", "a:1=b:2,[::1]:3=c:4"),
        ("REDIS_WITNESSES", "off"),
        ("REDIS_REAUTH", "10m"),
    ]);
    assert_eq!((read.witnesses, read.reauth), (false, Some(Duration::from_secs(600))));
    assert_eq!(read.address_map.reach(&tcp("a", 1)), tcp("b", 2));
    assert_eq!(read.address_map.reach(&tcp("::1", 3)), tcp("c", 4));
    assert_eq!(
        (nodes(&[("REDIS_WITNESSES", "auto")]).witnesses, nodes(&[("REDIS_REAUTH", "off")]).reauth),
        (true, None)
    );
    for (name, value, expected) in [
        ("REDIS_ADDRESS_MAP", "a=b:1", "host:port=host:port pairs"),
        ("REDIS_WITNESSES", "on", "auto or off"),
        ("REDIS_REAUTH", "0", "from 1s to 1d"),
        ("REDIS_REAUTH", "never", "or \"off\""),
    ] {
        let text = error(&[], &[(name, value)]);
        assert!(text.starts_with(&format!("{name}=\"{value}\"")) && text.contains(expected), "{text}");
    }
}

#[test]
fn print_config_shows_sentinels_and_masks_their_password() {
    let password = ("REDIS_SENTINEL_PASSWORD", "SECRET");
    let map = ("REDIS_ADDRESS_MAP", "[::1]:1=b:2");
    let text = printed(&["--print-config"], &[SENTINELS, NAME, password, map, ("REDIS_PASSWORD", "SECRET")]);
    assert!(!text.contains("SECRET"), "{text}");
    let rows: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for row in [
        "REDIS_SENTINELS = \"h1:26379,h2:26379\" # environment",
        "REDIS_MASTER_NAME = \"mymaster\" # environment",
        "REDIS_SENTINEL_PASSWORD = \"***\" # environment",
        "REDIS_ADDRESS_MAP = \"[::1]:1=b:2\" # environment",
        "REDIS_REAUTH = \"off\" # default",
    ] {
        assert!(rows.iter().any(|found| found == row), "{row} is not in\n{text}");
    }
    let place =
        "Redis is the primary \"mymaster\" of the sentinels h1:26379,h2:26379 with a password, database 0";
    assert!(text.contains(place), "{text}");
}
