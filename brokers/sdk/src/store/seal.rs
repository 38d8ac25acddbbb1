//! Values that are encrypted in the database: AES-256-GCM, bound to the row that they belong to.

use crate::Failure;
use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use parking_lot::Mutex;
use rand::{Rng, rngs::StdRng};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// The first byte of what this key sealed.
const VERSION: u8 = 1;
const NONCE: usize = 12;

/// A folder that only its owner enters.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Seals and opens values.
pub(crate) struct Vault {
    cipher: Aes256Gcm,
    rng: Mutex<StdRng>,
}

impl Vault {
    /// Reads the key; makes one if there is nothing yet that an older one has sealed.
    pub(super) fn open(path: &Path, in_use: bool, mut rng: StdRng) -> io::Result<Self> {
        let key = match std::fs::read_to_string(path) {
            Ok(text) => unhex(text.trim()).ok_or_else(|| io::Error::other("the key file does not hold 64 hexadecimal digits"))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !in_use => make(path, &mut rng)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(io::Error::other("there is a database but the key file that opens it is missing"));
            }
            Err(e) => return Err(e),
        };
        Ok(Self { cipher: Aes256Gcm::new(&key.into()), rng: Mutex::new(rng) })
    }

    /// A new id: 32 hexadecimal digits.
    pub(crate) fn id(&self) -> String {
        let mut bytes = [0; 16];
        self.rng.lock().fill_bytes(&mut bytes);
        hex(&bytes)
    }

    /// Seals a value for the place `bound_to` (`instances:<id>`): it opens nowhere else.
    pub(crate) fn seal<T: Serialize>(&self, bound_to: &str, value: &T) -> Result<Vec<u8>, Failure> {
        let plain = serde_json::to_vec(value)?;
        let mut nonce = [0; NONCE];
        self.rng.lock().fill_bytes(&mut nonce);
        let payload = Payload { msg: &plain, aad: bound_to.as_bytes() };
        let sealed = self.cipher.encrypt(&nonce.into(), payload).map_err(|e| io::Error::other(e.to_string()))?;
        Ok([&[VERSION], &nonce[..], &sealed].concat())
    }

    /// Opens what [`Vault::seal`] made for the same place.
    pub(crate) fn unseal<T: DeserializeOwned>(&self, bound_to: &str, sealed: &[u8]) -> Result<T, Failure> {
        let broken = |why: &str| io::Error::other(format!("{bound_to} cannot be opened: {why}"));
        let [VERSION, rest @ ..] = sealed else { return Err(broken("unknown version").into()) };
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or_else(|| broken("too short"))?;
        let payload = Payload { msg: sealed, aad: bound_to.as_bytes() };
        let plain = self.cipher.decrypt(&(*nonce).into(), payload).map_err(|e| broken(&e.to_string()))?;
        Ok(serde_json::from_slice(&plain)?)
    }
}

fn make(path: &Path, rng: &mut StdRng) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    rng.fill_bytes(&mut key);
    // a name of its own until it is whole and on disk
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", hex(&key))?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(key)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_belongs() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(&folder.path().join("key"), false, rng()).unwrap();
        let sealed = vault.seal("bindings:a", &"secret").unwrap();
        assert_eq!(vault.unseal::<String>("bindings:a", &sealed).unwrap(), "secret");
        assert!(vault.unseal::<String>("bindings:b", &sealed).is_err());
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn a_lost_key_is_not_replaced_silently() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let sealed = Vault::open(&path, false, rng()).unwrap().seal("a", &1).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Vault::open(&path, true, rng()).unwrap().unseal::<i32>("a", &sealed).unwrap(), 1);
        std::fs::remove_file(&path).unwrap();
        assert!(Vault::open(&path, true, rng()).is_err());
        std::fs::write(&path, "short").unwrap();
        assert!(Vault::open(&path, true, rng()).is_err());
    }
}
