//! TLS as our own health check speaks it: the program at the other end must be the one that has our certificate.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::{MOST_BYTES, TlsSettings, certificates};
use crate::config::{PipePolicy, read_file};

/// What whoever asks for our own health goes by. It shows our certificate, in case clients must show one.
///
/// # Errors
/// As of [`TlsSettings::read`].
pub(crate) fn client_config(settings: &TlsSettings) -> Result<ClientConfig, String> {
    let read = |name: &str, path| {
        read_file(path, MOST_BYTES, PipePolicy::Refused).map_err(|why| format!("{name}: {why}"))
    };
    let own = certificates("TLS_CERT", &read("TLS_CERT", &settings.cert)?)?;
    let key = PrivateKeyDer::from_pem_slice(&read("TLS_KEY", &settings.key)?)
        .map_err(|error| format!("TLS_KEY: {error}"))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = OwnCertificate { own: own[0].clone(), provider: provider.clone() };
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(own, key)
        .map_err(|error| error.to_string())
}

/// Takes the one certificate that is our own, whatever name and authority it has.
#[derive(Debug)]
struct OwnCertificate {
    own: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OwnCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.own {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
