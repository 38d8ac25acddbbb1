//! Checks bearer tokens against UAA's keys.

use crate::{
    Claims, KeySet,
    claims::Wire,
    keys::{Document, KeySetError},
};
use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use parking_lot::RwLock;
use std::{sync::Arc, time::Duration};
use tracing::{debug, warn};
use types::{Clock, Timestamp};

/// Between two questions for keys, however many unknown tokens arrive.
const FETCH_INTERVAL: Duration = Duration::from_secs(5);
/// Keys older than this are asked for again, so that one that UAA gave up dies here too.
const KEYS_AGE: Duration = Duration::from_secs(600);
/// Longer header lines are not looked at.
const LONGEST_TOKEN: usize = 32 << 10;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not `bearer` and a token.
    NotABearerToken,
    /// Not signed with RS256.
    Algorithm,
    /// No key of that name.
    UnknownKey,
    /// Signed by somebody else, or changed.
    Signature,
    /// Its time is over.
    Expired,
    /// Made by another UAA.
    Issuer,
    /// Meant for another service.
    Audience,
    /// One of the claims that every token has is missing or has the wrong shape.
    Claims,
    /// A refresh token: good for new tokens only.
    RefreshToken,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotABearerToken => "not a bearer token",
            Self::Algorithm => "not signed with RS256",
            Self::UnknownKey => "signed with an unknown key",
            Self::Signature => "wrong signature",
            Self::Expired => "expired",
            Self::Issuer => "from another issuer",
            Self::Audience => "for another service",
            Self::Claims => "claims missing or malformed",
            Self::RefreshToken => "a refresh token",
        })
    }
}

/// Why there are no claims.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The token is not good: the caller must get another.
    #[error("invalid token: {0}")]
    Invalid(Reason),
    /// The keys cannot be had now; trying again may help.
    #[error("the keys of UAA cannot be had")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a token must say to be accepted.
#[derive(Clone, Debug)]
pub struct Expect {
    /// The issuer claim, `https://uaa.<system domain>/oauth/token`.
    pub issuer: String,
    /// The token must be meant for one of these (`cloud_controller`).
    pub audiences: Vec<String>,
}

/// Checks bearer tokens; clones share the cached keys.
#[derive(Clone)]
pub struct TokenVerifier(Arc<Inner>);

struct Inner {
    /// Absent for a verifier of fixed keys.
    source: Option<Source>,
    keys: RwLock<Loaded>,
    /// Held by the one caller that asks UAA; says when it last did.
    fetching: tokio::sync::Mutex<Option<Timestamp>>,
    validation: Validation,
    clock: Arc<dyn Clock>,
}

struct Source {
    http: reqwest::Client,
    url: String,
}

#[derive(Clone, Default)]
struct Loaded {
    keys: Arc<KeySet>,
    /// When; absent before the first answer.
    at: Option<Timestamp>,
}

impl TokenVerifier {
    /// A verifier that asks UAA at `base` (`http://127.0.0.1:9021`) for its keys when it first needs them.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: &str, expect: &Expect, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let source = Source { http: crate::http()?, url: format!("{}/token_keys", crate::trim(base)) };
        Ok(Self::build(Some(source), Loaded::default(), expect, clock))
    }

    /// A verifier that knows its keys and never asks; for tests.
    pub fn fixed(keys: KeySet, expect: &Expect, clock: Arc<dyn Clock>) -> Self {
        let loaded = Loaded { keys: Arc::new(keys), at: Some(clock.now()) };
        Self::build(None, loaded, expect, clock)
    }

    fn build(source: Option<Source>, loaded: Loaded, expect: &Expect, clock: Arc<dyn Clock>) -> Self {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&expect.issuer]);
        validation.set_audience(&expect.audiences);
        validation.validate_exp = false; // compared with the injected clock below
        let fetching = tokio::sync::Mutex::new(None);
        Self(Arc::new(Inner { source, keys: RwLock::new(loaded), fetching, validation, clock }))
    }

    /// Checks the value of an `Authorization` header, or a bare token.
    ///
    /// # Errors
    /// [`VerifyError::Invalid`] for a token that is not good, [`VerifyError::Unavailable`] when UAA's keys are needed and cannot be had.
    pub async fn verify(&self, bearer: &str) -> Result<Claims, VerifyError> {
        let token = token_of(bearer).ok_or(VerifyError::Invalid(Reason::NotABearerToken))?;
        let header = jsonwebtoken::decode_header(token).map_err(|_| VerifyError::Invalid(Reason::NotABearerToken))?;
        if header.alg != Algorithm::RS256 {
            return Err(VerifyError::Invalid(Reason::Algorithm));
        }
        let kid = header.kid.unwrap_or_default();
        let loaded = self.0.current().await?;
        match self.0.check(token, &kid, &loaded) {
            // the key may be newer than what we hold, or have been replaced under its name
            Err(VerifyError::Invalid(Reason::UnknownKey | Reason::Signature)) => {
                let newer = self.0.newer_than(&loaded).await?;
                self.0.check(token, &kid, &newer)
            }
            other => other,
        }
    }
}

