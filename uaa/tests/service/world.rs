//! One UAA of its own for each test.

use bus::Bus;
use foundation::{Secret, Shutdown};
use rand::{SeedableRng, rngs::StdRng};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tempfile::TempDir;
use testkit::postgres::Postgres;
use types::{ManualClock, Timestamp};
use uaa::config::{AdminSection, ClientSection, Config, Raw};

pub(crate) const ADMIN_PASSWORD: &str = "admin-password-1";
pub(crate) const SECRET: &str = "a-secret-made-by-a-machine-0123456789";

pub(crate) struct World {
    pub(crate) base: String,
    pub(crate) clock: Arc<ManualClock>,
    http: reqwest::Client,
    shutdown: Shutdown,
    _folder: TempDir,
    _postgres: Option<Postgres>,
}

static PORTS: AtomicU32 = AtomicU32::new(1);

fn client(id: &str, grants: &[&str], scopes: &[&str], authorities: &[&str]) -> ClientSection {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    ClientSection {
        id: id.into(),
        secret: Secret::new(SECRET),
        grants: owned(grants),
        scopes: owned(scopes),
        authorities: owned(authorities),
        redirect_uris: vec![],
        access_validity_s: None,
        refresh_validity_s: None,
    }
}

pub(crate) fn raw(folder: &TempDir) -> Raw {
    Raw {
        state_dir: folder.path().join("uaa"),
        database_url: None,
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        issuer: "https://uaa.cf.test".into(),
        login_url: None,
        system_domain: "cf.test".into(),
        keys_dir: None,
        active_key: None,
        password_min_length: 8,
        access_validity_s: 3_600,
        refresh_validity_s: 86_400,
        bus: None,
        admin: AdminSection { name: "admin".into(), password: Secret::new(ADMIN_PASSWORD) },
        lockout: Default::default(),
        clients: vec![
            client("scim", &["client_credentials"], &[], &["scim.read", "scim.write", "password.write"]),
            client("lookup", &["client_credentials"], &[], &["scim.read", "scim.userids"]),
            client("resource", &["client_credentials"], &[], &["uaa.resource"]),
            client("revoker", &["client_credentials"], &[], &["tokens.revoke", "clients.read"]),
            client("clients", &["client_credentials"], &[], &["clients.admin"]),
            client("writer", &["client_credentials"], &[], &["clients.read", "clients.write"]),
            client("other", &["password", "refresh_token"], &["openid", "cloud_controller.read"], &[]),
        ],
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let raw = raw(&folder);
        Self::with(raw, folder, None).await
    }

    /// `None` where there is no PostgreSQL.
    pub(crate) async fn on_postgres() -> Option<Self> {
        let server = tokio::task::spawn_blocking(Postgres::start).await.unwrap()?;
        let folder = tempfile::tempdir().unwrap();
        let mut raw = raw(&folder);
        raw.database_url = Some(Secret::new(server.database("uaa")));
        Some(Self::with(raw, folder, Some(server)).await)
    }

    pub(crate) async fn with(raw: Raw, folder: TempDir, postgres: Option<Postgres>) -> Self {
        foundation::tls::install_crypto();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let (bus, shutdown) = (Bus::in_memory(), Shutdown::new());
        let seed = u64::from(PORTS.fetch_add(1, Ordering::SeqCst));
        let outside = uaa::Outside { bus: Some(bus), clock: clock.clone(), rng: StdRng::seed_from_u64(seed) };
        let address = uaa::start(Config::check(raw).unwrap(), outside, &shutdown).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base: format!("http://{address}"), clock, http, shutdown, _folder: folder, _postgres: postgres }
    }

    /// Ends it and starts another one on the same state.
    pub(crate) async fn restarted(mut self, change: impl FnOnce(&mut Raw)) -> Self {
        assert_eq!(self.shutdown.finish(Duration::from_secs(10)).await, 0);
        let folder = std::mem::replace(&mut self._folder, tempfile::tempdir().unwrap());
        let mut raw = raw(&folder);
        change(&mut raw);
        Self::with(raw, folder, None).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }
    pub(crate) fn get(&self, path: &str, token: &str) -> RequestBuilder {
        self.request(Method::GET, path).header("Authorization", format!("bearer {token}"))
    }
    pub(crate) fn post(&self, path: &str, token: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).bearer_auth(token).json(body)
    }

    /// A token request of the command line client.
    pub(crate) async fn cf(&self, form: &[(&str, &str)]) -> Response {
        self.request(Method::POST, "/oauth/token").header("Authorization", "Basic Y2Y6").form(form).send().await.unwrap()
    }
    pub(crate) async fn login(&self, name: &str, password: &str) -> Response {
        self.cf(&[("grant_type", "password"), ("username", name), ("password", password)]).await
    }
    /// Logs in as the first user.
    pub(crate) async fn admin(&self) -> Value {
        body(self.login("admin", ADMIN_PASSWORD).await, 200).await
    }
    pub(crate) async fn refresh(&self, token: &str) -> Response {
        self.cf(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }
    /// A client's own token.
    pub(crate) async fn client(&self, id: &str) -> String {
        let form = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", SECRET)];
        let answer = self.request(Method::POST, "/oauth/token").form(&form).send().await.unwrap();
        text(&body(answer, 200).await["access_token"])
    }
    /// Makes a user; returns its id.
    pub(crate) async fn user(&self, name: &str, password: &str) -> String {
        let token = self.client("scim").await;
        text(&body(self.post("/Users", &token, &new_user(name, password)).send().await.unwrap(), 201).await["id"])
    }
    /// What `/userinfo` says of a token.
    pub(crate) async fn works(&self, token: &str) -> bool {
        self.get("/userinfo", token).send().await.unwrap().status() == StatusCode::OK
    }
    /// Moves the clock on.
    pub(crate) fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// As the command line client sends it.
pub(crate) fn new_user(name: &str, password: &str) -> Value {
    json!({
        "userName": name, "password": password, "origin": "", "name": { "familyName": name, "givenName": name },
        "emails": [{ "value": name, "primary": true }],
    })
}

/// The answer's body, after a look at its status.
pub(crate) async fn body(answer: Response, status: u16) -> Value {
    let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(found, status, "{text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}

/// The claims of a token, unchecked.
pub(crate) fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap()
}
