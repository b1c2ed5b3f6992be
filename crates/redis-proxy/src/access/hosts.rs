//! The names that the program may be called by in `Host`.
//!
//! A page that has its own name resolve to 127.0.0.1 makes a browser on this machine ask the program here, with the page's name in
//! `Host`, and reads the answer (DNS rebinding). Whoever goes by an address or by `localhost` resolves no foreign name.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Which these are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum AllowedHosts {
    /// On a listener of the loopback the names of that and all addresses; on others all names, since services have some.
    #[default]
    Auto,
    /// All.
    Any,
    /// These alone.
    Listed(Box<[Name]>),
}

/// A host without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// In lower case, without a dot at its end; an IPv4 address too.
    Text(Box<str>),
    /// However it is written.
    V6(Ipv6Addr),
}

impl AllowedHosts {
    /// `auto`, `*`, or names and addresses with commas between them. None for any other text.
    pub(crate) fn parse(text: &str) -> Option<AllowedHosts> {
        match text {
            "auto" => Some(AllowedHosts::Auto),
            "*" => Some(AllowedHosts::Any),
            _ => {
                let names = text.split(',').map(|name| Name::parse(name.trim()));
                names.collect::<Option<Box<[_]>>>().map(AllowedHosts::Listed)
            }
        }
    }

    /// Whether a request whose `Host` is this (`uri-host [":" port]`, well formed) is answered. One without a name comes from no page: a
    /// browser always says it.
    pub(crate) fn allows(&self, authority: &[u8], on_loopback: bool) -> bool {
        match self {
            AllowedHosts::Any => true,
            AllowedHosts::Auto if !on_loopback => true,
            _ if authority.is_empty() => true,
            AllowedHosts::Auto => name_of(authority).is_some_and(|name| name.is_local()),
            AllowedHosts::Listed(names) => name_of(authority).is_some_and(|name| names.contains(&name)),
        }
    }

    /// A `Host` that is allowed on a listener of the loopback, for whoever asks the program himself.
    pub(crate) fn example(&self) -> String {
        match self {
            AllowedHosts::Listed(names) => names.first().map_or(String::new(), Name::to_string),
            AllowedHosts::Auto | AllowedHosts::Any => "localhost".into(),
        }
    }
}

/// The host of `uri-host [":" port]`.
fn name_of(authority: &[u8]) -> Option<Name> {
    let authority = std::str::from_utf8(authority).ok()?;
    let (host, port) = match authority.rfind(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    Name::parse(host).filter(|_| is_whole)
}

impl Name {
    fn parse(text: &str) -> Option<Name> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Some(Name::V6(address));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let is_name = !text.is_empty()
            && text.len() <= 253
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        is_name.then(|| Name::Text(text.to_ascii_lowercase().into()))
    }

    /// Whether it is an address, or a name that browsers resolve to the loopback themselves (RFC 6761, section 6.3).
    fn is_local(&self) -> bool {
        match self {
            Name::V6(_) => true,
            Name::Text(name) => {
                &**name == "localhost" || name.ends_with(".localhost") || name.parse::<Ipv4Addr>().is_ok()
            }
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Text(name) => f.write_str(name),
            Name::V6(address) => write!(f, "[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_loopback_addresses_and_its_own_names_are_allowed() {
        for (host, is_local) in [
            ("localhost", true),
            ("LocalHost:5000", true),
            ("localhost.", true),
            ("app.localhost:80", true),
            ("127.0.0.1:5000", true),
            ("10.1.2.3", true),
            ("[::1]:5000", true),
            ("[0:0:0:0:0:0:0:1]", true),
            ("", true),
            ("example.com", false),
            ("localhost.example.com", false),
            ("notlocalhost", false),
            ("127.0.0.1.example.com", false),
            ("1.2.3", false),
            ("0x7f.1", false),
            ("%6cocalhost", false),
            ("[v1.fe]", false),
            ("[::1].example.com", false),
            ("[::1]x", false),
            ("localhost:example.com", false),
            ("localhost:80:80", false),
            (":5000", false),
        ] {
            assert_eq!(AllowedHosts::Auto.allows(host.as_bytes(), true), is_local, "{host}");
            assert!(AllowedHosts::Auto.allows(host.as_bytes(), false), "{host}");
            assert!(AllowedHosts::Any.allows(host.as_bytes(), true), "{host}");
        }
    }

    #[test]
    fn of_a_list_its_names_are_allowed_whatever_their_ports() {
        let listed = AllowedHosts::parse("localhost, 127.0.0.1,[::1],Proxy").unwrap();
        for host in ["localhost", "127.0.0.1:1", "[::1]:5000", "[0::1]", "proxy", "PROXY:80", "proxy.", ""] {
            assert!(listed.allows(host.as_bytes(), true) && listed.allows(host.as_bytes(), false), "{host}");
        }
        for host in ["example.com", "proxy.example.com", "127.0.0.2", "[::2]", "app.localhost", "x-proxy"] {
            assert!(
                !listed.allows(host.as_bytes(), true) && !listed.allows(host.as_bytes(), false),
                "{host}"
            );
        }
        assert_eq!(listed.example(), "localhost");
        assert_eq!(AllowedHosts::parse("[::1]").unwrap().example(), "[::1]");
    }

    #[test]
    fn what_is_no_host_is_not_accepted() {
        for text in ["", "a,", "a b", "http://a", "a:80", "*.example.com", "[::1]:80", "a/b", "."] {
            assert_eq!(AllowedHosts::parse(text), None, "{text}");
        }
    }
}
