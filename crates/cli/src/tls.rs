//! TLS as a client of the program speaks it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The largest file of authorities; that of a system has a quarter of it.
const MOST_BYTES: u64 = 1 << 20;

/// Trusts the authorities of the file at `ca` and no others; without one those of the system.
///
/// # Errors
/// The file cannot be read, or holds no certificate.
pub(crate) fn client_config(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path).map_err(|why| format!("--cacert {path:?}: {why}"))? {
                roots.add(certificate).map_err(|error| format!("--cacert {path:?}: {error}"))?;
            }
        }
        // An unreadable certificate of the system is no reason to distrust the others.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut pem = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut pem).map_err(|error| error.to_string())?;
    if pem.len() as u64 > MOST_BYTES {
        return Err("it is larger than 1MiB".into());
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("there is no certificate in it".into()),
        Err(error) => Err(format!("no certificate can be read from it: {error}")),
    }
}
