//! A DEA and everything around it: bus in memory, Warden and log agent on sockets, cloud controller over HTTP.

pub(crate) mod warden;

use bus::{Bucket, Bus};
use cloud_controller_client::{HealthCheck, LaunchSpec, Lifecycle, Route, ServicePort, StagingBuildpack, StagingSpec, Volume};
use dea::{
    Dea, Outside,
    config::{Config, Periods, Raw, RouteTo},
};
use foundation::{
    Secret, Shutdown, SystemClock,
    config::{BusSection, TlsSection},
};
use loggregator_client::{EnvelopeBatch, Payload, Sender};
use messages::{
    claims::{CLAIMS, Holder, InstanceRecord, InstanceState, instance_key},
    dea::{Answer, StageBuild, StartInstance, StopInstance, command_subject},
    router::Register,
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, os::unix::net::UnixDatagram, path::Path, str::FromStr, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};
use types::{DeaId, InstanceId, VersionId};
use warden::FakeWarden;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path, path_regex},
};

pub(crate) fn id<T: FromStr<Err: std::fmt::Debug>>(n: u8) -> T {
    format!("00000000-0000-4000-8000-0000000000{n:02x}").parse().unwrap()
}

/// What happened, in order, whoever did it.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
    pub(crate) fn position(&self, begins: &str) -> Option<usize> {
        self.0.lock().iter().position(|line| line.starts_with(begins))
    }
    pub(crate) fn count(&self, begins: &str) -> usize {
        self.0.lock().iter().filter(|line| line.starts_with(begins)).count()
    }
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) struct World {
    pub(crate) bus: Bus,
    pub(crate) bucket: Bucket,
    pub(crate) controller: MockServer,
    pub(crate) warden: FakeWarden,
    pub(crate) journal: Journal,
    pub(crate) registered: Arc<Mutex<Vec<Register>>>,
    agent: UnixDatagram,
    folder: TempDir,
    config: Config,
}

/// A DEA of this world.
pub(crate) struct Running {
    pub(crate) dea: Dea,
    pub(crate) shutdown: Shutdown,
}

impl Running {
    pub(crate) async fn end(self) {
        assert_eq!(self.shutdown.finish(Duration::from_secs(10)).await, 0, "every task ends");
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(Bus::in_memory()).await
    }

