//! What may be asked for.

use crate::{
    config::{Config, is_word},
    error::{Error, Result},
    images::SMALLEST,
    layers,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::{Component, Path},
};
use warden_client::{ContainerSpec, Endpoint, Limits, PortRange, ProcessSpec, ServicePort};

/// Below this even the first process does not fit.
const LEAST_MEMORY: u64 = 8 << 20;
/// The largest injected file.
const LARGEST_FILE: usize = 1 << 20;
/// Endpoints of one container.
const MOST_ENDPOINTS: usize = 256;
/// Service ports of one container.
const MOST_SERVICE_PORTS: usize = 16;
/// Volumes of one container.
const MOST_VOLUMES: usize = 8;
/// More threads than the kernel could count.
const MOST_PIDS: u64 = 4 << 20;

fn invalid<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Invalid(why.into()))
}

/// Checks a spec, and replaces the sources of mounts by what they really are.
pub(super) fn spec(config: &Config, mut spec: ContainerSpec) -> Result<ContainerSpec> {
    if !is_word(&spec.handle, 64) {
        return invalid(format!("{:?} is no handle", spec.handle));
    }
    limits(&spec.limits)?;
    process(&spec.process)?;
    let ports: BTreeSet<u16> = spec.ports.iter().copied().collect();
    if ports.len() != spec.ports.len() || ports.contains(&0) {
        return invalid("a port is named twice, or is 0");
    }
    if spec.layers.len() > 32 || spec.mounts.len() > 32 || spec.ports.len() > 64 || spec.files.len() > 256 {
        return invalid("too many layers, mounts, ports or files");
    }
    service_ports(config, &spec.service_ports)?;
    spec.egress = egress(config, spec.egress)?;
    for mount in &mut spec.mounts {
        inside(&mount.destination)?;
        mount.source = layers::source(config, &mount.source)?;
    }
    volumes(&spec)?;
    for file in &spec.files {
        inside(&file.path)?;
        if file.content.len() > LARGEST_FILE {
            return invalid(format!("{} is larger than 1 MiB", file.path.display()));
        }
    }
    Ok(spec)
}

fn service_ports(config: &Config, asked: &[ServicePort]) -> Result<()> {
    if asked.len() > MOST_SERVICE_PORTS {
        return invalid(format!("{} service ports (most: {MOST_SERVICE_PORTS})", asked.len()));
    }
    let (first, last) = config.raw.network.service_ports;
    let mut seen = BTreeSet::new();
    for ServicePort { port, container_port } in asked {
        if !(first..=last).contains(port) {
            return invalid(format!("service port {port} is outside of {first} to {last}"));
        }
        if config.raw.network.host_services.iter().any(|service| service.port == *port) {
            return invalid(format!("service port {port} belongs to a service of the host"));
        }
        if *container_port == 0 || !seen.insert(port) {
            return invalid(format!("service port {port} is named twice, or leads to port 0"));
        }
    }
    Ok(())
}

fn volumes(spec: &ContainerSpec) -> Result<()> {
    if spec.volumes.len() > MOST_VOLUMES {
        return invalid(format!("{} volumes (most: {MOST_VOLUMES})", spec.volumes.len()));
    }
    let mut ids = BTreeSet::new();
    let mut paths: BTreeSet<&Path> = spec.mounts.iter().map(|mount| mount.destination.as_path()).collect();
    for volume in &spec.volumes {
        if !is_word(&volume.id, 64) {
            return invalid(format!("{:?} is no name for a volume", volume.id));
        }
        if volume.size_mb < SMALLEST >> 20 || volume.size_mb > 1 << 24 {
            return invalid(format!("a volume of {} MB (least: {})", volume.size_mb, SMALLEST >> 20));
        }
        inside(&volume.path)?;
        if !ids.insert(&volume.id) || !paths.insert(&volume.path) {
            return invalid(format!("volume {} or its path is named twice", volume.id));
        }
    }
    Ok(())
}

