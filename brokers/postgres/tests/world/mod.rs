//! A broker with a real server, and clients of its tenants.

use broker_sdk::{
    Bind, BoundTo, Broker, Failure, Instance, Kind, Operation, Provision, RawCredential, RawSettings, Settings, StoredBackup,
    Update,
    osb::{Context, Credentials, Parameters, Plan, PrivateObject},
};
use engines::{
    Phase,
    settings::{EngineSection, PlanSection, WorkloadsSection},
};
use foundation::{Secret, Shutdown, SystemClock, config::TlsSection};
use postgres_broker::{Outside, PostgresBroker, Raw};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use types::Timestamp;

#[path = "../../../sql/tests/platform/mod.rs"]
mod platform;
pub(crate) use platform::{Api, Platform};

/// One broker and its folder; killed and started again at will.
pub(crate) struct World {
    _folder: TempDir,
    pub(crate) raw: Raw,
    runtime: Option<Runtime>,
    shutdown: Shutdown,
    broker: Option<PostgresBroker>,
    pub(crate) platform: Platform,
}

impl World {
    /// `None` where no server is installed, and then says so.
    pub(crate) fn new() -> Option<Self> {
        if !Path::new("/usr/lib/postgresql").exists() {
            eprintln!("SKIPPED: PostgreSQL is not installed; `bin/prepare test` does that");
            return None;
        }
        foundation::init_logs();
        foundation::tls::install_crypto();
        let folder = tempfile::Builder::new().prefix("pgb").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let tls = certificates(folder.path());
        let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(folder.path()).unwrap()) == 0;
        let plan = |name: &str, size_mb, connections| PlanSection {
            name: name.into(),
            id: None,
            description: None,
            size_mb,
            connections,
            free: true,
        };
        let raw = Raw {
            server: RawSettings {
                listen: "127.0.0.1:0".into(),
                credentials: vec![RawCredential { user: "platform".into(), password: Secret::new("password") }],
                state: folder.path().join("state"),
                request_timeout_s: 50,
                operation_timeout_s: 3600,
                poll_interval_s: 1,
            },
            engine: EngineSection {
                address: "127.0.0.1".parse().unwrap(),
                port: free_port(),
                host: None,
                tls: tls.clone(),
                programs: None,
                user: root.then_some(65_534),
                max_connections: 100,
                cache_mb: 32,
                idle_stop_s: 1,
                check_interval_s: 3600,
                largest_backup_mb: 100,
            },
            spare: Some(2),
            plans: vec![plan("shared", 64, 5), plan("large", 1024, 10)],
            workloads: Some(WorkloadsSection {
                controller: "https://127.0.0.1:1".into(),
                tls: tls.clone(),
                stack: "engines".into(),
                ports: free_ports(),
            }),
            dedicated: Default::default(),
        };
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::set_permissions(&state, PermissionsExt::from_mode(0o755)).unwrap();
        let platform = Platform::new(folder.path().join("volumes"), raw.engine.user);
        let mut world = Self { _folder: folder, raw, runtime: None, shutdown: Shutdown::new(), broker: None, platform };
        world.start();
        Some(world)
    }

    pub(crate) fn start(&mut self) {
        let runtime = Runtime::new().unwrap();
        self.shutdown = Shutdown::new();
        let config = postgres_broker::check(self.raw.clone()).unwrap();
        let outside =
            Outside { clock: Arc::new(SystemClock), rng: foundation::rng(), workloads: Some(Arc::new(self.platform.clone())) };
        let broker = runtime.block_on(async {
            let broker = postgres_broker::open(config, outside, &self.shutdown).await.unwrap();
            broker.started(vec![]).await.unwrap();
            broker
        });
        (self.runtime, self.broker) = (Some(runtime), Some(broker));
    }

    /// KILL for the broker: no task of it goes on.
    pub(crate) fn kill(&mut self) {
        self.broker = None;
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(1));
    }

    pub(crate) fn broker(&self) -> PostgresBroker {
        self.broker.clone().unwrap()
    }

    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().unwrap().spawn(future)
    }

    pub(crate) fn server_pid(&self) -> i32 {
        match self.broker().server().phase() {
            Phase::Running { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    /// Kills the broker that runs, if one does, and starts one with the SDK's server: operations that were under way go on.
    pub(crate) fn serve(&mut self) -> Api {
        if self.runtime.is_some() {
            self.kill();
        }
        let runtime = Runtime::new().unwrap();
        self.shutdown = Shutdown::new();
        let config = postgres_broker::check(self.raw.clone()).unwrap();
        let platform: Arc<dyn sql_broker::Workloads> = Arc::new(self.platform.clone());
        let outside = Outside { clock: Arc::new(SystemClock), rng: foundation::rng(), workloads: Some(platform) };
        let settings = Settings::check(self.raw.server.clone()).unwrap();
        let (broker, address) = runtime.block_on(async {
            let broker = postgres_broker::open(config, outside, &self.shutdown).await.unwrap();
            let served = Arc::new(broker.clone());
            let address = broker_sdk::start(served, settings, broker_sdk::Outside::real(), &self.shutdown).await.unwrap();
            (broker, address)
        });
        (self.runtime, self.broker) = (Some(runtime), Some(broker));
        Api::new(address, "postgres")
    }

    /// Runs the whole contract of the API against the broker, as a platform meets it; what is broken, as text.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.run(async {
            foundation::tls::install_crypto();
            let settings = Settings::check(self.raw.server.clone()).unwrap();
            let broker = Arc::new(self.broker());
            let address = broker_sdk::start(broker, settings, broker_sdk::Outside::real(), &self.shutdown).await.unwrap();
            let mut options = broker_check::Options::new(&format!("http://{address}")).unwrap();
            options.credentials = Some(broker_check::Credentials { user: "platform".into(), password: Secret::new("password") });
            let rng = Box::new(foundation::rng());
            let report = broker_check::run(options, rng, std::future::pending(), |_| {}).await.unwrap();
            assert!(report.entries.len() > 50, "{}", broker_check::text(&report));
            match report.exit_code() {
                0 => vec![],
                _ => vec![broker_check::text(&report)],
            }
        })
    }

    /// Statements as the administrator, in any database.
    pub(crate) async fn admin(&self, database: &str, statement: &str) -> Vec<String> {
        let engine = self.raw.server.state.join("engine");
        let mut config = tokio_postgres::Config::new();
        config.host_path(engine.join("sockets")).port(self.raw.engine.port).user("cupola").dbname(database);
        config.password(std::fs::read_to_string(engine.join("password")).unwrap());
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        texts(&client, statement).await.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(self.shutdown.finish(Duration::from_secs(20)));
        }
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Some that nobody uses, each test with others.
fn free_ports() -> (u16, u16) {
    let first = (free_port() / 2).max(10_000);
    (first, first + 8)
}

