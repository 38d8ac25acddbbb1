//! What a platform could leave on a machine.

use std::{collections::BTreeSet, fs, process::Command};

/// Processes, mounts, namespaces, links, cgroups, loop devices and nftables tables of one platform at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Remains(BTreeSet<String>);

impl Remains {
    /// Looks at the machine: processes, mounts and loop devices that name `mark` (a platform's folder), and the network,
    /// cgroups and tables of the platform in `slot`, so that what others do on the machine at the same time does not count.
    pub fn of(mark: &str, slot: u32) -> Self {
        let mut all = BTreeSet::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            // The reaper of a test platform waits for the end of the test and names its folder.
            let ours = pid == std::process::id() || command.starts_with("sh -c trap");
            if !ours && (command.contains(mark) || cgroup.contains(&format!("/cupola-test-{slot}/"))) {
                all.insert(format!("process {pid}: {command}"));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        all.extend(mounts.lines().filter(|line| line.contains(mark)).map(|line| format!("mount: {line}")));
        let subnet = format!("10.{}.", 200 + slot);
        all.extend(
            lines("ip", &["-o", "link"], &format!(" cpt{slot}"))
                .chain(lines("ip", &["route"], &subnet))
                .map(|line| format!("network: {line}")),
        );
        all.extend(lines("ip", &["netns", "list"], &format!("cupola-test-{slot}")).map(|line| format!("namespace: {line}")));
        all.extend(
            lines("losetup", &["--list", "--noheadings", "--output", "NAME,BACK-FILE"], mark).map(|line| format!("loop: {line}")),
        );
        all.extend(lines("nft", &["list", "tables"], &format!("cupola_test_{slot}")).map(|line| format!("nftables: {line}")));
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = controller.path().join(format!("cupola-test-{slot}"));
            if group.exists() {
                all.insert(format!("cgroup: {}", group.display()));
            }
        }
        Self(all)
    }

    /// Nothing.
    pub fn none() -> Self {
        Self(BTreeSet::new())
    }
}

fn lines(program: &str, arguments: &[&str], containing: &str) -> impl Iterator<Item = String> {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    let found: Vec<String> =
        String::from_utf8_lossy(&output).lines().filter(|line| line.contains(containing)).map(str::to_owned).collect();
    found.into_iter()
}
