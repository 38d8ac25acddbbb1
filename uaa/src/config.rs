//! Settings: the raw form of the file, and the checked form.

use foundation::{
    Secret,
    config::{BusSection, ConfigError, Problem},
};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use url::Url;

/// The settings file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Folder of this service: the SQLite file, and the signing keys unless `keys_dir` says otherwise.
    pub state_dir: PathBuf,
    /// `postgres://...`; absent: SQLite in `state_dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_url: Option<Secret>,
    /// Where to listen, plain HTTP behind the router: `127.0.0.1:9001`.
    pub listen: SocketAddr,
    /// Address under which the router reaches `listen`, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Public address, `https://uaa.<system domain>`, no slash at the end; tokens name `<issuer>/oauth/token`.
    pub issuer: String,
    /// Public address of the login pages; absent: `issuer` with `login.` instead of `uaa.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_url: Option<String>,
    /// `uaa.` and `login.` of it are registered with the router.
    pub system_domain: String,
    /// Folder of signing keys: each `<key id>.pem` is one RSA key; absent: `<state_dir>/keys`. A first key is made there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_dir: Option<PathBuf>,
    /// Key id of the key that signs; absent: the last one by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_key: Option<String>,
    /// Shortest password of a user.
    #[serde(default = "password_min_length")]
    pub password_min_length: usize,
    /// Lifetime of access tokens where the client has none of its own.
    #[serde(default = "access_validity_s")]
    pub access_validity_s: u32,
    /// Lifetime of refresh tokens where the client has none of its own.
    #[serde(default = "refresh_validity_s")]
    pub refresh_validity_s: u32,
    /// The bus; absent: no routes are registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<BusSection>,
    /// The first user, made at first boot only.
    pub admin: AdminSection,
    /// What locks a user out.
    #[serde(default)]
    pub lockout: LockoutSection,
    /// Clients of the platform: made or changed at every boot to be as written here. `cf` exists without being named.
    #[serde(default)]
    pub clients: Vec<ClientSection>,
}

/// The part `[admin]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSection {
    /// User name.
    pub name: String,
    /// Password, until the user changes it.
    pub password: Secret,
}

/// The part `[lockout]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LockoutSection {
    /// Failed logins in a row that lock a user out.
    pub failures: u32,
    /// A failure older than this does not count any more.
    pub window_s: u32,
    /// How long a user stays locked out.
    pub locked_s: u32,
}

impl Default for LockoutSection {
    fn default() -> Self {
        Self { failures: 5, window_s: 1_200, locked_s: 300 }
    }
}

/// One of `[[clients]]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSection {
    /// Its id.
    pub id: String,
    /// Its secret; may be empty.
    pub secret: Secret,
    /// `client_credentials`, `password`, `refresh_token`, ...
    pub grants: Vec<String>,
    /// What tokens of users may carry through this client.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// What tokens of the client itself carry.
    #[serde(default)]
    pub authorities: Vec<String>,
    /// Where a browser may be sent back to.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// Lifetime of its access tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_validity_s: Option<u32>,
    /// Lifetime of its refresh tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_validity_s: Option<u32>,
}

fn password_min_length() -> usize {
    8
}
fn access_validity_s() -> u32 {
    43_200
}
fn refresh_validity_s() -> u32 {
    2_592_000
}

/// Grants that a client may be given.
pub(crate) const GRANTS: &[&str] = &["password", "refresh_token", "client_credentials", "authorization_code"];

/// Where identities are kept.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file of this service alone.
    Sqlite(PathBuf),
    /// A server, by URL.
    Postgres(Secret),
}

/// Settings that work.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) database: Database,
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: Option<String>,
    pub(crate) issuer: String,
    pub(crate) login_url: String,
    pub(crate) system_domain: String,
    pub(crate) keys_dir: PathBuf,
    pub(crate) active_key: Option<String>,
    pub(crate) password_min_length: usize,
    pub(crate) access_validity: Duration,
    pub(crate) refresh_validity: Duration,
    pub(crate) bus: Option<BusSection>,
    pub(crate) admin: AdminSection,
    pub(crate) lockout: LockoutSection,
    pub(crate) clients: Vec<ClientSection>,
}

