//! The name or the address of a host, as settings and URLs have it.

use std::net::Ipv6Addr;

/// A host without its brackets; a colon is only part of an IPv6 address.
pub(super) fn parse(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.split_once('%').map_or(bare, |(address, _zone)| address);
    let name = |c: char| c.is_alphanumeric() || "-._".contains(c);
    let is_host = match address.contains(':') {
        true => address.parse::<Ipv6Addr>().is_ok(),
        false => bare == text && !bare.is_empty() && bare.len() <= 253 && bare.chars().all(name),
    };
    is_host.then(|| bare.to_owned())
}