    pub(crate) async fn on(bus: Bus) -> Self {
        foundation::tls::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::default();
        let warden = FakeWarden::start(&folder.path().join("warden.sock"), journal.clone());
        let agent = UnixDatagram::bind(folder.path().join("agent.sock")).unwrap();
        agent.set_nonblocking(true).unwrap();
        let registered = Arc::new(Mutex::new(vec![]));
        for subject in ["router.register", "router.unregister"] {
            let mut told = bus.subscribe(subject).await.unwrap();
            let (journal, registered) = (journal.clone(), registered.clone());
            tokio::spawn(async move {
                while let Some(delivery) = told.next().await {
                    let register: Register = delivery.read().unwrap();
                    journal.note(format!("{} {}", delivery.subject, register.uris.join(",")));
                    registered.lock().push(register);
                }
            });
        }
        let state = folder.path().join("dea");
        std::fs::create_dir(&state).unwrap();
        let raw = Raw {
            state,
            warden_socket: folder.path().join("warden.sock"),
            agent_socket: folder.path().join("agent.sock"),
            lifecycle: "/opt/lifecycle".into(),
            cloud_controller: "https://127.0.0.1:1".into(),
            route_to: RouteTo::Container,
            zone: "z1".into(),
            memory_mb: None,
            disk_mb: None,
            memory_overcommit: 1.0,
            disk_overcommit: 1.0,
            max_instances: 10,
            pids: 512,
            droplet_cache_mb: 64,
            buildpack_cache_mb: 64,
            evacuation_timeout_s: 0,
            drain_ms: 100,
            grace_s: 2,
            bus: BusSection { url: "nats://127.0.0.1:1".into(), user: "dea".into(), password: Secret::new("x"), ca: None },
            tls: TlsSection { ca: "/none".into(), certificate: "/none".into(), key: "/none".into() },
        };
        let mut config = Config::check(raw).unwrap();
        config.periods = Periods { sample: Duration::from_millis(50), gauges: Duration::from_millis(200), ..Periods::default() };
        let bucket = bus.bucket(CLAIMS).await.unwrap();
        Self { bus, bucket, controller: MockServer::start().await, warden, journal, registered, agent, folder, config }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn start_dea(&self) -> Running {
        self.start_dea_on(self.bus.clone()).await
    }

    pub(crate) async fn start_dea_on(&self, bus: Bus) -> Running {
        let roots = rustls::RootCertStore::empty();
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let outside = Outside {
            bus,
            warden: warden_client::Client::new(&self.config.raw.warden_socket),
            controller: cloud_controller_client::Client::new(&self.controller.uri(), tls).unwrap(),
            logs: Arc::new(Sender::new(&self.config.raw.agent_socket)),
            clock: Arc::new(SystemClock),
        };
        let shutdown = Shutdown::new();
        let started = tokio::time::timeout(Duration::from_secs(10), dea::start(self.config.clone(), outside, &shutdown));
        Running { dea: started.await.expect("starts in time").unwrap(), shutdown }
    }

    pub(crate) async fn ask<T: serde::Serialize>(&self, dea: DeaId, verb: &str, message: &T) -> Answer {
        self.bus.request(&command_subject(dea, verb), message, Duration::from_secs(10)).await.unwrap()
    }

    pub(crate) async fn record(&self) -> Option<InstanceRecord> {
        self.bucket.get(&instance_key(id(3), 0)).await.unwrap().map(|entry| entry.read().unwrap())
    }

    pub(crate) async fn owner(&self, state: InstanceState) -> Holder {
        let look = async || self.record().await?.owner.filter(|owner| owner.state == state);
        eventually(&format!("{state:?} in the record"), look).await
    }

    /// Log lines that arrived: `source_type message`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut buffer = vec![0; 256 << 10];
        let mut lines = vec![];
        while let Ok(size) = self.agent.recv(&mut buffer) {
            for envelope in decode(&buffer[..size]).batch {
                match envelope.message {
                    Some(Payload::Log(log)) => {
                        lines.push(format!("{} {}", envelope.tags["source_type"], String::from_utf8_lossy(&log.payload)));
                    }
                    Some(Payload::Gauge(gauge)) => {
                        lines.push(format!("gauge {}", gauge.metrics.into_keys().collect::<Vec<_>>().join(" ")))
                    }
                    _ => {}
                }
            }
        }
        lines
    }

    pub(crate) async fn posted(&self, to: &str) -> Vec<serde_json::Value> {
        let all = self.controller.received_requests().await.unwrap_or_default();
        all.iter().filter(|request| request.url.path() == to).map(|request| request.body_json().unwrap()).collect()
    }

    pub(crate) async fn serves(&self, verb: &str, to: &str, answer: ResponseTemplate) {
        Mock::given(method(verb)).and(path(to)).respond_with(answer).mount(&self.controller).await;
    }

    /// The cloud controller knows this launch spec and its droplet.
    pub(crate) async fn serves_launch(&self, launch: &LaunchSpec) {
        self.serves(
            "GET",
            &format!("/internal/v1/versions/{}/launch", launch.version),
            ResponseTemplate::new(200).set_body_json(launch),
        )
        .await;
        if let Some(droplet) = launch.droplet {
            let blob = format!("/internal/v1/blobs/droplets/{droplet}");
            self.serves("GET", &blob, ResponseTemplate::new(200).set_body_bytes(DROPLET)).await;
        }
        let version = launch.version.to_string();
        let routes = serde_json::json!({"routes": {version.clone(): launch.routes}, "egress": {version: launch.egress}});
        self.serves("POST", "/internal/v1/routes", ResponseTemplate::new(200).set_body_json(routes)).await;
        self.serves("POST", "/internal/v1/crashes", ResponseTemplate::new(204)).await;
    }

    pub(crate) async fn serves_staging(&self, spec: &StagingSpec) {
        let build = spec.build;
        self.serves("GET", &format!("/internal/v1/builds/{build}/spec"), ResponseTemplate::new(200).set_body_json(spec)).await;
        self.serves(
            "GET",
            &format!("/internal/v1/blobs/packages/{}", spec.package),
            ResponseTemplate::new(200).set_body_bytes(DROPLET),
        )
        .await;
        self.serves("POST", &format!("/internal/v1/builds/{build}/completed"), ResponseTemplate::new(204)).await;
        let uploaded = serde_json::json!({"sha256": "dd".repeat(32), "size_bytes": 7});
        Mock::given(method("PUT"))
            .and(path_regex("^/internal/v1/builds/.*/(droplet|cache)$"))
            .respond_with(ResponseTemplate::new(200).set_body_json(uploaded))
            .with_priority(9)
            .mount(&self.controller)
            .await;
    }
}

