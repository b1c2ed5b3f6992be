//! Opens the byte stream to Redis: TCP, TLS or a unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use crate::endpoint::{Address, Endpoint, Tls};

/// A byte stream to Redis.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Opens a stream to `endpoint`. The name is resolved anew, then `resolved` is set, and every address that it has is
/// tried in turn.
pub(crate) async fn open(endpoint: &Endpoint, resolved: &AtomicBool) -> io::Result<Box<dyn Duplex>> {
    let (host, port) = match &endpoint.address {
        Address::Unix(path) => {
            resolved.store(true, Ordering::Relaxed);
            return Ok(Box::new(UnixStream::connect(path).await?));
        }
        Address::Tcp { host, port } => (host, *port),
    };
    let addresses = lookup_host((host.as_str(), port)).await?;
    resolved.store(true, Ordering::Relaxed);
    let tcp = connect_any(addresses).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = &endpoint.tls else {
        return Ok(Box::new(tcp));
    };
    let name = tls.server_name.clone().unwrap_or_else(|| host.clone());
    let name = ServerName::try_from(name).map_err(invalid)?;
    let tls = tls.clone();
    // Files are read at each attempt, so that a renewed certificate needs no restart; and off the worker.
    let config =
        tokio::task::spawn_blocking(move || client_config(&tls)).await.map_err(io::Error::other)??;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    Ok(Box::new(connector.connect(name, tcp).await?))
}

async fn connect_any(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn client_config(tls: &Tls) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| in_file(path, error))?;
            }
        }
        // An unreadable system certificate is no reason to distrust the others.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(invalid)?
        .with_root_certificates(roots);
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| in_file(key, error))?;
            builder.with_client_auth_cert(certificates(cert)?, key_der).map_err(invalid)
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = |error| in_file(path, error);
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)?;
    if found.is_empty() {
        return Err(in_file(path, "no certificate in it"));
    }
    Ok(found)
}

fn in_file(path: &Path, error: impl std::fmt::Display) -> io::Error {
    invalid(format!("{}: {error}", path.display()))
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
