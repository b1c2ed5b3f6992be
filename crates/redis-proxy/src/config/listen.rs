//! Where our own ports listen: a host and a port, or a unix socket in their place.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::sources::Values;
use super::{Settings, check_together};
use crate::tls::PortName;

/// Where a port listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address or a name, and a port, 0 being any free one.
    Tcp {
        /// Without brackets.
        host: String,
        /// As set.
        port: u16,
    },
    /// The path of a socket.
    Unix(PathBuf),
}

impl Settings {
    /// Has ports listen at these addresses, whatever the settings say.
    ///
    /// # Errors
    /// What the settings as a whole do not allow.
    pub(crate) fn listen_at(
        &mut self,
        addresses: impl IntoIterator<Item = (PortName, ListenAddress)>,
    ) -> Result<(), ConfigError> {
        for (port, address) in addresses {
            let place = match port {
                PortName::Http => &mut self.http,
                PortName::Resp => &mut self.resp,
                PortName::Admin => &mut self.admin,
            };
            *place = Some(address);
        }
        check_together(self)
    }
}

/// What a unix socket is told by.
const UNIX: &str = "unix:";
/// A path above this has no room in an address (unix(7), `sun_path`, with its end).
const MOST_PATH_BYTES: usize = 107;

impl ListenAddress {
    /// Whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        match self {
            ListenAddress::Tcp { host, .. } => {
                host.parse().map_or(host == "localhost", |host: IpAddr| host.is_loopback())
            }
            ListenAddress::Unix(_) => true,
        }
    }

    /// Whether both cannot be listened on.
    pub(super) fn is_same(&self, other: &ListenAddress) -> bool {
        !matches!(self, ListenAddress::Tcp { port: 0, .. }) && self == other
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            ListenAddress::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// The path in a text that names a unix socket; `None` if it names none, or none that can be listened on.
pub(super) fn unix_path(text: &str) -> Option<&Path> {
    let path = text.strip_prefix(UNIX)?;
    let is_good = path.starts_with('/') && path.len() <= MOST_PATH_BYTES && !path.contains('\0');
    is_good.then_some(Path::new(path))
}

/// Where a port listens by these two settings; none where it is off.
///
/// # Errors
/// A unix socket with a port.
pub(super) fn resolve(values: &Values, host: &str, port: &str) -> Result<Option<ListenAddress>, ConfigError> {
    let text = values.text(host);
    if let Some(path) = unix_path(&text) {
        if let (Some(host), Some(port)) = (values.given(host), values.given(port)) {
            return Err(ConfigError::conflict(host, port, "a unix socket has no port"));
        }
        return Ok(Some(ListenAddress::Unix(path.to_owned())));
    }
    let port = values.optional_number(port).and_then(|port| u16::try_from(port).ok());
    Ok(port.map(|port| ListenAddress::Tcp { host: text, port }))
}
