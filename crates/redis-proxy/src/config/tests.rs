//! The settings from the outside: `load` with an environment of the test's own.

use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use proptest::prelude::{Strategy, any, proptest};
use upstream::{Address, Secret, Tls};

use super::*;
use crate::live::LiveSettings;

mod cluster;
mod listeners;
mod nodes;
mod password_command;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn load_with(args: &[&str], env: Pairs<'_>) -> Result<Invocation, ConfigError> {
    let args = ["redis-proxy"].iter().chain(args).map(OsString::from);
    load(args, |name| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
}

fn settings(args: &[&str], env: Pairs<'_>) -> Settings {
    match load_with(args, env) {
        Ok(Invocation::Run(settings)) => *settings,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

fn error(args: &[&str], env: Pairs<'_>) -> String {
    let text = load_with(args, env).expect_err(&format!("{args:?} {env:?}")).to_string();
    assert!(!text.contains(['\n', '\r']) && !text.contains("SECRET"), "{text}");
    text
}

fn printed(args: &[&str], env: Pairs<'_>) -> String {
    match load_with(args, env) {
        Ok(Invocation::Done(text)) => text,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_client_of_the_loopback_is_known_by_its_own_address() {
    let allows = |admin: ProxyAdmin, client: &str| admin.allows(Some(client.parse().expect("an address")));
    for (client, is_local) in [
        ("127.0.0.1", true),
        ("127.9.9.9", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("10.0.0.1", false),
        ("::ffff:10.0.0.1", false),
        ("fe80::1", false),
    ] {
        assert_eq!(allows(ProxyAdmin::Loopback, client), is_local, "{client}");
        assert!(allows(ProxyAdmin::All, client) && !allows(ProxyAdmin::Off, client), "{client}");
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = Settings::default();
    let at = |port| Some(ListenAddress::Tcp { host: "127.0.0.1".into(), port });
    assert_eq!((settings.http, settings.admin, settings.resp), (at(5000), at(5001), at(6380)));
    assert_eq!((settings.capacity, settings.capacity_bytes), (100_000, None));
    assert_eq!((settings.global_expiry, settings.max_value_bytes), (Duration::from_secs(60), 1 << 20));
    assert_eq!(
        settings.redis.node.place().address,
        Ok(Address::Tcp { host: "127.0.0.1".into(), port: 6379 })
    );
    assert_eq!((settings.redis.limits.max_reply_bytes(), settings.redis.db), (32 << 20, 0));
    assert!(settings.redis.tls.is_none() && settings.redis.login.password.is_none() && !settings.with_redis);
    assert!(settings.workers >= 1);
    assert_eq!((settings.max_inflight, settings.max_key_bytes, settings.access_log), (10_000, 16 << 10, 0));
}

#[test]
fn each_front_has_its_coherence_and_the_switch_of_old_refuses_the_start() {
    let modes = |env: Pairs<'_>| (settings(&[], env).coherence.mode, settings(&[], env).resp_coherence);
    assert_eq!(modes(&[]), (Mode::Ttl, Some(Mode::Tracking)));
    for mode in [Mode::Ttl, Mode::Tracking, Mode::Strict] {
        assert_eq!(modes(&[("RESP_COHERENCE", mode.name())]), (Mode::Ttl, Some(mode)));
        assert_eq!(modes(&[("COHERENCE", mode.name())]), (mode, Some(Mode::Tracking)));
    }
    assert_eq!(modes(&[("RESP_COHERENCE", "off")]), (Mode::Ttl, None));
    assert!(error(&[], &[("COHERENCE", "off")]).contains("expected"), "HTTP is what the cache is for");
    assert!(error(&[], &[("RESP_COHERENCE", "on")]).contains("expected tracking or strict or ttl or off"));
    for value in ["on", "off", "SECRET"] {
        let gone = "RESP_CACHE (environment) is gone: set RESP_COHERENCE";
        assert_eq!(error(&[], &[("RESP_CACHE", value), ("RESP_COHERENCE", "ttl")]), gone);
        let flag = format!("--resp-cache={value}");
        assert_eq!(error(&[&flag], &[]), "RESP_CACHE (flag) is gone: set RESP_COHERENCE");
    }
    assert_eq!(error(&["--resp-cache"], &[]), "RESP_CACHE (flag) is gone: set RESP_COHERENCE");
    assert_eq!(modes(&[("RESP_CACHE", "")]), (Mode::Ttl, Some(Mode::Tracking)), "not set");
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "c.toml", "resp_cache = true\n");
    assert_eq!(
        error(&["--config", &path], &[]),
        format!("RESP_CACHE ({path}:1) is gone: set RESP_COHERENCE")
    );
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "f.toml", "capacity = 1\nglobal_expiry = 2.5\nmax_headers = \"30\"\n");
    let config = ["--config", path.as_str()];
    assert_eq!(settings(&config, &[]).capacity, 1);
    assert_eq!(settings(&config, &[]).global_expiry, Duration::from_millis(2500));
    assert_eq!(settings(&config, &[]).max_headers, 30);
    assert_eq!(settings(&config, &[("CAPACITY", "2")]).capacity, 2);
    assert_eq!(settings(&["--config", &path, "--capacity", "3"], &[("CAPACITY", "2")]).capacity, 3);
    assert_eq!(settings(&["--capacity=3"], &[("CAPACITY", "2")]).capacity, 3);
}

#[test]
fn an_empty_variable_is_not_set() {
    let env = [("CAPACITY", ""), ("REDIS_URL", ""), ("REDIS_HOST", "cache"), ("REDIS_PASSWORD", "")];
    assert_eq!(settings(&[], &env).capacity, 100_000);
    assert_eq!(settings(&[], &env).redis.login.password, None);
}

#[test]
fn off_auto_and_zero_have_their_meaning() {
    let env = [
        ("PORT", "off"),
        ("ADMIN_PORT", "0"),
        ("WORKERS", "auto"),
        ("ACCESS_LOG", "off"),
        ("CAPACITY_BYTES", "off"),
    ];
    let settings = settings(&[], &env);
    let any = ListenAddress::Tcp { host: "127.0.0.1".into(), port: 0 };
    assert_eq!((settings.http, settings.admin), (None, Some(any)));
    assert_eq!((settings.access_log, settings.capacity_bytes), (0, None));
}

#[test]
fn a_bad_value_is_named_with_what_is_accepted() {
    let cases = [
        ("CAPACITY", "0", "from 1 to 1000000000"),
        ("CAPACITY", "-5", "from 1 to 1000000000"),
        ("CAPACITY", "1.5", "a whole number"),
        ("CAPACITY", "+1", "a whole number"),
        ("CAPACITY", "99999999999999999999999", "a whole number"),
        ("CAPACITY", "ten", "a whole number"),
        ("CAPACITY_BYTES", "1k", "from 1MiB to 64TiB"),
        ("CAPACITY_BYTES", "none", "or \"off\""),
        ("GLOBAL_EXPIRY", "0", "from 1ms to 3650d"),
        ("GLOBAL_EXPIRY", "soon", "a bare number is seconds"),
        ("GLOBAL_EXPIRY", "-1s", "from 1ms to 3650d"),
        ("GLOBAL_EXPIRY", "99999999999999999999s", "from 1ms to 3650d"),
        ("GLOBAL_EXPIRY", "0.0001", "from 1ms to 3650d"),
        ("PORT", "99999", "from 0 (any free one) to 65535"),
        ("PORT", "-1", "or \"off\""),
        ("PORT", "http", "or \"off\""),
        ("ADMIN_PORT", "65536", "to 65535"),
        ("HOST", "127.0.0.1:5000", "without port"),
        ("HOST", " ", "a host name or an IP address"),
        ("REDIS_HOST", "redis://cache", "a host name or an IP address"),
        ("REDIS_PORT", "0", "from 1 to 65535"),
        ("REDIS_PORT", "tcp://10.0.0.1", "or tcp://host:port"),
        ("REDIS_DB", "-1", "from 0 to 2147483647"),
        ("REDIS_USERNAME", "a\nb", "without control characters"),
        ("REDIS_TLS", "maybe", "on or off"),
        ("WITH_REDIS", "perhaps", "on, off or auto"),
        ("WORKERS", "0", "from 1 to 1024 or \"auto\""),
        ("LOG", "verbose", "error, warn, info"),
        ("LOG_FORMAT", "xml", "text or json"),
        ("ACCESS_LOG", "-1", "or \"off\""),
        ("MAX_REPLY_BYTES", "9EiB", "from 1KiB to 512MiB"),
        ("MAX_KEY_BYTES", "16 Kelvin", "a size"),
        ("HEAD_TIMEOUT", "0", "from 10ms"),
        ("HTTP_CACHE_CONTROL", "no-cache\r\nX: y", "visible ASCII"),
        ("HTTP_CACHE_CONTROL", "é", "visible ASCII"),
    ];
    for (name, value, expected) in cases {
        let shown = format!("{name}={value:?} (environment) is not accepted: expected ");
        let text = error(&[], &[(name, value)]);
        assert!(text.starts_with(&shown) && text.contains(expected), "{text}");
        let flag = format!("--{}={value}", name.to_lowercase().replace('_', "-"));
        let text = error(&[&flag], &[]);
        assert!(text.starts_with(&shown.replace("environment", "flag")), "{text}");
    }
    assert!(error(&["--capacity", "-5"], &[]).starts_with("CAPACITY=\"-5\" (flag) is not accepted"));
}

#[test]
fn a_bad_value_in_the_file_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "f.toml", "# comment\nport = 1\ncapacity = 0\n");
    let text = error(&["--config", &path], &[]);
    assert!(text.starts_with("CAPACITY=\"0\" (") && text.contains("f.toml:3) is not accepted"), "{text}");
    assert!(
        error(&["--config", "/nowhere/f.toml"], &[])
            .starts_with("--config \"/nowhere/f.toml\": No such file")
    );
}

#[test]
fn a_variable_that_is_not_utf8_is_refused() {
    for name in ["CAPACITY", "HOST", "REDIS_PASSWORD", "REDIS_URL", "LOG", "REDIS_TLS_CA"] {
        let env = |key: &str| (key == name).then(|| OsString::from_vec(b"SECRET\xff".to_vec()));
        let text = load([OsString::from("redis-proxy")], env).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{name}=")) && text.contains("expected"), "{text}");
        assert!(
            !(name.starts_with("REDIS_P") || name.starts_with("REDIS_U")) || !text.contains("SECRET"),
            "{text}"
        );
    }
}

#[test]
fn a_url_and_a_part_are_both_named() {
    let parts = [
        ("REDIS_HOST", "h"),
        ("REDIS_PORT", "1"),
        ("REDIS_USERNAME", "u"),
        ("REDIS_PASSWORD", "SECRET"),
        ("REDIS_DB", "0"),
    ];
    for part in parts {
        let text = error(&[], &[("REDIS_URL", "redis://u:SECRET@cache"), part]);
        assert!(text.starts_with("REDIS_URL (environment)") && text.contains(part.0), "{text}");
    }
    let text = error(&["--redis-url", "redis://cache"], &[("REDIS_HOST", "h")]);
    assert_eq!(
        text,
        "REDIS_URL (flag) and REDIS_HOST (environment) are both set: give the address as a URL or in parts"
    );
}

#[test]
fn a_bad_url_is_shown_without_its_password() {
    for url in [
        "redis://:SECRET@cache/x",
        "redis://u:SECRET",
        "http://SECRET",
        "redis://:SEC#SECRET@h",
        "SECRET",
        "rediss://h?p=SECRET",
    ] {
        let text = error(&[], &[("REDIS_URL", url)]);
        assert!(
            text.starts_with("REDIS_URL=\"") && text.contains("***") && text.contains("unix:///path"),
            "{text}"
        );
    }
}

#[test]
fn the_port_that_kubernetes_injects_is_understood() {
    let injected = ("REDIS_PORT", "tcp://10.0.0.1:6380");
    let tcp = |host: &str, port| Address::Tcp { host: host.into(), port };
    assert_eq!(settings(&[], &[injected]).redis.node.place().address, Ok(tcp("10.0.0.1", 6380)));
    assert_eq!(
        settings(&[], &[injected, ("REDIS_HOST", "cache")]).redis.node.place().address,
        Ok(tcp("cache", 6380))
    );
    assert_eq!(
        settings(&["--redis-port", "1"], &[injected]).redis.node.place().address,
        Ok(tcp("127.0.0.1", 1))
    );
    assert_eq!(
        settings(&[], &[injected, ("REDIS_URL", "redis://cache")]).redis.node.place().address,
        Ok(tcp("cache", 6379))
    );
    assert!(settings(&["--with-redis"], &[injected]).with_redis);
    assert!(!settings(&["--with-redis=auto"], &[injected]).with_redis);
    let text = error(&["--redis-url=redis://cache", "--redis-port=tcp://10.0.0.1:1"], &[]);
    assert!(text.contains("REDIS_URL") && text.contains("REDIS_PORT"), "{text}");
}

#[test]
fn a_redis_of_our_own_excludes_an_address() {
    for other in [
        ("REDIS_URL", "redis://:SECRET@h"),
        ("REDIS_HOST", "h"),
        ("REDIS_PORT", "1"),
        ("REDIS_PASSWORD", "SECRET"),
        ("REDIS_TLS", "on"),
    ] {
        let text = error(&["--with-redis"], &[other]);
        assert!(text.starts_with("WITH_REDIS (flag) and ") && text.contains(other.0), "{text}");
        assert!(text.contains("are both set"), "{text}");
    }
    assert!(settings(&["--with-redis"], &[]).with_redis);
    assert!(settings(&["--with-redis"], &[("REDIS_DB", "2"), ("REDIS_TLS", "off")]).with_redis);
    assert!(settings(&[], &[("WITH_REDIS", "auto")]).with_redis);
    assert!(!settings(&[], &[("WITH_REDIS", "auto"), ("REDIS_HOST", "h")]).with_redis);
    assert!(!settings(&["--with-redis=off"], &[("WITH_REDIS", "on"), ("REDIS_HOST", "h")]).with_redis);
}

#[test]
fn tls_comes_with_rediss_or_with_any_of_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, key) = (file(&dir, "ca.pem", "x"), file(&dir, "key.pem", "x"));
    let tls = |env: Pairs<'_>| settings(&[], env).redis.tls;
    assert_eq!(tls(&[("REDIS_TLS", "on")]), Some(Tls::default()));
    assert_eq!(tls(&[("REDIS_URL", "rediss://h")]), Some(Tls::default()));
    assert_eq!(tls(&[("REDIS_URL", "rediss://h"), ("REDIS_TLS", "on")]), Some(Tls::default()));
    assert_eq!(tls(&[("REDIS_URL", "redis://h"), ("REDIS_TLS", "off")]), None);
    let expected = Some(Tls { ca: Some(ca.clone().into()), ..Tls::default() });
    assert_eq!(tls(&[("REDIS_TLS_CA", &ca)]), expected);
    assert_eq!(tls(&[("REDIS_URL", "rediss://h"), ("REDIS_TLS_CA", &ca)]), expected);
    assert!(tls(&[("REDIS_TLS_CERT", &ca), ("REDIS_TLS_KEY", &key)]).is_some());

    let conflicts: [(Pairs<'_>, [&str; 2]); 7] = [
        (&[("REDIS_URL", "redis://h"), ("REDIS_TLS_CA", &ca)], ["REDIS_URL", "REDIS_TLS_CA"]),
        (&[("REDIS_URL", "redis://h"), ("REDIS_TLS", "on")], ["REDIS_URL", "REDIS_TLS"]),
        (
            &[("REDIS_URL", "unix:///r"), ("REDIS_TLS_SERVER_NAME", "h")],
            ["REDIS_URL", "REDIS_TLS_SERVER_NAME"],
        ),
        (&[("REDIS_URL", "rediss://h"), ("REDIS_TLS", "off")], ["REDIS_URL", "REDIS_TLS"]),
        (&[("REDIS_TLS", "off"), ("REDIS_TLS_CA", &ca)], ["REDIS_TLS ", "REDIS_TLS_CA"]),
        (&[("REDIS_TLS_CERT", &ca)], ["REDIS_TLS_CERT", "without REDIS_TLS_KEY"]),
        (&[("REDIS_TLS_KEY", &key)], ["REDIS_TLS_KEY", "without REDIS_TLS_CERT"]),
    ];
    for (env, names) in conflicts {
        let text = error(&[], env);
        assert!(names.iter().all(|name| text.contains(name)), "{text}");
    }
    for name in ["REDIS_TLS_CA", "REDIS_PASSWORD_FILE", "REDIS_URL_FILE"] {
        let text = error(&["--check-config"], &[(name, "/nowhere/x.pem")]);
        assert!(text.starts_with(&format!("{name}=\"/nowhere/x.pem\" (environment): ")), "{text}");
        assert!(text.contains("No such file"), "{text}");
    }
}

#[test]
fn a_secret_comes_from_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let password = file(&dir, "password", "SECRET \n");
    let url = file(&dir, "url", "redis://:SECRET@cache:7000/2\r\n");
    let empty = file(&dir, "empty", "\n");
    assert_eq!(
        settings(&[], &[("REDIS_PASSWORD_FILE", &password)]).redis.login.password,
        Some(Secret::new("SECRET "))
    );
    let redis = settings(&[], &[("REDIS_URL_FILE", &url)]).redis;
    assert_eq!((redis.login.password, redis.db), (Some(Secret::new("SECRET")), 2));

    let text = error(&[], &[("REDIS_PASSWORD_FILE", &password), ("REDIS_PASSWORD", "SECRET")]);
    assert!(
        text.starts_with("REDIS_PASSWORD (environment) and REDIS_PASSWORD_FILE (environment) are both set"),
        "{text}"
    );
    let text = error(&[], &[("REDIS_URL_FILE", &url), ("REDIS_HOST", "h")]);
    assert!(text.starts_with("REDIS_URL_FILE (environment) and REDIS_HOST"), "{text}");
    let text = error(&[], &[("REDIS_URL_FILE", &password)]);
    assert!(text.starts_with("REDIS_URL_FILE=\"***\""), "{text}");
    assert!(error(&[], &[("REDIS_PASSWORD_FILE", &empty)]).ends_with("it is empty"));
    assert!(
        error(&[], &[("REDIS_PASSWORD_FILE", dir.path().to_str().unwrap())]).ends_with("it is a directory")
    );
}

#[test]
fn a_user_without_a_password_is_refused() {
    assert!(error(&[], &[("REDIS_USERNAME", "u")]).contains("without REDIS_PASSWORD"));
    let redis = settings(&[], &[("REDIS_USERNAME", "u"), ("REDIS_PASSWORD", "p")]).redis;
    assert_eq!((redis.login.username.as_deref(), redis.login.password), (Some("u"), Some(Secret::new("p"))));
}

#[test]
fn settings_that_contradict_each_other_are_both_named() {
    let text = error(&[], &[("MAX_TARGET_BYTES", "1000")]);
    assert!(text.contains("MAX_TARGET_BYTES=1000") && text.contains("MAX_KEY_BYTES=16384"), "{text}");
    let text = error(&[], &[("ADMIN_PORT", "5000")]);
    assert!(text.contains("PORT=5000") && text.contains("ADMIN_PORT=5000"), "{text}");
    assert_eq!(
        settings(&[], &[("ADMIN_PORT", "5000"), ("HOST", "::1")]).http.unwrap().to_string(),
        "::1:5000"
    );
    assert_eq!(settings(&[], &[("ADMIN_PORT", "0"), ("PORT", "0")]).http.unwrap().to_string(), "127.0.0.1:0");
}

#[test]
fn print_config_masks_secrets_and_names_sources() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "f.toml", "\nmax_headers = 20\n");
    let env = [("REDIS_PASSWORD", "SECRET"), ("GLOBAL_EXPIRY", "90"), ("REDIS_USERNAME", "me")];
    let text = printed(&["--config", &path, "--capacity", "7", "--print-config"], &env);
    assert!(!text.contains("SECRET"), "{text}");
    let rows: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for row in [
        "CAPACITY = 7 # flag",
        "GLOBAL_EXPIRY = \"1m30s\" # environment",
        "REDIS_PASSWORD = \"***\" # environment",
        "HOST = \"127.0.0.1\" # default",
        "# REDIS_URL # not set",
        &format!("MAX_HEADERS = 20 # {path}:2"),
    ] {
        assert!(rows.iter().any(|found| found == row), "{row} is not in\n{text}");
    }
    assert_eq!(rows.len(), table::all().count() + 1);
    let text = printed(&["--print-config"], &[("REDIS_URL", "rediss://u:SECRET@cache:7000/3")]);
    assert!(text.contains("REDIS_URL = \"rediss://***@cache:7000/3\"") && !text.contains("SECRET"), "{text}");
    assert!(text.contains("Redis is cache:7000, database 3, with TLS, as user \"u\""), "{text}");
}

