//! TLS on our own ports: what they show, whom they let in, read from files and put in force as one value.
//!
//! A [`ServerTls`] is made of the files as they are at one moment: certificate and key that fit, and the authorities of clients if
//! these are to show certificates. Where one of them is bad there is no value, and the one before stays. Connections that
//! are open keep what they began with.

mod health;
mod told;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

pub(crate) use self::health::client_config;
pub(crate) use self::told::{begins_tls, tell_refused, tell_that_it_is_plain, tell_that_it_is_tls};
use crate::config::{PipePolicy, read_file};

/// A port that we listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PortName {
    Http,
    Resp,
    Admin,
}

impl PortName {
    pub(crate) const ALL: [PortName; 3] = [PortName::Http, PortName::Resp, PortName::Admin];
    /// As settings name them.
    pub(crate) const WORDS: [&str; 3] = ["http", "resp", "admin"];

    pub(crate) fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

/// The settings of TLS on our ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// The authorities that clients' certificates are from.
    pub(crate) client_ca: Option<PathBuf>,
    /// The ports that speak TLS.
    pub(crate) ports: Vec<PortName>,
    /// Those of them whose clients must show a certificate; none without `client_ca`.
    pub(crate) client_ports: Vec<PortName>,
}

/// The largest of the files.
const MOST_BYTES: u64 = 1 << 20;