fn certificates(folder: &Path) -> TlsSection {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "server");
    let signed = params.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, text: String| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsSection {
        ca: write("ca.pem", authority.pem()),
        certificate: write("server.pem", signed.pem()),
        key: write("server.key", key.serialize_pem()),
    }
}

/// First columns of all rows, as text.
pub(crate) async fn texts(client: &Client, statement: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let messages = client.simple_query(statement).await?;
    let row = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// Logs in over TLS with what a binding says, checking the server's certificate against the authority in it.
pub(crate) async fn log_in(credentials: &Credentials) -> Result<Client, tokio_postgres::Error> {
    log_in_to(credentials, credentials["database"].as_str().unwrap()).await
}

pub(crate) async fn log_in_to(credentials: &Credentials, database: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = credentials["uri"].as_str().unwrap().parse().unwrap();
    config.dbname(database).connect_timeout(Duration::from_secs(10));
    let mut roots = RootCertStore::empty();
    let authority = credentials["sslrootcert"].as_str().unwrap();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) async fn log_in_without_tls(credentials: &Credentials) -> Result<Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = credentials["uri"].as_str().unwrap().parse().unwrap();
    config.ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) fn object(value: Value) -> Parameters {
    PrivateObject::from_value(value).unwrap()
}

/// What the SDK would hand to the broker.
pub(crate) fn instance(id: &str, plan: &str, parameters: Value) -> Instance {
    Instance {
        id: id.into(),
        service_id: "cupola-postgres".into(),
        service_name: "postgres".into(),
        plan_id: format!("cupola-postgres-{plan}"),
        plan_name: plan.into(),
        context: Context::default(),
        organization_guid: "org".into(),
        space_guid: "space".into(),
        parameters: object(parameters),
        state: PrivateObject::new(),
        created_at: Timestamp::from_secs(1),
        complete: true,
    }
}

