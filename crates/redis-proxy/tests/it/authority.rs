//! Certificates, and a Redis that shows one.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use testkit::{ProxyBuilder, RedisServer};

/// An authority and what it has signed, as PEM files.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { folder, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for these names, and its key.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> [PathBuf; 2] {
        self.sign_until(file, names, 4000)
    }

    /// One that was good for a year, long ago.
    pub(crate) fn sign_expired(&self, file: &str, names: &[&str]) -> [PathBuf; 2] {
        self.sign_until(file, names, 2001)
    }

    fn sign_until(&self, file: &str, names: &[&str], year: i32) -> [PathBuf; 2] {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        // Of the same name as its authority it would pass for self-signed.
        params.distinguished_name.push(DnType::CommonName, file);
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(year, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = [self.file(&format!("{file}.pem")), self.file(&format!("{file}.key"))];
        std::fs::write(&files[0], certificate.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        files
    }
}

/// A Redis that listens for TLS, with a certificate for `names`.
pub(crate) fn start_tls(authority: &Authority, names: &[&str], clients: &str) -> RedisServer {
    let [certificate, key] = authority.sign("server", names);
    let redis = RedisServer::builder()
        .tls(&certificate, &key, &authority.file("ca.pem"))
        .config("tls-auth-clients", clients)
        .start();
    redis.client().set("k", "v");
    redis
}

/// The program, told to reach it so.
pub(crate) fn at_tls(program: ProxyBuilder, redis: &RedisServer, ca: &Path) -> ProxyBuilder {
    program.set("REDIS_URL", format!("rediss://{}", redis.tls_address())).set("REDIS_TLS_CA", ca)
}