impl Config {
    /// Checks the raw form.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that cannot work.
    pub fn check(raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = vec![];
        let mut problem = |key, why: String| problems.push(Problem { key, why });
        for (key, text) in [("issuer", Some(&raw.issuer)), ("login_url", raw.login_url.as_ref())] {
            let Some(text) = text else { continue };
            let good = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if !good || text.ends_with('/') {
                problem(key, format!("`{text}` is not a web address without a slash at its end"));
            }
        }
        if raw.system_domain.is_empty() || raw.system_domain.contains([' ', '/', ':']) {
            problem("system_domain", format!("`{}` is not a domain", raw.system_domain));
        }
        if raw.database_url.as_ref().is_some_and(|url| !url.expose().starts_with("postgres")) {
            problem("database_url", "does not begin with `postgres://`".into());
        }
        if !(1..=128).contains(&raw.password_min_length) {
            problem("password_min_length", format!("{} is not between 1 and 128", raw.password_min_length));
        }
        if raw.admin.name.is_empty() {
            problem("admin.name", "is empty".into());
        }
        if raw.admin.password.expose().len() < raw.password_min_length {
            problem("admin.password", format!("is shorter than {} characters", raw.password_min_length));
        }
        if raw.lockout.failures == 0 || raw.lockout.locked_s == 0 {
            problem("lockout", "`failures` and `locked_s` must be at least 1".into());
        }
        for (key, seconds) in [("access_validity_s", raw.access_validity_s), ("refresh_validity_s", raw.refresh_validity_s)] {
            if seconds < 60 {
                problem(key, format!("{seconds} is under a minute: clients would renew at every request"));
            }
        }
        for (at, client) in raw.clients.iter().enumerate() {
            client.check(&mut problem);
            if raw.clients[..at].iter().any(|earlier| earlier.id == client.id) {
                problem("clients", format!("`{}` is there twice", client.id));
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError::Invalid(problems));
        }
        let database = match raw.database_url {
            Some(url) => Database::Postgres(url),
            None => Database::Sqlite(raw.state_dir.join("uaa.sqlite")),
        };
        Ok(Self {
            database,
            listen: raw.listen,
            advertise: raw.advertise,
            login_url: raw.login_url.unwrap_or_else(|| raw.issuer.replacen("://uaa.", "://login.", 1)),
            issuer: raw.issuer,
            system_domain: raw.system_domain,
            keys_dir: raw.keys_dir.unwrap_or_else(|| raw.state_dir.join("keys")),
            active_key: raw.active_key,
            password_min_length: raw.password_min_length,
            access_validity: Duration::from_secs(raw.access_validity_s.into()),
            refresh_validity: Duration::from_secs(raw.refresh_validity_s.into()),
            bus: raw.bus,
            admin: raw.admin,
            lockout: raw.lockout,
            clients: raw.clients,
        })
    }
}

impl ClientSection {
    fn check(&self, problem: &mut impl FnMut(&'static str, String)) {
        if let Err(why) = crate::domain::clients::check_id(&self.id) {
            problem("clients", why);
        }
        if self.grants.is_empty() {
            problem("clients", format!("`{}` has no grant", self.id));
        }
        for grant in self.grants.iter().filter(|grant| !GRANTS.contains(&grant.as_str())) {
            problem("clients", format!("`{}` has the unknown grant `{grant}`", self.id));
        }
        if self.grants.iter().any(|grant| grant == "client_credentials") && self.secret.expose().is_empty() {
            problem("clients", format!("`{}` has client_credentials but no secret", self.id));
        }
        let names = self.scopes.iter().chain(&self.authorities).chain(&self.redirect_uris);
        for name in names.filter(|name| name.is_empty() || name.contains(char::is_whitespace)) {
            problem("clients", format!("`{}` has the scope, authority or address `{name}` with a space in it", self.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Raw {
        toml_of(include_str!("../example.toml"))
    }
    fn toml_of(text: &str) -> Raw {
        let folder = std::env::temp_dir().join(format!("uaa-config-{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("uaa.toml");
        std::fs::write(&path, text).unwrap();
        let raw = foundation::config::load(&path);
        std::fs::remove_dir_all(&folder).unwrap();
        raw.unwrap()
    }

    #[test]
    fn the_example_works_and_hides_its_secrets() {
        let raw = example();
        assert!(!format!("{raw:?}").contains("change-me"));
        let config = Config::check(raw).unwrap();
        assert_eq!(config.login_url, "https://login.cf.localhost");
        assert!(matches!(config.database, Database::Sqlite(_)));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut raw = example();
        raw.issuer = "uaa.cf.localhost/".into();
        raw.admin.password = Secret::new("short");
        raw.clients[0].grants = vec!["implicit".into()];
        raw.clients.push(raw.clients[0].clone());
        let text = Config::check(raw).unwrap_err().to_string();
        for word in ["issuer", "admin.password", "implicit", "twice"] {
            assert!(text.contains(word), "{word} in {text}");
        }
        assert!(!text.contains("short,"), "the password is not told");
    }
}
