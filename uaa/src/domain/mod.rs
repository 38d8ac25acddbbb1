//! Rules and operations. The pure parts take `now` and know no database.
//!
//! - [`scopes`], [`lockout`], [`filter`], [`redirects`]: pure.
//! - [`keys`], [`passwords`]: signing and hashing.
//! - [`grants`]: tokens out of credentials; [`access`]: who holds this token; [`revocation`].
//! - [`sessions`], [`authorize`], [`codes`]: logging in with a browser, for somebody else.
//! - [`users`], [`groups`], [`clients`]: what the API changes.

pub(crate) mod access;
pub(crate) mod authorize;
pub(crate) mod clients;
pub(crate) mod codes;
pub(crate) mod filter;
pub(crate) mod grants;
pub(crate) mod groups;
pub(crate) mod keys;
pub(crate) mod lockout;
pub(crate) mod passwords;
pub(crate) mod redirects;
pub(crate) mod revocation;
pub(crate) mod scopes;
pub(crate) mod seed;
pub(crate) mod sessions;
pub(crate) mod users;

use crate::{config::Config, store::Store};
use keys::Keys;
use parking_lot::Mutex;
use passwords::Passwords;
use rand::{Rng, rngs::StdRng};
use std::sync::Arc;
use types::{Clock, Timestamp};

/// A failure below.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0} not found")]
    NotFound(&'static str),
    #[error("user name `{name}` is taken")]
    UserTaken { name: String, holder: Option<String> },
    #[error("group `{0}` exists")]
    GroupTaken(String),
    #[error("client `{0}` exists")]
    ClientTaken(String),
    /// A client that cannot be, or may not be made.
    #[error("{0}")]
    BadClient(String),
    #[error("the user is in the group already")]
    AlreadyMember,
    #[error("somebody else changed it meanwhile")]
    Changed,
    /// A resource with a value that cannot be.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Password(String),
    /// A filter that cannot be read.
    #[error("{0}")]
    Filter(String),
    /// A token request with something missing or twice.
    #[error("{0}")]
    Request(String),
    #[error("client authentication failed")]
    Client,
    #[error("{0}")]
    UnauthorizedGrant(String),
    #[error("unknown grant type")]
    UnsupportedGrant,
    #[error("wrong user name or password")]
    Credentials,
    #[error("the account is locked")]
    Locked,
    /// An authorization code that is good no more, or was not for this client.
    #[error("{0}")]
    Grant(&'static str),
    #[error("unknown passcode")]
    Passcode,
    /// Something about a request of a browser that only its user can be told.
    #[error("{0}")]
    Page(&'static str),
    #[error("the form is not from a page made for this browser")]
    Forged,
    #[error("unknown origin")]
    Origin,
    #[error("{0}")]
    Scope(String),
    #[error("{0}")]
    Token(String),
    /// The token is good but does not carry one of these.
    #[error("needs one of the scopes {0:?}")]
    Forbidden(&'static [&'static str]),
    #[error("{0} cannot be reached")]
    Unavailable(&'static str, #[source] Cause),
    #[error("unexpected failure in {0}")]
    Internal(&'static str, #[source] Cause),
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind, Error};
        match error {
            Error::DatabaseError(DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand, _)
            | Error::BrokenTransactionManager => Self::Unavailable("the database", error.into()),
            error => Self::Internal("the database", error.into()),
        }
    }
}

/// Shorthand of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that the operations need; one for the process.
pub(crate) struct Uaa {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) passwords: Passwords,
    pub(crate) clock: Arc<dyn Clock>,
    turns: grants::Turns,
    rng: Mutex<StdRng>,
}

impl Uaa {
    pub(crate) fn new(config: Config, store: Store, keys: Keys, clock: Arc<dyn Clock>, mut rng: StdRng) -> Result<Self> {
        let passwords = Passwords::new(&mut rng)?;
        Ok(Self { config, store, keys, passwords, clock, turns: grants::Turns::default(), rng: Mutex::new(rng) })
    }

    /// The present moment, as the database keeps it.
    pub(crate) fn now(&self) -> i64 {
        i64::try_from(self.clock.now().0).unwrap_or(i64::MAX)
    }

    /// The issuer claim.
    pub(crate) fn issuer(&self) -> String {
        format!("{}/oauth/token", self.config.issuer)
    }

    /// `N` random bytes.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.lock().fill_bytes(&mut bytes);
        bytes
    }

    /// 32 hexadecimal characters.
    pub(crate) fn random_hex(&self) -> String {
        hex(&self.random::<16>())
    }

    /// A new id of a user or group.
    pub(crate) fn random_id(&self) -> String {
        types::UserId::random(&mut *self.rng.lock()).to_string()
    }
}

/// Bytes as hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the database keeps, as a moment.
pub(crate) fn moment(micros: i64) -> Timestamp {
    Timestamp(u64::try_from(micros).unwrap_or(0))
}

/// What the database keeps, in whole seconds, as claims have it.
pub(crate) fn seconds(micros: i64) -> u64 {
    moment(micros).as_secs()
}
