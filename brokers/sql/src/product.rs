//! What differs from one kind of database to the other.

use crate::{Address, Cluster, OwnEnvironment};
use async_trait::async_trait;
use broker_sdk::osb::{Credentials, ServiceOffering};
use engines::{Engine, Error, settings::EngineSettings};
use foundation::{Secret, Shutdown};
use rand::rngs::StdRng;
use serde_json::{Map, Value};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A kind of database.
#[async_trait]
pub trait Product: Send + Sync + 'static {
    /// The offering's name: `postgres`.
    fn service(&self) -> &'static str;
    /// What people call it: `PostgreSQL`.
    fn title(&self) -> &'static str;
    /// What is offered, without plans.
    fn offering(&self) -> ServiceOffering;
    /// Parameters of an instance besides those that all have: their schemas.
    fn parameters(&self) -> Schemas;
    /// The collation of a database whose user did not choose.
    fn usual_collation(&self) -> &'static str;
    /// How many databases to keep ready, where making one is slow.
    fn usual_spare(&self) -> Option<usize> {
        None
    }

    /// The installed version as a semantic version; of the programs that fit the data folder, if there is one.
    async fn version(&self, settings: &EngineSettings, data: &Path) -> Result<String, Error>;
    /// The shared server: what it holds, and how it is kept running.
    ///
    /// # Errors
    /// When its files cannot be used.
    fn shared(&self, place: Place) -> Result<Shared, Error>;
    /// A server of an instance's own.
    ///
    /// # Errors
    /// When its authority cannot be used.
    fn remote(&self, remote: Remote, around: Around) -> Result<Arc<dyn Cluster>, Error>;
    /// Runs a server of an instance's own: the text of a script for `/bin/sh` with the environment of [`OwnEnvironment`].
    fn script(&self) -> &'static str;
    /// What an application gets to log in.
    fn credentials(&self, address: &Address, user: &str, password: &str, database: &str) -> Credentials;
    /// What of its volume a server needs for itself.
    fn reserve_mb(&self, environment: &OwnEnvironment) -> u32 {
        (environment.disk_mb / 4).max(192)
    }
}

/// A shared server: what it holds, and how it is kept running.
pub type Shared = (Arc<dyn Cluster>, Arc<dyn Engine>);

/// Schemas of parameters, by name.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    /// When an instance is made.
    pub create: Map<String, Value>,
    /// When it is changed.
    pub update: Map<String, Value>,
}

/// What every cluster needs.
pub struct Around {
    /// Where and as whom tools run.
    pub settings: EngineSettings,
    /// Marks the sessions of this broker process, and of no other.
    pub session: String,
    /// Randomness.
    pub rng: StdRng,
    /// Ends tasks.
    pub shutdown: Shutdown,
}

/// Where the shared server is.
pub struct Place {
    /// What every cluster needs.
    pub around: Around,
    /// Its folder.
    pub folder: PathBuf,
    /// The administrator's.
    pub password: Secret,
}

/// Where a server of an instance's own is.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Where it is reached.
    pub address: IpAddr,
    /// What its certificate calls it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A file with the authority of its certificate, PEM, which tools can read.
    pub authority: PathBuf,
    /// The administrator's.
    pub password: Secret,
}
