//! The records of the key-value buckets.
//!
//! Bucket [`CLAIMS`]: one record for each (process version, index) under [`instance_key`], and one for each staging or
//! task under [`work_key`]. Every change is a compare-and-set on the revision. Bucket [`LEASES`]: who leads.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use types::{AppId, DeaId, InstanceId, ProcessId, Timestamp, VersionId};
use uuid::Uuid;

/// The bucket of claims; its stream is `KV_claims`.
pub const CLAIMS: &str = "claims";
/// The bucket of leases; its stream is `KV_leases`.
pub const LEASES: &str = "leases";
/// The key of the health manager's lease in [`LEASES`].
pub const HEALTH_MANAGER_LEASE: &str = "health_manager";

/// The key of one instance slot.
pub fn instance_key(version: VersionId, index: u32) -> String {
    format!("instance.{version}.{index}")
}

/// The key of one staging or task.
pub fn work_key(work: Uuid) -> String {
    format!("work.{work}")
}

/// One instance slot: who owns it and how it fares.
///
/// A DEA claims the slot (compare-and-set) before it starts the instance, so two DEAs never own one index.
/// The owner writes the state; the health manager writes `unplaced` and takes a silent DEA's ownership away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// The app.
    pub app: AppId,
    /// The process of the app.
    pub process: ProcessId,
    /// `web`, `worker`, ...
    pub process_type: String,
    /// The start that this slot belongs to.
    pub version: VersionId,
    /// From 0 to the instance count less one.
    pub index: u32,
    /// Who runs it now, or ran it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Holder>,
    /// An instance that still serves until the owner runs (evacuating, or on a DEA that fell silent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<Holder>,
    /// Crashes since the instance last ran five minutes.
    #[serde(default)]
    pub crash_count: u32,
    /// How the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Why nobody runs it, in words for the user ("no DEA has 2 GB of memory free: ...").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unplaced: Option<String>,
}

/// One instance of a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// The instance.
    pub instance: InstanceId,
    /// The DEA that holds it.
    pub dea: DeaId,
    /// How it is.
    pub state: InstanceState,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// Where it is reached, once its container exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// What it reserves of the DEA's memory.
    #[serde(default)]
    pub memory_mb: u32,
    /// What it reserves of the DEA's disk.
    #[serde(default)]
    pub disk_mb: u32,
    /// Text for the user about the state ("starting", the reason of a crash).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// Where an instance is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address of the host.
    pub host: IpAddr,
    /// The port on the host that leads to the app's first port; absent for a process without ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// The address of the container.
    pub container: IpAddr,
    /// The port inside the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
}

/// How an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InstanceState {
    /// Claimed; container, droplet and start-up check under way.
    Starting,
    /// Its check passed.
    Running,
    /// Serves until its replacement runs.
    Evacuating,
    /// Told to stop.
    Stopping,
    /// Ended by itself, or never became healthy. The health manager decides when it is started again.
    Crashed,
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// The instance that ended.
    pub instance: InstanceId,
    /// When.
    pub at: Timestamp,
    /// Its exit status; 128 + n for signal n; absent where it did not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// In words, as users read it: `APP/PROC/WEB: Exited with status 1`, with ` (out of memory)` where true.
    pub reason: String,
}

/// One staging or one task: create-only, so that it runs at most once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkRecord {
    /// The DEA that took it.
    pub dea: DeaId,
    /// Since when.
    pub since: Timestamp,
    /// True once its result was handed to the cloud controller.
    #[serde(default)]
    pub done: bool,
}

/// Who leads, and until when nobody else may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The holder's stable name.
    pub holder: String,
    /// Grows with every change of holder; carried by commands, so that an old leader is refused.
    pub fence: u64,
    /// When it ends unless renewed.
    pub until: Timestamp,
}
