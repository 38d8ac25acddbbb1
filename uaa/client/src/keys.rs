//! The public keys that tokens are checked with.

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Public RSA keys by their id.
#[derive(Clone, Default)]
pub struct KeySet(BTreeMap<String, DecodingKey>);

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("key `{0}` is not a public RSA key")]
pub struct KeySetError(String, #[source] jsonwebtoken::errors::Error);

/// What `/token_keys` answers.
#[derive(Deserialize)]
pub(crate) struct Document {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    kid: String,
    kty: String,
    n: Option<String>,
    e: Option<String>,
}

impl KeySet {
    /// Adds a key by its modulus and exponent, both in base64url as in a JWK.
    ///
    /// # Errors
    /// When they are not base64url.
    pub fn with(mut self, kid: &str, modulus: &str, exponent: &str) -> Result<Self, KeySetError> {
        let key = DecodingKey::from_rsa_components(modulus, exponent).map_err(|e| KeySetError(kid.to_owned(), e))?;
        self.0.insert(kid.to_owned(), key);
        Ok(self)
    }

    /// Keys of other kinds than RSA are left out: no token of theirs can be accepted.
    pub(crate) fn read(document: Document) -> Result<Self, KeySetError> {
        let mut set = Self::default();
        for entry in document.keys {
            if let ("RSA", Some(n), Some(e)) = (entry.kty.as_str(), &entry.n, &entry.e) {
                set = set.with(&entry.kid, n, e)?;
            }
        }
        Ok(set)
    }

    pub(crate) fn find(&self, kid: &str) -> Option<&DecodingKey> {
        self.0.get(kid)
    }
}
