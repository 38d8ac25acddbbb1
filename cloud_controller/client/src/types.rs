//! What crosses the internal API.

use ::types::{AppId, BuildId, BuildpackId, DeaId, DropletId, InstanceId, PackageId, ProcessId, Timestamp, VersionId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr};

/// Changes of the desired state after a change number, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesiredPage {
    /// At most `limit` changes.
    pub changes: Vec<DesiredChange>,
    /// Ask again with `after` set to this.
    pub next: u64,
    /// True when there is nothing newer than `next` at this moment.
    pub complete: bool,
}

/// One object's newest state; older changes of the same object are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesiredChange {
    /// Its change number.
    pub change: u64,
    /// What changed.
    #[serde(flatten)]
    pub what: Desired,
}

/// What should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Desired {
    /// A process that should run.
    Process(DesiredProcess),
    /// A process that should not run (stopped, scaled to zero instances with its app stopped, or deleted).
    NoProcess {
        /// The process.
        process: ProcessId,
    },
    /// A package to stage.
    Build(DesiredBuild),
    /// A build that ended or was cancelled.
    NoBuild {
        /// The build.
        build: BuildId,
    },
}

/// A process that should run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesiredProcess {
    /// Its app.
    pub app: AppId,
    /// The process.
    pub process: ProcessId,
    /// `web`, `worker`, ...
    pub process_type: String,
    /// The start; instances of any other version of this process are to stop.
    pub version: VersionId,
    /// How many.
    pub instances: u32,
    /// Memory of each.
    pub memory_mb: u32,
    /// Disk of each.
    pub disk_mb: u32,
    /// The stack that it needs.
    pub stack: String,
    /// The only DEA that may run it, because its volume is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_on: Option<DeaId>,
    /// Size of a volume that is still to be made: room that is needed once, besides `disk_mb`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub new_volume_mb: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A package to stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesiredBuild {
    /// The build.
    pub build: BuildId,
    /// Its app.
    pub app: AppId,
    /// Memory of the staging container.
    pub memory_mb: u32,
    /// Disk of the staging container.
    pub disk_mb: u32,
    /// The stack.
    pub stack: String,
    /// When it was asked for; the health manager gives up on placing it after a while.
    pub created_at: Timestamp,
}

/// All that a DEA needs to start instances of one version.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The app.
    pub app: AppId,
    /// Its name, for logs.
    pub app_name: String,
    /// The space's guid and name, the organization's guid and name: tags of log envelopes.
    pub space: (String, String),
    /// As `space`.
    pub organization: (String, String),
    /// The process.
    pub process: ProcessId,
    /// `web`, ...
    pub process_type: String,
    /// The start.
    pub version: VersionId,
    /// The droplet's blob; absent for a workload, whose stack has all that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub droplet: Option<DropletId>,
    /// Its sha256 in hex; empty without a droplet.
    #[serde(default)]
    pub droplet_sha256: String,
    /// The stack.
    pub stack: String,
    /// The start command: the user's own, else the droplet's.
    pub command: String,
    /// The whole environment, merged in the contract's order, without what only the DEA knows (`PORT`, `CF_INSTANCE_*`,
    /// `INSTANCE_*`, and `instance_id`, `instance_index`, `host`, `port` inside `VCAP_APPLICATION`).
    pub env: BTreeMap<String, String>,
    /// Memory of each instance.
    pub memory_mb: u32,
    /// Disk of each instance.
    pub disk_mb: u32,
    /// Open files.
    pub fds: u32,
    /// Log bytes a second; -1: no limit.
    pub log_rate_limit_bytes_per_second: i64,
    /// How it shows that it is well.
    pub health_check: HealthCheck,
    /// Ports that the app listens on; empty for a process without routes and not `web`.
    pub ports: Vec<u16>,
    /// Its routes now.
    pub routes: Vec<Route>,
    /// Files below [`BINDING_ROOT`], path to content; the app alone reads them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binding_files: BTreeMap<String, String>,
    /// Where it may connect to besides what everybody may, now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Egress>,
    /// A disk that outlives its instances; a process with one has one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// A port of the services address that leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_port: Option<ServicePort>,
}

