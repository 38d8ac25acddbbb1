//! A broker without HTTP, real servers, a real client.

use broker_sdk::{
    BackedUp, Bind, Bound, BoundTo, Broker, CloneSource, Failure, Instance, Kind, Mode, Operation, Provision, Removed,
    StoredBackup, Task, Update,
    osb::{Context, Credentials, Parameters, Plan},
};
use foundation::{Shutdown, config::TlsSection};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use redis_broker::{
    broker::RedisBroker,
    config::{Config, Raw},
};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use types::Timestamp;

/// Servers refuse nothing of this user, who owns nothing.
const SERVER_UID: u32 = 982_001;

pub(crate) struct World {
    folder: TempDir,
    raw: Raw,
    life: Option<(Runtime, Arc<RedisBroker>, Shutdown)>,
}

/// One life of a broker, for work that is cut short.
pub(crate) struct Life(Arc<RedisBroker>);

impl World {
    pub(crate) fn new() -> Self {
        foundation::tls::install_crypto();
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = tempfile::Builder::new().prefix("redis-broker").tempdir().unwrap();
        let root = rustix::process::geteuid().is_root();
        if root {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        }
        let tls = certificates(folder.path(), root);
        let base = 20_000 + (std::process::id() % 40) as u16 * 200 + NEXT.fetch_add(20, Ordering::Relaxed);
        let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/example.toml")).unwrap();
        let mut raw: Raw = toml::from_str(&text).unwrap();
        raw.server.state = folder.path().join("broker");
        raw.address = [127, 0, 0, 1].into();
        raw.ports = (base, base + 19);
        raw.memory_mb = 256;
        raw.plans.cache.most_memory_mb = 256;
        raw.plans.persistent.most_memory_mb = 256;
        raw.run_as = root.then_some(SERVER_UID);
        raw.tls = tls;
        let mut world = Self { folder, raw, life: None };
        world.boot();
        world
    }

    /// Begins a life of the broker.
    pub(crate) fn boot(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shutdown = Shutdown::new();
        let config = Config::check(self.raw.clone()).unwrap();
        let opening = redis_broker::open(config, Arc::new(foundation::SystemClock), &shutdown);
        let broker = runtime.block_on(opening).unwrap();
        self.life = Some((runtime, Arc::new(broker), shutdown));
    }

