//! Values that are encrypted in the database: AES-256-GCM, bound to the row that they belong to.

use crate::domain::{Error, Result};
use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use rand::Rng;
use std::path::{Path, PathBuf};

/// The first byte of what this key sealed.
const VERSION: u8 = 1;
const NONCE: usize = 12;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is not a key.
    #[error("{0} does not hold 64 hexadecimal digits")]
    Shape(PathBuf),
}

/// Seals and opens values.
#[derive(Clone)]
pub struct Vault(Aes256Gcm);

impl Vault {
    /// Reads the key.
    ///
    /// # Errors
    /// [`KeyError`] with the path.
    pub fn open_key(path: &Path) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path).map_err(|e| KeyError::Read(path.to_owned(), e))?;
        let key = unhex(text.trim()).ok_or_else(|| KeyError::Shape(path.to_owned()))?;
        Ok(Self(Aes256Gcm::new(&key.into())))
    }

    /// Seals `plain` for the place `bound_to` (`apps.env:<guid>`): it opens nowhere else.
    pub fn seal(&self, rng: &mut dyn Rng, bound_to: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let payload = Payload { msg: plain, aad: bound_to.as_bytes() };
        let sealed = self.0.encrypt(&nonce.into(), payload).map_err(|e| Error::internal("sealing", e.to_string()))?;
        Ok([&[VERSION], &nonce[..], &sealed].concat())
    }

    /// Opens what [`Vault::seal`] made for the same place.
    pub fn open(&self, bound_to: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let broken = |why: &str| Error::internal("opening a sealed value", format!("{bound_to}: {why}"));
        let [VERSION, rest @ ..] = sealed else { return Err(broken("unknown version")) };
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or_else(|| broken("too short"))?;
        let payload = Payload { msg: sealed, aad: bound_to.as_bytes() };
        self.0.decrypt(&(*nonce).into(), payload).map_err(|e| broken(&e.to_string()))
    }
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

    #[test]
    fn a_sealed_value_opens_only_where_it_belongs() {
        let vault = Vault(Aes256Gcm::new(&[7; 32].into()));
        let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
        let sealed = vault.seal(&mut rng, "apps.env:a", b"{\"K\":\"v\"}").unwrap();
        assert_eq!(vault.open("apps.env:a", &sealed).unwrap(), b"{\"K\":\"v\"}");
        assert!(vault.open("apps.env:b", &sealed).is_err());
        assert!(!sealed.windows(2).any(|w| w == b"\"K"));
    }
}