#[test]
fn help_and_version_and_check_end_well() {
    assert_eq!(printed(&["--version"], &[]), format!("redis-proxy {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(printed(&["--check-config"], &[]), "the settings are good\n");
    let help = printed(&["--help"], &[("REDIS_PASSWORD", "SECRET")]);
    for setting in table::all() {
        assert!(
            help.contains(&format!("--{}", setting.flag())) && help.contains(setting.name),
            "{}",
            setting.name
        );
    }
    assert!(!help.contains("SECRET"));
}

#[test]
fn every_default_is_accepted_and_reads_as_written() {
    for setting in table::all().filter(|setting| !setting.default.is_empty()) {
        let value = setting.accepts.parse(setting.default).unwrap();
        let shown = setting.accepts.show(&value);
        assert_eq!(setting.accepts.parse(&shown), Some(value), "{}", setting.name);
    }
}

/// Texts that come near to what some setting accepts, and texts that do not.
const NEARLY: &str = "\\PC*|[0-9.]{0,30}[a-zA-Zµ ]{0,5}[0-9]{0,25}[smhdwKiB]{0,3}|(redis|rediss|unix|tcp|redis\\+sentinel|redis\\+cluster)://.*|[a-z0-9.,:=\\[\\]]{0,30}";
const NEARLY_URL: &str = "(redis|rediss|unix|rediss?\\+sentinel|rediss?\\+cluster)://[a-z]{0,3}:XSECRETX[/?#:.%a-z0-9]{0,4}@[a-z:/?#@\\[\\]0-9%]{0,12}";

fn any_setting() -> impl Strategy<Value = &'static str> {
    let names: Vec<&str> = table::all().map(|setting| setting.name).collect();
    proptest::sample::select(names)
}

fn any_arguments() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..4)
}

