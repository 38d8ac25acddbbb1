//! Settings: TOML file, raw form (`deny_unknown_fields`), checked form.

use serde::{Deserialize, de::DeserializeOwned};
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// One thing that is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its key.
    pub key: &'static str,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// The file is not TOML of the right shape.
    #[error("{0} is not valid")]
    Parse(PathBuf, #[source] Box<toml::de::Error>),
    /// Some values cannot work: all of them at once.
    #[error("settings that cannot work: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Problem>),
}

/// Reads the raw form of a service's settings.
///
/// # Errors
/// [`ConfigError::Read`] and [`ConfigError::Parse`], with the path.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))?;
    toml::from_str(&text).map_err(|e| ConfigError::Parse(path.to_owned(), Box::new(e)))
}

/// The part `[bus]` of every service that uses the bus.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct BusSection {
    /// `nats://127.0.0.1:4222`
    pub url: String,
    /// The component's user.
    pub user: String,
    /// Its password.
    pub password: crate::Secret,
    /// The authority that signed the servers' certificates; TLS is required when it is set.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// The part `[tls]`: what this component shows, and whom it trusts.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// The platform's authority, PEM.
    pub ca: PathBuf,
    /// This component's certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Raw {
        port: u16,
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.toml");
        std::fs::write(&path, "port = 1\nprot = 2\n").unwrap();
        let error = load::<Raw>(&path).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("prot"), "{cause}");
    }
}
