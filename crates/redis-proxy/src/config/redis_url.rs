//! The texts that carry the address of a Redis: `REDIS_URL`, and `tcp://host:port` as Kubernetes injects it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use upstream::{Address, Secret};
use url::Url;

use super::host;

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// There.
    Known(Address),
    /// Where these sentinels say that the primary of this name is.
    Named { sentinels: Vec<Address>, master_name: String },
    /// Where these nodes of a cluster say that its primaries are.
    Cluster { seeds: Vec<Address> },
}

/// The port of a Redis.
pub(super) const REDIS_PORT: u16 = 6379;

/// The port of a sentinel.
pub(super) const SENTINEL_PORT: u16 = 26_379;

/// What a `REDIS_URL` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RedisUrl {
    pub(super) place: Where,
    /// `rediss://`, `rediss+sentinel://`, `rediss+cluster://`.
    pub(super) tls: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) db: u32,
}

/// The schemes that may be shown of a text that is not understood.
const SCHEMES: [&str; 7] =
    ["redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"];

const NO_URL: &str = "it is not a URL; are all of @ : / ? # % in the password percent-encoded?";

/// Understands a `REDIS_URL`.
///
/// # Errors
/// Says what is wrong with it, without repeating any of it.
pub(super) fn parse(text: &str) -> Result<RedisUrl, &'static str> {
    let url = parse_with_password_elsewhere(text)?;
    if url.username.is_some() && url.password.is_none() {
        return Err("it has a user and no password; without a user it is redis://:password@host");
    }
    Ok(url)
}

/// The same where a user may stand without a password.
///
/// # Errors
/// As of [`parse`].
pub(super) fn parse_with_password_elsewhere(text: &str) -> Result<RedisUrl, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme such as redis://")?;
    let mut named = None;
    let url = match scheme {
        "redis" | "rediss" => Url::parse(text).map_err(|_| NO_URL)?,
        "redis+sentinel" | "rediss+sentinel" => {
            let (place, url) = sentinels(rest)?;
            named = Some(place);
            url
        }
        "redis+cluster" | "rediss+cluster" => {
            let (place, url) = cluster(rest)?;
            named = Some(place);
            url
        }
        "unix" => {
            // The parser allows a user only before a host: give it one to chew on.
            let (user, path) =
                rest.split_once('/').ok_or("a path after unix:// begins with a third slash")?;
            if !user.is_empty() && !user.ends_with('@') {
                return Err("a path after unix:// begins with a third slash");
            }
            Url::parse(&format!("unix://{user}socket/{path}")).map_err(|_| "it is not a URL")?
        }
        _ => {
            return Err(
                "its scheme is none of redis://, rediss://, unix://, redis+sentinel:// and redis+cluster://",
            );
        }
    };
    if url.fragment().is_some() {
        return Err("it has a #, which is written %23 in a password");
    }
    let place = match named {
        Some(place) => place,
        None if scheme == "unix" => Where::Known(unix_address(&url)?),
        None => Where::Known(network_address(&url)?),
    };
    let path_db = if scheme == "unix" { None } else { db_of_path(url.path())? };
    let db = match (path_db, db_of_query(&url)?) {
        (Some(one), Some(other)) if one != other => return Err("it names two databases"),
        (one, other) => one.or(other).unwrap_or(0),
    };
    let username = non_empty(decoded(url.username())?);
    let password = non_empty(decoded(url.password().unwrap_or(""))?).map(Secret::new);
    Ok(RedisUrl { place, tls: scheme.starts_with("rediss"), username, password, db })
}

/// `user:password@h1:26379,h2/mymaster/0`: where the primary is, and the rest of it as the URL of one host.
fn sentinels(rest: &str) -> Result<(Where, Url), &'static str> {
    let (login, hosts, path) = parts(rest);
    let path =
        path.strip_prefix('/').ok_or("it has no name of a primary, which stands behind the sentinels")?;
    let (name, db) = path.split_at(path.find(['/', '?', '#']).unwrap_or(path.len()));
    let sentinels = addresses(hosts, SENTINEL_PORT)
        .ok_or("its sentinels are not host[:port] with commas between them")?;
    let master_name = decoded(name)?;
    if master_name.is_empty() || master_name.contains(char::is_control) {
        return Err("it has no name of a primary, which stands behind the sentinels");
    }
    let url = Url::parse(&format!("redis://{login}@sentinels{db}")).map_err(|_| NO_URL)?;
    Ok((Where::Named { sentinels, master_name }, url))
}