proptest! {
    #[test]
    fn no_text_makes_a_setting_panic(name in any_setting(), text in NEARLY) {
        if let Err(error) = load_with(&[], &[(name, &text)]) {
            let shown = error.to_string();
            assert!(shown.contains(name) && !shown.contains(['\n', '\r']), "{shown}");
        }
    }

    #[test]
    fn no_bytes_make_the_command_line_panic(args in any_arguments()) {
        let args = args.into_iter().map(OsString::from_vec);
        let _ = load(std::iter::once(OsString::from("redis-proxy")).chain(args), |_| None);
    }

    #[test]
    fn no_url_panics_or_shows_its_password(text in NEARLY_URL) {
        if let Err(error) = load_with(&[], &[("REDIS_URL", &text)]) {
            assert!(!error.to_string().contains("XSECRETX"), "{error}");
        }
    }
}

#[test]
fn ports_that_kubernetes_injects_are_ignored_where_they_are_no_ports_of_ours() {
    for scheme in ["tcp", "udp", "sctp"] {
        let text = format!("{scheme}://10.0.0.1:80");
        let read = settings(&[], &[("ADMIN_PORT", &text), ("RESP_PORT", &text)]);
        assert_eq!((read.admin, read.resp), (Settings::default().admin, Settings::default().resp));
        assert_eq!(read.injected, ["ADMIN_PORT", "RESP_PORT"]);
        let read = settings(&["--admin-port=7"], &[("ADMIN_PORT", &text)]);
        assert_eq!(read.admin.unwrap().to_string(), "127.0.0.1:7");
    }
    for text in ["tcp://10.0.0.1", "tcp://", "http://10.0.0.1:80", "10.0.0.1:80"] {
        assert!(error(&[], &[("ADMIN_PORT", text)]).starts_with("ADMIN_PORT="), "{text}");
    }
    assert!(error(&["--resp-port=tcp://10.0.0.1:80"], &[]).starts_with("RESP_PORT="), "a flag is a choice");
    // No service has an empty name.
    assert!(error(&[], &[("PORT", "tcp://10.0.0.1:80")]).starts_with("PORT="));
}

