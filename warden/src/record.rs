//! What the daemon writes about a container, so that the next daemon finds it. No environment, no file contents: no secrets.

use crate::error::{Error, Result, ignore_missing};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};
use types::Timestamp;
use warden_client::{ContainerInfo, ContainerSpec, Endpoint, ProcessExit};

/// One container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) handle: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Tells whether a second request asks for the same.
    pub(crate) spec_sha256: String,
    pub(crate) slot: u32,
    pub(crate) address: Ipv4Addr,
    /// Container port to host port.
    pub(crate) ports: BTreeMap<u16, u16>,
    /// Port of the services address to container port.
    #[serde(default)]
    pub(crate) service_ports: BTreeMap<u16, u16>,
    /// What it may reach on this host.
    #[serde(default)]
    pub(crate) egress: Vec<Endpoint>,
    pub(crate) layers: Vec<String>,
    /// Ids of its volumes.
    #[serde(default)]
    pub(crate) volumes: Vec<String>,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) created_at: u64,
    /// The boot of the host in which it was made; nothing of it outlives that.
    pub(crate) boot: String,
}

impl Record {
    pub(crate) fn info(&self, host_address: Ipv4Addr, exit: Option<ProcessExit>) -> ContainerInfo {
        ContainerInfo {
            handle: self.handle.clone(),
            labels: self.labels.clone(),
            address: self.address,
            host_address,
            ports: self.ports.clone(),
            egress: self.egress.clone(),
            created_at: self.created_at,
            exit,
        }
    }
}

/// A digest that is equal for equal specs.
pub(crate) fn digest(spec: &ContainerSpec) -> Result<String> {
    let bytes = serde_json::to_vec(spec).map_err(Error::at("describing the container"))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The folder of all containers.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    top: PathBuf,
    resting: PathBuf,
}

/// What rests, on disk: by slot and by port, microseconds since the epoch.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Resting {
    pub(crate) slots: BTreeMap<u32, Timestamp>,
    pub(crate) ports: BTreeMap<u32, Timestamp>,
}

impl Records {
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let top = state.join("containers");
        private_folder(&top)?;
        Ok(Self { top, resting: state.join("resting.json") })
    }

    pub(crate) fn folder(&self, handle: &str) -> PathBuf {
        self.top.join(handle)
    }

    /// Makes the container's folder with its record.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let folder = self.folder(&record.handle);
        private_folder(&folder)?;
        replace(&folder.join("container.json"), record)
    }

    /// All that are there; a folder without a readable record is told with its name alone.
    pub(crate) fn all(&self) -> io::Result<Vec<(String, Option<Record>)>> {
        let mut found = vec![];
        for entry in fs::read_dir(&self.top)? {
            let entry = entry?;
            let Ok(handle) = entry.file_name().into_string() else { continue };
            found.push((handle, read(&entry.path().join("container.json"))));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    pub(crate) fn exit(&self, handle: &str) -> Option<ProcessExit> {
        read(&self.folder(handle).join("exit.json"))
    }

    /// From here on the container is to be taken away, whatever happens to this daemon.
    pub(crate) fn condemn(&self, handle: &str) -> io::Result<()> {
        ignore_missing(fs::write(self.folder(handle).join("condemned"), ""))
    }

    pub(crate) fn is_condemned(&self, handle: &str) -> bool {
        self.folder(handle).join("condemned").exists()
    }

    pub(crate) fn remove(&self, handle: &str) -> io::Result<()> {
        ignore_missing(fs::remove_dir_all(self.folder(handle)))
    }

    pub(crate) fn resting(&self) -> Resting {
        read(&self.resting).unwrap_or_default()
    }

    pub(crate) fn write_resting(&self, resting: &Resting) -> io::Result<()> {
        replace(&self.resting, resting)
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn replace<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(value)?)?;
    fs::rename(new, path)
}

/// Makes a folder that only root may enter.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Names this boot of the host.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