pub(crate) fn provision(instance: &Instance) -> Provision {
    Provision {
        instance_id: instance.id.clone(),
        service_id: instance.service_id.clone(),
        service_name: instance.service_name.clone(),
        plan: Plan { id: instance.plan_id.clone(), name: instance.plan_name.clone(), ..Plan::default() },
        context: Context::default(),
        organization_guid: "org".into(),
        space_guid: "space".into(),
        parameters: instance.parameters.clone(),
        state: PrivateObject::new(),
        clone_from: None,
    }
}

pub(crate) fn change(plan: Option<&str>, parameters: Option<Value>) -> Update {
    let plan = plan.map(|name| Plan { name: name.into(), ..Plan::default() });
    Update { plan, parameters: parameters.map(object), ..Update::default() }
}

pub(crate) fn stored(instance: &Instance, id: &str) -> StoredBackup {
    StoredBackup {
        id: id.into(),
        instance_id: instance.id.clone(),
        size_bytes: None,
        state: PrivateObject::new(),
        created_at: Timestamp::from_secs(1),
    }
}

pub(crate) fn bound(id: &str) -> BoundTo {
    BoundTo {
        id: id.into(),
        resource: Default::default(),
        parameters: Parameters::new(),
        credentials: Credentials::new(),
        state: PrivateObject::new(),
        created_at: Timestamp::from_secs(1),
        complete: true,
    }
}

/// A broker's operations in short.
pub(crate) trait Short {
    fn create(&self, instance: &Instance) -> impl Future<Output = Result<(), Failure>> + Send;
    fn bind_to(&self, instance: &Instance, id: &str) -> impl Future<Output = Result<Credentials, Failure>> + Send;
    fn unbind_from(&self, instance: &Instance, id: &str) -> impl Future<Output = Result<(), Failure>> + Send;
    fn delete(&self, instance: &Instance) -> impl Future<Output = Result<String, Failure>> + Send;
}

impl Short for PostgresBroker {
    async fn create(&self, instance: &Instance) -> Result<(), Failure> {
        self.provision(&Operation::detached(Kind::Provision), &provision(instance)).await.map(|_| ())
    }
    async fn bind_to(&self, instance: &Instance, id: &str) -> Result<Credentials, Failure> {
        let request = Bind { binding_id: id.into(), ..Bind::default() };
        let bound = self.bind(&Operation::detached(Kind::Bind), instance, &request).await?;
        Ok(bound.credentials.unwrap())
    }
    async fn unbind_from(&self, instance: &Instance, id: &str) -> Result<(), Failure> {
        self.unbind(&Operation::detached(Kind::Unbind), instance, &bound(id)).await
    }
    async fn delete(&self, instance: &Instance) -> Result<String, Failure> {
        let removed = self.deprovision(&Operation::detached(Kind::Deprovision), instance).await?;
        Ok(removed.description.unwrap_or_default())
    }
}

pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn kill_process(pid: i32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

pub(crate) fn none() -> Value {
    json!({})
}