/// `user:password@h1:7000,h2/0`: who says where the primaries are, and the rest of it as the URL of one host.
fn cluster(rest: &str) -> Result<(Where, Url), &'static str> {
    let (login, hosts, db) = parts(rest);
    let seeds =
        addresses(hosts, REDIS_PORT).ok_or("its nodes are not host[:port] with commas between them")?;
    let url = Url::parse(&format!("redis://{login}@cluster{db}")).map_err(|_| NO_URL)?;
    Ok((Where::Cluster { seeds }, url))
}

/// The login, the hosts, and what stands behind them.
fn parts(rest: &str) -> (&str, &str, &str) {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    (login, hosts, path)
}

fn addresses(hosts: &str, default_port: u16) -> Option<Vec<Address>> {
    hosts.split(',').map(|one| host::parse_with_port(&decoded(one).ok()?, Some(default_port))).collect()
}

/// Host and port of `tcp://10.0.0.1:6379`.
pub(super) fn tcp_address(text: &str) -> Option<(String, u16)> {
    let rest = text.strip_prefix("tcp://")?;
    let (host, port) = rest.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    Some((host::parse(host)?, port))
}

/// Whether a text is the address of a service, as Kubernetes and Docker's links put it into `<SERVICE>_PORT`.
pub(super) fn is_service_address(text: &str) -> bool {
    let rest = ["tcp://", "udp://", "sctp://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    rest.is_some_and(|rest| tcp_address(&format!("tcp://{rest}")).is_some())
}

/// `text` with everything in it masked that may be a password, also where it is not a URL.
pub(super) fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme)) else {
        return "***".into();
    };
    // The last @: a password that should have been encoded may hold one, or a slash, a ? or a #.
    let (user, place) = match rest.rsplit_once('@') {
        Some((_, place)) => ("***@", place),
        None => ("", rest),
    };
    let (place, query) = match place.split_once(['?', '#']) {
        Some((place, "")) => (place, ""),
        Some((place, query)) if is_db(query) => (place, &text[text.len() - query.len() - 1..]),
        Some((place, _)) => (place, "?***"),
        None => (place, ""),
    };
    // `redis://user:password` has no @ at all; what follows the colon is a port or it is masked.
    let authority = place.split('/').next().unwrap_or(place);
    let has_other_than_port = |host: &str| {
        let after_colon = host.rsplit(']').next().and_then(|tail| tail.split_once(':'));
        after_colon.is_some_and(|(_, port)| !port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_masked = match scheme {
        "unix" => false,
        "redis" | "rediss" => has_other_than_port(authority),
        _ => authority.split(',').any(has_other_than_port),
    };
    if is_masked {
        return format!("{scheme}://***");
    }
    format!("{scheme}://{user}{place}{query}")
}

fn is_db(query: &str) -> bool {
    query.strip_prefix("db=").is_some_and(|db| db.bytes().all(|byte| byte.is_ascii_digit()))
}

fn network_address(url: &Url) -> Result<Address, &'static str> {
    let text = url.host_str().filter(|host| !host.is_empty()).ok_or("it has no host")?;
    let host = host::parse(&decoded(text)?).ok_or("its host is neither a name nor an address")?;
    match url.port() {
        Some(0) => Err("its port is not from 1 to 65535"),
        port => Ok(Address::Tcp { host, port: port.unwrap_or(REDIS_PORT) }),
    }
}

fn unix_address(url: &Url) -> Result<Address, &'static str> {
    let path: Vec<u8> = percent_decode_str(url.path()).collect();
    if path == b"/" {
        return Err("it has no path of a socket");
    }
    if path.contains(&0) {
        return Err("its path holds a NUL byte");
    }
    Ok(Address::Unix(PathBuf::from(OsString::from_vec(path))))
}

