//! What is known of a server of an instance's own: kept in the instance's private state.

use broker_sdk::osb::PrivateObject;
use engines::Error;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use uuid::Uuid;

/// A server of an instance's own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// What the platform knows it by. Drawn anew for every server, so that no data of an earlier one can come back.
    pub(crate) workload: Uuid,
    /// At the services address, and inside the container.
    pub(crate) port: u16,
    pub(crate) memory_mb: u32,
    pub(crate) disk_mb: u32,
    /// The administrator's.
    pub(crate) password: String,
    /// PEM.
    pub(crate) identity: Identity,
    /// How often it was restarted to run newer programs.
    pub(crate) renewed: u32,
    /// True once the instance's data is here and nowhere else.
    pub(crate) inhabited: bool,
}

/// A server's certificate and key, and the authority that signed it and nothing else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Note").field("workload", &self.workload).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Identity {
    /// A new one, for a server that clients call `host`. The authority's key is thrown away.
    pub(crate) fn new(host: &str) -> Result<Self, Error> {
        let made = || -> Result<Self, rcgen::Error> {
            let authority_key = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, format!("authority of a database server at {host}"));
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
            let authority = params.self_signed(&authority_key)?;
            let issuer = Issuer::new(params, authority_key);
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(vec![host.to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, "database server");
            params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            params.use_authority_key_identifier_extension = true;
            let certificate = params.signed_by(&key, &issuer)?;
            Ok(Self { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
        };
        made().map_err(Error::server)
    }
}

impl Note {
    /// From an instance's private state; `None` if it has no server of its own.
    pub(crate) fn of(state: &PrivateObject) -> Result<Option<Self>, Error> {
        let Some(note) = state.get("server") else { return Ok(None) };
        serde_json::from_value(note.clone()).map(Some).map_err(Error::server)
    }

    /// As private state.
    pub(crate) fn state(&self) -> Result<PrivateObject, Error> {
        let note = serde_json::to_value(self).map_err(Error::server)?;
        Ok(PrivateObject::from_iter([("server", note)]))
    }
}

/// Connections of a server with so much memory.
pub(crate) fn connections(memory_mb: u32) -> u32 {
    (memory_mb / 8).clamp(16, 400)
}

/// What the script of a product finds in its environment.
#[derive(Clone, Copy, Debug)]
pub struct OwnEnvironment {
    /// Its memory.
    pub memory_mb: u32,
    /// Its volume.
    pub disk_mb: u32,
}

/// Where the volume is in the container.
pub(crate) const VOLUME: &str = "/home/vcap/data";

/// The environment of a server.
pub(crate) fn environment(note: &Note) -> BTreeMap<String, String> {
    let Note { port, memory_mb, disk_mb, password, identity, renewed, .. } = note;
    let variables = [
        ("SERVER_VOLUME", VOLUME.to_owned()),
        ("SERVER_PORT", port.to_string()),
        ("SERVER_MEMORY_MB", memory_mb.to_string()),
        ("SERVER_DISK_MB", disk_mb.to_string()),
        ("SERVER_CONNECTIONS", connections(*memory_mb).to_string()),
        ("SERVER_PASSWORD", password.clone()),
        ("SERVER_CERTIFICATE", identity.certificate.clone()),
        ("SERVER_KEY", identity.key.clone()),
        // Another value restarts it
        ("SERVER_RENEWED", renewed.to_string()),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_in_the_private_state_and_shows_no_secret() {
        let identity = Identity::new("10.255.0.1").unwrap();
        let note = Note {
            workload: Uuid::from_u128(7),
            port: 40_000,
            memory_mb: 512,
            disk_mb: 1024,
            password: "secret".into(),
            identity,
            renewed: 0,
            inhabited: false,
        };
        assert_eq!(Note::of(&note.state().unwrap()).unwrap().as_ref(), Some(&note));
        assert_eq!(Note::of(&PrivateObject::new()).unwrap(), None);
        let shown = format!("{note:?}");
        assert!(!shown.contains("secret") && !shown.contains("PRIVATE"), "{shown}");
        let variables = environment(&note);
        assert_eq!((variables["SERVER_CONNECTIONS"].as_str(), variables["SERVER_PORT"].as_str()), ("64", "40000"));
    }
}
