//! Mutual TLS between components.

use crate::config::TlsSection;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{path::Path, sync::Arc};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("cannot read {0}")]
    Read(std::path::PathBuf, #[source] rustls::pki_types::pem::Error),
    /// The pieces do not fit.
    #[error("certificate and key of {0} cannot be used")]
    Unusable(std::path::PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Chooses the process's one provider of cryptography; first thing in every `main`. Calling it again does nothing.
pub fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|e| TlsError::Read(path.to_owned(), e))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|e| TlsError::Unusable(path.to_owned(), e.into()))?;
    }
    Ok(store)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| TlsError::Read(path.to_owned(), e))
}

/// For a listener that only lets in callers with a certificate of the platform's authority.
pub fn server(section: &TlsSection) -> Result<ServerConfig, TlsError> {
    let unusable = |e: Box<dyn std::error::Error + Send + Sync>| TlsError::Unusable(section.certificate.clone(), e);
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(&section.ca)?)).build().map_err(|e| unusable(e.into()))?;
    ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&section.certificate)?, key(&section.key)?)
        .map_err(|e| unusable(e.into()))
}

/// For a caller that shows its own certificate and trusts the platform's authority alone.
pub fn client(section: &TlsSection) -> Result<ClientConfig, TlsError> {
    ClientConfig::builder()
        .with_root_certificates(roots(&section.ca)?)
        .with_client_auth_cert(certificates(&section.certificate)?, key(&section.key)?)
        .map_err(|e| TlsError::Unusable(section.certificate.clone(), e.into()))
}
