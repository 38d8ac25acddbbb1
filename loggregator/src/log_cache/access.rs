//! Who may read what.
//!
//! Whoever carries `doppler.firehose` or `logs.admin` reads all. Everybody else reads what the cloud controller says: a yes
//! is remembered for a minute, by token and source; a no is not, so that a new role works at once.

use cloud_controller_client::{Client, Error as ClientError};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};
use tracing::{debug, warn};
use types::{Clock, Timestamp};
use uaa_client::{TokenVerifier, VerifyError};

/// Asks whether the holder of a token may read the logs of a source.
pub trait LogAccess: Send + Sync + 'static {
    /// `authorization` is the user's own header.
    fn may_read<'a>(
        &'a self,
        source: &'a str,
        authorization: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<bool, ClientError>> + Send + 'a>>;
}

impl LogAccess for Client {
    fn may_read<'a>(
        &'a self,
        source: &'a str,
        authorization: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<bool, ClientError>> + Send + 'a>> {
        Box::pin(self.may_read_logs(source, authorization))
    }
}

/// How long a yes holds.
const YES_LASTS: Duration = Duration::from_secs(60);
/// How many are remembered; then all are forgotten, which costs a question each.
const YES_KEPT: usize = 50_000;

pub(super) struct Access {
    tokens: TokenVerifier,
    ask: Arc<dyn LogAccess>,
    clock: Arc<dyn Clock>,
    yes: Mutex<HashMap<[u8; 32], Timestamp>>,
}

/// Why a request is turned down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Token missing, bad, or not enough: nobody learns which.
    NotFound,
    /// UAA or cloud controller are away: trying again helps.
    Unavailable,
}

/// Whose token it is.
pub(super) struct Reader {
    pub(super) admin: bool,
    authorization: String,
}

impl Access {
    pub(super) fn new(tokens: TokenVerifier, ask: Arc<dyn LogAccess>, clock: Arc<dyn Clock>) -> Self {
        Self { tokens, ask, clock, yes: Mutex::default() }
    }

    /// Checks the token.
    pub(super) async fn reader(&self, authorization: Option<&str>) -> Result<Reader, Denied> {
        let authorization = authorization.ok_or(Denied::NotFound)?;
        match self.tokens.verify(authorization).await {
            Ok(claims) => {
                let admin = claims.has_scope("doppler.firehose") || claims.has_scope("logs.admin");
                Ok(Reader { admin, authorization: authorization.to_owned() })
            }
            Err(VerifyError::Invalid(reason)) => {
                debug!(%reason, "turned a token down");
                Err(Denied::NotFound)
            }
            Err(e @ VerifyError::Unavailable(_)) => {
                warn!(error = &e as &dyn std::error::Error, "cannot check tokens");
                Err(Denied::Unavailable)
            }
        }
    }

    /// Checks whether the reader may read this source.
    pub(super) async fn check(&self, reader: &Reader, source: &str) -> Result<(), Denied> {
        if reader.admin {
            return Ok(());
        }
        // Sources of users are apps and service instances; the rest is the operator's.
        if source.len() != 36 || source.parse::<types::AppId>().is_err() {
            return Err(Denied::NotFound);
        }
        let key: [u8; 32] =
            Sha256::new().chain_update(&reader.authorization).chain_update([0]).chain_update(source).finalize().into();
        let now = self.clock.now();
        if self.yes.lock().get(&key).is_some_and(|at| now.since(*at) < YES_LASTS) {
            return Ok(());
        }
        match self.ask.may_read(source, &reader.authorization).await {
            Ok(true) => {
                let mut yes = self.yes.lock();
                if yes.len() >= YES_KEPT {
                    yes.clear();
                }
                yes.insert(key, now);
                Ok(())
            }
            Ok(false) | Err(ClientError::Refused { .. } | ClientError::NotFound(_)) => Err(Denied::NotFound),
            Err(e) => {
                warn!(error = &e as &dyn std::error::Error, "cannot ask who may read logs");
                Err(Denied::Unavailable)
            }
        }
    }
}
