//! Where containers' cgroups lie, what they say, and how they are emptied. Hybrid and legacy hosts (v1) and unified ones (v2).

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};
use warden_client::Metrics;

/// The mount option of [`Cgroups::favor_joins`].
const FAVOR: &str = "favordynmods";

/// Where cgroup2 is mounted, and with which options.
fn unified_mount(mounts: &str) -> Option<(&str, Vec<&str>)> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - cgroup2 ")?;
        let options = kind.split_whitespace().nth(1)?.split(',').collect();
        Some((mount.split(' ').nth(4)?, options))
    })
}

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

    /// Lets processes join cgroups without waiting for a grace period of the kernel (10 ms and more each time; since Linux 6.0).
    /// It concerns the whole host and lasts until it is booted anew. False: this kernel cannot, or the host has no cgroup2 mount.
    pub(crate) fn favor_joins() -> io::Result<bool> {
        use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let Some((mount, options)) = unified_mount(&mounts) else { return Ok(false) };
        if options.contains(&FAVOR) {
            return Ok(true);
        }
        let picked = fspick(rustix::fs::CWD, mount, FsPickFlags::FSPICK_CLOEXEC)?;
        // Reconfiguring sets all options of cgroup2 anew: what is on stays on.
        let kept = options.iter().filter(|option| !matches!(**option, "rw" | "ro") && !option.contains('='));
        for option in kept.chain([&FAVOR]) {
            match fsconfig_set_flag(&picked, *option) {
                Err(rustix::io::Errno::INVAL) if *option == FAVOR => return Ok(false),
                other => other?,
            }
        }
        fsconfig_reconfigure(&picked)?;
        Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_with_its_options() {
        let mounts = "24 1 0:22 / /proc rw,nosuid - proc proc rw\n\
                      33 29 0:30 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,favordynmods\n";
        assert_eq!(unified_mount(mounts), Some(("/sys/fs/cgroup/unified", vec!["rw", "nsdelegate", "favordynmods"])));
        assert_eq!(unified_mount("24 1 0:22 / /proc rw - proc proc rw\n"), None);
    }
}
