//! Passwords of users and secrets of clients.
//!
//! Users' passwords are argon2id hashes. A client's secret may be empty (the command line client's is), or long and made by
//! a machine: from 32 characters on guessing is hopeless, so that a salted SHA-256 serves and a token costs next to
//! nothing. Shorter secrets are hashed like passwords.

use super::{Error, Result, hex};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use foundation::Secret;
use rand::Rng;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// Secrets from this length on count as made by a machine.
const MACHINE_MADE: usize = 32;
/// More callers than this do not wait for a turn.
const MOST_WAITING: usize = 256;

/// Hashes and compares off the async workers, only as many at a time as there are processors.
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Compared with when there is no user, so that this takes as long.
    nobody: Arc<str>,
}

impl Passwords {
    pub(crate) fn new(rng: &mut dyn Rng) -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut password, mut salt) = ([0; 16], [0; 16]);
        rng.fill_bytes(&mut password);
        rng.fill_bytes(&mut salt);
        let nobody = argon(&Secret::new(hex(&password)), &salt)?.into();
        Ok(Self { turns: Arc::new(Semaphore::new(processors)), waiting: Arc::new(Semaphore::new(MOST_WAITING)), nobody })
    }

    /// A hash of a user's password.
    pub(crate) async fn hash(&self, password: Secret, salt: [u8; 16]) -> Result<String> {
        self.off(move || argon(&password, &salt)).await?
    }

    /// True when the password belongs to the hash; takes as long without a hash, and is false then.
    pub(crate) async fn matches(&self, password: Secret, hash: Option<String>) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        self.off(move || Argon2::default().verify_password(password.expose().as_bytes(), hash.as_str()).is_ok() && known).await
    }

    /// What to keep of a client's secret.
    pub(crate) async fn hash_secret(&self, secret: Secret, salt: [u8; 16]) -> Result<String> {
        match secret.expose().len() {
            0 => Ok(String::new()),
            MACHINE_MADE.. => Ok(quick(&hex(&salt), &secret)),
            _ => self.hash(secret, salt).await,
        }
    }

    /// True when the secret is the one that is kept.
    pub(crate) async fn secret_matches(&self, secret: Secret, kept: &str) -> Result<bool> {
        if kept.is_empty() {
            return Ok(secret.expose().is_empty());
        }
        match kept.strip_prefix("sha256$").and_then(|rest| rest.split_once('$')) {
            Some((salt, _)) => Ok(quick(salt, &secret).as_bytes().ct_eq(kept.as_bytes()).into()),
            None => self.matches(secret, Some(kept.to_owned())).await,
        }
    }

    async fn off<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy = |e: tokio::sync::TryAcquireError| Error::Unavailable("a free processor", e.into());
        let _place = self.waiting.try_acquire().map_err(busy)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|e| Error::Internal("hashing", e.into()))?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(|e| Error::Internal("hashing", e.into()))
    }
}

/// As strong as the usual 19 MB and 2 passes, with a third of the memory, which the allocator keeps afterwards.
///
/// Source: OWASP Password Storage Cheat Sheet, equivalent settings of argon2id.
fn argon(password: &Secret, salt: &[u8]) -> Result<String> {
    let unexpected = |e: &dyn std::fmt::Display| Error::Internal("hashing", e.to_string().into());
    let params = Params::new(7_168, 5, 1, None).map_err(|e| unexpected(&e))?;
    let hash =
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_with_salt(password.expose().as_bytes(), salt);
    hash.map(|hash| hash.to_string()).map_err(|e| unexpected(&e))
}

fn quick(salt: &str, secret: &Secret) -> String {
    let digest = Sha256::new().chain_update(salt).chain_update([0]).chain_update(secret.expose()).finalize();
    format!("sha256${salt}${}", hex(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn passwords() -> Passwords {
        Passwords::new(&mut rand::rngs::StdRng::seed_from_u64(1)).unwrap()
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_alone_and_nobody_matches_nothing() {
        let passwords = passwords();
        let hash = passwords.hash(Secret::new("correct horse"), [7; 16]).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(passwords.matches(Secret::new("correct horse"), Some(hash.clone())).await.unwrap());
        assert!(!passwords.matches(Secret::new("correct house"), Some(hash)).await.unwrap());
        assert!(!passwords.matches(Secret::new("correct horse"), None).await.unwrap());
    }

    #[tokio::test]
    async fn secrets_of_every_length_match_themselves_alone() {
        let passwords = passwords();
        for secret in ["", "short", "a-secret-of-a-machine-of-forty-characters"] {
            let kept = passwords.hash_secret(Secret::new(secret), [7; 16]).await.unwrap();
            assert!(passwords.secret_matches(Secret::new(secret), &kept).await.unwrap(), "{secret}");
            assert!(!passwords.secret_matches(Secret::new(format!("{secret}x")), &kept).await.unwrap(), "{secret}");
            assert!(secret.is_empty() || !passwords.secret_matches(Secret::new(""), &kept).await.unwrap(), "{secret}");
        }
    }
}
