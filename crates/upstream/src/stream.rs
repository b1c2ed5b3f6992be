//! Opens the byte stream to Redis: TCP, TLS or a unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use crate::endpoint::{Address, Endpoint, Tls};
use crate::node::Location;

/// A connection that waits for Redis without end (a blocking command, a subscription) learns after this long, and as long
/// again, that the machine at its other end is gone.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A byte stream to Redis.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Opens a stream to where the node of `endpoint` is now, or will be once it is known, and tells of which generation that is. The
/// name is resolved anew, then `resolved` is set, and every address that it has is tried in turn.
pub(crate) async fn open(endpoint: &Endpoint, resolved: &AtomicBool) -> io::Result<(Box<dyn Duplex>, u64)> {
    loop {
        let Location { address, generation } = endpoint.node.place();
        match address {
            Ok(address) => return Ok((open_at(&address, endpoint, resolved).await?, generation)),
            Err(_) => endpoint.node.left(generation).await,
        }
    }
}

async fn open_at(
    address: &Address,
    endpoint: &Endpoint,
    resolved: &AtomicBool,
) -> io::Result<Box<dyn Duplex>> {
    let (host, port) = match address {
        Address::Unix(path) => {
            resolved.store(true, Ordering::Relaxed);
            return Ok(Box::new(UnixStream::connect(path).await?));
        }
        Address::Tcp { host, port } => (host, *port),
    };
    let addresses = lookup_host((host.as_str(), port)).await?;
    resolved.store(true, Ordering::Relaxed);
    let tcp = connect_any(addresses.collect(), endpoint.limits.connect_timeout()).await?;
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
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

/// The first address that accepts. Each has its share of the time: one that swallows everything hides no other.
async fn connect_any(addresses: Vec<SocketAddr>, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let share = patience / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("no answer from {address}")),
        }
    }
    Err(last)
}

fn client_config(tls: &Tls) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            for certificate in certificates(path, "REDIS_TLS_CA")? {
                roots.add(certificate).map_err(|error| in_file("REDIS_TLS_CA", error))?;
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
            let key_pem = read_regular(key, "REDIS_TLS_KEY")?;
            let key_der =
                PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| in_file("REDIS_TLS_KEY", error))?;
            builder.with_client_auth_cert(certificates(cert, "REDIS_TLS_CERT")?, key_der).map_err(invalid)
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(path: &Path, setting: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = |error| in_file(setting, error);
    let pem = read_regular(path, setting)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(read)?;
    if found.is_empty() {
        return Err(in_file(setting, "no certificate in it"));
    }
    Ok(found)
}

/// A pipe would hold up its reader until somebody writes to it.
fn read_regular(path: &Path, setting: &str) -> io::Result<Vec<u8>> {
    let data = std::fs::metadata(path).map_err(|error| in_file(setting, error))?;
    if !data.is_file() {
        return Err(in_file(setting, "it is no regular file"));
    }
    std::fs::read(path).map_err(|error| in_file(setting, error))
}

/// The setting and not the path: this text reaches HTTP clients, and what our files are called is none of their business.
fn in_file(setting: &str, error: impl std::fmt::Display) -> io::Error {
    invalid(format!("the file of {setting}: {error}"))
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
