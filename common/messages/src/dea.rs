//! Advertisements, heartbeats, and the commands to one DEA.

use crate::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{AppId, BuildId, DeaId, InstanceId, ProcessId, Timestamp, VersionId};
use uuid::Uuid;

pub use crate::claims::InstanceState;

/// What a DEA has to offer; sent every 5 s, at boot, and when asked by [`LOCATE`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advertise {
    /// The DEA.
    pub id: DeaId,
    /// The stacks that it can run.
    pub stacks: Vec<String>,
    /// Memory not reserved.
    #[serde(rename = "available_memory")]
    pub available_memory_mb: u32,
    /// Disk not reserved.
    #[serde(rename = "available_disk")]
    pub available_disk_mb: u32,
    /// All memory that it may promise.
    #[serde(rename = "total_memory", default)]
    pub total_memory_mb: u32,
    /// All disk that it may promise.
    #[serde(rename = "total_disk", default)]
    pub total_disk_mb: u32,
    /// How many instances of each app it holds.
    #[serde(default)]
    pub app_id_to_count: BTreeMap<AppId, u32>,
    /// Zone and other hints for placement.
    #[serde(default)]
    pub placement_properties: BTreeMap<String, String>,
    /// True while it drains: it takes no new work.
    #[serde(default)]
    pub evacuating: bool,
}
impl Message for Advertise {
    const SUBJECT: &'static str = "dea.advertise";
}

/// Subject: asks every DEA for an advertisement and a heartbeat at once. Empty payload.
pub const LOCATE: &str = "dea.locate";

/// All instances that a DEA holds; absence means "not here any more".
///
/// Sent at boot and every 10 s. Level, not edge: losing one costs freshness, never correctness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The DEA.
    pub dea: DeaId,
    /// What it holds.
    pub droplets: Vec<InstanceReport>,
    /// Stagings and tasks under way.
    #[serde(default)]
    pub works: Vec<Uuid>,
}
impl Message for Heartbeat {
    const SUBJECT: &'static str = "dea.heartbeat";
}

/// One instance in a heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// The app (an old word on the wire).
    #[serde(rename = "droplet")]
    pub app: AppId,
    /// The process.
    pub process: ProcessId,
    /// The start that it belongs to.
    pub version: VersionId,
    /// The instance.
    pub instance: InstanceId,
    /// Its index.
    pub index: u32,
    /// How it is.
    pub state: InstanceState,
    /// Since when.
    pub state_timestamp: Timestamp,
    /// What it uses; absent before the first sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What an instance uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// When it was read.
    pub at: Timestamp,
    /// Share of one core, 1.0 being one whole core, over the last sampling interval.
    pub cpu: f64,
    /// Share of what the instance is entitled to by its memory; may pass 1.0.
    pub cpu_entitlement: f64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of disk.
    pub disk_bytes: u64,
    /// Bytes of log a second.
    pub log_rate_bytes: u64,
}

/// The subject of a command to one DEA: `dea.<id>.start`, `.stop`, `.stage`.
pub fn command_subject(dea: DeaId, verb: &str) -> String {
    format!("dea.{dea}.{verb}")
}

/// `dea.<id>.start`: claim this slot and start it. Answer: [`Answer`].
///
/// The DEA reserves, claims (compare-and-set against `revision`), answers, then starts. A second request for an instance
/// that it holds already is accepted again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartInstance {
    /// The app.
    pub app: AppId,
    /// The process.
    pub process: ProcessId,
    /// `web`, `worker`, ...
    pub process_type: String,
    /// The start.
    pub version: VersionId,
    /// The index.
    pub index: u32,
    /// The id that the new instance will have.
    pub instance: InstanceId,
    /// Memory to reserve.
    pub memory_mb: u32,
    /// Disk to reserve.
    pub disk_mb: u32,
    /// The stack that it needs.
    pub stack: String,
    /// The revision of the slot's record that the health manager saw; 0: there was none.
    pub revision: u64,
    /// The leader's fencing number.
    pub fence: u64,
}

/// `dea.<id>.stop`: stop this instance (TERM, grace, KILL) and remove its record. Answer: [`Answer`], before the stop is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopInstance {
    /// The instance.
    pub instance: InstanceId,
    /// Why, for the app's log ("stopped by user", "scaled down", "restarted").
    pub reason: String,
    /// The leader's fencing number; 0 when the cloud controller asks.
    #[serde(default)]
    pub fence: u64,
}

/// `dea.<id>.stage`: take this staging. Answer: [`Answer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageBuild {
    /// The build.
    pub build: BuildId,
    /// The app that it is for.
    pub app: AppId,
    /// Memory to reserve.
    pub memory_mb: u32,
    /// Disk to reserve.
    pub disk_mb: u32,
    /// The stack that it needs.
    pub stack: String,
    /// The leader's fencing number.
    pub fence: u64,
}

/// What a DEA says to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Reserved and claimed; the bucket tells how it goes on.
    Accepted,
    /// Not taken, and nothing was changed.
    Refused {
        /// In words for the user.
        reason: String,
    },
}
