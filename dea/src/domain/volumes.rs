//! Disks of workloads: they outlive instances, and go when the cloud controller says that their workload is no more.

use cloud_controller_client::{VolumesAnswer, VolumesReport};
use types::DeaId;
use warden_client::VolumeInfo;

/// What the cloud controller is told: all that is on this host, whoever has it now.
pub fn report(dea: DeaId, here: &[VolumeInfo]) -> VolumesReport {
    VolumesReport { dea, volumes: here.iter().map(|volume| volume.id.clone()).collect() }
}

/// What is removed now: of what was reported, what is named and no container has. The rest waits for the next time.
pub fn removable<'a>(here: &'a [VolumeInfo], answer: &'a VolumesAnswer) -> impl Iterator<Item = &'a str> {
    let free = here.iter().filter(|volume| volume.container.is_none()).map(|volume| volume.id.as_str());
    free.filter(|id| answer.remove.iter().any(|named| named == id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_here_and_named_and_free_is_removed() {
        let volume = |id: &str, container: Option<&str>| VolumeInfo {
            id: id.into(),
            size_mb: 64,
            container: container.map(str::to_owned),
        };
        let here = [volume("kept", None), volume("busy", Some("i-1")), volume("gone", None)];
        let answer = VolumesAnswer { remove: ["gone", "busy", "elsewhere"].map(str::to_owned).to_vec() };
        assert_eq!(removable(&here, &answer).collect::<Vec<_>>(), ["gone"]);
        assert_eq!(removable(&here, &VolumesAnswer { remove: vec![] }).count(), 0);
        let dea = "00000000-0000-4000-8000-00000000000d".parse().unwrap();
        assert_eq!(report(dea, &here).volumes, ["kept", "busy", "gone"], "also those that somebody has");
    }
}
