//! Settings of agent and log cache: raw form (the files) and checked form.

use bus::Settings as BusSettings;
use foundation::config::{BusSection, ConfigError, Problem, TlsSection};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use url::Url;

/// The agent's file, as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRaw {
    /// Where producers send their datagrams. Whoever may enter its folder may send.
    pub socket: PathBuf,
    /// How long envelopes wait for company before they go out.
    #[serde(default = "default_flush_ms")]
    pub flush_ms: u64,
    /// How many envelopes wait while the bus is away; then the oldest are dropped and counted.
    #[serde(default = "default_queue_envelopes")]
    pub queue_envelopes: usize,
    /// How many bytes wait; likewise.
    #[serde(default = "default_queue_bytes")]
    pub queue_bytes: usize,
    /// Added to each envelope that does not have a tag of that name.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The bus.
    pub bus: BusSection,
}

fn default_flush_ms() -> u64 {
    20
}
fn default_queue_envelopes() -> usize {
    20_000
}
fn default_queue_bytes() -> usize {
    16 << 20
}

/// Agent settings that work.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where producers send their datagrams.
    pub socket: PathBuf,
    /// How long envelopes wait for company.
    pub flush: Duration,
    /// How many envelopes wait.
    pub queue_envelopes: usize,
    /// How many bytes wait.
    pub queue_bytes: usize,
    /// Tags of the host.
    pub tags: BTreeMap<String, String>,
    /// The bus.
    pub bus: BusSettings,
}

impl AgentConfig {
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
    pub fn check(raw: AgentRaw) -> Result<Self, ConfigError> {
        let mut problems = vec![];
        let mut wrong = |key, why: String| problems.push(Problem { key, why });
        // The kernel's `sun_path`.
        if raw.socket.as_os_str().len() > 107 || !raw.socket.is_absolute() {
            wrong("socket", format!("{} is not an absolute path of at most 107 bytes", raw.socket.display()));
        }
        if raw.flush_ms > 1_000 {
            wrong("flush_ms", format!("{} is over a second", raw.flush_ms));
        }
        if raw.queue_envelopes < 100 {
            wrong("queue_envelopes", format!("{} is under 100", raw.queue_envelopes));
        }
        if raw.queue_bytes < 1 << 20 {
            wrong("queue_bytes", format!("{} is under 1 MiB", raw.queue_bytes));
        }
        if !problems.is_empty() {
            return Err(ConfigError::Invalid(problems));
        }
        Ok(Self {
            socket: raw.socket,
            flush: Duration::from_millis(raw.flush_ms),
            queue_envelopes: raw.queue_envelopes,
            queue_bytes: raw.queue_bytes,
            tags: raw.tags,
            bus: bus_settings(raw.bus),
        })
    }
}

/// The log cache's file, as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogCacheRaw {
    /// Its HTTP listener; loopback, behind the router.
    pub listen: SocketAddr,
    /// Where routers find it, if not at `listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// `log-cache.` and `log-stream.` live under it.
    pub system_domain: String,
    /// `http://127.0.0.1:9001`: for the keys of tokens.
    pub uaa: String,
    /// The issuer of tokens; absent: `https://uaa.<system domain>/oauth/token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `https://127.0.0.1:9003`: the internal API, which knows who may read what.
    pub cloud_controller: String,
    /// How much is kept.
    #[serde(default)]
    pub keep: KeepSection,
    /// The bus.
    pub bus: BusSection,
    /// What it shows to the cloud controller.
    pub tls: TlsSection,
}

/// The part `[keep]`: how much is kept; the oldest of the fullest source goes first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepSection {
    /// Envelopes of one source.
    pub envelopes_per_source: usize,
    /// Bytes of one source.
    pub bytes_per_source: usize,
    /// Bytes of all.
    pub bytes: usize,
    /// Sources; beyond, the one that was silent for longest goes.
    pub sources: usize,
}

impl Default for KeepSection {
    fn default() -> Self {
        Self { envelopes_per_source: 100_000, bytes_per_source: 32 << 20, bytes: 128 << 20, sources: 50_000 }
    }
}

/// Log cache settings that work.
#[derive(Clone, Debug)]
pub struct LogCacheConfig {
    /// Its HTTP listener.
    pub listen: SocketAddr,
    /// Where routers find it, if not at `listen`.
    pub advertise: Option<String>,
    /// The system domain.
    pub system_domain: String,
    /// UAA.
    pub uaa: Url,
    /// The issuer of tokens.
    pub issuer: String,
    /// The internal API of the cloud controller.
    pub cloud_controller: Url,
    /// How much is kept.
    pub keep: KeepSection,
    /// The bus.
    pub bus: BusSettings,
    /// What it shows to the cloud controller.
    pub tls: TlsSection,
}

impl LogCacheConfig {
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
    pub fn check(raw: LogCacheRaw) -> Result<Self, ConfigError> {
        let mut problems = vec![];
        let mut wrong = |key, why: String| problems.push(Problem { key, why });
        if raw.system_domain.is_empty() || raw.system_domain.starts_with('.') {
            wrong("system_domain", format!("`{}` is not a domain", raw.system_domain));
        }
        let keep = raw.keep;
        if keep.envelopes_per_source < 1_000 {
            wrong("keep.envelopes_per_source", format!("{} is under 1000, one page", keep.envelopes_per_source));
        }
        if keep.bytes_per_source < 1 << 20 || keep.bytes < keep.bytes_per_source {
            wrong("keep.bytes", "one source must have 1 MiB or more, and all must have at least what one has".into());
        }
        if keep.sources == 0 {
            wrong("keep.sources", "must not be 0".into());
        }
        let mut url = |key, text: &str| match Url::parse(text) {
            Ok(url) if url.has_host() => Some(url),
            _ => {
                wrong(key, format!("`{text}` is not a URL with a host"));
                None
            }
        };
        let (uaa, cloud_controller) = (url("uaa", &raw.uaa), url("cloud_controller", &raw.cloud_controller));
        let (true, Some(uaa), Some(cloud_controller)) = (problems.is_empty(), uaa, cloud_controller) else {
            return Err(ConfigError::Invalid(problems));
        };
        let issuer = raw.issuer.unwrap_or_else(|| format!("https://uaa.{}/oauth/token", raw.system_domain));
        Ok(Self {
            listen: raw.listen,
            advertise: raw.advertise,
            system_domain: raw.system_domain,
            uaa,
            issuer,
            cloud_controller,
            keep,
            bus: bus_settings(raw.bus),
            tls: raw.tls,
        })
    }
}

fn bus_settings(section: BusSection) -> BusSettings {
    let BusSection { url, user, password, ca } = section;
    BusSettings { url, user, password: password.expose().to_owned(), ca }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    #[test]
    fn the_examples_work() {
        assert_eq!(AgentConfig::load(&example("agent.example.toml")).unwrap().flush, Duration::from_millis(20));
        assert_eq!(LogCacheConfig::load(&example("log_cache.example.toml")).unwrap().keep, KeepSection::default());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = std::fs::read_to_string(example("log_cache.example.toml")).unwrap();
        let mut raw: LogCacheRaw = foundation::config::load(&example("log_cache.example.toml")).unwrap();
        assert!(text.contains(&raw.system_domain));
        raw.system_domain.clear();
        raw.uaa = "nowhere".into();
        raw.keep.sources = 0;
        let told = LogCacheConfig::check(raw).unwrap_err().to_string();
        assert!(["system_domain", "uaa", "keep.sources"].iter().all(|key| told.contains(key)), "{told}");
    }
}
