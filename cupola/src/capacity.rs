//! What a machine may promise to apps, where the operator does not say.

use crate::settings::Settings;
use anyhow::Context;
use std::path::Path;

/// Share of the machine that apps may be promised; the rest is for the platform and the kernel.
const SHARE: u64 = 80;

/// Memory for apps.
pub(crate) fn memory_mb(settings: &Settings) -> anyhow::Result<u64> {
    if let Some(chosen) = settings.memory_mb {
        return Ok(chosen.into());
    }
    Ok(machine_mb()? * SHARE / 100)
}

/// Memory of the machine.
pub(crate) fn machine_mb() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("/proc/meminfo has no MemTotal")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("MemTotal is no number")?;
    Ok(kib / 1_024)
}

/// Disk for apps: of what the file system of the state folder has free. Images grow as they are written, so what is
/// promised must really be there.
pub(crate) fn disk_mb(settings: &Settings, state: &Path) -> anyhow::Result<u64> {
    if let Some(chosen) = settings.disk_mb {
        return Ok(chosen.into());
    }
    let found = nix::sys::statvfs::statvfs(state).with_context(|| format!("cannot look at {}", state.display()))?;
    Ok(found.blocks_available() * found.fragment_size() / (1 << 20) * SHARE / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_s_word_comes_first() {
        let settings = Settings { memory_mb: Some(512), disk_mb: Some(1024), ..Default::default() };
        assert_eq!((memory_mb(&settings).unwrap(), disk_mb(&settings, Path::new("/")).unwrap()), (512, 1024));
        let settings = Settings::default();
        assert!(memory_mb(&settings).unwrap() > 0 && disk_mb(&settings, Path::new("/")).unwrap() > 0);
    }
}
