//! The name or the address of a host, as settings and URLs have it, and with a port.

use std::net::Ipv6Addr;

use upstream::Address;

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

/// `host:port`, an IPv6 address in brackets; without a port it is that of `default_port`, if there is one.
pub(super) fn parse_with_port(text: &str, default_port: Option<u16>) -> Option<Address> {
    // Of `::1:6379` nobody can say what is the port.
    let is_bare = !text.starts_with('[') && text.matches(':').count() > 1;
    let colon = text.rfind(':').filter(|at| *at > text.rfind(']').unwrap_or(0));
    let (host, port) = match colon {
        _ if is_bare => return None,
        Some(at) => (&text[..at], number(&text[at + 1..])),
        None => (text, default_port),
    };
    Some(Address::Tcp { host: parse(host)?, port: port? })
}

fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}
