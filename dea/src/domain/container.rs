//! Launch spec -> container, and back from a container's labels after a restart.
//!
//! Source: the runtime's contract on variables, files and labels; VCAP_APPLICATION is completed by the launcher inside.

use crate::domain::claim::Slot;
use cloud_controller_client::{BINDING_ROOT, Egress, LaunchSpec, Transport, Volume};
use loggregator_client::app_tags;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};
use types::{AppId, BuildId, DeaId, Timestamp};
use warden_client::{
    BindMount, ContainerInfo, ContainerSpec, Endpoint, InjectedFile, Limits, LogTarget, PortRange, ProcessSpec, Protocol,
    ServicePort, VolumeMount,
};

/// What all containers of this DEA have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// This DEA.
    pub dea: DeaId,
    /// Host folder with `builder` and `launcher`.
    pub lifecycle: PathBuf,
    /// Processes and threads of each.
    pub pids: u64,
}

/// The stack's bundle of trusted authorities, which Warden extends by the platform's own.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Programs that look for authorities elsewhere are pointed to the bundle by these, unless the app set them.
const BUNDLE_VARIABLES: [&str; 4] = ["NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"];
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Where the parts of a container are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The container's address.
    pub container: Ipv4Addr,
    /// The host's address.
    pub host: Ipv4Addr,
    /// Container port to host port.
    pub ports: BTreeMap<u16, u16>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl From<&ContainerInfo> for Place {
    fn from(info: &ContainerInfo) -> Self {
        Self {
            container: info.address,
            host: info.host_address,
            ports: info.ports.clone(),
            created_at: Timestamp(info.created_at),
        }
    }
}

impl Place {
    /// As the slot's record tells it; `port` is the app's first port.
    pub fn endpoint(&self, port: Option<u16>) -> messages::claims::Endpoint {
        messages::claims::Endpoint {
            host: IpAddr::V4(self.host),
            host_port: port.and_then(|port| self.ports.get(&port).copied()),
            container: IpAddr::V4(self.container),
            container_port: port,
        }
    }
}

/// The container of an instance; `layer` holds its droplet, if it has one.
pub fn instance(common: &Common, slot: &Slot, launch: &LaunchSpec, layer: Option<&str>, revision: u64) -> ContainerSpec {
    ContainerSpec {
        handle: slot.handle(),
        labels: labels(common.dea, slot, launch, revision),
        stack: launch.stack.clone(),
        layers: layer.into_iter().map(str::to_owned).collect(),
        mounts: layer.map(|_| program(&common.lifecycle, "launcher")).into_iter().collect(),
        files: binding_files(&launch.binding_files),
        limits: Limits {
            memory_bytes: u64::from(slot.memory_mb) << 20,
            disk_bytes: u64::from(slot.disk_mb) << 20,
            cpu_shares: cpu_shares(slot.memory_mb),
            cpu_quota_millis: None,
            pids: common.pids,
            nofile: launch.fds.into(),
            log_bytes_per_second: launch.log_rate_limit_bytes_per_second,
        },
        ports: host_ports(launch).to_vec(),
        service_ports: launch.service_port.iter().map(service_port).collect(),
        egress: endpoints(&launch.egress),
        volumes: launch.volume.iter().map(volume).collect(),
        process: process(slot, launch),
        log: Some(LogTarget {
            source_id: slot.app.to_string(),
            instance_id: slot.index.to_string(),
            source_type: super::text::source_type(&launch.process_type),
            tags: tags(slot, launch),
        }),
    }
}

/// The launcher starts what a droplet has; without one the stack has all that is needed.
fn process(slot: &Slot, launch: &LaunchSpec) -> ProcessSpec {
    let words = |words: [&str; 3]| words.map(str::to_owned).to_vec();
    let (mut argv, cwd) = match launch.droplet {
        Some(_) => (words(["/tmp/lifecycle/launcher", "/home/vcap/app", &launch.command]), "/home/vcap/app"),
        None => (words(["/bin/sh", "-c", &launch.command]), "/home/vcap"),
    };
    argv.extend(launch.droplet.map(|_| launch.process_type.clone()));
    ProcessSpec { argv, env: lines(&environment(slot, launch)), cwd: cwd.into(), user: "vcap".into() }
}

/// The ports that get one on the host: routers lead there. Workloads have a service port instead.
fn host_ports(launch: &LaunchSpec) -> &[u16] {
    if launch.droplet.is_some() { &launch.ports } else { &[] }
}