    /// Ends it without a word, as KILL does: tasks stop where they are, servers go on.
    pub(crate) fn crash(&mut self) {
        if let Some((runtime, broker, _)) = self.life.take() {
            drop(broker);
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        if let Some((runtime, _, shutdown)) = self.life.take() {
            assert_eq!(runtime.block_on(shutdown.finish(Duration::from_secs(20))), 0);
        }
    }

    /// Begins some work, ends the broker in its middle, and begins the next life.
    pub(crate) fn cut<F: Future>(&mut self, after: Duration, work: impl FnOnce(Life) -> F) {
        let (runtime, broker, _) = self.life.as_ref().unwrap();
        let _ = runtime.block_on(async { tokio::time::timeout(after, work(Life(broker.clone()))).await.is_ok() });
        self.crash();
        self.boot();
    }

    fn run<T>(&self, work: impl AsyncFnOnce(&RedisBroker) -> T) -> T {
        let (runtime, broker, _) = self.life.as_ref().unwrap();
        runtime.block_on(work(broker))
    }

    pub(crate) fn mode(&self, task: &Task<'_>) -> Mode {
        self.run(async |broker| broker.mode(task))
    }
    pub(crate) fn provision(&self, id: &str, plan: &str, parameters: Value) -> Result<(), Failure> {
        let request = provision(id, plan, parameters);
        self.run(async |broker| broker.provision(&Operation::detached(Kind::Provision), &request).await.map(drop))
    }
    pub(crate) fn clone_of(&self, source: &str, backup: Option<&str>, id: &str, plan: &str) -> Result<(), Failure> {
        let backup = backup.map(|id| stored(source, id));
        let mut request = provision(id, plan, serde_json::json!({}));
        request.clone_from = Some(CloneSource { instance: instance(source), backup });
        self.run(async |broker| broker.provision(&Operation::detached(Kind::Provision), &request).await.map(drop))
    }
    pub(crate) fn update(&self, id: &str, plan: Option<&str>, parameters: Value) -> Result<(), Failure> {
        let plan = plan.map(|id| Plan { id: id.to_owned(), ..Default::default() });
        let change = Update { plan, parameters: Parameters::from_value(parameters), ..Default::default() };
        self.run(async |broker| broker.update(&Operation::detached(Kind::Update), &instance(id), &change).await.map(drop))
    }
    pub(crate) fn deprovision(&self, id: &str) -> Result<Removed, Failure> {
        self.run(async |broker| broker.deprovision(&Operation::detached(Kind::Deprovision), &instance(id)).await)
    }
    pub(crate) fn bind(&self, id: &str, binding: &str, parameters: Value) -> Result<Bound, Failure> {
        let request = bind(binding, parameters);
        self.run(async |broker| broker.bind(&Operation::detached(Kind::Bind), &instance(id), &request).await)
    }
    pub(crate) fn unbind(&self, id: &str, binding: &str) -> Result<(), Failure> {
        self.run(async |broker| broker.unbind(&Operation::detached(Kind::Unbind), &instance(id), &bound_to(binding)).await)
    }
    pub(crate) fn backup(&self, id: &str, backup: &str) -> Result<BackedUp, Failure> {
        self.run(async |broker| broker.backup(&Operation::detached(Kind::Backup), &instance(id), backup).await)
    }
    pub(crate) fn delete_backup(&self, id: &str, backup: &str) -> Result<(), Failure> {
        let operation = Operation::detached(Kind::DeleteBackup);
        self.run(async |broker| broker.delete_backup(&operation, &instance(id), &stored(id, backup)).await)
    }
    pub(crate) fn restore(&self, id: &str, backup: &str) -> Result<(), Failure> {
        self.run(async |broker| broker.restore(&Operation::detached(Kind::Restore), &instance(id), &stored(id, backup)).await)
    }

    /// A client with these credentials.
    pub(crate) fn connect(&self, credentials: &Credentials) -> redis::RedisResult<Client> {
        self.connect_to(&value(credentials, "uri"))
    }
    /// The same, for a server that may be on its way up.
    pub(crate) fn connect_again(&self, credentials: &Credentials) -> Client {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            // It lets clients in before its data is loaded.
            match self.connect(credentials).and_then(|mut client| client.get("").map(|_| client)) {
                Ok(client) => return client,
                Err(e) => assert!(Instant::now() < end, "{e}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    pub(crate) fn connect_to(&self, uri: &str) -> redis::RedisResult<Client> {
        let authority = fs::read(&self.raw.tls.ca).unwrap();
        let client = match uri.starts_with("rediss:") {
            true => redis::Client::build_with_tls(uri, redis::TlsCertificates { client_tls: None, root_cert: Some(authority) })?,
            false => redis::Client::open(uri)?,
        };
        let connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Client(connection))
    }

    /// The process of an instance's server.
    pub(crate) fn pid(&self, id: &str) -> i32 {
        let folder = engines::names::derived('r', id);
        let found: Vec<i32> =
            self.processes().into_iter().filter(|(_, line)| line.contains(&folder)).map(|(pid, _)| pid).collect();
        assert_eq!(found.len(), 1, "servers of {id}");
        found[0]
    }
    /// How many servers run.
    pub(crate) fn servers(&self) -> usize {
        self.processes().len()
    }
    fn processes(&self) -> Vec<(i32, String)> {
        let own = self.folder.path().display().to_string();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let line = |pid: i32| Some((pid, String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).ok()?).into_owned()));
        pids.filter_map(line).filter(|(_, line)| line.contains("redis-server") && line.contains(&own)).collect()
    }
    pub(crate) fn kill_server(&self, id: &str) {
        let pid = rustix::process::Pid::from_raw(self.pid(id)).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while Path::new(&format!("/proc/{}/exe", pid.as_raw_nonzero())).exists() {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    /// What is left of instances and backups.
    pub(crate) fn left(&self) -> Vec<std::path::PathBuf> {
        let below = |name: &str| fs::read_dir(self.raw.server.state.join(name)).unwrap().flatten().map(|entry| entry.path());
        below("instances").chain(below("backups")).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((runtime, _, shutdown)) = self.life.take() {
            runtime.block_on(shutdown.finish(Duration::from_secs(20)));
        }
    }
}

impl Life {
    pub(crate) async fn provision(self, id: &str, plan: &str) -> bool {
        let request = provision(id, plan, serde_json::json!({"memory_mb": 8}));
        self.0.provision(&Operation::detached(Kind::Provision), &request).await.is_ok()
    }
    pub(crate) async fn bind(self, id: &str, binding: &str) -> bool {
        let request = bind(binding, serde_json::json!({}));
        self.0.bind(&Operation::detached(Kind::Bind), &instance(id), &request).await.is_ok()
    }
    pub(crate) async fn unbind(self, id: &str, binding: &str) -> bool {
        self.0.unbind(&Operation::detached(Kind::Unbind), &instance(id), &bound_to(binding)).await.is_ok()
    }
    pub(crate) async fn backup(self, id: &str, backup: &str) -> bool {
        self.0.backup(&Operation::detached(Kind::Backup), &instance(id), backup).await.is_ok()
    }
    pub(crate) async fn restore(self, id: &str, backup: &str) -> bool {
        self.0.restore(&Operation::detached(Kind::Restore), &instance(id), &stored(id, backup)).await.is_ok()
    }
    pub(crate) async fn deprovision(self, id: &str) -> bool {
        self.0.deprovision(&Operation::detached(Kind::Deprovision), &instance(id)).await.is_ok()
    }
}

/// A client of one server.
pub(crate) struct Client(redis::Connection);

impl Client {
    pub(crate) fn get(&mut self, key: &str) -> redis::RedisResult<Option<String>> {
        redis::cmd("GET").arg(key).query(&mut self.0)
    }
    pub(crate) fn set(&mut self, key: &str, value: &str) -> redis::RedisResult<()> {
        redis::cmd("SET").arg(key).arg(value).query(&mut self.0)
    }
    /// A command as one types it.
    pub(crate) fn raw(&mut self, command: &str) -> redis::RedisResult<redis::Value> {
        let mut words = command.split(' ');
        redis::cmd(words.next().unwrap()).arg(words.collect::<Vec<_>>()).query(&mut self.0)
    }
}

/// A credential as text.
pub(crate) fn value(credentials: &Credentials, key: &str) -> String {
    match &credentials[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn provision(id: &str, plan: &str, parameters: Value) -> Provision {
    Provision {
        instance_id: id.to_owned(),
        service_id: redis_broker::plans::SERVICE_ID.to_owned(),
        service_name: "redis".to_owned(),
        plan: Plan { id: plan.to_owned(), ..Default::default() },
        context: Context::default(),
        organization_guid: "org".to_owned(),
        space_guid: "space".to_owned(),
        parameters: Parameters::from_value(parameters).unwrap(),
        state: Default::default(),
        clone_from: None,
    }
}
fn instance(id: &str) -> Instance {
    Instance {
        id: id.to_owned(),
        service_id: redis_broker::plans::SERVICE_ID.to_owned(),
        service_name: "redis".to_owned(),
        plan_id: String::new(),
        plan_name: String::new(),
        context: Context::default(),
        organization_guid: "org".to_owned(),
        space_guid: "space".to_owned(),
        parameters: Default::default(),
        state: Default::default(),
        created_at: Timestamp::from_secs(1),
        complete: true,
    }
}
fn bind(binding: &str, parameters: Value) -> Bind {
    Bind { binding_id: binding.to_owned(), parameters: Parameters::from_value(parameters).unwrap(), ..Default::default() }
}
fn bound_to(binding: &str) -> BoundTo {
    BoundTo {
        id: binding.to_owned(),
        resource: Default::default(),
        parameters: Default::default(),
        credentials: Default::default(),
        state: Default::default(),
        created_at: Timestamp::from_secs(1),
        complete: true,
    }
}
fn stored(instance: &str, id: &str) -> StoredBackup {
    StoredBackup {
        id: id.to_owned(),
        instance_id: instance.to_owned(),
        size_bytes: None,
        state: Default::default(),
        created_at: Timestamp::from_secs(1),
    }
}

fn certificates(folder: &Path, root: bool) -> TlsSection {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let section =
        TlsSection { ca: folder.join("ca.pem"), certificate: folder.join("server.pem"), key: folder.join("server.key") };
    for (path, pem) in
        [(&section.ca, authority.pem()), (&section.certificate, certificate.pem()), (&section.key, key.serialize_pem())]
    {
        fs::write(path, pem).unwrap();
        if root {
            std::os::unix::fs::chown(path, Some(SERVER_UID), Some(SERVER_UID)).unwrap();
        }
    }
    section
}
