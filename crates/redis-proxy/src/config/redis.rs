//! Which Redis: from the address in parts, in a URL, as injected by Kubernetes, or a Redis of our own.

use upstream::{
    Account, Address, Cluster, ConnectionLimits, Endpoint, Reauth, RedisNode, Secret, Source, Who,
};

use super::PASSWORD_COMMAND;
use super::error::ConfigError;
use super::given::{Given, Origin};
use super::nodes::{self, NodesSettings};
use super::redis_url::{self, RedisUrl, Where};
use super::sources::Values;
use super::tls;
use super::value::{SettingKind, Value};

/// The backing Redis as the settings have it.
pub(super) struct Backing {
    /// Its address is a placeholder where it is one of our own, or sentinels or a cluster say where it is.
    pub(super) endpoint: Endpoint,
    pub(super) nodes: NodesSettings,
    /// Whether it is one of our own.
    pub(super) is_own: bool,
}

/// Settles which Redis is meant.
///
/// # Errors
/// Settings that exclude each other, a bad URL, a TLS file that cannot be read.
pub(super) fn resolve(values: &Values) -> Result<Backing, ConfigError> {
    let is_own = with_redis(values)?;
    let place = match url(values)? {
        Some(url) => url,
        None => parts(values)?,
    };
    let nodes = nodes::resolve(values, &place.place)?;
    let is_cluster = matches!(place.place, Where::Cluster { .. });
    let node = match place.place {
        Where::Known(address) => RedisNode::at(address),
        Where::Named { .. } => RedisNode::unknown("no sentinel has told yet where the primary is"),
        Where::Cluster { .. } => {
            RedisNode::unknown("no node of the cluster has told yet where its primaries are")
        }
    };
    let cluster = is_cluster.then(|| {
        let map = nodes.address_map.clone();
        Cluster::new(node.clone(), move |announced| map.reach(announced))
    });
    let source = source(values, &place.username, &place.password);
    let endpoint = Endpoint {
        node,
        cluster,
        tls: place.tls.then(|| tls::REDIS.tls(values)),
        login: Account {
            // Without a password there is nothing to log in with, whenever that be.
            reauth: place.password.is_some().then(|| Reauth::every(nodes.reauth)),
            source,
            username: place.username,
            password: place.password,
            proven: None,
        },
        db: place.db,
        limits: ConnectionLimits {
            connect_timeout: values.time("REDIS_CONNECT_TIMEOUT"),
            silence_timeout: values.time("UPSTREAM_TIMEOUT"),
            ping_interval: values.time("REDIS_PING_INTERVAL"),
            max_reply_bytes: values.number("MAX_REPLY_BYTES"),
        }
        .into(),
    };
    tls::REDIS.check(values)?;
    Ok(Backing { endpoint, nodes, is_own })
}

/// Where Redis' credentials are read anew, or asked for.
fn source(values: &Values, username: &Option<String>, password: &Option<Secret>) -> Option<Source> {
    let Some((given, command)) = values.password_command() else {
        let given = values.given("REDIS_PASSWORD").filter(|given| given.name == "REDIS_PASSWORD");
        if given.is_some_and(|given| matches!(given.origin, Origin::File { .. })) {
            return Some(Source::of_teller(Who { username: username.clone(), password: password.clone() }));
        }
        return file_source(values, &["REDIS_PASSWORD_FILE", "REDIS_URL_FILE"], username, password);
    };
    let (name, user) = (given.name, username.clone());
    let run = move || {
        let password = command.run().map_err(|why| format!("{name} {why}"))?;
        Ok(Who { username: user.clone(), password: Some(Secret::new(password)) })
    };
    let first = Who { username: username.clone(), password: password.clone() };
    Some(Source::of_command(first, run))
}

/// Where credentials that are in one of these files are read anew. A pipe is read once, and stays what it was.
pub(super) fn file_source(
    values: &Values,
    files: &[&str],
    username: &Option<String>,
    password: &Option<Secret>,
) -> Option<Source> {
    let first = Who { username: username.clone(), password: password.clone() };
    let file = files.iter().find_map(|name| values.secret_file(name))?;
    let path = file.path();
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
    Some(Source::of_file(first, path, read))
}

