//! A broker without HTTP, real servers, a real client.

use broker_sdk::{
    BackedUp, Bind, Bound, BoundTo, Broker, CloneSource, Failure, Instance, Kind, Operation, Provision, Removed, StoredBackup,
    Update,
    osb::{Context, Credentials, Parameters, Plan},
};
use foundation::{Shutdown, config::TlsSection};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use rabbitmq_broker::{
    broker::RabbitmqBroker,
    config::{Config, Raw},
    plans::Limits,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
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
    life: Option<(Runtime, Arc<RabbitmqBroker>, Shutdown)>,
}

/// One life of a broker, for work that is cut short.
pub(crate) struct Life(Arc<RabbitmqBroker>);

impl World {
    pub(crate) fn new() -> Self {
        foundation::tls::install_crypto();
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = tempfile::Builder::new().prefix("rabbit").tempdir().unwrap();
        let root = rustix::process::geteuid().is_root();
        if root {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        }
        let tls = certificates(folder.path(), root);
        let base = 28_000 + (std::process::id() % 100) as u16 * 20 + NEXT.fetch_add(4, Ordering::Relaxed);
        let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/example.toml")).unwrap();
        let mut raw: Raw = toml::from_str(&text).unwrap();
        raw.server.state = folder.path().join("broker");
        raw.address = [127, 0, 0, 1].into();
        raw.port = base;
        raw.loopback_ports = [base + 1, base + 2, base + 3];
        raw.memory_mb = 256;
        raw.disk_reserve_mb = 64;
        raw.idle_stop_s = 1;
        raw.plans.shared = Limits { connections: 3, queues: 4, queue_mb: 1 };
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
        let opening = async { rabbitmq_broker::open(config, Arc::new(foundation::SystemClock), &shutdown) };
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
            assert_eq!(runtime.block_on(shutdown.finish(Duration::from_secs(40))), 0);
        }
    }

    /// Begins some work, ends the broker in its middle, and begins the next life.
    pub(crate) fn cut<F: Future>(&mut self, after: Duration, work: impl FnOnce(Life) -> F) {
        let (runtime, broker, _) = self.life.as_ref().unwrap();
        let _ = runtime.block_on(async { tokio::time::timeout(after, work(Life(broker.clone()))).await.is_ok() });
        self.crash();
        self.boot();
    }

    fn run<T>(&self, work: impl AsyncFnOnce(&RabbitmqBroker) -> T) -> T {
        let (runtime, broker, _) = self.life.as_ref().unwrap();
        runtime.block_on(work(broker))
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
    pub(crate) fn connect(&self, credentials: &Credentials) -> lapin::Result<Client> {
        self.connect_to(&value(credentials, "uri"))
    }
    /// The same, for a node that may be on its way up.
    pub(crate) fn connect_again(&self, credentials: &Credentials) -> Client {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            match self.connect(credentials) {
                Ok(client) => return client,
                Err(e) => assert!(Instant::now() < end, "{e}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    pub(crate) fn connect_to(&self, uri: &str) -> lapin::Result<Client> {
        let authority = fs::read_to_string(&self.raw.tls.ca).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let tls = lapin::tcp::OwnedTLSConfig { identity: None, cert_chain: Some(authority) };
        let connected = runtime.block_on(async {
            let properties = ConnectionProperties::default();
            let kit = lapin::runtime::default_runtime()?;
            let connecting = Connection::connect_with_config(uri, properties, tls, kit);
            let connection = match tokio::time::timeout(Duration::from_secs(10), connecting).await {
                Ok(connection) => connection?,
                Err(_) => panic!("no answer in 10 s"),
            };
            let channel = connection.create_channel().await?;
            Ok::<_, lapin::Error>((connection, channel))
        });
        let (connection, channel) = connected?;
        Ok(Client { channel, connection, runtime })
    }

    /// The process of the node.
    pub(crate) fn pid(&self) -> i32 {
        let found: Vec<i32> = self.processes().into_iter().map(|(pid, _)| pid).collect();
        assert_eq!(found.len(), 1, "nodes");
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
        pids.filter_map(line).filter(|(_, line)| line.contains("beam.smp") && line.contains(&own)).collect()
    }
    pub(crate) fn kill_server(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while Path::new(&format!("/proc/{}/exe", pid.as_raw_nonzero())).exists() {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((runtime, _, shutdown)) = self.life.take() {
            runtime.block_on(shutdown.finish(Duration::from_secs(40)));
        }
    }
}

impl Life {
    pub(crate) async fn provision(self, id: &str, plan: &str) -> bool {
        let request = provision(id, plan, serde_json::json!({}));
        self.0.provision(&Operation::detached(Kind::Provision), &request).await.is_ok()
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
}

/// A client of the node.
pub(crate) struct Client {
    channel: lapin::Channel,
    connection: Connection,
    runtime: Runtime,
}

impl Client {
    /// Declares a queue with arguments.
    pub(crate) fn declare(&mut self, queue: &str, kind: &str) -> lapin::Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        self.runtime.block_on(self.channel.queue_declare(queue.into(), options, arguments)).map(drop)
    }
    pub(crate) fn bind_queue(&mut self, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
        let (channel, runtime) = (&self.channel, &self.runtime);
        runtime.block_on(async {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            channel.exchange_declare(exchange.into(), lapin::ExchangeKind::Topic, options, FieldTable::default()).await?;
            channel.queue_bind(queue.into(), exchange.into(), key.into(), Default::default(), FieldTable::default()).await
        })
    }
    /// Publishes; true if the node took it.
    pub(crate) fn publish(&mut self, exchange: &str, key: &str, body: &[u8]) -> lapin::Result<bool> {
        let mut headers = FieldTable::default();
        headers.insert("number".into(), AMQPValue::LongLongInt(7));
        let properties =
            BasicProperties::default().with_delivery_mode(2).with_headers(headers).with_content_type("text/x".into());
        let (channel, runtime) = (&self.channel, &self.runtime);
        runtime.block_on(async {
            channel.confirm_select(Default::default()).await?;
            let sent = channel.basic_publish(exchange.into(), key.into(), Default::default(), body, properties).await?;
            Ok(sent.await?.is_ack())
        })
    }
    /// Takes one message off a queue.
    pub(crate) fn take(&mut self, queue: &str) -> lapin::Result<Option<(Vec<u8>, BasicProperties)>> {
        let got =
            self.runtime.block_on(self.channel.basic_get(queue.into(), lapin::options::BasicGetOptions { no_ack: true }))?;
        Ok(got.map(|message| (message.delivery.data, message.delivery.properties)))
    }
    /// Whether its connection is closed, now or in a moment.
    pub(crate) fn ends(&self) -> bool {
        let end = Instant::now() + Duration::from_secs(5);
        while self.connection.status().connected() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        !self.connection.status().connected()
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
        service_id: rabbitmq_broker::plans::SERVICE_ID.to_owned(),
        service_name: "rabbitmq".to_owned(),
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
        service_id: rabbitmq_broker::plans::SERVICE_ID.to_owned(),
        service_name: "rabbitmq".to_owned(),
        plan_id: rabbitmq_broker::plans::SHARED_ID.to_owned(),
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