/// Checks what a container may reach; ranges that touch become one, because the kernel has each way once.
pub(super) fn egress(config: &Config, mut endpoints: Vec<Endpoint>) -> Result<Vec<Endpoint>> {
    if endpoints.len() > MOST_ENDPOINTS {
        return invalid(format!("{} endpoints (most: {MOST_ENDPOINTS})", endpoints.len()));
    }
    for Endpoint { address, ports: PortRange { first, last }, .. } in &endpoints {
        let odd = address.is_loopback() || address.is_link_local() || address.is_unspecified() || address.is_multicast();
        if odd || address.octets()[0] == 0 || address.octets()[0] >= 240 {
            return invalid(format!("{address} is never open to containers"));
        }
        if config.subnet.contains(*address) && *address != config.subnet.gateway() {
            return invalid(format!("{address} belongs to a container"));
        }
        if *first == 0 || first > last {
            return invalid(format!("{first} to {last} is no range of ports"));
        }
    }
    endpoints.sort_unstable();
    let mut merged: Vec<Endpoint> = vec![];
    for next in endpoints {
        match merged.last_mut() {
            Some(last)
                if (last.address, last.protocol) == (next.address, next.protocol)
                    && next.ports.first <= last.ports.last.saturating_add(1) =>
            {
                last.ports.last = last.ports.last.max(next.ports.last);
            }
            _ => merged.push(next),
        }
    }
    Ok(merged)
}

fn limits(limits: &Limits) -> Result<()> {
    if limits.memory_bytes < LEAST_MEMORY || limits.memory_bytes > i64::MAX.unsigned_abs() {
        return invalid(format!("a memory limit of {} bytes (least: {LEAST_MEMORY})", limits.memory_bytes));
    }
    if limits.disk_bytes < SMALLEST || limits.disk_bytes > 1 << 44 {
        return invalid(format!("a disk limit of {} bytes (least: {SMALLEST})", limits.disk_bytes));
    }
    // 0 never means "no limit": it would mean a container in which nothing can run.
    if limits.pids == 0 || limits.pids > MOST_PIDS {
        return invalid(format!("a limit of {} processes", limits.pids));
    }
    if limits.nofile < 16 || limits.nofile > 1 << 20 {
        return invalid(format!("a limit of {} open files", limits.nofile));
    }
    if !(2..=262_144).contains(&limits.cpu_shares)
        || limits.cpu_quota_millis.is_some_and(|quota| !(10..=1_000_000).contains(&quota))
    {
        return invalid("a CPU weight outside 2 to 262144, or a ceiling below a hundredth of a core");
    }
    if limits.log_bytes_per_second < -1 {
        return invalid("a log limit below -1");
    }
    Ok(())
}

/// Checks a process.
pub(super) fn process(process: &ProcessSpec) -> Result<()> {
    let texts = process.argv.iter().chain(&process.env);
    if texts.clone().any(|text| text.contains('\0')) {
        return invalid("an argument or variable with a NUL byte");
    }
    if process.argv.first().is_none_or(String::is_empty) {
        return invalid("no program");
    }
    if let Some(odd) = process.env.iter().find(|pair| pair.find('=').is_none_or(|at| at == 0)) {
        let name: String = odd.chars().take(20).collect();
        return invalid(format!("a variable that is not NAME=value: {name:?}"));
    }
    if !matches!(process.user.as_str(), "vcap" | "root") {
        return invalid(format!("user {:?} is neither vcap nor root", process.user));
    }
    // Descriptors are no folders to work in.
    if !process.cwd.is_absolute() || process.cwd.starts_with("/proc") {
        return invalid(format!("working directory {} is not an absolute path outside /proc", process.cwd.display()));
    }
    Ok(())
}

/// A path at which something of ours may appear: not in the kernel's own file systems.
fn inside(path: &Path) -> Result<()> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let kernel = ["/proc", "/sys", "/dev"].iter().any(|top| path.starts_with(top));
    if path.is_absolute() && plain && !kernel && path.file_name().is_some() {
        return Ok(());
    }
    invalid(format!("{} is not a plain absolute path inside", path.display()))
}

/// Fills in what only Warden knows.
pub(super) fn replace_placeholders(spec: &mut ContainerSpec, own: Ipv4Addr, host: Ipv4Addr, ports: &BTreeMap<u16, u16>) {
    replace_in(&mut spec.process.env, own, host, ports);
}

