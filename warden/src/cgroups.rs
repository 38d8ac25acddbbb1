//! Where containers' cgroups lie, what they say, and how they are emptied. Hybrid and legacy hosts (v1) and unified ones (v2).

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};
use warden_client::Metrics;

/// The cgroup mounts of this host.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    parent: String,
    unified: bool,
    hierarchies: Vec<PathBuf>,
}

impl Cgroups {
    /// Looks at `/sys/fs/cgroup`; containers lie under `parent`.
    pub(crate) fn find(parent: &str) -> io::Result<Self> {
        let top = Path::new("/sys/fs/cgroup");
        let unified = top.join("cgroup.controllers").exists();
        let mut hierarchies = BTreeSet::new();
        if unified {
            hierarchies.insert(top.to_owned());
        } else {
            for entry in fs::read_dir(top)? {
                let path = fs::canonicalize(entry?.path())?;
                if path.join("cgroup.procs").exists() {
                    hierarchies.insert(path);
                }
            }
        }
        Ok(Self { parent: parent.to_owned(), unified, hierarchies: hierarchies.into_iter().collect() })
    }

    /// A container's path below each mount.
    pub(crate) fn path(&self, handle: &str) -> String {
        format!("/{}/{handle}", self.parent)
    }

    fn folder(&self, controller: &str, handle: &str) -> PathBuf {
        let top = Path::new("/sys/fs/cgroup");
        let mount = if self.unified { top.to_owned() } else { top.join(controller) };
        mount.join(&self.parent).join(handle)
    }

    /// What a container uses now, disk and logs apart.
    pub(crate) fn metrics(&self, handle: &str) -> Metrics {
        let mut metrics = Metrics::default();
        if self.unified {
            let folder = self.folder("", handle);
            metrics.cpu_nanos = field(&folder.join("cpu.stat"), "usage_usec").saturating_mul(1000);
            let cache = field(&folder.join("memory.stat"), "inactive_file");
            metrics.memory_bytes = number(&folder.join("memory.current")).saturating_sub(cache);
            metrics.pids = number(&folder.join("pids.current"));
        } else {
            metrics.cpu_nanos = number(&self.folder("cpuacct", handle).join("cpuacct.usage"));
            let memory = self.folder("memory", handle);
            let cache = field(&memory.join("memory.stat"), "total_inactive_file");
            metrics.memory_bytes = number(&memory.join("memory.usage_in_bytes")).saturating_sub(cache);
            metrics.pids = number(&self.folder("pids", handle).join("pids.current"));
        }
        metrics
    }

    /// The processes in any of a container's cgroups.
    pub(crate) fn processes(&self, handle: &str) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for hierarchy in &self.hierarchies {
            let list = hierarchy.join(&self.parent).join(handle).join("cgroup.procs");
            let text = fs::read_to_string(list).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        }
        found
    }

    /// Removes a container's cgroups. They must be empty.
    pub(crate) fn remove(&self, handle: &str) -> io::Result<()> {
        for hierarchy in &self.hierarchies {
            crate::error::ignore_missing(fs::remove_dir(hierarchy.join(&self.parent).join(handle)))?;
        }
        Ok(())
    }

    /// Removes what held all containers, as far as nothing is in it.
    pub(crate) fn remove_parent(&self) {
        for hierarchy in &self.hierarchies {
            let _ = fs::remove_dir(hierarchy.join(&self.parent));
        }
    }
}

fn number(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn field(path: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    value.unwrap_or(0)
}
