//! What the daemon and a shim say to each other. Not for other clients.
//!
//! The daemon starts a shim with a socket as its standard input, sends one [`Prepare`] and one [`Launch`], and gets a [`Launched`] for each:
//! a shim may be prepared before it is known for which container it is. From then on the shim (as keeper) serves [`ShimRequest`]s on its own socket, frames as in [`crate::frame`].

use crate::{
    protocol::ErrorKind,
    spec::{ContainerSpec, ProcessExit, ProcessSpec},
};
use serde::{Deserialize, Serialize};
use std::{net::Ipv4Addr, path::PathBuf};

/// What a shim does before it knows its container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prepare {
    /// An empty folder on which the shim mounts, in its own mount namespace.
    pub scratch: PathBuf,
    /// A formatted file system image of the right size.
    pub template: PathBuf,
    /// Where its copy comes to lie, until it becomes the container's.
    pub image: PathBuf,
}

/// Everything that a shim needs to make one container. Beside it travel: the keeper's program, the init's program, the
/// listening socket for [`ShimRequest`]s.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// What was asked for, with all placeholders replaced.
    pub spec: ContainerSpec,
    /// The container's folder on the host, for the exit record and the disk image.
    pub folder: PathBuf,
    /// Root file systems and layers, lowest first, owned as the container sees it.
    pub lowers: Vec<PathBuf>,
    /// The disk image of each of the spec's volumes, in its order.
    pub volumes: Vec<PathBuf>,
    /// The first of [`ID_RANGE`] user and group ids on the host.
    pub id_base: u32,
    /// The container's path below each cgroup mount (`/cupola/<handle>`).
    pub cgroup: String,
    /// Name of the network link at the host's end.
    pub link: String,
    /// The container's own address.
    pub address: Ipv4Addr,
    /// The host's address as containers see it.
    pub gateway: Ipv4Addr,
    /// The datagram socket of the log agent.
    pub log_socket: PathBuf,
}

/// How many ids a container has: all that a 16-bit system knows.
pub const ID_RANGE: u32 = 1 << 16;

/// Watchers of files (instances of inotify) that a container may have: as many as the kernel gives to a user by default.
pub const INOTIFY_INSTANCES: u64 = 128;

/// Files that they may watch in all.
pub const INOTIFY_WATCHES: u64 = 1 << 16;

/// The answer to a [`Prepare`], and the one to a [`Launch`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Launched {
    /// What comes before the container is done.
    Prepared,
    /// The main process has been started.
    Running,
    /// Nothing of it stays, but what the daemon made before.
    Failed {
        /// Whose fault.
        kind: ErrorKind,
        /// What, where, why.
        message: String,
    },
}

/// What the daemon asks a running shim; one request a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimRequest {
    /// Answer: [`ShimResponse::Exited`] once the container has ended. The connection also tells that the shim lives.
    Watch,
    /// TERM to the main process, KILL to all after the grace time. Answer: [`ShimResponse::Exited`].
    Stop {
        /// Between TERM and KILL; 0: KILL at once.
        grace_ms: u64,
    },
    /// Run one more process; three descriptors beside it. Answer: [`ShimResponse::Exited`] of that process.
    Exec(ProcessSpec),
    /// Answer: [`ShimResponse::Usage`].
    Usage,
}

/// What a shim answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimResponse {
    /// The container, or the process that was asked for, has ended.
    Exited(ProcessExit),
    /// What only the shim can see.
    Usage {
        /// Bytes in the private upper layer.
        disk_bytes: u64,
        /// Log bytes passed on so far.
        log_bytes: u64,
    },
    /// It did not happen.
    Refused {
        /// Whose fault.
        kind: ErrorKind,
        /// Why.
        message: String,
    },
}