/// Fills it into variables.
pub(super) fn replace_in(env: &mut [String], own: Ipv4Addr, host: Ipv4Addr, ports: &BTreeMap<u16, u16>) {
    for pair in env.iter_mut().filter(|pair| pair.contains('@')) {
        let mut text = pair.replace("@CONTAINER_IP@", &own.to_string()).replace("@HOST_IP@", &host.to_string());
        for (inside, outside) in ports {
            text = text.replace(&format!("@HOST_PORT_{inside}@"), &outside.to_string());
        }
        *pair = text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Limits {
        Limits {
            memory_bytes: 64 << 20,
            disk_bytes: 64 << 20,
            cpu_shares: 100,
            cpu_quota_millis: None,
            pids: 100,
            nofile: 1024,
            log_bytes_per_second: -1,
        }
    }

    #[test]
    fn a33_zero_and_huge_limits_of_processes_are_refused() {
        assert!(limits(&good()).is_ok());
        for pids in [0, u64::MAX, 1 << 63] {
            assert!(limits(&Limits { pids, ..good() }).is_err(), "{pids}");
        }
    }

    #[test]
    fn a39_disk_limits_that_switch_the_limit_off_are_refused() {
        for disk_bytes in [0, 1, u64::MAX] {
            assert!(limits(&Limits { disk_bytes, ..good() }).is_err(), "{disk_bytes}");
        }
    }

    #[test]
    fn a2_a_working_directory_behind_a_descriptor_is_refused() {
        let at = |cwd: &str| ProcessSpec { argv: vec!["sh".into()], env: vec![], cwd: cwd.into(), user: "vcap".into() };
        assert!(process(&at("/home/vcap")).is_ok());
        for cwd in ["/proc/self/fd/7", "relative", "/proc/../proc/1/cwd"] {
            assert!(process(&at(cwd)).is_err(), "{cwd}");
        }
    }

    #[test]
    fn only_single_addresses_of_this_or_other_hosts_are_opened() {
        let config = Config::check(toml::from_str(include_str!("../../example.toml")).unwrap()).unwrap();
        let open = |address: [u8; 4], first, last| {
            let ports = PortRange { first, last };
            egress(&config, vec![Endpoint { address: address.into(), protocol: warden_client::Protocol::Tcp, ports }])
        };
        assert!(open([10, 254, 0, 1], 5432, 5432).is_ok(), "the services address");
        assert!(open([192, 0, 2, 7], 1, 65_535).is_ok());
        for address in [[127, 0, 0, 1], [169, 254, 169, 254], [0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255], [10, 254, 0, 9]]
        {
            assert!(open(address, 5432, 5432).is_err(), "{address:?}");
        }
        assert!(open([192, 0, 2, 7], 0, 1).is_err() && open([192, 0, 2, 7], 2, 1).is_err());
    }

    #[test]
    fn service_ports_are_of_the_range_and_named_once() {
        let mut raw: crate::Raw = toml::from_str(include_str!("../../example.toml")).unwrap();
        raw.network.host_services.push(crate::config::HostService { port: 8080, target: "127.0.0.1:8080".parse().unwrap() });
        let config = Config::check(raw).unwrap();
        let check = |ports: &[(u16, u16)]| {
            let asked: Vec<_> = ports.iter().map(|&(port, container_port)| ServicePort { port, container_port }).collect();
            service_ports(&config, &asked).map_err(|e| e.to_string())
        };
        assert_eq!(check(&[(8000, 5432), (8999, 5432)]), Ok(()));
        assert_eq!(check(&[(7999, 5432)]), Err("service port 7999 is outside of 8000 to 8999".into()));
        for wrong in [&[(9000, 5432)][..], &[(8000, 0)], &[(8000, 1), (8000, 2)], &[(8080, 5432)]] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let config = Config::check(toml::from_str(include_str!("../../example.toml")).unwrap()).unwrap();
        let at = |first, last| Endpoint { ports: PortRange { first, last }, ..Endpoint::tcp([10, 254, 0, 1].into(), 1) };
        let merged = egress(&config, vec![at(5, 9), at(1, 3), at(8, 12), at(4, 4), at(20, 65_535)]).unwrap();
        assert_eq!(merged, [at(1, 12), at(20, 65_535)]);
    }

    #[test]
    fn placeholders_become_addresses_and_ports() {
        let mut env = vec!["A=@CONTAINER_IP@:@HOST_PORT_8080@".to_owned(), "B=@HOST_IP@@UNKNOWN@".to_owned()];
        replace_in(&mut env, Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(192, 0, 2, 1), &BTreeMap::from([(8080, 61001)]));
        assert_eq!(env, ["A=10.0.0.2:61001", "B=192.0.2.1@UNKNOWN@"]);
    }
}
