//! What the service meets outside of itself, as arguments, so that tests bring their own.

use crate::{brokers::Brokers, dashboards::DashboardClients};
use async_trait::async_trait;
use bus::Bus;
use rand::rngs::StdRng;
use std::sync::Arc;
use types::Clock;
use uaa_client::TokenVerifier;

/// A user as UAA knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The id.
    pub guid: String,
    /// The name.
    pub username: String,
    /// The identity provider.
    pub origin: String,
}

/// Looks up users in UAA.
#[async_trait]
pub trait Identities: Send + Sync + 'static {
    /// All users with this name, one for each origin.
    ///
    /// # Errors
    /// When UAA cannot be asked.
    async fn by_name(&self, username: &str) -> Result<Vec<Identity>, LookupError>;

    /// The user with this id.
    ///
    /// # Errors
    /// When UAA cannot be asked.
    async fn by_guid(&self, guid: &str) -> Result<Option<Identity>, LookupError>;
}

/// UAA cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("users cannot be looked up")]
pub struct LookupError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

#[async_trait]
impl Identities for uaa_client::Client {
    async fn by_name(&self, username: &str) -> Result<Vec<Identity>, LookupError> {
        let users = self.users_by_name(username, None).await.map_err(|e| LookupError(e.into()))?;
        Ok(users.into_iter().map(Identity::from).collect())
    }
    async fn by_guid(&self, guid: &str) -> Result<Option<Identity>, LookupError> {
        Ok(self.user(guid).await.map_err(|e| LookupError(e.into()))?.map(Identity::from))
    }
}

impl From<uaa_client::User> for Identity {
    fn from(user: uaa_client::User) -> Self {
        Self { guid: user.id, username: user.user_name, origin: user.origin }
    }
}

/// All of the outside.
pub struct Outside {
    /// The bus.
    pub bus: Bus,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub rng: StdRng,
    /// Who checks tokens.
    pub verifier: TokenVerifier,
    /// Who knows users.
    pub identities: Arc<dyn Identities>,
    /// Who sends requests to service brokers.
    pub brokers: Arc<dyn Brokers>,
    /// Who keeps the clients of their dashboards.
    pub dashboards: Arc<dyn DashboardClients>,
}