/// One of these is another value of nearly every setting.
const OTHER_VALUES: [&str; 22] = [
    "3",
    "77",
    "1234",
    "20000",
    "77s",
    "200ms",
    "2MiB",
    "on",
    "off",
    "all",
    "warn",
    "json",
    "proxy",
    "strict",
    "emulate",
    "0600",
    "none",
    "a.example",
    "https://a.example",
    "text/plain",
    "no-store",
    "a.example:7000",
];

#[test]
fn a_reload_takes_over_what_it_says_and_nothing_else() {
    let live = |settings: &Settings| format!("{:?}", LiveSettings::of(settings));
    let before = Settings::default();
    let mut untried = Vec::new();
    for setting in table::all() {
        let other = OTHER_VALUES.iter().find_map(|value| {
            let Ok(Invocation::Run(settings)) = load_with(&[], &[(setting.name, value)]) else { return None };
            (settings.named.differing(&before.named) == [setting.name]).then_some(settings)
        });
        match other {
            Some(other) => assert_eq!(
                live(&other) != live(&before),
                LiveSettings::NAMES.contains(&setting.name),
                "{}",
                setting.name
            ),
            None => untried.push(setting.name),
        }
    }
    // Files, and what goes with something else; `access`, `tls` and `reload` have tests of those that a reload takes over.
    untried.retain(|name| LiveSettings::NAMES.contains(name));
    let elsewhere = [
        "READ_TOKEN_FILE",
        "READ_TOKENS_FILE",
        "ADMIN_TOKEN_FILE",
        "TLS_CERT",
        "TLS_KEY",
        "TLS_PORTS",
        "TLS_CLIENT_CA",
        "TLS_CLIENT_PORTS",
    ];
    assert_eq!(untried, elsewhere);
    let known: Vec<_> = table::all().map(|setting| setting.name).collect();
    assert!(LiveSettings::NAMES.iter().all(|name| known.contains(name)));
}
