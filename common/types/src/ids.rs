//! One newtype for each kind of id.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// The text was not the id that it should have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of kind {kind}")]
pub struct ParseIdError {
    /// What the caller tried to read.
    pub kind: &'static str,
    /// What was there.
    pub text: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Draws a new id (a version 4 UUID) from the caller's generator.
            pub fn random(rng: &mut dyn rand::Rng) -> Self {
                let mut bytes = [0; 16];
                rng.fill_bytes(&mut bytes);
                Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }
            /// The id as a UUID.
            pub fn uuid(self) -> Uuid { self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0, f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}({})", stringify!($name), self.0) }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError { kind: stringify!($name), text: text.chars().take(80).collect() })
            }
        }
        impl From<Uuid> for $name { fn from(uuid: Uuid) -> Self { Self(uuid) } }
    )*};
}

ids! {
    /// An organization.
    OrgId,
    /// A space in an organization.
    SpaceId,
    /// An application, for its whole life.
    AppId,
    /// A process of an application (`web`, `worker`), for its whole life.
    ProcessId,
    /// One start of a process: new at every start, restart and restage, so that an old instance is never taken for a new one.
    VersionId,
    /// One running copy of a process; a restart makes a new one.
    InstanceId,
    /// A DEA: stable over its restarts.
    DeaId,
    /// A package: the bits that a user uploaded.
    PackageId,
    /// A staging of a package.
    BuildId,
    /// The outcome of a staging.
    DropletId,
    /// A buildpack.
    BuildpackId,
    /// A route: host, domain, path.
    RouteId,
    /// A task: a process that ends.
    TaskId,
    /// A user, as UAA knows it.
    UserId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(7);
        let id = AppId::random(&mut rng);
        assert_eq!(id.to_string().parse::<AppId>(), Ok(id));
    }

    #[test]
    fn a_foreign_text_is_refused_and_named() {
        let error = "not-an-id".parse::<AppId>().unwrap_err();
        assert_eq!(error.to_string(), "`not-an-id` is not an id of kind AppId");
    }
}
