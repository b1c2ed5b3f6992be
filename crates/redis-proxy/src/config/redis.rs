//! Which Redis: from the address in parts, in a URL, as injected by Kubernetes, or a Redis of our own.

use std::path::PathBuf;

use upstream::{Address, Endpoint, Secret, Source, Tls, Who};

use super::error::{ConfigError, quoted};
use super::given::{Given, Origin};
use super::redis_url::{self, RedisUrl};
use super::sources::{self, Values};
use super::value::{SettingKind, Value};

const TLS_PARTS: [&str; 4] = ["REDIS_TLS_CA", "REDIS_TLS_CERT", "REDIS_TLS_KEY", "REDIS_TLS_SERVER_NAME"];

/// The backing Redis, and whether it is one of our own (its address is then a placeholder).
///
/// # Errors
/// Settings that exclude each other, a bad URL, a TLS file that cannot be read.
pub(super) fn resolve(values: &Values) -> Result<(Endpoint, bool), ConfigError> {
    let with_redis = with_redis(values)?;
    let place = match url(values)? {
        Some(url) => url,
        None => parts(values)?,
    };
    let endpoint = Endpoint {
        address: place.address,
        tls: place.tls.then(|| tls(values)),
        source: source(values, &place.username, &place.password),
        username: place.username,
        password: place.password,
        proven: None,
        db: place.db,
        connect_timeout: values.time("REDIS_CONNECT_TIMEOUT"),
        silence_timeout: values.time("UPSTREAM_TIMEOUT"),
        ping_interval: values.time("REDIS_PING_INTERVAL"),
        max_reply_bytes: values.number("MAX_REPLY_BYTES"),
    };
    check_tls(values)?;
    Ok((endpoint, with_redis))
}

/// Where credentials that are in a file are read anew. A pipe is read once, and stays what it was.
fn source(values: &Values, username: &Option<String>, password: &Option<Secret>) -> Option<Source> {
    let first = Who { username: username.clone(), password: password.clone() };
    let file = values.secret_file("REDIS_PASSWORD_FILE").or_else(|| values.secret_file("REDIS_URL_FILE"))?;
    let is_url = file.name == "REDIS_URL_FILE";
    let user = username.clone();
    let read = move || {
        let text = file.read().map_err(|error| error.to_string())?;
        if !is_url {
            return Ok(Who { username: user.clone(), password: Some(Secret::new(text)) });
        }
        // Another address or database would be other data: they are taken at the start only.
        let url = redis_url::parse(&text).map_err(|why| format!("REDIS_URL_FILE: {why}"))?;
        Ok(Who { username: url.username, password: url.password })
    };
    Some(Source::new(first, read))
}

/// WITH_REDIS excludes everything that says where another Redis is or how to log in there.
fn with_redis(values: &Values) -> Result<bool, ConfigError> {
    let mut names =
        vec!["REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_TLS"];
    names.extend(TLS_PARTS);
    let mut address = names.iter().filter_map(|name| values.given(name)).filter(|given| !is(given, "off"));
    match (values.text("WITH_REDIS").as_str(), values.given("WITH_REDIS")) {
        ("on", Some(own)) => match address.find(|given| !is_injected(given)) {
            Some(other) => {
                Err(ConfigError::conflict(own, other, "use a Redis of our own or the one addressed"))
            }
            None => Ok(true),
        },
        ("auto", _) => Ok(address.next().is_none()),
        _ => Ok(false),
    }
}

/// Kubernetes sets REDIS_PORT for every pod beside a service named `redis`: nobody's choice, so no conflict.
fn is_injected(given: &Given) -> bool {
    given.origin == Origin::Environment && matches!(given.value, Value::Address { .. })
}

fn is(given: &Given, word: &str) -> bool {
    matches!(&given.value, Value::Text(text) if text == word && given.name == "REDIS_TLS")
}

