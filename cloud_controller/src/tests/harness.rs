//! A whole cloud controller for one test.

use crate::{
    Addresses, Identities, Identity, LookupError, Outside,
    api::{Api, auth::AUDIENCES},
    config::{Config, Raw},
    dashboards::DashboardClients,
    service::{broker_settings, start_with_state},
};
use actix_web::web::Data;
use async_trait::async_trait;
use bus::Bus;
use foundation::{Secret, Shutdown};
use parking_lot::Mutex;
use rand::SeedableRng;
use reqwest::{Method, header::HeaderMap};
use serde_json::Value;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use testkit::tokens::TestIssuer;
use types::{ManualClock, Timestamp};
use uaa_client::{ClientChange, Expect, KeySet, KnownClient, TokenVerifier};

/// The moment at which every world begins: 2026-01-02T03:04:05Z.
pub const BEGINNING: u64 = 1_767_323_045;

/// A running service and what it meets.
pub struct World {
    pub addresses: Addresses,
    pub api: Data<Api>,
    pub bus: Bus,
    pub clock: Arc<ManualClock>,
    pub users: Arc<FakeUsers>,
    pub dashboards: Arc<FakeDashboards>,
    http: reqwest::Client,
    shutdown: Shutdown,
    folder: tempfile::TempDir,
    config: Config,
}

/// What came back.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answered {
    /// The body, when the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
    /// `errors[0].detail`, when the status is this one.
    #[track_caller]
    pub fn detail(self, status: u16) -> String {
        let body = self.expect(status);
        body["errors"][0]["detail"].as_str().unwrap_or_else(|| panic!("no detail in {body}")).to_owned()
    }
}

/// UAA's users, as far as the service looks them up.
#[derive(Default)]
pub struct FakeUsers(pub Mutex<Vec<Identity>>);

#[async_trait]
impl Identities for FakeUsers {
    async fn by_name(&self, username: &str) -> Result<Vec<Identity>, LookupError> {
        Ok(self.0.lock().iter().filter(|user| user.username.eq_ignore_ascii_case(username)).cloned().collect())
    }
    async fn by_guid(&self, guid: &str) -> Result<Option<Identity>, LookupError> {
        Ok(self.0.lock().iter().find(|user| user.guid == guid).cloned())
    }
}

/// UAA's clients, as far as the service keeps them: ids and names. The real one is all or nothing too.
#[derive(Default)]
pub struct FakeDashboards {
    pub known: Mutex<Vec<KnownClient>>,
    /// Changes so far.
    pub changes: Mutex<Vec<ClientChange>>,
    /// It cannot be reached.
    pub away: AtomicBool,
}

#[async_trait]
impl DashboardClients for FakeDashboards {
    async fn all(&self) -> Result<Vec<KnownClient>, LookupError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(LookupError("UAA is away".into())),
            false => Ok(self.known.lock().clone()),
        }
    }
    async fn change(&self, changes: &[ClientChange]) -> Result<(), LookupError> {
        let mut known = self.known.lock();
        for change in changes {
            match change {
                ClientChange::Add(new) => known.push(KnownClient { id: new.id.clone(), name: new.name.clone() }),
                ClientChange::Update(new) => {
                    known.iter_mut().filter(|client| client.id == new.id).for_each(|client| client.name.clone_from(&new.name));
                }
                ClientChange::Delete(id) => known.retain(|client| client.id != *id),
            }
        }
        self.changes.lock().extend_from_slice(changes);
        Ok(())
    }
}

impl World {
    /// Starts one on SQLite.
    pub async fn new() -> Self {
        Self::on(None).await
    }

