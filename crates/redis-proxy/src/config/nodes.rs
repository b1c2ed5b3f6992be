//! Nodes that may be elsewhere tomorrow: who says where they are, where they are reached, who watches them.

use std::time::Duration;

use upstream::{Address, Endpoint, Secret, Source, Tls};

use super::address_map::AddressMap;
use super::error::ConfigError;
use super::redis::{check_login, file_source};
use super::redis_url::Where;
use super::sources::Values;
use super::tls;
use super::value::{Value, list};

/// What is known of Redis' nodes beside where one is and who we are there.
#[derive(Clone, Debug)]
pub(crate) struct NodesSettings {
    pub(crate) topology: Topology,
    /// For every address that sentinels, a cluster or INFO tell.
    pub(crate) address_map: AddressMap,
    /// Whether replicas are asked if they have become the primary.
    pub(crate) witnesses: bool,
    /// How often connections that live log in again as the proxy's user; `None`: they do not.
    pub(crate) reauth: Option<Duration>,
}

/// How many nodes take writes, and who says where they are.
#[derive(Clone, Debug)]
pub(crate) enum Topology {
    /// One, at the address of the settings, whatever node that is.
    Single,
    /// One, where sentinels say.
    Sentinel(SentinelSettings),
    /// The primaries of a cluster, each for some of its slots, where any node of it says.
    Cluster {
        /// The nodes that the settings name, as given; they tell of the others.
        seeds: Vec<Address>,
    },
}

/// The sentinels, and who we are to them: nothing of it is Redis' own.
#[derive(Clone, Debug)]
pub(crate) struct SentinelSettings {
    /// Where they are, as given; they tell of others.
    pub(crate) addresses: Vec<Address>,
    /// What they call the primary.
    pub(crate) master_name: String,
    /// Their ACL user; `None` is their `default` user.
    pub(crate) username: Option<String>,
    /// Their password; without one no AUTH is sent.
    pub(crate) password: Option<Secret>,
    /// Where the password is read anew at each attempt to connect.
    pub(crate) source: Option<Source>,
    /// TLS to them.
    pub(crate) tls: Option<Tls>,
}

/// What is meant for sentinels alone.
const SENTINEL_ALONE: [&str; 7] = [
    "REDIS_SENTINEL_USERNAME",
    "REDIS_SENTINEL_PASSWORD",
    "REDIS_SENTINEL_TLS",
    "REDIS_SENTINEL_TLS_CA",
    "REDIS_SENTINEL_TLS_CERT",
    "REDIS_SENTINEL_TLS_KEY",
    "REDIS_SENTINEL_TLS_SERVER_NAME",
];

/// What is said of the nodes, the primary being at `place`.
///
/// # Errors
/// A login or TLS for sentinels where there are none, a user without a password, a TLS file that cannot be read.
pub(super) fn resolve(values: &Values, place: &Where) -> Result<NodesSettings, ConfigError> {
    let topology = match place {
        Where::Known(_) => Topology::Single,
        Where::Named { sentinels, master_name } => {
            Topology::Sentinel(sentinel(values, sentinels, master_name)?)
        }
        Where::Cluster { seeds } => Topology::Cluster { seeds: seeds.clone() },
    };
    if !matches!(topology, Topology::Sentinel(_))
        && let Some(given) = SENTINEL_ALONE.iter().find_map(|name| values.given(name))
    {
        return Err(ConfigError::other(format!(
            "{} ({}) is set, and there are no sentinels: set REDIS_SENTINELS and REDIS_MASTER_NAME, or \
             REDIS_URL=redis+sentinel://host/name",
            given.name, given.origin
        )));
    }
    let address_map = match values.given("REDIS_ADDRESS_MAP").map(|given| &given.value) {
        Some(Value::AddressMap(map)) => map.clone(),
        _ => AddressMap::default(),
    };
    Ok(NodesSettings {
        topology,
        address_map,
        witnesses: values.text("REDIS_WITNESSES") != "off",
        reauth: Some(values.time("REDIS_REAUTH")).filter(|time| !time.is_zero()),
    })
}

fn sentinel(
    values: &Values,
    addresses: &[Address],
    master_name: &str,
) -> Result<SentinelSettings, ConfigError> {
    check_login(values, "REDIS_SENTINEL_USERNAME", &["REDIS_SENTINEL_PASSWORD"])?;
    let tls = tls::SENTINEL.is_wanted(values)?.then(|| tls::SENTINEL.tls(values));
    tls::SENTINEL.check(values)?;
    let username = values.given_text("REDIS_SENTINEL_USERNAME").map(String::from);
    let password = values.given_text("REDIS_SENTINEL_PASSWORD").map(Secret::new);
    Ok(SentinelSettings {
        addresses: addresses.to_vec(),
        master_name: master_name.to_owned(),
        source: file_source(values, &["REDIS_SENTINEL_PASSWORD_FILE"], &username, &password),
        username,
        password,
        tls,
    })
}

impl NodesSettings {
    /// The sentinels, where there are some.
    pub(crate) fn sentinels(&self) -> Option<&SentinelSettings> {
        match &self.topology {
            Topology::Sentinel(sentinels) => Some(sentinels),
            Topology::Single | Topology::Cluster { .. } => None,
        }
    }

    /// Where Redis is, in words: the address, or who says it.
    pub(crate) fn place(&self, redis: &Endpoint) -> String {
        let sentinels = match &self.topology {
            Topology::Single => return redis.node.place().to_string(),
            Topology::Cluster { seeds } => return format!("the cluster of {}", list(seeds)),
            Topology::Sentinel(sentinels) => sentinels,
        };
        let tls = if sentinels.tls.is_some() { " with TLS" } else { "" };
        let login = match (&sentinels.username, &sentinels.password) {
            (Some(user), Some(_)) => format!(" as user {user:?}"),
            (_, Some(_)) => " with a password".into(),
            _ => String::new(),
        };
        let addresses = list(&sentinels.addresses);
        format!("the primary {:?} of the sentinels {addresses}{tls}{login}", sentinels.master_name)
    }
}
