//! What crosses the internal API.

use ::types::{AppId, BuildId, BuildpackId, DropletId, InstanceId, PackageId, ProcessId, Timestamp, VersionId};
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
    /// The droplet's blob and its sha256 in hex.
    pub droplet: DropletId,
    /// As `droplet`.
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