fn decode(bytes: &[u8]) -> EnvelopeBatch {
    <EnvelopeBatch as prost::Message>::decode(bytes).unwrap()
}

pub(crate) const DROPLET: &[u8] = b"a droplet";

/// The real digest of [`DROPLET`].
pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An app that listens, at the port that its launch spec names.
pub(crate) async fn app() -> (TcpListener, LaunchSpec) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let launch = launch(listener.local_addr().unwrap().port());
    (listener, launch)
}

pub(crate) fn launch(port: u16) -> LaunchSpec {
    LaunchSpec {
        app: id(1),
        app_name: "shop".into(),
        space: (id::<InstanceId>(20).to_string(), "dev".into()),
        organization: (id::<InstanceId>(21).to_string(), "acme".into()),
        process: id(2),
        process_type: "web".into(),
        version: id(3),
        droplet: Some(id(5)),
        droplet_sha256: digest(DROPLET),
        stack: "debian12".into(),
        command: "./server".into(),
        env: BTreeMap::from([("MEMORY_LIMIT".to_owned(), "256m".to_owned())]),
        memory_mb: 256,
        disk_mb: 512,
        fds: 1024,
        log_rate_limit_bytes_per_second: -1,
        health_check: HealthCheck {
            kind: "port".into(),
            timeout_s: 1,
            invocation_timeout_s: 1,
            interval_s: 30,
            http_endpoint: String::new(),
        },
        ports: vec![port],
        routes: vec![Route {
            uri: "shop.example".into(),
            port,
            protocol: "http1".into(),
            loadbalancing: None,
            route_service_url: None,
        }],
        binding_files: BTreeMap::new(),
        egress: vec![],
        volume: None,
        service_port: None,
    }
}

/// A database, at the port of a listener.
pub(crate) fn workload(port: u16) -> LaunchSpec {
    LaunchSpec {
        droplet: None,
        droplet_sha256: String::new(),
        command: "exec postgres".into(),
        routes: vec![],
        volume: Some(Volume { id: "db".into(), size_mb: 64, path: "/home/vcap/data".into() }),
        service_port: Some(ServicePort { port: 8000, container_port: port }),
        ..launch(port)
    }
}

pub(crate) fn start(instance: u8, revision: u64) -> StartInstance {
    StartInstance {
        app: id(1),
        process: id(2),
        process_type: "web".into(),
        version: id(3),
        index: 0,
        instance: id(instance),
        memory_mb: 256,
        disk_mb: 512,
        stack: "debian12".into(),
        revision,
        fence: 1,
    }
}

pub(crate) fn stop(instance: u8) -> StopInstance {
    StopInstance { instance: id(instance), reason: "stopped by user".into(), fence: 1 }
}

pub(crate) fn stage() -> StageBuild {
    StageBuild { build: id(30), app: id(1), memory_mb: 1024, disk_mb: 1024, stack: "debian12".into(), fence: 1 }
}

pub(crate) fn staging() -> StagingSpec {
    StagingSpec {
        build: id(30),
        app: id(1),
        app_name: "shop".into(),
        space: (id::<VersionId>(20).to_string(), "dev".into()),
        organization: (id::<VersionId>(21).to_string(), "acme".into()),
        package: id(31),
        package_sha256: digest(DROPLET),
        stack: "debian12".into(),
        buildpacks: Vec::<StagingBuildpack>::new(),
        skip_detect: false,
        cache: None,
        env: BTreeMap::new(),
        memory_mb: 1024,
        disk_mb: 1024,
        timeout_s: 60,
        log_rate_limit_bytes_per_second: -1,
        binding_files: BTreeMap::new(),
        egress: vec![],
    }
}

pub(crate) fn lifecycle() -> Lifecycle {
    Lifecycle {
        buildpack_key: "binary_buildpack".into(),
        detected_buildpack: "binary".into(),
        buildpacks: vec![],
        process_types: BTreeMap::from([("web".to_owned(), "./server".to_owned())]),
    }
}
