//! The keys that sign tokens: a folder with one PEM file for each, named after its id. The first is made at first boot.
//!
//! To change keys, put a new file there (its name sorts last, or name it in `active_key`), restart, and take the old file
//! away once the tokens that it signed have ended.

use super::{Cause, Error, Result};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header,
    jwk::{AlgorithmParameters, Jwk},
};
use rand::{Rng, rngs::StdRng};
use rsa::{
    RsaPrivateKey,
    pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey},
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
    traits::PublicKeyParts,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

const BITS: usize = 2048;

/// All keys; one of them signs.
pub(crate) struct Keys {
    keys: Vec<Key>,
    active: usize,
    jku: String,
}

struct Key {
    id: String,
    signing: EncodingKey,
    checking: DecodingKey,
    /// The entry of `/token_keys`: built of public parts only.
    public: Value,
}

impl Keys {
    /// Reads the folder; makes a first key if it has none.
    pub(crate) fn open(folder: &Path, active: Option<&str>, jku: String, rng: &mut StdRng) -> Result<Self> {
        let problem = |what: String, e: Cause| Error::Internal("the signing keys", format!("{what}: {e}").into());
        let unusable = |e: std::io::Error| problem(folder.display().to_string(), e.into());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
        let mut files = std::fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>())
            .map_err(unusable)?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "pem"));
        files.sort();
        if files.is_empty() {
            let path = folder.join("key-1.pem");
            make(&path, rng).map_err(|e| problem(path.display().to_string(), e))?;
            files.push(path);
        }
        let read = |path: &std::path::PathBuf| Key::read(path).map_err(|e| problem(path.display().to_string(), e));
        let keys = files.iter().map(read).collect::<Result<Vec<_>>>()?;
        let active = match active {
            None => keys.len() - 1,
            Some(id) => {
                let missing = || problem(folder.display().to_string(), format!("there is no {id}.pem").into());
                keys.iter().position(|key| key.id == id).ok_or_else(missing)?
            }
        };
        Ok(Self { keys, active, jku })
    }

    /// Signs claims.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String> {
        let key = &self.keys[self.active];
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(key.id.clone());
        header.jku = Some(self.jku.clone());
        jsonwebtoken::encode(&header, claims, &key.signing).map_err(|e| Error::Internal("signing", e.into()))
    }

    /// The key that checks tokens naming this key id.
    pub(crate) fn checking(&self, id: &str) -> Option<&DecodingKey> {
        self.keys.iter().find(|key| key.id == id).map(|key| &key.checking)
    }

    /// What `/token_keys` answers.
    pub(crate) fn public(&self) -> Value {
        json!({ "keys": self.keys.iter().map(|key| &key.public).collect::<Vec<_>>() })
    }

    /// What `/token_key` answers.
    pub(crate) fn public_active(&self) -> &Value {
        &self.keys[self.active].public
    }
}

impl Key {
    fn read(path: &Path) -> Result<Self, Cause> {
        let text = std::fs::read_to_string(path)?;
        let private = RsaPrivateKey::from_pkcs8_pem(&text).or_else(|_| RsaPrivateKey::from_pkcs1_pem(&text))?;
        if private.size() * 8 < BITS {
            return Err(format!("the key has fewer than {BITS} bits").into());
        }
        let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let signing = EncodingKey::from_rsa_der(private.to_pkcs1_der()?.as_bytes());
        let AlgorithmParameters::RSA(parts) = Jwk::from_encoding_key(&signing, Algorithm::RS256)?.algorithm else {
            return Err("not an RSA key".into());
        };
        let checking = DecodingKey::from_rsa_components(&parts.n, &parts.e)?;
        let value = private.to_public_key().to_public_key_pem(LineEnding::LF)?;
        let public = json!({ "kid": id, "kty": "RSA", "alg": "RS256", "use": "sig", "value": value, "n": parts.n, "e": parts.e });
        Ok(Self { id, signing, checking, public })
    }
}

fn make(path: &Path, rng: &mut StdRng) -> Result<(), Cause> {
    let private = RsaPrivateKey::new(&mut OlderRng(rng), BITS)?;
    let text = private.to_pkcs8_pem(LineEnding::LF)?;
    // whole or not at all: a crash in the middle must not leave half a key
    let draft = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    Ok(())
}

/// The `rsa` crate wants the traits of an older `rand`.
struct OlderRng<'a>(&'a mut StdRng);

impl rsa::rand_core::RngCore for OlderRng<'_> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}
impl rsa::rand_core::CryptoRng for OlderRng<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_key_is_made_once_kept_private_and_never_published() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        let open = || Keys::open(&keys, None, "jku".into(), &mut StdRng::seed_from_u64(3)).unwrap();
        let first = open().public();
        assert_eq!(first, open().public(), "the second boot finds the same key");
        let entry = first["keys"][0].as_object().unwrap();
        let mut members: Vec<_> = entry.keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use", "value"], "no private member");
        assert!(entry["value"].as_str().unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(keys.join("key-1.pem")).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key-9.pem"), "nonsense").unwrap();
        let error = Keys::open(folder.path(), None, String::new(), &mut StdRng::seed_from_u64(3)).err().unwrap();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("key-9.pem"), "{cause}");
    }
}
