//! Where a running program listens, as an operator writes it.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use url::{Position, Url};

/// `http://host:port`, `https://host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerUrl {
    /// A host and a port.
    Tcp {
        /// A name or an address; an IPv6 one without brackets.
        host: String,
        /// As written, or the scheme's own.
        port: u16,
        /// What `Host` says: the same as it is written in a URL.
        authority: String,
        /// Whether it speaks TLS.
        is_tls: bool,
    },
    /// The path of a socket.
    Unix(PathBuf),
}

impl ServerUrl {
    /// # Errors
    /// What is expected, without a word of `text`: there may be a password in it.
    pub(crate) fn parse(text: &str) -> Result<ServerUrl, String> {
        const EXPECTED: &str =
            "expected http://host:port, https://host:port or unix:/path, with nothing behind it";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') && !path.contains('\0') {
                true => Ok(ServerUrl::Unix(path.into())),
                false => Err(EXPECTED.into()),
            };
        }
        let url = Url::parse(text).map_err(|_| EXPECTED)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("expected a URL without a login: tokens are taken from the environment".into());
        }
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_tls = url.scheme() == "https";
        match (url.host_str(), url.port_or_known_default()) {
            (Some(host), Some(port)) if is_bare && (is_tls || url.scheme() == "http") => Ok(ServerUrl::Tcp {
                host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
                port,
                authority: url[Position::BeforeHost..Position::AfterPort].to_owned(),
                is_tls,
            }),
            _ => Err(EXPECTED.into()),
        }
    }

    /// What `Host` says.
    pub(crate) fn authority(&self) -> &str {
        match self {
            ServerUrl::Tcp { authority, .. } => authority,
            // A name that is allowed where only this machine comes.
            ServerUrl::Unix(_) => "localhost",
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerUrl::Tcp { authority, is_tls: false, .. } => write!(f, "http://{authority}"),
            ServerUrl::Tcp { authority, is_tls: true, .. } => write!(f, "https://{authority}"),
            ServerUrl::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What stands for itself in a path and in a form (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `bytes` as they are written in a path or a form.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    percent_encode(bytes, ESCAPED).to_string()
}

/// The request target of a key. `/` alone is none, and what is between dots is written out, lest it be taken for a step in a path.
pub(crate) fn target_of(key: &[u8]) -> String {
    match key {
        b"" => "/?key=".to_owned(),
        b"." => "/%2E".to_owned(),
        b".." => "/%2E%2E".to_owned(),
        _ => format!("/{}", escaped(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, authority: &str, is_tls: bool) -> ServerUrl {
        ServerUrl::Tcp { host: host.into(), port, authority: authority.into(), is_tls }
    }

    #[test]
    fn an_address_is_a_url_without_a_path_or_a_socket() {
        for (text, expected, shown) in [
            (
                "http://127.0.0.1:5000",
                tcp("127.0.0.1", 5000, "127.0.0.1:5000", false),
                "http://127.0.0.1:5000",
            ),
            ("http://h/", tcp("h", 80, "h", false), "http://h"),
            (
                "https://cache.example",
                tcp("cache.example", 443, "cache.example", true),
                "https://cache.example",
            ),
            ("HTTPS://[::1]:5443", tcp("::1", 5443, "[::1]:5443", true), "https://[::1]:5443"),
            ("unix:/run/admin.sock", ServerUrl::Unix("/run/admin.sock".into()), "unix:/run/admin.sock"),
            ("unix:///run/admin.sock", ServerUrl::Unix("/run/admin.sock".into()), "unix:/run/admin.sock"),
        ] {
            let url = ServerUrl::parse(text).unwrap();
            assert_eq!((&url, url.to_string().as_str()), (&expected, shown), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_a_word_of_it() {
        for text in [
            "",
            "h:5000",
            "127.0.0.1:5000",
            "redis://planted",
            "http://",
            "http://h/planted",
            "http://h?planted",
            "http://h#planted",
            "http://user:planted@h",
            "http://planted@h",
            "http://h:planted",
            "unix:planted",
            "unix:",
        ] {
            let error = ServerUrl::parse(text).unwrap_err();
            assert!(error.starts_with("expected ") && !error.contains("planted"), "{text}: {error}");
        }
    }

    #[test]
    fn every_key_has_a_target() {
        for (key, target) in [
            (&b"user:1"[..], "/user%3A1"),
            (b"", "/?key="),
            (b"..", "/%2E%2E"),
            (b"a/b?c#d%e+f", "/a%2Fb%3Fc%23d%25e%2Bf"),
            (b"\xff\x00 ", "/%FF%00%20"),
        ] {
            assert_eq!(target_of(key), target);
        }
    }
}
