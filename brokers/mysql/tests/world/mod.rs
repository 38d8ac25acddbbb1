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
use mysql_broker::{MysqlBroker, Outside, Raw};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
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
    broker: Option<MysqlBroker>,
    pub(crate) platform: Platform,
}

impl World {
    /// `None` where no server is installed, and then says so.
    pub(crate) fn new() -> Option<Self> {
        if !Path::new("/usr/sbin/mariadbd").exists() {
            eprintln!("SKIPPED: MariaDB is not installed; `bin/prepare test` does that");
            return None;
        }
        foundation::init_logs();
        let folder = tempfile::Builder::new().prefix("myb").tempdir().unwrap();
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
                cache_mb: 24,
                idle_stop_s: 1,
                check_interval_s: 3600,
                largest_backup_mb: 100,
            },
            spare: None,
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
        let config = mysql_broker::check(self.raw.clone()).unwrap();
        let outside =
            Outside { clock: Arc::new(SystemClock), rng: foundation::rng(), workloads: Some(Arc::new(self.platform.clone())) };
        let broker = runtime.block_on(async {
            let broker = mysql_broker::open(config, outside, &self.shutdown).await.unwrap();
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

    pub(crate) fn broker(&self) -> MysqlBroker {
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
        let config = mysql_broker::check(self.raw.clone()).unwrap();
        let platform: Arc<dyn sql_broker::Workloads> = Arc::new(self.platform.clone());
        let outside = Outside { clock: Arc::new(SystemClock), rng: foundation::rng(), workloads: Some(platform) };
        let settings = Settings::check(self.raw.server.clone()).unwrap();
        let (broker, address) = runtime.block_on(async {
            let broker = mysql_broker::open(config, outside, &self.shutdown).await.unwrap();
            let served = Arc::new(broker.clone());
            let address = broker_sdk::start(served, settings, broker_sdk::Outside::real(), &self.shutdown).await.unwrap();
            (broker, address)
        });
        (self.runtime, self.broker) = (Some(runtime), Some(broker));
        Api::new(address, "mysql")
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

    /// Statements as the administrator.
    pub(crate) async fn admin(&self, statement: &str) -> Vec<String> {
        lines(tokio::process::Command::from(self.administrator(statement)).output().await.unwrap()).unwrap()
    }

    pub(crate) fn administrator(&self, statement: &str) -> Command {
        let engine = self.raw.server.state.join("engine");
        let password = std::fs::read_to_string(engine.join("password")).unwrap();
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--batch", "--skip-column-names", "--user=cupola", "-e", statement]);
        client.arg(format!("--socket={}", engine.join("server.sock").display())).env("MYSQL_PWD", password);
        client
    }

    /// The client wants the authority as a file.
    pub(crate) fn with_authority(&self, id: &str, mut credentials: Credentials) -> Credentials {
        let authority = self.raw.server.state.join(format!("{id}.pem"));
        std::fs::write(&authority, credentials["sslrootcert"].as_str().unwrap()).unwrap();
        credentials.insert(AUTHORITY.into(), authority.display().to_string().into());
        credentials
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

/// Where tests keep the file with the authority.
pub(crate) const AUTHORITY: &str = "authority file";

fn lines(output: std::process::Output) -> Result<Vec<String>, String> {
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Logs in over TLS with what a binding says, checking the server's certificate against the authority in it, and runs statements.
pub(crate) async fn query(credentials: &Credentials, statements: &str) -> Result<Vec<String>, String> {
    lines(client(credentials, &["--ssl-verify-server-cert"], statements).output().await.unwrap())
}

pub(crate) async fn query_without_tls(credentials: &Credentials, statements: &str) -> Result<Vec<String>, String> {
    lines(client(credentials, &["--skip-ssl"], statements).output().await.unwrap())
}

pub(crate) fn client(credentials: &Credentials, options: &[&str], statements: &str) -> tokio::process::Command {
    let text = |key: &str| credentials[key].as_str().unwrap();
    let mut client = tokio::process::Command::new("mariadb");
    client.args(["--no-defaults", "--batch", "--skip-column-names", "--protocol=tcp"]);
    client.arg(format!("--ssl-ca={}", text(AUTHORITY))).args(options);
    client.args(["-h", text("hostname"), "-P", &credentials["port"].to_string(), "-u", text("username")]);
    client.env("MYSQL_PWD", text("password")).args(["-D", text("database"), "-e", statements]).kill_on_drop(true);
    client
}

pub(crate) fn object(value: Value) -> Parameters {
    PrivateObject::from_value(value).unwrap()
}

/// What the SDK would hand to the broker.
pub(crate) fn instance(id: &str, plan: &str, parameters: Value) -> Instance {
    Instance {
        id: id.into(),
        service_id: "cupola-mysql".into(),
        service_name: "mysql".into(),
        plan_id: format!("cupola-mysql-{plan}"),
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

impl Short for MysqlBroker {
    async fn create(&self, instance: &Instance) -> Result<(), Failure> {
        self.provision(&Operation::detached(Kind::Provision), &provision(instance)).await.map(|_| ())
    }
    async fn bind_to(&self, instance: &Instance, id: &str) -> Result<Credentials, Failure> {
        let request = Bind { binding_id: id.into(), ..Bind::default() };
        let bound = self.bind(&Operation::detached(Kind::Bind), instance, &request).await?;
        let mut credentials = bound.credentials.unwrap();
        // The client wants a file
        let authority = self.server().data().with_file_name(format!("{id}.pem"));
        std::fs::write(&authority, credentials["sslrootcert"].as_str().unwrap()).unwrap();
        credentials.insert(AUTHORITY.into(), authority.display().to_string().into());
        Ok(credentials)
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
