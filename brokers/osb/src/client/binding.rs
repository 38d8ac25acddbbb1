//! What a binding may hold, given what its offering declares.

use super::{outcome::Outcome, texts::Names};
use crate::{Binding, Requirement, VolumeMount};
use url::Url;

const MAX_DRAIN_CHARS: usize = 10_000;
const MAX_MOUNTS_CHARS: usize = 65_535;

/// A finished binding with more or other than the platform can use is a failure; the broker has made it, so it must go.
pub(super) fn checked(outcome: Outcome<Binding>, requires: &[Requirement], names: &Names<'_>) -> Outcome<Binding> {
    match outcome {
        Outcome::Done(binding) => match problem(&binding, requires) {
            None => Outcome::Done(binding),
            Some(why) => Outcome::Failed(names.unusable_binding(why, None, true)),
        },
        other => other,
    }
}

/// Why a binding cannot be used.
pub(super) fn problem(binding: &Binding, requires: &[Requirement]) -> Option<&'static str> {
    if let Some(drain) = &binding.syslog_drain_url {
        if !requires.contains(&Requirement::SyslogDrain) {
            return Some(
                "The service is attempting to stream logs from your application, but is not registered as a logging service. Please contact the service provider",
            );
        }
        if drain.chars().count() > MAX_DRAIN_CHARS {
            return Some("the syslog_drain_url has more than 10000 characters");
        }
    }
    if let Some(mounts) = &binding.volume_mounts {
        if !mounts.is_empty() && !requires.contains(&Requirement::VolumeMount) {
            return Some(
                "The service is attempting to supply volume mounts from your application, but is not registered as a volume mount service. Please contact the service provider",
            );
        }
        if let Some(why) = mounts.iter().find_map(mount_problem) {
            return Some(why);
        }
        if serde_json::to_string(mounts).is_ok_and(|text| text.chars().count() > MAX_MOUNTS_CHARS) {
            return Some("the volume_mounts have more than 65535 characters");
        }
    }
    match &binding.route_service_url {
        Some(url) if !url.is_empty() && !is_route_service(url) => {
            Some("the route_service_url is not an https address with a host")
        }
        _ => None,
    }
}

fn is_route_service(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "https" && url.host_str().is_some_and(|host| !host.starts_with('.')))
}

fn mount_problem(mount: &VolumeMount) -> Option<&'static str> {
    let VolumeMount { driver, container_dir, mode, device_type, device } = mount;
    if [driver, container_dir, &device.volume_id].iter().any(|text| text.is_empty()) {
        return Some("a volume mount has an empty driver, container_dir or volume_id");
    }
    if !matches!(mode.as_str(), "r" | "rw") {
        return Some("the mode of a volume mount is neither r nor rw");
    }
    (device_type != "shared").then_some("the device_type of a volume mount is not shared")
}
