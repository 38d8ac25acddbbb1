//! What a container should be.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

/// All of one container; it is created whole or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// The container's name: `[A-Za-z0-9_-]{1,64}`, unique on this host.
    pub handle: String,
    /// The caller's notes, kept with the container and returned by `list`; how a DEA finds its own again.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The stack's name: its root file system is the lowest layer.
    pub stack: String,
    /// Layers made by [`crate::Request::CreateLayer`], lowest first, each shown over the stack.
    #[serde(default)]
    pub layers: Vec<String>,
    /// Host paths shown inside.
    #[serde(default)]
    pub mounts: Vec<BindMount>,
    /// Small files written into the private upper layer before the process starts.
    #[serde(default)]
    pub files: Vec<InjectedFile>,
    /// Limits, all in one call.
    pub limits: Limits,
    /// Ports inside the container that get a port on the host.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Ports of the services address that lead into it: for the host's own processes, and for containers that have them in
    /// their `egress`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_ports: Vec<ServicePort>,
    /// What it may reach on this host besides what every container may; [`crate::Request::SetEgress`] changes it later.
    #[serde(default)]
    pub egress: Vec<Endpoint>,
    /// Disks that outlive the container.
    #[serde(default)]
    pub volumes: Vec<VolumeMount>,
    /// The main process. Its end is the end of the container's life, not of its record.
    pub process: ProcessSpec,
    /// Where its output lines go; absent: thrown away.
    #[serde(default)]
    pub log: Option<LogTarget>,
}

/// A port of the services address that leads into a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePort {
    /// At the services address, in the range that Warden's configuration allows; one container's at a time.
    pub port: u16,
    /// Inside the container.
    pub container_port: u16,
}

/// A host path shown inside the container. Sources must lie under a folder that Warden's configuration allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindMount {
    /// The path on the host: a file or a folder.
    pub source: PathBuf,
    /// The absolute path inside.
    pub destination: PathBuf,
    /// True: shown read-only. Writable mounts are for one container alone.
    pub read_only: bool,
}

/// A disk that outlives its container. It is made when it is first named, keeps its size, and has one container at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// Its name: `[A-Za-z0-9_-]{1,64}`, unique on this host.
    pub id: String,
    /// Its size in MiB, at least 16. A volume that exists must have this size.
    pub size_mb: u64,
    /// The absolute path inside. At first the folder there is empty and belongs to the process's user.
    pub path: PathBuf,
    /// True: shown read-only.
    #[serde(default)]
    pub read_only: bool,
    /// True: no program in it can be run.
    #[serde(default)]
    pub noexec: bool,
}

/// A volume as the daemon knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Its name.
    pub id: String,
    /// Its size in MiB.
    pub size_mb: u64,
    /// The container that has it now.
    pub container: Option<String>,
}

/// Something on this host that listens for containers: the broker of a bound service, at the services address.
///
/// What lies outside of the host is open to containers anyway, and neighbours never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// One address: never loopback, link-local, unspecified, multicast, or another container's.
    pub address: Ipv4Addr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its ports.
    pub ports: PortRange,
}

impl Endpoint {
    /// One TCP port.
    pub fn tcp(address: Ipv4Addr, port: u16) -> Self {
        Self { address, protocol: Protocol::Tcp, ports: PortRange { first: port, last: port } }
    }
}

/// Transport protocols that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// At least 1.
    pub first: u16,
    /// At least the first.
    pub last: u16,
}

/// A small file (1 MiB at most) owned by the container's root or its user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InjectedFile {
    /// Absolute path inside; missing parents are made.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Owned by the process's user instead of root.
    #[serde(default)]
    pub user_owned: bool,
    /// The content.
    pub content: String,
}

/// What a container may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory and swap together.
    pub memory_bytes: u64,
    /// Size of the private upper layer.
    pub disk_bytes: u64,
    /// Weight against other containers (cgroup v1 `cpu.shares`, 2 to 262144).
    pub cpu_shares: u64,
    /// Hard ceiling in thousandths of a core; absent: none.
    #[serde(default)]
    pub cpu_quota_millis: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// `RLIMIT_NOFILE`.
    pub nofile: u64,
    /// Log bytes a second; -1: no limit, 0: no logs.
    #[serde(default = "unlimited")]
    pub log_bytes_per_second: i64,
}

fn unlimited() -> i64 {
    -1
}

/// A process: started directly, no shell, exactly this environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// Program (absolute, or found in `PATH` of `env`) and arguments.
    pub argv: Vec<String>,
    /// `KEY=value`, as the program sees it. Warden replaces `@CONTAINER_IP@`, `@HOST_IP@` and `@HOST_PORT_<n>@` (n: the
    /// container port) in values, because only it knows them before the start.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// `vcap` (2000) or `root` (0), both inside the container's own user namespace.
    pub user: String,
}

/// Whose log the output is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogTarget {
    /// Guid of the app.
    pub source_id: String,
    /// Index of the instance, as text.
    pub instance_id: String,
    /// `source_type` tag (`APP/PROC/WEB`, `STG`).
    pub source_type: String,
    /// Further tags (`process_id`, `organization_name`, ...).
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// One container as the daemon knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Its name.
    pub handle: String,
    /// The caller's notes.
    pub labels: BTreeMap<String, String>,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The address of this host as the outside sees it.
    pub host_address: Ipv4Addr,
    /// Container port to host port.
    #[serde(deserialize_with = "numbered")]
    pub ports: BTreeMap<u16, u16>,
    /// What it may reach on this host now, sorted, with ranges of ports that touch made one.
    #[serde(default)]
    pub egress: Vec<Endpoint>,
    /// When it was created, microseconds since the epoch.
    pub created_at: u64,
    /// How its main process ended; absent while it runs.
    pub exit: Option<ProcessExit>,
}

/// JSON has only text as keys, and inside a tagged enum nobody turns them back into numbers.
fn numbered<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<u16, u16>, D::Error> {
    let text = BTreeMap::<String, u16>::deserialize(from)?;
    let number = |(key, value): (String, u16)| Ok((key.parse().map_err(serde::de::Error::custom)?, value));
    text.into_iter().map(number).collect()
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessExit {
    /// Exit status; 128 + n for signal n.
    pub status: i32,
    /// True if the kernel killed a process of the container for memory.
    pub out_of_memory: bool,
    /// When, microseconds since the epoch.
    pub at: u64,
    /// The last lines of standard error (at most 8 KiB), for one-line explanations.
    #[serde(default)]
    pub last_stderr: Vec<String>,
}

/// What a container uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// CPU time used so far, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory in use without reclaimable page cache.
    pub memory_bytes: u64,
    /// Bytes in the private upper layer.
    pub disk_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Log bytes passed on so far.
    pub log_bytes: u64,
}
