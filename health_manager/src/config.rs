//! Settings: raw form (the file) and checked form.

use bus::Settings as BusSettings;
use foundation::config::{BusSection, ConfigError, Problem, TlsSection};
use serde::{Deserialize, Serialize};
use std::{path::Path, time::Duration};
use url::Url;

/// The file, as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The stable name under which this process leads; two processes must not share one.
    #[serde(default = "default_name")]
    pub name: String,
    /// `https://127.0.0.1:9003`: the internal API of the cloud controller.
    pub cloud_controller: String,
    /// When a DEA that says nothing is suspect; it says something every 5 s.
    #[serde(default = "default_silent_after_s")]
    pub dea_silent_after_s: u64,
    /// How long a staging may wait for room.
    #[serde(default = "default_build_patience_s")]
    pub build_patience_s: u64,
    /// How long a lease lasts unless renewed: the time without repairs after the leader's host is lost.
    #[serde(default = "default_lease_s")]
    pub lease_s: u64,
    /// The bus.
    pub bus: BusSection,
    /// What it shows to the cloud controller.
    pub tls: TlsSection,
}

fn default_name() -> String {
    "health_manager".into()
}
fn default_silent_after_s() -> u64 {
    30
}
fn default_build_patience_s() -> u64 {
    30
}
fn default_lease_s() -> u64 {
    10
}

/// Settings that work.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the rules depend on.
    pub rules: crate::domain::Settings,
    /// The internal API of the cloud controller.
    pub cloud_controller: Url,
    /// The bus.
    pub bus: BusSettings,
    /// What it shows.
    pub tls: TlsSection,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::check(foundation::config::load(path)?)
    }

    /// Checks.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all problems.
    pub fn check(raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = vec![];
        let mut wrong = |key, why: String| problems.push(Problem { key, why });
        if raw.name.is_empty() || raw.name.len() > 100 {
            wrong("name", "must have 1 to 100 characters".into());
        }
        if raw.dea_silent_after_s < 15 {
            wrong("dea_silent_after_s", format!("{} is under three advertisements (15)", raw.dea_silent_after_s));
        }
        if raw.lease_s < 3 {
            wrong("lease_s", format!("{} is under 3", raw.lease_s));
        }
        let url = match Url::parse(&raw.cloud_controller) {
            Ok(url) if url.scheme() == "https" && url.has_host() => Some(url),
            Ok(_) => {
                wrong("cloud_controller", format!("{} is not an https URL", raw.cloud_controller));
                None
            }
            Err(e) => {
                wrong("cloud_controller", e.to_string());
                None
            }
        };
        let (true, Some(cloud_controller)) = (problems.is_empty(), url) else { return Err(ConfigError::Invalid(problems)) };
        let mut rules = crate::domain::Settings::named(&raw.name);
        rules.silent_after = Duration::from_secs(raw.dea_silent_after_s);
        rules.build_patience = Duration::from_secs(raw.build_patience_s);
        rules.lease = Duration::from_secs(raw.lease_s);
        let BusSection { url, user, password, ca } = raw.bus;
        let bus = BusSettings { url, user, password: password.expose().to_owned(), ca };
        Ok(Self { rules, cloud_controller, bus, tls: raw.tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_works() {
        let config = Config::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/example.toml"))).unwrap();
        assert_eq!(config.rules.silent_after, Duration::from_secs(30));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/example.toml")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.toml");
        let broken = text.replace("dea_silent_after_s = 30", "dea_silent_after_s = 3").replace("https:", "http:");
        std::fs::write(&path, broken).unwrap();
        let told = Config::load(&path).unwrap_err().to_string();
        assert!(told.contains("dea_silent_after_s") && told.contains("cloud_controller"), "{told}");
    }
}