/// The address from REDIS_URL, where that is set.
fn url(values: &Values) -> Result<Option<RedisUrl>, ConfigError> {
    let (Some(given), Some(text)) = (values.given("REDIS_URL"), values.given_text("REDIS_URL")) else {
        return Ok(None);
    };
    let parts = ["REDIS_HOST", "REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_DB"];
    if let Some(part) = parts.iter().filter_map(|name| values.given(name)).find(|part| !is_injected(part)) {
        return Err(ConfigError::conflict(given, part, "give the address as a URL or in parts"));
    }
    let url = redis_url::parse(text).map_err(|why| {
        let expected = format!("{}; {why}", SettingKind::Url.expected());
        ConfigError::bad_value(given.name, &redis_url::masked(text), &given.origin, &expected)
    })?;
    let switch = values.given("REDIS_TLS");
    let wish = TLS_PARTS
        .iter()
        .filter_map(|name| values.given(name))
        .chain(switch.filter(|tls| !is(tls, "off")))
        .next();
    let clash = if url.tls { switch.filter(|tls| is(tls, "off")) } else { wish };
    match clash {
        Some(tls) if url.tls => {
            Err(ConfigError::conflict(given, tls, "rediss:// is TLS; without it, redis://"))
        }
        Some(tls) => Err(ConfigError::conflict(given, tls, "TLS with a URL needs rediss://")),
        None => Ok(Some(url)),
    }
}

/// The address from REDIS_HOST, REDIS_PORT and so on.
fn parts(values: &Values) -> Result<RedisUrl, ConfigError> {
    let (injected_host, port) = match values.value("REDIS_PORT") {
        Value::Address { host, port } => (Some(host), port),
        other => (None, if let Value::Number(port) = other { u16::try_from(port).unwrap_or(0) } else { 0 }),
    };
    let host = match (values.given("REDIS_HOST"), injected_host) {
        (None, Some(host)) => host,
        _ => values.text("REDIS_HOST"),
    };
    if let (Some(user), None) = (values.given("REDIS_USERNAME"), values.given("REDIS_PASSWORD")) {
        let origin = &user.origin;
        return Err(ConfigError::other(format!("REDIS_USERNAME ({origin}) is set without REDIS_PASSWORD")));
    }
    let wish = TLS_PARTS.iter().find_map(|name| values.given(name));
    let tls = match (values.given("REDIS_TLS"), wish) {
        (Some(off), Some(part)) if is(off, "off") => {
            return Err(ConfigError::conflict(off, part, "leave one of them out"));
        }
        (Some(switch), _) => !is(switch, "off"),
        (None, wish) => wish.is_some(),
    };
    Ok(RedisUrl {
        address: Address::Tcp { host, port },
        tls,
        username: values.given_text("REDIS_USERNAME").map(String::from),
        password: values.given_text("REDIS_PASSWORD").map(Secret::new),
        db: u32::try_from(values.number("REDIS_DB")).unwrap_or(u32::MAX),
    })
}

fn tls(values: &Values) -> Tls {
    let path = |name| values.given_text(name).map(PathBuf::from);
    Tls {
        ca: path("REDIS_TLS_CA"),
        cert: path("REDIS_TLS_CERT"),
        key: path("REDIS_TLS_KEY"),
        server_name: values.given_text("REDIS_TLS_SERVER_NAME").map(String::from),
    }
}

/// Certificate and key go together, and every file can be read.
fn check_tls(values: &Values) -> Result<(), ConfigError> {
    for (one, other) in [("REDIS_TLS_CERT", "REDIS_TLS_KEY"), ("REDIS_TLS_KEY", "REDIS_TLS_CERT")] {
        if let (Some(given), None) = (values.given(one), values.given(other)) {
            return Err(ConfigError::other(format!("{one} ({}) is set without {other}", given.origin)));
        }
    }
    for name in &TLS_PARTS[..3] {
        let (Some(given), Some(path)) = (values.given(name), values.given_text(name)) else { continue };
        sources::check_file(path).map_err(|why| {
            let origin = &given.origin;
            ConfigError::other(format!(
                "{name}={} ({origin}): expected a file that can be read: {why}",
                quoted(path)
            ))
        })?;
    }
    Ok(())
}