fn db_of_path(path: &str) -> Result<Option<u32>, &'static str> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Ok(None),
        db => db_number(db).map(Some),
    }
}

fn db_of_query(url: &Url) -> Result<Option<u32>, &'static str> {
    let mut db = None;
    for (key, value) in url.query_pairs() {
        if key != "db" {
            return Err("its query may hold db=n and nothing else");
        }
        if db.replace(db_number(&value)?).is_some() {
            return Err("its query holds db twice");
        }
    }
    Ok(db)
}

fn db_number(text: &str) -> Result<u32, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let db = text.parse().ok().filter(|db| digits && *db <= i32::MAX.unsigned_abs());
    db.ok_or("its database is not a number from 0 to 2147483647")
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let bytes = percent_decode_str(text).collect();
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 once percent-decoded")
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    fn unix(path: &str) -> Address {
        Address::Unix(path.into())
    }

    #[test]
    fn urls_are_understood() {
        type Case = (&'static str, Address, bool, Option<&'static str>, Option<&'static str>, u32);
        let cases: [Case; 17] = [
            ("redis://cache", tcp("cache", 6379), false, None, None, 0),
            ("redis://Cache.Internal:7000/", tcp("Cache.Internal", 7000), false, None, None, 0),
            ("redis://10.0.0.1:6380/3", tcp("10.0.0.1", 6380), false, None, None, 3),
            ("redis://cache?db=4", tcp("cache", 6379), false, None, None, 4),
            ("redis://cache/4?db=4", tcp("cache", 6379), false, None, None, 4),
            ("redis://[::1]:7000/1", tcp("::1", 7000), false, None, None, 1),
            ("redis://[fe80::2]", tcp("fe80::2", 6379), false, None, None, 0),
            ("redis://:pass@cache", tcp("cache", 6379), false, None, Some("pass"), 0),
            ("redis://user:pass@cache:1/2", tcp("cache", 1), false, Some("user"), Some("pass"), 2),
            (
                "redis://us%40er:p%3A%2F%40%25s@cache",
                tcp("cache", 6379),
                false,
                Some("us@er"),
                Some("p:/@%s"),
                0,
            ),
            ("redis://:p+s%C3%A9@cache", tcp("cache", 6379), false, None, Some("p+sé"), 0),
            ("rediss://cache:6380", tcp("cache", 6380), true, None, None, 0),
            ("unix:///run/redis.sock", unix("/run/redis.sock"), false, None, None, 0),
            ("unix:///run/redis.sock?db=1", unix("/run/redis.sock"), false, None, None, 1),
            ("unix:///run/my%20redis.sock", unix("/run/my redis.sock"), false, None, None, 0),
            ("unix://:pass@/run/redis.sock", unix("/run/redis.sock"), false, None, Some("pass"), 0),
            ("unix://user:pass@/r.sock?db=7", unix("/r.sock"), false, Some("user"), Some("pass"), 7),
        ];
        for (text, address, tls, username, password, db) in cases {
            let expected = RedisUrl {
                place: Where::Known(address),
                tls,
                username: username.map(String::from),
                password: password.map(Secret::new),
                db,
            };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn urls_of_sentinels_are_understood() {
        type Case =
            (&'static str, &'static [(&'static str, u16)], &'static str, bool, Option<&'static str>, u32);
        let cases: [Case; 8] = [
            ("redis+sentinel://h1/mymaster", &[("h1", 26_379)], "mymaster", false, None, 0),
            ("redis+sentinel://h1:7,h2/m/0", &[("h1", 7), ("h2", 26_379)], "m", false, None, 0),
            ("rediss+sentinel://[::1]:7,[::2]/m/3", &[("::1", 7), ("::2", 26_379)], "m", true, None, 3),
            (
                "redis+sentinel://:pass@h1,h2:8/m?db=4",
                &[("h1", 26_379), ("h2", 8)],
                "m",
                false,
                Some("pass"),
                4,
            ),
            ("redis+sentinel://h1/m/2?db=2", &[("h1", 26_379)], "m", false, None, 2),
            ("redis+sentinel://h1/my%2Fmaster%20one/2", &[("h1", 26_379)], "my/master one", false, None, 2),
            ("redis+sentinel://:p%3A%2C%2F%40%25s@h1/m/", &[("h1", 26_379)], "m", false, Some("p:,/@%s"), 0),
            ("redis+sentinel://:p,w@h1/m", &[("h1", 26_379)], "m", false, Some("p,w"), 0),
        ];
        for (text, sentinels, master_name, tls, password, db) in cases {
            let sentinels = sentinels.iter().map(|(host, port)| tcp(host, *port)).collect();
            let place = Where::Named { sentinels, master_name: master_name.into() };
            let password = password.map(Secret::new);
            assert_eq!(parse(text), Ok(RedisUrl { place, tls, username: None, password, db }), "{text}");
        }
        let user = parse("redis+sentinel://us%40er:pw@h1/m").unwrap();
        assert_eq!((user.username.as_deref(), user.password), (Some("us@er"), Some(Secret::new("pw"))));
    }

    #[test]
    fn urls_of_clusters_are_understood() {
        type Case = (&'static str, &'static [(&'static str, u16)], bool, Option<&'static str>, u32);
        let cases: [Case; 7] = [
            ("redis+cluster://h1", &[("h1", 6379)], false, None, 0),
            ("redis+cluster://h1/", &[("h1", 6379)], false, None, 0),
            ("redis+cluster://h1:7,h2/2", &[("h1", 7), ("h2", 6379)], false, None, 2),
            ("rediss+cluster://[::1]:7,[::2]?db=3", &[("::1", 7), ("::2", 6379)], true, None, 3),
            ("redis+cluster://:pass@h1,h2:8/0", &[("h1", 6379), ("h2", 8)], false, Some("pass"), 0),
            ("redis+cluster://:p%3A%2C%2F%40%25s@h1", &[("h1", 6379)], false, Some("p:,/@%s"), 0),
            ("redis+cluster://:p,w@h1/", &[("h1", 6379)], false, Some("p,w"), 0),
        ];
        for (text, seeds, tls, password, db) in cases {
            let seeds = seeds.iter().map(|(host, port)| tcp(host, *port)).collect();
            let (place, password) = (Where::Cluster { seeds }, password.map(Secret::new));
            assert_eq!(parse(text), Ok(RedisUrl { place, tls, username: None, password, db }), "{text}");
        }
        let user = parse("redis+cluster://us%40er:pw@h1").unwrap();
        assert_eq!((user.username.as_deref(), user.password), (Some("us@er"), Some(Secret::new("pw"))));
    }

    #[test]
    fn bad_urls_of_clusters_are_refused() {
        for text in [
            "redis+cluster://",
            "redis+cluster:///0",
            "redis+cluster://h1,",
            "redis+cluster://,h1",
            "redis+cluster://h1;h2",
            "redis+cluster://h1:0",
            "redis+cluster://h1:port",
            "redis+cluster://::1",
            "redis+cluster://h1/name",
            "redis+cluster://h1/1/2",
            "redis+cluster://h1/1?db=2",
            "redis+cluster://h1?name=x",
            "redis+cluster://h1#1",
            "redis+cluster://%ff",
            "redis+cluster://user@h1",
            "redis+cluster://:p/w@h1",
            "redis-cluster://h1",
            "cluster://h1",
        ] {
            assert!(parse(text).is_err(), "{text} is {:?}", parse(text));
        }
    }

    #[test]
    fn bad_urls_of_sentinels_are_refused() {
        for text in [
            "redis+sentinel://",
            "redis+sentinel://h1",
            "redis+sentinel://h1/",
            "redis+sentinel://h1//0",
            "redis+sentinel:///m",
            "redis+sentinel://h1,/m",
            "redis+sentinel://,h1/m",
            "redis+sentinel://h1;h2/m",
            "redis+sentinel://h1:0/m",
            "redis+sentinel://h1:port/m",
            "redis+sentinel://::1/m",
            "redis+sentinel://h1/m/x",
            "redis+sentinel://h1/m/1/2",
            "redis+sentinel://h1/m/1?db=2",
            "redis+sentinel://h1/m?name=x",
            "redis+sentinel://h1/m#1",
            "redis+sentinel://h1/m%0a",
            "redis+sentinel://h1/%ff",
            "redis+sentinel://user@h1/m",
            "redis+sentinel://:p/w@h1/m",
            "unix+sentinel://h1/m",
            "sentinel://h1/m",
        ] {
            assert!(parse(text).is_err(), "{text} is {:?}", parse(text));
        }
    }

    #[test]
    fn bad_urls_are_refused() {
        let cases = [
            "",
            "cache",
            "cache:6379",
            "http://cache",
            "redis://",
            "redis:///1",
            "redis://cache:0",
            "redis://cache:99999",
            "redis://cache:port",
            "redis://cache/x",
            "redis://cache/-1",
            "redis://cache/1/2",
            "redis://cache?db=",
            "redis://cache/1?db=2",
            "redis://cache?timeout=5",
            "redis://cache?db=1&db=1",
            "redis://cache#1",
            "redis://user@cache",
            "redis://:p#ss@cache",
            "redis://[::1",
            "redis://ca che",
            "redis://%ff@cache",
            "unix://",
            "unix:///",
            "unix://run/redis.sock",
            "unix://relative",
            "unix:///a%00b",
            "unix://u@/x",
            "tcp://10.0.0.1:6379",
            "redis://cache/4294967296",
        ];
        for text in cases {
            assert!(parse(text).is_err(), "{text} is {:?}", parse(text));
        }
    }

    #[test]
    fn a_password_is_masked_in_good_and_bad_urls() {
        let cases = [
            ("redis://cache:6379/1", "redis://cache:6379/1"),
            ("redis://[::1]:6379", "redis://[::1]:6379"),
            ("redis://u:SECRET@cache/1?db=1", "redis://***@cache/1?db=1"),
            ("rediss://:SECRET@cache", "rediss://***@cache"),
            ("redis://:SEC@RET@cache", "redis://***@cache"),
            ("redis://:SEC#RET@cache", "redis://***@cache"),
            ("redis://:SEC/RET?SEC@cache", "redis://***@cache"),
            ("redis://user:SECRET", "redis://***"),
            ("redis://:SECRET/0", "redis://***"),
            ("redis://cache?password=SECRET", "redis://cache?***"),
            ("redis://cache/0#SECRET", "redis://cache/0?***"),
            ("unix://u:SECRET@/r.sock?db=1", "unix://***@/r.sock?db=1"),
            ("redis+sentinel://h1:7,[::1]:8,h2/m/0", "redis+sentinel://h1:7,[::1]:8,h2/m/0"),
            ("redis+sentinel://u:SECRET@h1:7,h2/m/0?db=1", "redis+sentinel://***@h1:7,h2/m/0?db=1"),
            ("rediss+sentinel://:SEC/RET@h1/m", "rediss+sentinel://***@h1/m"),
            ("redis+sentinel://h1:7,user:SECRET/m", "redis+sentinel://***"),
            ("redis+cluster://h1:7,[::1]:8,h2/0?db=0", "redis+cluster://h1:7,[::1]:8,h2/0?db=0"),
            ("rediss+cluster://u:SECRET@h1:7,h2/0", "rediss+cluster://***@h1:7,h2/0"),
            ("redis+cluster://h1,user:SECRET", "redis+cluster://***"),
            ("redis://user:7,SECRET", "redis://***"),
            ("SECRET", "***"),
            ("SECRET://cache", "***"),
            ("", "***"),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(text), expected, "{text}");
        }
    }

    #[test]
    fn the_injected_form_is_understood() {
        assert_eq!(tcp_address("tcp://10.0.0.1:6379"), Some(("10.0.0.1".into(), 6379)));
        assert_eq!(tcp_address("tcp://[fd00::1]:6379"), Some(("fd00::1".into(), 6379)));
        for text in [
            "tcp://",
            "tcp://10.0.0.1",
            "tcp://10.0.0.1:0",
            "tcp://10.0.0.1:70000",
            "udp://10.0.0.1:6379",
            "6379",
        ] {
            assert_eq!(tcp_address(text), None, "{text}");
        }
    }
}
