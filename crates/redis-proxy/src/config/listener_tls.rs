//! TLS on our own ports: which files, and which ports speak it.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::ConfigError;
use super::listen;
use super::sources::Values;
use crate::tls::{PortName, ServerTls, TlsSettings};

/// Meaningless without a certificate.
const PARTS: [&str; 4] = ["TLS_KEY", "TLS_CLIENT_CA", "TLS_PORTS", "TLS_CLIENT_PORTS"];

/// Settles what is spoken on our ports, and reads the files.
///
/// # Errors
/// Parts that do not go together, files that cannot be read or do not fit.
pub(super) fn resolve(values: &Values) -> Result<Option<Arc<ServerTls>>, ConfigError> {
    let Some(cert) = path(values, "TLS_CERT") else {
        let part = PARTS.iter().find_map(|name| values.given(name));
        return part.map_or(Ok(None), |part| Err(alone(part.name, values, "TLS_CERT")));
    };
    if let Some(given) = values.given("TLS_PORTS") {
        let hosts =
            [("HOST", PortName::Http), ("RESP_HOST", PortName::Resp), ("ADMIN_HOST", PortName::Admin)];
        let named = ports(values, "TLS_PORTS").unwrap_or_default();
        let is_unix = |host: &str| listen::unix_path(&values.text(host)).is_some();
        let unix = hosts.iter().find(|(host, port)| named.contains(port) && is_unix(host));
        if let Some(host) = unix.and_then(|(host, _)| values.given(host)) {
            return Err(ConfigError::conflict(
                given,
                host,
                "a unix socket is always plain: leave it out of TLS_PORTS",
            ));
        }
    }
    let key = path(values, "TLS_KEY").ok_or_else(|| alone("TLS_CERT", values, "TLS_KEY"))?;
    let client_ca = path(values, "TLS_CLIENT_CA");
    let ports = ports(values, "TLS_PORTS").unwrap_or(vec![PortName::Http, PortName::Resp]);
    let client_ports = match (&client_ca, self::ports(values, "TLS_CLIENT_PORTS")) {
        (None, Some(_)) => return Err(alone("TLS_CLIENT_PORTS", values, "TLS_CLIENT_CA")),
        (None, None) => Vec::new(),
        (Some(_), None) => ports.iter().copied().filter(|port| *port != PortName::Admin).collect(),
        (Some(_), Some(client_ports)) => client_ports,
    };
    if let Some(plain) = client_ports.iter().find(|port| !ports.contains(port)) {
        let port = plain.word();
        return Err(ConfigError::other(format!(
            "TLS_CLIENT_PORTS names {port}, which is not among TLS_PORTS: a plain port cannot ask for a certificate"
        )));
    }
    let settings = TlsSettings { cert, key, client_ca, ports, client_ports };
    settings.read().map(|tls| Some(Arc::new(tls))).map_err(ConfigError::other)
}

fn path(values: &Values, name: &str) -> Option<PathBuf> {
    values.given_text(name).map(PathBuf::from)
}

fn ports(values: &Values, name: &str) -> Option<Vec<PortName>> {
    let words = values.given_text(name)?;
    Some(PortName::ALL.into_iter().filter(|port| words.split(',').any(|word| word == port.word())).collect())
}

fn alone(name: &str, values: &Values, other: &str) -> ConfigError {
    let origin = values.given(name).map(|given| given.origin.to_string()).unwrap_or_default();
    ConfigError::other(format!("{name} ({origin}) is set without {other}"))
}