impl Inner {
    fn check(&self, token: &str, kid: &str, loaded: &Loaded) -> Result<Claims, VerifyError> {
        let key = loaded.keys.find(kid).ok_or(VerifyError::Invalid(Reason::UnknownKey))?;
        let wire = jsonwebtoken::decode::<Wire>(token, key, &self.validation)
            .map_err(|e| VerifyError::Invalid(reason(e.kind())))?
            .claims;
        if wire.is_refresh_token() {
            return Err(VerifyError::Invalid(Reason::RefreshToken));
        }
        let claims = wire.into_claims().ok_or(VerifyError::Invalid(Reason::Claims))?;
        if claims.exp <= self.clock.now().as_secs() {
            return Err(VerifyError::Invalid(Reason::Expired));
        }
        Ok(claims)
    }

    /// The keys to begin with: loads them the first time, and again when they are old.
    async fn current(&self) -> Result<Loaded, VerifyError> {
        let loaded = self.keys.read().clone();
        match loaded.at {
            None => self.newer_than(&loaded).await,
            Some(at) if self.clock.now().since(at) > KEYS_AGE => Ok(self.newer_than(&loaded).await.unwrap_or(loaded)),
            Some(_) => Ok(loaded),
        }
    }

    /// Keys newer than `seen`, asking UAA at most once every [`FETCH_INTERVAL`]; `seen` itself when it is too early to ask.
    async fn newer_than(&self, seen: &Loaded) -> Result<Loaded, VerifyError> {
        let Some(source) = &self.source else { return Ok(seen.clone()) };
        let mut last = self.fetching.lock().await;
        let loaded = self.keys.read().clone();
        if loaded.at > seen.at {
            return Ok(loaded);
        }
        let now = self.clock.now();
        if last.is_some_and(|at| now.since(at) < FETCH_INTERVAL) {
            return match loaded.at {
                Some(_) => Ok(loaded),
                None => Err(VerifyError::Unavailable("the last try failed a moment ago".into())),
            };
        }
        *last = Some(now);
        match source.fetch().await {
            Ok(keys) => {
                debug!("loaded the keys of UAA");
                let newer = Loaded { keys: Arc::new(keys), at: Some(now) };
                *self.keys.write() = newer.clone();
                Ok(newer)
            }
            Err(e) => {
                warn!(error = &*e as &dyn std::error::Error, "cannot load the keys of UAA");
                Err(VerifyError::Unavailable(e))
            }
        }
    }
}

impl Source {
    async fn fetch(&self) -> Result<KeySet, Box<dyn std::error::Error + Send + Sync>> {
        let answer = self.http.get(&self.url).send().await?.error_for_status()?;
        let document: Document = answer.json().await?;
        KeySet::read(document).map_err(|e: KeySetError| e.into())
    }
}

/// The token in `bearer <token>` (the word in any case), or the whole text.
fn token_of(bearer: &str) -> Option<&str> {
    let bearer = bearer.trim();
    if bearer.is_empty() || bearer.len() > LONGEST_TOKEN {
        return None;
    }
    match bearer.split_once(char::is_whitespace) {
        Some((word, token)) if word.eq_ignore_ascii_case("bearer") => Some(token.trim()),
        Some(_) => None,
        None => Some(bearer),
    }
}

fn reason(kind: &ErrorKind) -> Reason {
    match kind {
        ErrorKind::InvalidSignature => Reason::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Reason::Algorithm,
        ErrorKind::ExpiredSignature => Reason::Expired,
        ErrorKind::InvalidIssuer => Reason::Issuer,
        ErrorKind::InvalidAudience => Reason::Audience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => Reason::Claims,
        _ => Reason::NotABearerToken,
    }
}

#[cfg(test)]
mod tests;
