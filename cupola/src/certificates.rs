//! The node's own certificate authority and the certificates of its parts.

use crate::files::{self, Owner};
use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::path::{Path, PathBuf};

/// The authority of a node: signs at first boot, and again what is missing.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

/// Where a part's certificate and key lie.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// The authority in `folder`, made if it is missing. `ca.pem` is for everybody to read, its key for root alone.
    pub(crate) fn open(folder: &Path, name: &str) -> anyhow::Result<Self> {
        files::folder(folder, Owner::root(0o755))?;
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !certificate.exists() || !key.exists() {
            let key_pair = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            params.distinguished_name = named(name);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
            let signed = params.self_signed(&key_pair)?;
            files::write(&key, key_pair.serialize_pem().as_bytes(), Owner::root(0o600))?;
            files::write(&certificate, signed.pem().as_bytes(), Owner::root(0o644))?;
        }
        let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let issuer = Issuer::from_ca_cert_pem(&read(&certificate)?, KeyPair::from_pem(&read(&key)?)?)?;
        Ok(Self { issuer, folder: folder.to_owned() })
    }

    /// The authority's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate with `name` as common name, good for `hosts`, made if it is missing; its key belongs to `uid`.
    pub(crate) fn pair(&self, name: &str, hosts: &[String], uid: u32) -> anyhow::Result<Pair> {
        let pair = Pair { certificate: self.folder.join(format!("{name}.pem")), key: self.folder.join(format!("{name}.key")) };
        if !pair.certificate.exists() || !pair.key.exists() {
            let key_pair = KeyPair::generate()?;
            let mut params = CertificateParams::new(hosts.to_vec())?;
            params.distinguished_name = named(name);
            params.use_authority_key_identifier_extension = true;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let signed = params.signed_by(&key_pair, &self.issuer)?;
            files::write(&pair.key, key_pair.serialize_pem().as_bytes(), Owner::service(uid, 0o400))?;
            files::write(&pair.certificate, signed.pem().as_bytes(), Owner::root(0o644))?;
        }
        Ok(pair)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::OrganizationName, "Cupola");
    distinguished.push(DnType::CommonName, name);
    distinguished
}
