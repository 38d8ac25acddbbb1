//! The operation that a method of the broker works for.

use crate::{Failure, Kind};
use async_trait::async_trait;
use osb::{OriginatingIdentity, PrivateObject};
use std::{fmt, sync::Arc};

/// What a method knows about its call, and how it says how far it is.
#[derive(Clone)]
pub struct Operation {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) attempt: u32,
    pub(crate) identity: Option<OriginatingIdentity>,
    pub(crate) progress: Arc<dyn Progress>,
}

/// Where progress is written down.
#[async_trait]
pub(crate) trait Progress: Send + Sync {
    /// Keeps a text for whoever polls.
    async fn describe(&self, operation: &str, text: &str) -> Result<(), Failure>;
    /// Keeps private state of the instance, binding or backup that the operation is about.
    async fn save(&self, operation: &str, state: &PrivateObject) -> Result<(), Failure>;
}

impl Operation {
    /// An operation outside of a server, for tests of a broker's methods: what is saved and described goes nowhere.
    pub fn detached(kind: Kind) -> Self {
        Self { id: "detached".into(), kind, attempt: 1, identity: None, progress: Arc::new(Nowhere) }
    }
    /// The same over restarts of the broker.
    pub fn id(&self) -> &str {
        &self.id
    }
    /// What kind of work.
    pub fn kind(&self) -> Kind {
        self.kind
    }
    /// True if an earlier call for this same operation did not come to its end.
    pub fn is_resumed(&self) -> bool {
        self.attempt > 1
    }
    /// Who caused it, if the platform said so.
    pub fn identity(&self) -> Option<&OriginatingIdentity> {
        self.identity.as_ref()
    }
    /// Tells whoever polls how far it is.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn describe(&self, text: &str) -> Result<(), Failure> {
        self.progress.describe(&self.id, text).await
    }
    /// Saves private state now, before the method returns: after a restart it is in the `state` of the same request.
    ///
    /// For what must not be drawn twice, a password or a port: save it first, then use it. What the method returns in the end
    /// takes its place.
    ///
    /// # Errors
    /// When it cannot be written down; nothing may be done with the state then.
    pub async fn save(&self, state: &PrivateObject) -> Result<(), Failure> {
        self.progress.save(&self.id, state).await
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("id", &self.id).field("kind", &self.kind).field("attempt", &self.attempt).finish()
    }
}

struct Nowhere;

#[async_trait]
impl Progress for Nowhere {
    async fn describe(&self, _: &str, _: &str) -> Result<(), Failure> {
        Ok(())
    }
    async fn save(&self, _: &str, _: &PrivateObject) -> Result<(), Failure> {
        Ok(())
    }
}
