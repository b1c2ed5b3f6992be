//! A way for clients that know nothing of TLS: what they say to a port of this tunnel is said over TLS to the program.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

/// Ends with its connections when it is dropped.
pub(crate) struct TlsTunnel {
    pub(crate) address: SocketAddr,
    /// Dropped, it ends the thread.
    _end: oneshot::Sender<()>,
}

/// What a client of TLS trusts and shows.
pub(crate) fn client_config(
    ca: &Path,
    own: Option<&[std::path::PathBuf; 2]>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some([cert, key]) => {
            let certificates = vec![CertificateDer::from_pem_file(cert).unwrap()];
            builder.with_client_auth_cert(certificates, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    }
}

impl TlsTunnel {
    /// To the port at `address`, whose certificate must be good for 127.0.0.1.
    pub(crate) fn to(address: SocketAddr, config: ClientConfig) -> TlsTunnel {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let own = listener.local_addr().unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let accepting = async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let connector = connector.clone();
                tokio::spawn(async move {
                    // What fails on the way ends the client, who sees that.
                    let _ = relay(client, address, &connector).await;
                });
            }
        };
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accepting => {}
                    _ = ended => {}
                }
            });
        });
        TlsTunnel { address: own, _end: end }
    }
}

async fn relay(mut client: TcpStream, to: SocketAddr, connector: &TlsConnector) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let socket = TcpStream::connect(to).await?;
    socket.set_nodelay(true)?;
    let mut tls = connector.connect(ServerName::from(to.ip()), socket).await?;
    copy_bidirectional(&mut client, &mut tls).await?;
    tls.shutdown().await
}