fn service_port(asked: &cloud_controller_client::ServicePort) -> ServicePort {
    ServicePort { port: asked.port, container_port: asked.container_port }
}

fn volume(asked: &Volume) -> VolumeMount {
    let (id, path) = (asked.id.clone(), PathBuf::from(&asked.path));
    VolumeMount { id, size_mb: asked.size_mb.into(), path, read_only: false, noexec: false }
}

/// A program of the lifecycle, read-only at its place.
pub fn program(lifecycle: &Path, name: &str) -> BindMount {
    BindMount { source: lifecycle.join(name), destination: Path::new("/tmp/lifecycle").join(name), read_only: true }
}

/// What bound services tell in files: for the app's eyes alone. Paths that lead anywhere else are left out.
pub fn binding_files(files: &BTreeMap<String, String>) -> Vec<InjectedFile> {
    let inside = |path: &str| !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let file = |(path, content): (&String, &String)| InjectedFile {
        path: Path::new(BINDING_ROOT).join(path),
        mode: 0o400,
        user_owned: true,
        content: content.clone(),
    };
    files.iter().filter(|(path, _)| inside(path)).map(file).collect()
}

/// What a container may reach, in Warden's words and order. Containers have IPv4 addresses alone.
pub fn endpoints(egress: &[Egress]) -> Vec<Endpoint> {
    let endpoint = |open: &Egress| {
        let IpAddr::V4(address) = open.address else { return None };
        let protocol = match open.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        };
        Some(Endpoint { address, protocol, ports: PortRange { first: open.first_port, last: open.last_port } })
    };
    let mut endpoints: Vec<Endpoint> = egress.iter().filter_map(endpoint).collect();
    endpoints.sort_unstable();
    endpoints
}

/// CPU weight: by memory, up to 8 GB, as entitlement is counted.
pub fn cpu_shares(memory_mb: u32) -> u64 {
    u64::from(memory_mb.clamp(64, 8192))
}

/// The tags of an instance's envelopes.
pub fn tags(slot: &Slot, launch: &LaunchSpec) -> BTreeMap<String, String> {
    let app = slot.app.to_string();
    let pair = |pair: &(String, String)| (pair.0.clone(), pair.1.clone());
    let (space, organization) = (pair(&launch.space), pair(&launch.organization));
    let mut tags = app_tags((&app, &launch.app_name), (&space.0, &space.1), (&organization.0, &organization.1));
    tags.extend([
        ("process_id".to_owned(), slot.process.to_string()),
        ("process_type".to_owned(), launch.process_type.clone()),
        ("process_instance_id".to_owned(), slot.instance.to_string()),
        ("instance_id".to_owned(), slot.index.to_string()),
    ]);
    tags
}

/// The whole environment of an instance: the cloud controller's part and what only the DEA knows.
fn environment(slot: &Slot, launch: &LaunchSpec) -> BTreeMap<String, String> {
    let mut env = platform(&launch.env);
    let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
    for name in ["CF_INSTANCE_INDEX", "INSTANCE_INDEX"] {
        set(name, slot.index.to_string());
    }
    for name in ["CF_INSTANCE_GUID", "INSTANCE_GUID"] {
        set(name, slot.instance.to_string());
    }
    set("VCAP_APP_HOST", "0.0.0.0".into());
    if let Some(port) = launch.ports.first() {
        set("PORT", port.to_string());
        set("VCAP_APP_PORT", port.to_string());
    }
    match host_ports(launch).first() {
        Some(port) => {
            set("CF_INSTANCE_PORT", format!("@HOST_PORT_{port}@"));
            set("CF_INSTANCE_ADDR", format!("@HOST_IP@:@HOST_PORT_{port}@"));
        }
        None => {
            set("CF_INSTANCE_PORT", String::new());
            set("CF_INSTANCE_ADDR", String::new());
        }
    }
    let pairs: Vec<_> =
        host_ports(launch).iter().map(|port| format!("{{\"external\":@HOST_PORT_{port}@,\"internal\":{port}}}")).collect();
    set("CF_INSTANCE_PORTS", format!("[{}]", pairs.join(",")));
    env
}

