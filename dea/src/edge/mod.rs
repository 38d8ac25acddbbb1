//! The world around the core: everything that waits, fails, and is tried again.
//!
//! - [`shell`]: the one owner of the core; feeds it and carries out what it says.
//! - [`claims`]: the bucket.
//! - [`containers`][]: Warden.
//! - [`health`][]: probes.
//! - [`launch`]: launch specs, droplets, layers.
//! - [`stage`]: one staging from package to droplet.
//! - [`volumes`]: disks of workloads that are no more.
//! - [`cache`]: blobs on disk: one download at a time, digest checked, oldest unused removed.
//! - [`unzip`]: buildpack archives, safely.
//! - [`identity`]: the two facts that this DEA keeps on disk.
//! - [`backoff`]: pauses between tries.

pub mod backoff;
pub mod cache;
pub mod claims;
pub mod containers;
pub mod health;
pub mod identity;
pub mod launch;
pub mod shell;
pub mod stage;
pub mod unzip;
pub mod volumes;

use crate::{config::Periods, domain::core::Settings};
use bus::{Bucket, Bus};
use loggregator_client::{Envelope, Sender};
use parking_lot::Mutex;
use std::{collections::HashSet, path::PathBuf, sync::Arc};
use tokio::sync::{Mutex as AsyncMutex, RwLock, Semaphore};
use types::{Clock, Timestamp};

/// What a DEA talks to; tests bring their own.
#[derive(Clone)]
pub struct Outside {
    /// The bus.
    pub bus: Bus,
    /// Warden.
    pub warden: warden_client::Client,
    /// The cloud controller's internal API.
    pub controller: cloud_controller_client::Client,
    /// The way to the log agent.
    pub logs: Arc<Sender>,
    /// Now.
    pub clock: Arc<dyn Clock>,
}

/// Everything that the DEA's tasks share.
pub struct World {
    /// See there.
    pub outside: Outside,
    /// The claims.
    pub bucket: Bucket,
    /// See there.
    pub settings: Settings,
    /// See there.
    pub periods: Periods,
    /// Droplets on disk.
    pub droplets: cache::Cache,
    /// Unpacked buildpacks on disk.
    pub buildpacks: cache::Cache,
    /// Folders of stagings under way.
    pub works: PathBuf,
    /// Asks instances how they are.
    pub probes: Option<reqwest::Client>,
    /// Bounds downloads at once.
    pub downloads: Semaphore,
    /// Bounds creations and removals at once.
    pub creations: Semaphore,
    /// Held for reading while a layer is made, for writing while unused ones are removed.
    pub layers: RwLock<()>,
    /// Held while the cloud controller is asked about volumes.
    pub volumes: AsyncMutex<()>,
    /// Droplets whose layer was made since this DEA started: Warden answers for them without reading the archive again.
    pub made: Mutex<HashSet<String>>,
}

impl World {
    /// Now.
    pub fn now(&self) -> Timestamp {
        self.outside.clock.now()
    }

    /// Hands envelopes to the log agent; never waits.
    pub fn emit(&self, envelopes: Vec<Envelope>) {
        self.outside.logs.send(envelopes);
    }
}