    /// Starts one on the given PostgreSQL database, or on SQLite.
    pub async fn on(database: Option<Secret>) -> Self {
        foundation::tls::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "07".repeat(32)).unwrap();
        write_certificates(folder.path());
        let config = Config::check(raw(folder.path(), database)).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(BEGINNING)));
        let users = Arc::new(FakeUsers::default());
        let dashboards = Arc::new(FakeDashboards::default());
        let bus = Bus::in_memory();
        let shutdown = Shutdown::new();
        let outside = outside(&config, &bus, &clock, &users, &dashboards, 7);
        let (addresses, api) = start_with_state(config.clone(), outside, &shutdown).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { addresses, api, bus, clock, users, dashboards, http, shutdown, folder, config }
    }

    /// Ends the service wherever it is, and starts a new one on the same database.
    pub async fn kill(&mut self) {
        self.shutdown.request();
        self.shutdown = Shutdown::new();
        let seed = rand::Rng::next_u64(&mut *self.api.rng.lock());
        let outside = outside(&self.config, &self.bus, &self.clock, &self.users, &self.dashboards, seed);
        (self.addresses, self.api) = start_with_state(self.config.clone(), outside, &self.shutdown).await.unwrap();
    }

    /// As [`World::kill`]; the new one has other settings.
    pub async fn restart_with(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.kill().await;
    }

    /// The folder with certificates, key and database.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A token of this user. `admin` has the administrator's scopes, everybody else those of a normal user; names ending in
    /// `-ro` and `-ga` read everything.
    pub fn token(&self, user: &str) -> String {
        let scopes: &[&str] = match user {
            "admin" => &["cloud_controller.admin", "cloud_controller.read", "cloud_controller.write"],
            _ if user.ends_with("-ro") => &["cloud_controller.admin_read_only"],
            _ if user.ends_with("-ga") => &["cloud_controller.global_auditor"],
            _ => &["cloud_controller.read", "cloud_controller.write"],
        };
        let mut users = self.users.0.lock();
        if !users.iter().any(|known| known.username == user) {
            users.push(Identity { guid: user_guid(user), username: user.to_owned(), origin: "uaa".into() });
        }
        TestIssuer::new().user(&user_guid(user), user, scopes, BEGINNING + 36_000)
    }

    /// Sends a request as this user; with an empty name, without a token.
    pub async fn send(&self, method: Method, user: &str, path: &str, body: Option<Value>) -> Answered {
        let mut request = self.request(method, user, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.finish(request).await
    }
    /// A request to be completed by the test (multipart, YAML, ...).
    pub fn request(&self, method: Method, user: &str, path: &str) -> reqwest::RequestBuilder {
        // Links are absolute; tests may follow them.
        let path = path.strip_prefix("https://api.cf.test").unwrap_or(path);
        let request =
            self.http.request(method, format!("http://{}{path}", self.addresses.public)).timeout(Duration::from_secs(30));
        if user.is_empty() { request } else { request.header("Authorization", format!("bearer {}", self.token(user))) }
    }
    /// Sends what [`World::request`] began.
    pub async fn finish(&self, request: reqwest::RequestBuilder) -> Answered {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) };
        Answered { status, headers, body }
    }
    pub async fn get(&self, user: &str, path: &str) -> Answered {
        self.send(Method::GET, user, path, None).await
    }
    pub async fn post(&self, user: &str, path: &str, body: Value) -> Answered {
        self.send(Method::POST, user, path, Some(body)).await
    }
    pub async fn patch(&self, user: &str, path: &str, body: Value) -> Answered {
        self.send(Method::PATCH, user, path, Some(body)).await
    }
    pub async fn delete(&self, user: &str, path: &str) -> Answered {
        self.send(Method::DELETE, user, path, None).await
    }
    /// Follows a 202 to its job, which must have ended.
    pub async fn job(&self, answered: Answered) -> Value {
        assert_eq!(answered.status, 202, "{}", answered.body);
        let location = answered.headers["Location"].to_str().unwrap().to_owned();
        self.get("admin", &location).await.expect(200)
    }

    /// A client of the internal API that shows the certificate of this component.
    pub fn internal(&self, component: &str) -> cloud_controller_client::Client {
        let section = foundation::config::TlsSection {
            ca: self.folder.path().join("ca.pem"),
            certificate: self.folder.path().join(format!("{component}.pem")),
            key: self.folder.path().join(format!("{component}.key")),
        };
        let tls = foundation::tls::client(&section).unwrap();
        cloud_controller_client::Client::new(&format!("https://localhost:{}", self.addresses.internal.port()), tls).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

/// The id of a test's user: the same for the same name.
pub fn user_guid(user: &str) -> String {
    let mut rng =
        rand::rngs::StdRng::seed_from_u64(user.bytes().fold(17, |sum: u64, b| sum.wrapping_mul(31).wrapping_add(b.into())));
    types::UserId::random(&mut rng).to_string()
}

fn outside(
    config: &Config,
    bus: &Bus,
    clock: &Arc<ManualClock>,
    users: &Arc<FakeUsers>,
    dashboards: &Arc<FakeDashboards>,
    seed: u64,
) -> Outside {
    let issuer = TestIssuer::new();
    let (kid, n, e) = issuer.public_key();
    let expect = Expect { issuer: issuer.issuer().into(), audiences: AUDIENCES.map(str::to_owned).to_vec() };
    Outside {
        bus: bus.clone(),
        clock: clock.clone(),
        rng: rand::rngs::StdRng::seed_from_u64(seed),
        verifier: TokenVerifier::fixed(KeySet::default().with(kid, n, e).unwrap(), &expect, clock.clone()),
        identities: users.clone(),
        brokers: Arc::new(brokers(config, clock.clone())),
        dashboards: dashboards.clone(),
    }
}

/// The client of brokers, with time limits for tests and brokers on loopback.
fn brokers(config: &Config, clock: Arc<ManualClock>) -> osb::client::Clients {
    let policy = osb::client::Policy { allowed_ranges: vec!["127.0.0.0/8".parse().unwrap()], ..osb::client::Policy::default() };
    let of_service = broker_settings(config).unwrap();
    let settings = osb::client::Settings { timeout: Duration::from_secs(4), policy, ..of_service };
    osb::client::Clients::new(settings, clock).unwrap()
}

fn raw(folder: &Path, database: Option<Secret>) -> Raw {
    let mut raw: Raw = toml::from_str(include_str!("../../example.toml")).unwrap();
    raw.state = folder.join("state");
    raw.database = database;
    raw.listen = "127.0.0.1:0".into();
    raw.internal_listen = "127.0.0.1:0".into();
    raw.system_domain = "cf.test".into();
    raw.apps_domain = "app.test".into();
    raw.encryption_key = folder.join("key");
    raw.agent_socket = None;
    // The brokers of tests.
    raw.broker_policy.allowed = vec!["127.0.0.0/8".into()];
    raw.urls.api = "https://api.cf.test".into();
    raw.urls.uaa = "https://uaa.cf.test".into();
    raw.urls.login = "https://login.cf.test".into();
    raw.urls.log_cache = "https://log-cache.cf.test".into();
    raw.tls.ca = folder.join("ca.pem");
    raw.tls.certificate = folder.join("cloud_controller.pem");
    raw.tls.key = folder.join("cloud_controller.key");
    raw
}

fn write_certificates(folder: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    for component in ["cloud_controller", "dea", "health_manager", "log_cache", "gorouter", "postgres_broker", "mysql_broker"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, component);
        std::fs::write(folder.join(format!("{component}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(folder.join(format!("{component}.key")), key.serialize_pem()).unwrap();
    }
}