/// A disk of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name, unique on the platform.
    pub id: String,
    /// Its size in MiB; it never changes.
    pub size_mb: u32,
    /// The absolute path inside the container.
    pub path: String,
}

/// A port of the services address that leads into a container, for those who have it in their [`Egress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// At the services address.
    pub port: u16,
    /// Inside the container.
    pub container_port: u16,
}

/// A server that a broker has the platform run: placed, counted, watched and restarted like an instance of an app, from a stack
/// that has its programs. Sent whole; sending it again is harmless, and a change restarts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// What operators see as the app's name: `[a-z0-9-]{1,63}`, unique for the broker.
    pub name: String,
    /// The stack with its programs.
    pub stack: String,
    /// The start command, run by `/bin/sh` as the user `vcap` in `/home/vcap`.
    pub command: String,
    /// Its environment; kept encrypted.
    pub env: BTreeMap<String, String>,
    /// Memory.
    pub memory_mb: u32,
    /// Disk besides the volume.
    pub disk_mb: u32,
    /// Its disk that stays; size and path never change.
    pub volume: Volume,
    /// Where it is reached. The health check is a connection to the container's port.
    pub service_port: ServicePort,
    /// False: stopped, and its volume kept.
    pub running: bool,
}

/// What has become of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// Where it is in its life.
    pub state: WorkloadState,
    /// Why it does not run, as far as it is known: `InsufficientResources: ...`, the crash's description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The start that `state` is about; a new one after each change.
    pub version: String,
}

/// Where a workload is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkloadState {
    /// It is wanted and does not accept connections yet.
    Starting,
    /// The newest version accepts connections, and the DEA that has its volume is noted for good.
    Running,
    /// It ended by itself and will be started again, or found no place.
    Down,
    /// It is not wanted, and an instance of it is still there.
    Stopping,
    /// It is not wanted, and no instance of it is left.
    Stopped,
    /// It is deleted; its instance or volume is still there.
    Deleting,
}

/// The volumes that a DEA has. Sent when it starts, every half minute, and as soon as it has removed one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesReport {
    /// The DEA.
    pub dea: DeaId,
    /// Names of all volumes on its host, whoever has them now.
    pub volumes: Vec<String>,
}

/// What a DEA may remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesAnswer {
    /// Volumes of deleted workloads among those reported. What the cloud controller never heard of is not here: whoever restores
    /// an old database of it would lose data otherwise.
    pub remove: Vec<String>,
}

/// Where the files of service bindings are in containers.
pub const BINDING_ROOT: &str = "/etc/cf-service-bindings";

/// Somewhere that containers may connect to: what a bound service asked to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Egress {
    /// Its address.
    pub address: IpAddr,
    /// From this port.
    pub first_port: u16,
    /// To this port, included.
    pub last_port: u16,
    /// By this protocol.
    pub protocol: Transport,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// How a process shows that it is well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// `port`, `http` or `process`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Time allowed for the start.
    pub timeout_s: u32,
    /// Time allowed for one probe once running.
    pub invocation_timeout_s: u32,
    /// Time between probes once running.
    pub interval_s: u32,
    /// Path of the `http` check.
    pub http_endpoint: String,
}

/// One route to a process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// Host name with optional path.
    pub uri: String,
    /// The app's port that it leads to.
    pub port: u16,
    /// `http1` or `http2`.
    pub protocol: String,
    /// `round-robin` or `least-connection`, if chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loadbalancing: Option<String>,
    /// A bound route service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_service_url: Option<String>,
}

/// Which versions' routes are asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutesRequest {
    /// At most 1,000.
    pub versions: Vec<VersionId>,
}