/// `env` with what every container of the platform has.
pub fn platform(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut env = env.clone();
    let defaults = [("LANG", "en_US.UTF-8"), ("PATH", PATH), ("HOME", "/home/vcap")];
    for (name, value) in defaults.into_iter().chain(BUNDLE_VARIABLES.map(|name| (name, BUNDLE))) {
        env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    let fixed = [
        ("USER", "vcap"),
        ("CF_SYSTEM_CERT_PATH", "/etc/cf-system-certificates"),
        ("CF_INSTANCE_IP", "@HOST_IP@"),
        ("CF_INSTANCE_INTERNAL_IP", "@CONTAINER_IP@"),
    ];
    env.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env
}

/// `KEY=value` for each. Names that no program could read are left out.
pub fn lines(env: &BTreeMap<String, String>) -> Vec<String> {
    let readable = |(name, value): &(&String, &String)| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
    env.iter().filter(readable).map(|(name, value)| format!("{name}={value}")).collect()
}

/// The label by which a DEA finds its containers.
pub const DEA: &str = "dea";
const KIND: &str = "kind";
const INSTANCE: &str = "instance";
const STAGING: &str = "staging";

fn labels(dea: DeaId, slot: &Slot, launch: &LaunchSpec, revision: u64) -> BTreeMap<String, String> {
    let stripped = LaunchSpec { env: BTreeMap::new(), binding_files: BTreeMap::new(), ..launch.clone() };
    let spec = serde_json::to_string(&stripped).unwrap_or_default();
    let labels = [
        (DEA, dea.to_string()),
        (KIND, INSTANCE.to_owned()),
        ("app", slot.app.to_string()),
        ("process", slot.process.to_string()),
        ("process_type", slot.process_type.clone()),
        ("version", slot.version.to_string()),
        ("index", slot.index.to_string()),
        (INSTANCE, slot.instance.to_string()),
        ("memory_mb", slot.memory_mb.to_string()),
        ("disk_mb", slot.disk_mb.to_string()),
        ("stack", slot.stack.clone()),
        ("revision", revision.to_string()),
        ("spec", spec),
    ];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The labels of a staging's container.
pub fn staging_labels(dea: DeaId, build: BuildId, app: AppId) -> BTreeMap<String, String> {
    let labels = [(DEA, dea.to_string()), (KIND, STAGING.into()), ("build", build.to_string()), ("app", app.to_string())];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a container of this DEA is, by its labels.
#[derive(Clone)]
pub enum Kind {
    /// An instance; the revision is the one at which its slot was claimed.
    Instance {
        /// Its fixed part.
        slot: Box<Slot>,
        /// What it was started from, without environment.
        launch: Box<LaunchSpec>,
        /// See above.
        revision: u64,
    },
    /// A staging.
    Staging {
        /// The build.
        build: BuildId,
        /// Its app.
        app: AppId,
    },
}

/// Reads the labels; `None` for a container that is none of ours, or whose labels cannot be read.
pub fn kind(dea: DeaId, labels: &BTreeMap<String, String>) -> Option<Kind> {
    fn read<T: std::str::FromStr>(labels: &BTreeMap<String, String>, name: &str) -> Option<T> {
        labels.get(name)?.parse().ok()
    }
    if read::<DeaId>(labels, DEA)? != dea {
        return None;
    }
    match labels.get(KIND)?.as_str() {
        STAGING => Some(Kind::Staging { build: read(labels, "build")?, app: read(labels, "app")? }),
        INSTANCE => Some(Kind::Instance {
            slot: Box::new(Slot {
                app: read(labels, "app")?,
                process: read(labels, "process")?,
                process_type: labels.get("process_type")?.clone(),
                version: read(labels, "version")?,
                index: read(labels, "index")?,
                instance: read(labels, INSTANCE)?,
                memory_mb: read(labels, "memory_mb")?,
                disk_mb: read(labels, "disk_mb")?,
                stack: labels.get("stack")?.clone(),
            }),
            launch: serde_json::from_str(labels.get("spec")?).ok()?,
            revision: read(labels, "revision")?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::core::tests::{launch, slot};

    fn common() -> Common {
        Common { dea: "00000000-0000-4000-8000-00000000000d".parse().unwrap(), lifecycle: "/opt/lifecycle".into(), pids: 512 }
    }

    #[test]
    fn the_environment_is_what_the_contract_says() {
        let mut launch = launch();
        launch.env = [("SSL_CERT_FILE", "/mine"), ("INSTANCE_INDEX", "9"), ("A=B", "x"), ("OK", "two words")]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let spec = instance(&common(), &slot(), &launch, Some("layer"), 7);
        let has = |line: &str| assert!(spec.process.env.iter().any(|have| have == line), "{line} in {:?}", spec.process.env);
        for line in [
            "PORT=8080",
            "VCAP_APP_PORT=8080",
            "VCAP_APP_HOST=0.0.0.0",
            "CF_INSTANCE_INDEX=0",
            "INSTANCE_INDEX=0",
            "CF_INSTANCE_IP=@HOST_IP@",
            "CF_INSTANCE_INTERNAL_IP=@CONTAINER_IP@",
            "CF_INSTANCE_PORT=@HOST_PORT_8080@",
            "CF_INSTANCE_ADDR=@HOST_IP@:@HOST_PORT_8080@",
            "CF_INSTANCE_PORTS=[{\"external\":@HOST_PORT_8080@,\"internal\":8080}]",
            "CF_SYSTEM_CERT_PATH=/etc/cf-system-certificates",
            "SSL_CERT_FILE=/mine",
            "PIP_CERT=/etc/ssl/certs/ca-certificates.crt",
            "OK=two words",
            "LANG=en_US.UTF-8",
            "USER=vcap",
        ] {
            has(line);
        }
        has(&format!("CF_INSTANCE_GUID={}", slot().instance));
        assert!(!spec.process.env.iter().any(|line| line.starts_with("A=")));
        assert_eq!(spec.process.argv, ["/tmp/lifecycle/launcher", "/home/vcap/app", "./server", "web"]);
        assert_eq!(spec.log.unwrap().source_type, "APP/PROC/WEB");
    }

    #[test]
    fn a_workload_is_what_its_stack_has_with_its_volume_and_its_service_port() {
        let launch = crate::domain::core::tests::workload();
        let spec = instance(&common(), &slot(), &launch, None, 7);
        assert_eq!((spec.layers.len(), spec.mounts.len(), spec.ports.len()), (0, 0, 0));
        assert_eq!(spec.process.argv, ["/bin/sh", "-c", "exec postgres"]);
        assert_eq!(spec.process.cwd.to_str(), Some("/home/vcap"));
        assert_eq!(spec.service_ports, [ServicePort { port: 8000, container_port: 5432 }]);
        let volume =
            VolumeMount { id: "db".into(), size_mb: 1024, path: "/home/vcap/data".into(), read_only: false, noexec: false };
        assert_eq!(spec.volumes, [volume]);
        assert!(spec.process.env.iter().any(|line| line == "PORT=5432"));
        assert!(!spec.process.env.iter().any(|line| line.contains("@HOST_PORT")), "{:?}", spec.process.env);
        // After a restart the DEA knows all of it again, but for secrets.
        let Some(Kind::Instance { launch: read, .. }) = kind(common().dea, &spec.labels) else { panic!() };
        assert_eq!((read.volume, read.service_port, read.droplet), (launch.volume, launch.service_port, None));
        assert!(read.env.is_empty());
    }

    #[test]
    fn a_process_without_ports_has_none_in_its_environment() {
        let mut launch = launch();
        launch.ports.clear();
        let env = environment(&slot(), &launch);
        assert_eq!((env.get("PORT"), env["CF_INSTANCE_PORTS"].as_str()), (None, "[]"));
    }

    #[test]
    fn files_of_bindings_are_below_their_root_and_for_the_app_alone() {
        let mut launch = launch();
        for path in ["db/password", "vcap_services", "../escape", "db/../../x", "/abs", "a//b", ""] {
            launch.binding_files.insert(path.into(), "hunter2".into());
        }
        let spec = instance(&common(), &slot(), &launch, Some("layer"), 7);
        let paths: Vec<_> = spec.files.iter().map(|file| file.path.to_string_lossy().into_owned()).collect();
        assert_eq!(paths, ["/etc/cf-service-bindings/db/password", "/etc/cf-service-bindings/vcap_services"]);
        assert!(spec.files.iter().all(|file| file.user_owned && file.mode == 0o400 && file.content == "hunter2"));
    }

    #[test]
    fn labels_carry_all_that_a_restart_needs_and_no_secret() {
        let mut launch = launch();
        launch.env.insert("PASSWORD".into(), "hunter2".into());
        launch.binding_files.insert("db/password".into(), "hunter2".into());
        let spec = instance(&common(), &slot(), &launch, Some("layer"), 7);
        let Some(Kind::Instance { slot: back, launch: known, revision }) = kind(common().dea, &spec.labels) else { panic!() };
        assert_eq!((*back, known.routes, revision), (slot(), launch.routes, 7));
        assert!(!format!("{:?}", spec.labels).contains("hunter2"));
        assert!(kind("00000000-0000-4000-8000-00000000000e".parse().unwrap(), &spec.labels).is_none());
    }
}
