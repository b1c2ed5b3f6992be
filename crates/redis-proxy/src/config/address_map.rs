//! Where an address is reached that is good only where it was announced: behind a NAT, or from outside of a container network.

use std::fmt;
use std::net::IpAddr;

use upstream::Address;

use super::host;

/// Pairs of addresses: as sentinels and INFO announce a node, and as we reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddressMap(Vec<(Address, Address)>);

impl AddressMap {
    /// Understands `announced=reachable,...`, each `host:port`; `None` is a text that is none, or names an announced one twice.
    pub(super) fn parse(text: &str) -> Option<AddressMap> {
        let mut map = AddressMap::default();
        for pair in text.split(',') {
            let (announced, reachable) = pair.split_once('=')?;
            let address = |text: &str| host::parse_with_port(text.trim(), None);
            let (announced, reachable) = (address(announced)?, address(reachable)?);
            if map.entry(&announced).is_some() {
                return None;
            }
            map.0.push((announced, reachable));
        }
        Some(map)
    }

    /// Where the node is reached that is announced as `announced`: there, unless the map says otherwise. What comes of it is not
    /// looked up once more.
    pub(crate) fn reach(&self, announced: &Address) -> Address {
        self.entry(announced).unwrap_or(announced).clone()
    }

    fn entry(&self, announced: &Address) -> Option<&Address> {
        self.0.iter().find(|(from, _)| is_same(from, announced)).map(|(_, to)| to)
    }
}

impl fmt::Display for AddressMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (announced, reachable)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{announced}={reachable}")?;
        }
        Ok(())
    }
}

/// Names in any case, addresses in any spelling.
fn is_same(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp { host, port }, Address::Tcp { host: other, port: other_port }) => {
            let ip = |text: &str| text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
            let is_same_host = match (ip(host), ip(other)) {
                (Some(one), Some(other)) => one == other,
                _ => host.eq_ignore_ascii_case(other),
            };
            port == other_port && is_same_host
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    #[test]
    fn an_announced_address_is_reached_where_the_map_says() {
        let map =
            AddressMap::parse("10.0.0.1:6379=db.test:7001, 10.0.0.2:6379 = [fd00::2]:7002,Node-3:1=h:2");
        let map = map.expect("a map");
        for (announced, reachable) in [
            (tcp("10.0.0.1", 6379), tcp("db.test", 7001)),
            (tcp("10.0.0.2", 6379), tcp("fd00::2", 7002)),
            (tcp("node-3", 1), tcp("h", 2)),
        ] {
            assert_eq!(map.reach(&announced), reachable);
        }
        assert_eq!(map.to_string(), "10.0.0.1:6379=db.test:7001,10.0.0.2:6379=[fd00::2]:7002,Node-3:1=h:2");
    }

    #[test]
    fn any_other_address_is_reached_where_it_is_announced() {
        let map = AddressMap::parse("10.0.0.1:6379=db.test:7001,db.test:7001=elsewhere:1").expect("a map");
        for announced in [tcp("10.0.0.1", 6380), tcp("10.0.0.3", 6379), Address::Unix("/r.sock".into())] {
            assert_eq!(map.reach(&announced), announced);
            assert_eq!(AddressMap::default().reach(&announced), announced);
        }
        assert_eq!(map.reach(&tcp("10.0.0.1", 6379)), tcp("db.test", 7001), "one step and no more");
    }

    #[test]
    fn an_ipv6_address_is_one_in_any_spelling() {
        let map = AddressMap::parse("[fd00:0:0::1]:6379=a:1,[::ffff:10.0.0.1]:6379=b:2").expect("a map");
        assert_eq!(map.reach(&tcp("FD00::1", 6379)), tcp("a", 1));
        assert_eq!(map.reach(&tcp("10.0.0.1", 6379)), tcp("b", 2));
    }

    #[test]
    fn a_text_that_is_no_map_is_refused() {
        for text in [
            "",
            "a:1",
            "a:1=",
            "=b:2",
            "a=b:2",
            "a:1=b",
            "a:1=b:2,",
            "a:1=b:2=c:3",
            "::1:1=b:2",
            "a:0=b:2",
            "a:1=b:2,A:1=c:3",
        ] {
            assert_eq!(AddressMap::parse(text), None, "{text}");
        }
    }
}
