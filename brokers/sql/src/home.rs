//! Where the data of an instance is: on the shared server, or on one of its own.

use crate::{
    Address, Allowance, Cluster, Database, OwnEnvironment, SqlBroker,
    broker::failure,
    dedicated::{self, Dedicated, Note},
};
use broker_sdk::{Failure, Instance, osb::Parameters};
use std::sync::Arc;
use tokio::sync::RwLockReadGuard;

/// A server that runs, and is kept running while this lives.
pub(crate) struct Home<'a> {
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) address: Address,
    _shared: Option<RwLockReadGuard<'a, ()>>,
}

impl Home<'_> {
    pub(crate) async fn database(&self, instance: &str) -> Result<Database, Failure> {
        let found = self.cluster.find(instance).await.map_err(failure)?;
        found.ok_or_else(|| Failure::internal("The database of this instance is gone."))
    }
}

impl SqlBroker {
    /// The server that has the data of an instance.
    pub(crate) async fn home(&self, instance: &Instance) -> Result<Home<'_>, Failure> {
        match Note::of(&instance.state)?.filter(|note| note.inhabited) {
            Some(note) => {
                let cluster = self.dedicated()?.cluster(&instance.id).await?;
                self.own_home(&note, cluster)
            }
            None => self.shared_home().await,
        }
    }

    /// The shared server, started if it does not run.
    pub(crate) async fn shared_home(&self) -> Result<Home<'_>, Failure> {
        let guard = self.0.use_of_server.read().await;
        self.0.server.ensure().await.map_err(|e| self.failed(e))?;
        Ok(Home { cluster: self.0.cluster.clone(), address: self.0.address.clone(), _shared: Some(guard) })
    }

    /// A server of an instance's own.
    pub(crate) fn own_home(&self, note: &Note, cluster: Arc<dyn Cluster>) -> Result<Home<'_>, Failure> {
        Ok(Home { cluster, address: self.dedicated()?.address(note), _shared: None })
    }

    pub(crate) fn dedicated(&self) -> Result<&Dedicated, Failure> {
        let missing = || Failure::unavailable("Servers of an instance's own are not set up on this platform.");
        self.0.dedicated.as_ref().ok_or_else(missing)
    }

    /// Whether instances of this plan have a server of their own.
    pub(crate) fn is_dedicated(&self, plan: &str) -> bool {
        self.0.config.own.as_ref().is_some_and(|own| own.plan == plan)
    }

    /// What a plan of the shared server allows.
    pub(crate) fn allowance(&self, plan: &str, parameters: &Parameters) -> Result<Allowance, Failure> {
        let limits = self.0.config.plans.iter().find(|limits| limits.plan == plan);
        let limits = limits.ok_or_else(|| Failure::refused(format!("There is no plan `{plan}` any more.")))?;
        Ok(self.allow(limits.size_bytes, limits.connections, parameters))
    }

    /// What a server of an instance's own allows.
    pub(crate) fn own_allowance(&self, note: &Note, parameters: &Parameters) -> Allowance {
        let Note { memory_mb, disk_mb, .. } = *note;
        let reserve_mb = self.0.product.reserve_mb(&OwnEnvironment { memory_mb, disk_mb });
        let size_mb = u64::from(disk_mb.saturating_sub(reserve_mb).max(16));
        self.allow(size_mb << 20, dedicated::connections(memory_mb), parameters)
    }

    fn allow(&self, size_bytes: u64, most_connections: u32, parameters: &Parameters) -> Allowance {
        let usual = self.0.product.usual_collation();
        let collation = parameters.get("collation").and_then(|value| value.as_str()).unwrap_or(usual);
        Allowance { size_bytes, connections: connections(parameters, most_connections), collation: collation.to_owned() }
    }
}

/// What the user asked for, as far as the plan allows it.
pub(crate) fn connections(parameters: &Parameters, most: u32) -> u32 {
    number(parameters, "connections").map_or(most, |asked| asked.clamp(1, most))
}

/// A number among the parameters.
pub(crate) fn number(parameters: &Parameters, name: &str) -> Option<u32> {
    parameters.get(name).and_then(serde_json::Value::as_u64).and_then(|asked| u32::try_from(asked).ok())
}
