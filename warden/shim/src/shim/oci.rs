//! The OCI description of a container, built from nothing: defaults of libraries grant too much. The filter of system calls is not in it,
//! see `filter`.

use crate::rootfs::{Rootfs, hostname};
use serde_json::{Value, json};
use warden_client::shim::{ID_RANGE, INOTIFY_INSTANCES, INOTIFY_WATCHES, Launch};

/// What root inside may do, beyond owning its files. `vcap` has none of it.
const CAPABILITIES: [&str; 8] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"];

/// Kernel files that tell about the host or other tenants.
const MASKED: [&str; 17] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel",
];

const READ_ONLY: [&str; 4] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"];

/// Builds the description.
pub(crate) fn describe(launch: &Launch, rootfs: &Rootfs, unified: bool) -> Value {
    let ids = json!([{"containerID": 0, "hostID": launch.id_base, "size": ID_RANGE}]);
    let capabilities = json!(CAPABILITIES);
    let namespaces = ["user", "pid", "mount", "network", "ipc", "uts", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "hostname": hostname(&launch.spec.handle),
        "root": {"path": rootfs.root, "readonly": false},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["warden_init"],
            "env": [],
            "cwd": "/",
            "terminal": false,
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
                "inheritable": [],
                "ambient": [],
            },
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": launch.spec.limits.nofile, "soft": launch.spec.limits.nofile},
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            ],
        },
        "mounts": mounts(launch, rootfs),
        "linux": {
            "namespaces": namespaces,
            "uidMappings": ids,
            "gidMappings": ids,
            "cgroupsPath": launch.cgroup,
            "resources": resources(launch, unified),
            "sysctl": {
                "net.ipv6.conf.all.disable_ipv6": "1",
                "net.ipv6.conf.default.disable_ipv6": "1",
                // The kernel counts them for the user of the host who made all user namespaces too: without a limit of its own one
                // container could take everything.
                "user.max_inotify_instances": INOTIFY_INSTANCES.to_string(),
                "user.max_inotify_watches": INOTIFY_WATCHES.to_string(),
            },
            "rootfsPropagation": "private",
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

/// `/dev` is there already, see `rootfs`.
fn mounts(launch: &Launch, rootfs: &Rootfs) -> Value {
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        // The folder is read-only by this option, the mounts in it by themselves.
        json!({"destination": "/sys/fs/cgroup", "type": "bind", "source": rootfs.cgroups,
               "options": ["rbind", "ro", "nosuid", "noexec", "nodev"]}),
    ];
    for (bind, source) in launch.spec.mounts.iter().zip(&rootfs.binds) {
        let access = if bind.read_only { "ro" } else { "rw" };
        mounts.push(json!({"destination": bind.destination, "type": "bind", "source": source,
                           "options": ["bind", access, "nosuid", "nodev"]}));
    }
    for (volume, source) in launch.spec.volumes.iter().zip(&rootfs.volumes) {
        let access = if volume.read_only { "ro" } else { "rw" };
        let mut options = vec!["bind", access, "nosuid", "nodev"];
        options.extend(volume.noexec.then_some("noexec"));
        mounts.push(json!({"destination": volume.path, "type": "bind", "source": source, "options": options}));
    }
    Value::Array(mounts)
}

fn resources(launch: &Launch, unified: bool) -> Value {
    let limits = &launch.spec.limits;
    let mut cpu = json!({"shares": limits.cpu_shares});
    if let Some(thousandths) = limits.cpu_quota_millis {
        cpu["quota"] = json!(thousandths.saturating_mul(100));
        cpu["period"] = json!(100_000);
    }
    let mut memory = json!({"limit": limits.memory_bytes});
    // Memory and swap together have one limit; without swap accounting in the kernel there is no such file to write.
    if !unified && std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists() {
        memory["swap"] = json!(limits.memory_bytes);
    }
    let mut resources = json!({
        "memory": memory,
        "cpu": cpu,
        "pids": {"limit": limits.pids},
        "devices": [{"allow": false, "access": "rwm"}],
    });
    if unified {
        // Swap has a limit of its own there. `libcontainer` takes the difference of the two and does not write a zero.
        resources["unified"] = json!({"memory.oom.group": "1", "memory.swap.max": "0"});
    }
    resources
}
