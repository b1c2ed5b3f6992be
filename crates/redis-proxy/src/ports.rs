//! The ports that are on: bound before anything runs, so that an address in use is told at once.

use std::net::TcpListener;

use crate::config::Settings;
use crate::error::Error;
use crate::listener::bind;

/// The listening sockets; none where a port is off.
pub(crate) struct Ports {
    pub(crate) http: Option<TcpListener>,
    pub(crate) resp: Option<TcpListener>,
    pub(crate) admin: Option<TcpListener>,
}

impl Ports {
    /// Binds all of them.
    ///
    /// # Errors
    /// The operator's: an address that cannot be listened on.
    pub(crate) fn bind(settings: &Settings) -> Result<Ports, Error> {
        let listen = |names, host: &str, port: Option<u16>| {
            let bound = port.map(|port| {
                bind(host, port, settings.client_keepalive).map_err(|cause| Error::Bind {
                    names,
                    address: format!("{host}:{port}"),
                    cause,
                })
            });
            bound.transpose()
        };
        Ok(Ports {
            http: listen("HOST and PORT", &settings.host, settings.port)?,
            admin: listen("ADMIN_HOST and ADMIN_PORT", &settings.admin_host, settings.admin_port)?,
            resp: listen("RESP_HOST and RESP_PORT", &settings.resp_host, settings.resp_port)?,
        })
    }

    /// The numbers of those that serve data.
    pub(crate) fn data_numbers(&self) -> Vec<u16> {
        let data = [&self.http, &self.resp].into_iter().flatten();
        data.filter_map(|listener| listener.local_addr().ok()).map(|address| address.port()).collect()
    }
}

/// The address that a port was bound to, for the log.
pub(crate) fn address_of(listener: Option<&TcpListener>) -> String {
    match listener.map(TcpListener::local_addr) {
        None => "off".into(),
        Some(Ok(address)) => address.to_string(),
        Some(Err(error)) => error.to_string(),
    }
}