/// WITH_REDIS excludes everything that says where another Redis is or how to log in there.
fn with_redis(values: &Values) -> Result<bool, ConfigError> {
    let mut names = vec!["REDIS_URL", "REDIS_SENTINELS", "REDIS_CLUSTER", "REDIS_HOST", "REDIS_PORT"];
    names.extend(["REDIS_USERNAME", "REDIS_PASSWORD", PASSWORD_COMMAND, tls::REDIS.switch]);
    names.extend(tls::REDIS.parts());
    let is_off = |given: &Given| given.name == tls::REDIS.switch && tls::is_off(given);
    let mut address = names.iter().filter_map(|name| values.given(name)).filter(|given| !is_off(given));
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

/// The address from REDIS_URL, where that is set.
fn url(values: &Values) -> Result<Option<RedisUrl>, ConfigError> {
    let (Some(given), Some(text)) = (values.given("REDIS_URL"), values.given_text("REDIS_URL")) else {
        return Ok(None);
    };
    let mut parts = vec!["REDIS_HOST", "REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_DB"];
    parts.extend(["REDIS_SENTINELS", "REDIS_MASTER_NAME", "REDIS_CLUSTER"]);
    let is_choice = |part: &&Given| !is_injected(part) && part.name != PASSWORD_COMMAND;
    if let Some(part) = parts.iter().filter_map(|name| values.given(name)).find(is_choice) {
        return Err(ConfigError::conflict(given, part, "give the address as a URL or in parts"));
    }
    let command = values.given(PASSWORD_COMMAND);
    let parse =
        command.map_or(redis_url::parse as fn(&str) -> _, |_| redis_url::parse_with_password_elsewhere);
    let mut url = parse(text).map_err(|why| {
        let expected = format!("{}; {why}", SettingKind::Url.expected());
        ConfigError::bad_value(given.name, &redis_url::masked(text), &given.origin, &expected)
    })?;
    if let Some(command) = command {
        if url.password.is_some() {
            return Err(ConfigError::conflict(
                given,
                command,
                "the password is in the URL or printed by the command",
            ));
        }
        url.password = values.given_text("REDIS_PASSWORD").map(Secret::new);
    }
    let switch = values.given(tls::REDIS.switch);
    let parts = tls::REDIS.parts();
    let mut wishes = parts.iter().filter_map(|name| values.given(name));
    let off = switch.filter(|tls| tls::is_off(tls));
    let wish = wishes.next().or(switch.filter(|tls| !tls::is_off(tls)));
    match if url.tls { off } else { wish } {
        Some(tls) if url.tls => {
            Err(ConfigError::conflict(given, tls, "rediss:// is TLS; without it, redis://"))
        }
        Some(tls) => Err(ConfigError::conflict(given, tls, "TLS with a URL needs rediss://")),
        None => Ok(Some(url)),
    }
}

/// Where it is and who we are, from REDIS_CLUSTER, REDIS_SENTINELS or REDIS_HOST, REDIS_PORT and so on.
fn parts(values: &Values) -> Result<RedisUrl, ConfigError> {
    let place = match cluster(values)? {
        Some(place) => place,
        None => sentinels(values)?.unwrap_or_else(|| Where::Known(address(values))),
    };
    check_login(values, "REDIS_USERNAME", &["REDIS_PASSWORD", PASSWORD_COMMAND])?;
    Ok(RedisUrl {
        place,
        tls: tls::REDIS.is_wanted(values)?,
        username: values.given_text("REDIS_USERNAME").map(String::from),
        password: values.given_text("REDIS_PASSWORD").map(Secret::new),
        db: u32::try_from(values.number("REDIS_DB")).unwrap_or(u32::MAX),
    })
}

/// Nodes of the cluster, where they are set.
fn cluster(values: &Values) -> Result<Option<Where>, ConfigError> {
    let Some(given) = values.given("REDIS_CLUSTER") else { return Ok(None) };
    let others = ["REDIS_SENTINELS", "REDIS_MASTER_NAME", "REDIS_HOST", "REDIS_PORT"];
    let mut others = others.iter().filter_map(|name| values.given(name));
    if let Some(other) = others.find(|other| !is_injected(other)) {
        return Err(ConfigError::conflict(
            given,
            other,
            "a cluster says where its nodes are, or sentinels or an address do",
        ));
    }
    Ok(match &given.value {
        Value::Addresses(seeds) => Some(Where::Cluster { seeds: seeds.clone() }),
        _ => None,
    })
}

/// The sentinels and the name of the primary, where they are set.
fn sentinels(values: &Values) -> Result<Option<Where>, ConfigError> {
    let (sentinels, name) = ("REDIS_SENTINELS", "REDIS_MASTER_NAME");
    let alone = |given: &Given, other: &str| {
        let (name, origin) = (given.name, &given.origin);
        Err(ConfigError::other(format!("{name} ({origin}) is set without {other}")))
    };
    let given = match (values.given(sentinels), values.given(name)) {
        (None, None) => return Ok(None),
        (Some(given), None) => return alone(given, name),
        (None, Some(given)) => return alone(given, sentinels),
        (Some(given), Some(_)) => given,
    };
    let mut hosts = ["REDIS_HOST", "REDIS_PORT"].iter().filter_map(|name| values.given(name));
    if let Some(host) = hosts.find(|host| !is_injected(host)) {
        return Err(ConfigError::conflict(given, host, "sentinels say where Redis is, or an address does"));
    }
    Ok(match &given.value {
        Value::Addresses(addresses) => {
            Some(Where::Named { sentinels: addresses.clone(), master_name: values.text(name) })
        }
        _ => None,
    })
}

/// The address of REDIS_HOST and REDIS_PORT.
fn address(values: &Values) -> Address {
    let (injected_host, port) = match values.value("REDIS_PORT") {
        Value::Address { host, port } => (Some(host), port),
        other => (None, if let Value::Number(port) = other { u16::try_from(port).unwrap_or(0) } else { 0 }),
    };
    let host = match (values.given("REDIS_HOST"), injected_host) {
        (None, Some(host)) => host,
        _ => values.text("REDIS_HOST"),
    };
    Address::Tcp { host, port }
}

/// A user has a password, since no AUTH could be sent for it else.
pub(super) fn check_login(values: &Values, username: &str, passwords: &[&str]) -> Result<(), ConfigError> {
    match (values.given(username), passwords.iter().find_map(|name| values.given(name))) {
        (Some(user), None) => {
            let (name, origin) = (user.name, &user.origin);
            Err(ConfigError::other(format!("{name} ({origin}) is set without {}", passwords[0])))
        }
        _ => Ok(()),
    }
}