impl TlsSettings {
    /// The files, by the settings that name them.
    pub(crate) fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files = vec![("TLS_CERT", self.cert.clone()), ("TLS_KEY", self.key.clone())];
        files.extend(self.client_ca.iter().map(|path| ("TLS_CLIENT_CA", path.clone())));
        files
    }

    /// Reads the files, whose certificate and key must fit.
    ///
    /// # Errors
    /// The operator's, in one line that names the setting and holds nothing of a file.
    pub(crate) fn read(&self) -> Result<ServerTls, String> {
        let mut contents = Vec::new();
        for (name, path) in self.files() {
            let bytes = read_file(&path, MOST_BYTES, PipePolicy::Refused);
            contents.push((name, bytes.map_err(|why| format!("{name}={path:?}: {why}"))?));
        }
        let digests = contents.iter().map(|(name, bytes)| (*name, blake3::hash(bytes))).collect();
        let content = |wanted: &str| {
            contents.iter().find(|(name, _)| *name == wanted).map_or(&[][..], |(_, bytes)| bytes)
        };
        let certificates = certificates("TLS_CERT", content("TLS_CERT"))?;
        let key = PrivateKeyDer::from_pem_slice(content("TLS_KEY"))
            .map_err(|error| format!("TLS_KEY: no private key can be read from the file: {error}"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = match &self.client_ca {
            Some(_) => Some(client_verifier(content("TLS_CLIENT_CA"), &provider)?),
            None => None,
        };
        let config = |port: PortName| {
            let clients = clients.clone().filter(|_| self.client_ports.contains(&port));
            server_config(&provider, certificates.clone(), key.clone_key(), clients, port).map(Arc::new)
        };
        let configs = PortName::ALL.map(|port| self.ports.contains(&port).then(|| config(port)).transpose());
        let [http, resp, admin] = configs;
        Ok(ServerTls { settings: self.clone(), digests, configs: [http?, resp?, admin?] })
    }
}

/// What our ports show and ask for. Never changed: what is read anew is another value.
pub(crate) struct ServerTls {
    settings: TlsSettings,
    /// Of the files, by their settings.
    digests: Vec<(&'static str, blake3::Hash)>,
    /// By [`PortName`]; none where a port is plain.
    configs: [Option<Arc<ServerConfig>>; 3],
}

impl ServerTls {
    pub(crate) fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// What a handshake on this port goes by; none if it is plain.
    pub(crate) fn of(&self, port: PortName) -> Option<&Arc<ServerConfig>> {
        self.configs[port as usize].as_ref()
    }

    /// The settings whose files hold something else than in `before`.
    pub(crate) fn differing(&self, before: &ServerTls) -> Vec<&'static str> {
        let differs = |digest: &&(&'static str, blake3::Hash)| !before.digests.contains(digest);
        self.digests.iter().filter(differs).map(|(name, _)| *name).collect()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{name}: there is no certificate in the file")),
        Err(error) => Err(format!("{name}: no certificate can be read from the file: {error}")),
    }
}

fn client_verifier(
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("TLS_CLIENT_CA", pem)? {
        roots.add(certificate).map_err(|error| format!("TLS_CLIENT_CA: {error}"))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| format!("TLS_CLIENT_CA: {error}"))
}

/// TLS 1.2 and 1.3 with the suites of rustls, all of which have forward secrecy and authenticate what they encrypt.
fn server_config(
    provider: &Arc<CryptoProvider>,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    port: PortName,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let shows_certificate = clients.is_some();
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "the key in TLS_KEY is not that of the first certificate in TLS_CERT".to_owned()
        }
        other => format!("TLS_CERT and TLS_KEY: {other}"),
    })?;
    if shows_certificate {
        // A resumed session would not be asked for its certificate again, which may have ended since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
    }
    if port != PortName::Resp {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn sign(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let signed = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let files = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&files.0, signed.cert.pem()).unwrap();
        fs::write(&files.1, signed.signing_key.serialize_pem()).unwrap();
        files
    }

    fn settings(files: (PathBuf, PathBuf)) -> TlsSettings {
        TlsSettings {
            cert: files.0,
            key: files.1,
            client_ca: None,
            ports: vec![PortName::Http, PortName::Resp],
            client_ports: Vec::new(),
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_by_its_setting_and_with_nothing_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = sign(folder.path(), "a");
        let (other_cert, other_key) = sign(folder.path(), "b");
        let good = settings((cert.clone(), key.clone()));
        assert!(good.read().is_ok());
        let half = folder.path().join("half.pem");
        let text = fs::read_to_string(&cert).unwrap();
        fs::write(&half, &text[..text.len() / 2]).unwrap();
        let half_key = folder.path().join("half.key");
        let text = fs::read_to_string(&key).unwrap();
        fs::write(&half_key, &text[..text.len() / 2]).unwrap();
        let empty = folder.path().join("empty");
        fs::write(&empty, "").unwrap();
        let missing = folder.path().join("missing");
        let with_ca = |ca: &Path| TlsSettings { client_ca: Some(ca.to_owned()), ..good.clone() };
        let cases = [
            (settings((cert.clone(), other_key)), "TLS_KEY is not that of"),
            (settings((other_cert, key.clone())), "TLS_KEY is not that of"),
            (settings((half, key.clone())), "TLS_CERT: "),
            (settings((cert.clone(), half_key)), "TLS_KEY: "),
            (settings((empty.clone(), key.clone())), "TLS_CERT: there is no certificate"),
            (settings((cert.clone(), empty.clone())), "TLS_KEY: no private key"),
            (settings((cert.clone(), cert.clone())), "TLS_KEY: no private key"),
            (settings((missing.clone(), key.clone())), "TLS_CERT="),
            (settings((folder.path().to_owned(), key)), "it is a directory"),
            (with_ca(&empty), "TLS_CLIENT_CA: there is no certificate"),
            (with_ca(&missing), "TLS_CLIENT_CA="),
        ];
        for (settings, expected) in cases {
            let error = settings.read().unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
            assert!(!error.contains('\n') && !error.contains("BEGIN"), "{error}");
        }
    }

    #[test]
    fn a_port_speaks_tls_where_it_is_named_and_its_protocol_is_agreed_on_for_http_alone() {
        let folder = tempfile::tempdir().unwrap();
        let tls = settings(sign(folder.path(), "a")).read().unwrap();
        assert_eq!(tls.of(PortName::Http).unwrap().alpn_protocols, [b"http/1.1".to_vec()]);
        assert!(tls.of(PortName::Resp).unwrap().alpn_protocols.is_empty());
        assert!(tls.of(PortName::Admin).is_none());
    }

    #[test]
    fn what_differs_is_what_is_in_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(sign(folder.path(), "a"));
        let first = settings.read().unwrap();
        assert!(settings.read().unwrap().differing(&first).is_empty());
        sign(folder.path(), "a");
        assert_eq!(settings.read().unwrap().differing(&first), ["TLS_CERT", "TLS_KEY"]);
    }
}
