//! Certificates of the HTTPS listener.

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, ResolvesServerCertUsingSni},
    sign::CertifiedKey,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why the HTTPS listener cannot work.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] rustls::pki_types::pem::Error),
    /// Certificate and key do not fit, or are of a kind that is not supported.
    #[error("certificate {0} cannot be used with its key")]
    Unusable(PathBuf, #[source] rustls::Error),
}

/// Hands out the certificate that names the host; the first one for all others and for clients that name none.
#[derive(Debug)]
struct Certificates {
    wildcards: Vec<(String, Arc<CertifiedKey>)>,
    first: Option<Arc<CertifiedKey>>,
    exact: ResolvesServerCertUsingSni,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let wildcard = name.as_deref().and_then(|name| name.split_once('.')).and_then(|(_, parent)| {
            let found = self.wildcards.iter().find(|(of, _)| of == parent);
            found.map(|(_, key)| key.clone())
        });
        self.exact.resolve(hello).or(wildcard).or_else(|| self.first.clone())
    }
}

/// Settings of the HTTPS listener: TLS 1.2 and newer, HTTP/2 and 1.1 by ALPN.
pub(crate) fn server(pairs: &[(PathBuf, PathBuf)]) -> Result<ServerConfig, TlsError> {
    foundation::tls::install_crypto();
    let mut certificates = Certificates { wildcards: vec![], first: None, exact: ResolvesServerCertUsingSni::new() };
    for (certificate, key) in pairs {
        let (names, key) = load(certificate, key)?;
        let key = Arc::new(key);
        for name in names {
            match name.strip_prefix("*.") {
                Some(parent) => certificates.wildcards.push((parent.to_ascii_lowercase(), key.clone())),
                // A name that the certificate carries twice, or that is no host name, is found by another way or not at all.
                None => drop(certificates.exact.add(&name, CertifiedKey::clone(&key))),
            }
        }
        certificates.first.get_or_insert(key);
    }
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The DNS names of a certificate, and the pair ready for use.
fn load(certificate: &Path, key: &Path) -> Result<(Vec<String>, CertifiedKey), TlsError> {
    let unusable = |e| TlsError::Unusable(certificate.to_owned(), e);
    let read = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|e| TlsError::Read(certificate.to_owned(), e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| TlsError::Read(key.to_owned(), e))?;
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    let names = chain.first().map(dns_names).unwrap_or_default();
    let pair = CertifiedKey::from_der(chain, private, &provider).map_err(unusable)?;
    Ok((names, pair))
}

fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::prelude::*;
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return vec![] };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return vec![] };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}
