//! Requests, answers, events.

use crate::spec::{ContainerInfo, ContainerSpec, Endpoint, Metrics, ProcessExit, ProcessSpec, VolumeInfo};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

/// The largest frame that either side accepts.
pub const MAX_FRAME: usize = 4 << 20;

/// What a client may ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Is the daemon there, and what can the host hold?
    Capacity,
    /// Make the container and start its process. Answer: [`Response::Container`]. Asking again for a handle that exists
    /// with an equal spec answers with that container.
    Create(Box<ContainerSpec>),
    /// All containers whose labels have these values. Answer: [`Response::Containers`].
    List {
        /// The labels asked for; empty: all.
        #[serde(default)]
        labels: BTreeMap<String, String>,
    },
    /// One container. Answer: [`Response::Container`].
    Info {
        /// Its name.
        handle: String,
    },
    /// What containers use now; unknown handles are left out. Answer: [`Response::Metrics`].
    Metrics {
        /// Their names.
        handles: Vec<String>,
    },
    /// Run one more process inside. Three descriptors (stdin, stdout, stderr) come with the frame by `SCM_RIGHTS`.
    /// Answer when it has ended: [`Response::Exited`]. Closing the connection kills it.
    Exec {
        /// The container.
        handle: String,
        /// The process.
        process: ProcessSpec,
    },
    /// TERM to the main process, KILL to all after the grace time. Answer once it has ended: [`Response::Exited`].
    Stop {
        /// The container.
        handle: String,
        /// Time between TERM and KILL.
        grace_ms: u64,
    },
    /// What the container may reach on this host from here on, besides what every container may; connections to what is closed by it
    /// end too. Answer: [`Response::Ok`].
    SetEgress {
        /// The container.
        handle: String,
        /// All of it, not what is new.
        endpoints: Vec<Endpoint>,
    },
    /// Remove the container and all of it: processes, mounts, network, cgroup, disk. An unknown handle is a success.
    Destroy {
        /// Its name.
        handle: String,
    },
    /// From here on this connection only carries [`Event`]s, beginning with those of containers that have ended already.
    Events,
    /// Make a read-only layer from a gzip tar, unpacked under `prefix` with `vcap` as owner; answers at once if it is there.
    /// The archive is read in a sandbox: absolute paths, `..`, devices and links that lead out are refused.
    CreateLayer {
        /// Its name: a digest or guid, `[A-Za-z0-9_.-]{1,128}`.
        layer: String,
        /// The archive, under a folder that the configuration allows.
        archive: PathBuf,
        /// Absolute path inside the container under which it appears (`/home/vcap`).
        prefix: PathBuf,
    },
    /// Remove layers that no container uses and that are not named here.
    KeepLayers {
        /// What to keep.
        keep: Vec<String>,
    },
    /// All volumes of this host. Answer: [`Response::Volumes`].
    ListVolumes,
    /// Remove a volume with all that is in it. An unknown one is a success; one that a container has is a conflict.
    DeleteVolume {
        /// Its name.
        id: String,
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// Done.
    Ok,
    /// To [`Request::Capacity`].
    Capacity {
        /// All memory that containers may be promised.
        memory_bytes: u64,
        /// All disk that containers may be promised; what volumes have is not in it.
        disk_bytes: u64,
        /// Names of the stacks on this host.
        stacks: Vec<String>,
        /// The address of this host for services that containers may be allowed to reach ([`Endpoint`]). It stays the same as long as
        /// the platform does.
        services_address: Ipv4Addr,
    },
    /// One container.
    Container(ContainerInfo),
    /// Containers.
    Containers {
        /// In order of handle.
        containers: Vec<ContainerInfo>,
    },
    /// What containers use, by handle.
    Metrics {
        /// By handle.
        metrics: BTreeMap<String, Metrics>,
    },
    /// To [`Request::ListVolumes`].
    Volumes {
        /// In order of id.
        volumes: Vec<VolumeInfo>,
    },
    /// A process ended.
    Exited(ProcessExit),
    /// It did not happen, and nothing of it stays.
    Error {
        /// What kind.
        kind: ErrorKind,
        /// What, where, why.
        message: String,
    },
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request cannot be carried out as it stands.
    Invalid,
    /// No such container or layer.
    NotFound,
    /// The handle is taken by another spec, or a volume or service port by another container.
    Conflict,
    /// The host has no room (memory, disk, addresses, ports).
    NoRoom,
    /// Our fault.
    Internal,
}

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Its main process ended.
    Exited {
        /// The container.
        handle: String,
        /// How.
        exit: ProcessExit,
    },
    /// It was destroyed, or its shim died and it was cleared away.
    Gone {
        /// The container.
        handle: String,
    },
}
