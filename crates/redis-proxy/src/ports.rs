//! The ports that are on: bound before anything runs, so that an address in use is told at once. One that whoever started us has opened is
//! taken as it is.

use std::collections::HashMap;

use tracing::info;

use crate::config::{ListenAddress, Settings};
use crate::error::Error;
use crate::listener::{bind, keep_asking};
use crate::socket::Listening;
use crate::tls::PortName;
use crate::unix_socket::{self, SocketFile};

/// The listening sockets; none where a port is off.
pub(crate) struct Ports {
    pub(crate) http: Option<Listening>,
    pub(crate) resp: Option<Listening>,
    pub(crate) admin: Option<Listening>,
    /// Of those that are unix sockets: to be dropped at the end of the program, whoever has the listeners.
    pub(crate) files: Vec<SocketFile>,
}

impl Ports {
    /// Binds all of them but those whose `sockets` are open already.
    ///
    /// # Errors
    /// The operator's: an address that cannot be listened on.
    pub(crate) fn open(settings: &Settings, sockets: Vec<(PortName, Listening)>) -> Result<Ports, Error> {
        let mut files = Vec::new();
        let mut sockets: HashMap<_, _> = sockets.into_iter().collect();
        let mut listen = |port: PortName, names, address: &Option<ListenAddress>| {
            if let Some(socket) = sockets.remove(&port) {
                info!(
                    port = port.word(),
                    address = socket.name(),
                    "a socket that was open already is taken over"
                );
                keep_asking(&socket, settings.client_keepalive).map_err(Error::System)?;
                return Ok(Some(socket));
            }
            let bound = address.as_ref().map(|address| {
                let bound = match address {
                    ListenAddress::Tcp { host, port } => {
                        bind(host, *port, settings.client_keepalive).map(Listening::Tcp)
                    }
                    ListenAddress::Unix(path) => {
                        unix_socket::listen(path, settings.socket_mode).map(|(listener, file)| {
                            files.push(file);
                            Listening::Unix(listener, path.clone())
                        })
                    }
                };
                bound.map_err(|cause| Error::Bind { names, address: address.to_string(), cause })
            });
            bound.transpose()
        };
        let http = listen(PortName::Http, "HOST and PORT", &settings.http)?;
        let admin = listen(PortName::Admin, "ADMIN_HOST and ADMIN_PORT", &settings.admin)?;
        let resp = listen(PortName::Resp, "RESP_HOST and RESP_PORT", &settings.resp)?;
        Ok(Ports { http, resp, admin, files })
    }

    /// The numbers of those that serve data.
    pub(crate) fn data_numbers(&self) -> Vec<u16> {
        let data = [&self.http, &self.resp].into_iter().flatten();
        data.filter_map(Listening::port).collect()
    }
}

/// Whether nobody but this machine reaches a port.
pub(crate) fn is_on_loopback(listener: Option<&Listening>) -> bool {
    listener.is_some_and(Listening::is_local)
}

/// The address that a port was bound to, for the log.
pub(crate) fn address_of(listener: Option<&Listening>) -> String {
    listener.map_or("off".into(), Listening::name)
}