/// Routes by version; a version that is no longer wanted is left out, and keeps what it has until it is stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutesAnswer {
    /// Routes by version.
    pub routes: BTreeMap<VersionId, Vec<Route>>,
    /// Where the containers of each of these versions may connect to now, as [`LaunchSpec::egress`]; absent: nowhere.
    #[serde(default)]
    pub egress: BTreeMap<VersionId, Vec<Egress>>,
}

/// An instance that ended by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrashReport {
    /// Where it ran; an older DEA does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dea: Option<DeaId>,
    /// The app.
    pub app: AppId,
    /// The process.
    pub process: ProcessId,
    /// The instance.
    pub instance: InstanceId,
    /// Its start.
    pub version: VersionId,
    /// Its index.
    pub index: u32,
    /// Its exit status, if it ended by itself.
    pub exit_status: Option<i32>,
    /// As users read it.
    pub exit_description: String,
    /// Crashes in a row.
    pub crash_count: u32,
    /// When.
    pub at: Timestamp,
}

/// All that a DEA needs to stage one build.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct StagingSpec {
    /// The build.
    pub build: BuildId,
    /// The app.
    pub app: AppId,
    /// Its name.
    pub app_name: String,
    /// As in [`LaunchSpec`].
    pub space: (String, String),
    /// As in [`LaunchSpec`].
    pub organization: (String, String),
    /// The package's blob (a zip) and its sha256 in hex.
    pub package: PackageId,
    /// As `package`.
    pub package_sha256: String,
    /// The stack.
    pub stack: String,
    /// Candidates in order of position, or those that the user chose.
    pub buildpacks: Vec<StagingBuildpack>,
    /// True: the user chose them; no detection, the last one is final.
    pub skip_detect: bool,
    /// Key of the build cache under `caches/`, if there is one.
    pub cache: Option<String>,
    /// Environment of the staging, merged in the contract's order.
    pub env: BTreeMap<String, String>,
    /// Memory.
    pub memory_mb: u32,
    /// Disk.
    pub disk_mb: u32,
    /// Time allowed for all of it.
    pub timeout_s: u32,
    /// Log bytes a second; -1: no limit.
    pub log_rate_limit_bytes_per_second: i64,
    /// As in [`LaunchSpec`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binding_files: BTreeMap<String, String>,
    /// As in [`LaunchSpec`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Egress>,
}

/// One buildpack of a staging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagingBuildpack {
    /// The name, or the URL that the user gave.
    pub name: String,
    /// An admin buildpack's blob; absent for a URL.
    pub buildpack: Option<BuildpackId>,
    /// Its sha256 in hex; the cache key on the DEA.
    pub sha256: Option<String>,
    /// A git or zip URL.
    pub url: Option<String>,
}

/// An upload arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Uploaded {
    /// sha256 in hex of what arrived.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
}

/// How a staging ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum StagingResult {
    /// The droplet is uploaded.
    Staged {
        /// Of the uploaded droplet, hex.
        droplet_sha256: String,
        /// What `builder` wrote.
        lifecycle: Lifecycle,
    },
    /// It failed.
    Failed {
        /// `NoAppDetectedError`, `BuildpackCompileFailed`, `BuildpackReleaseFailed`, `StagingError`, `StagingTimeExpired`,
        /// `InsufficientResources`, ...
        id: String,
        /// For the user.
        message: String,
    },
}

/// The result file of `builder`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Name or URL of the final buildpack.
    #[serde(default)]
    pub buildpack_key: String,
    /// What its `detect` printed.
    #[serde(default)]
    pub detected_buildpack: String,
    /// All that took part.
    #[serde(default)]
    pub buildpacks: Vec<UsedBuildpack>,
    /// Type to command.
    #[serde(default)]
    pub process_types: BTreeMap<String, String>,
}

/// A buildpack that took part in a staging.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsedBuildpack {
    /// Name or URL, as asked for.
    #[serde(default)]
    pub key: String,
    /// Its own name.
    #[serde(default)]
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// What `detect` printed.
    #[serde(default)]
    pub detect_output: String,
}
