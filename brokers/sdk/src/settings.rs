//! What a server needs to know.

use foundation::{
    Secret,
    config::{ConfigError, Problem},
};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Settings of a broker's server; part of a broker's own settings, or its whole file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawSettings {
    /// Where to listen: `127.0.0.1:8080`.
    pub listen: String,
    /// Who may call: several while a password is being changed.
    pub credentials: Vec<RawCredential>,
    /// A folder of the broker's own: the database and the key that seals credentials.
    pub state: PathBuf,
    /// Seconds that a request may take before its work goes on in the background.
    #[serde(default = "default_request_timeout_s")]
    pub request_timeout_s: u64,
    /// Seconds after which an operation in the background has failed.
    #[serde(default = "default_operation_timeout_s")]
    pub operation_timeout_s: u64,
    /// Seconds that a platform is asked to wait between polls.
    #[serde(default = "default_poll_interval_s")]
    pub poll_interval_s: u64,
}

/// A user name and a password.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawCredential {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

fn default_request_timeout_s() -> u64 {
    50
}
fn default_operation_timeout_s() -> u64 {
    3600
}
fn default_poll_interval_s() -> u64 {
    2
}

/// Settings of which every value works.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) credentials: Vec<RawCredential>,
    pub(crate) state: PathBuf,
    pub(crate) request_timeout: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) poll_interval: Duration,
}

impl Settings {
    /// Checks them.
    ///
    /// # Errors
    /// Everything that cannot work, at once.
    pub fn check(raw: RawSettings) -> Result<Self, ConfigError> {
        let mut problems = vec![];
        let mut wrong = |key, why: String| problems.push(Problem { key, why });
        let listen = raw.listen.parse();
        if let Err(e) = &listen {
            wrong("listen", format!("`{}`: {e}", raw.listen));
        }
        if raw.credentials.is_empty() {
            wrong("credentials", "nobody could call".into());
        }
        for RawCredential { user, password } in &raw.credentials {
            if user.is_empty() || user.contains(':') {
                wrong("credentials.user", format!("`{user}` is empty or has a colon"));
            }
            if password.expose().is_empty() {
                wrong("credentials.password", format!("that of `{user}` is empty"));
            }
        }
        if raw.state.as_os_str().is_empty() {
            wrong("state", "is empty".into());
        }
        for (key, value, most) in [
            ("request_timeout_s", raw.request_timeout_s, 3600),
            ("operation_timeout_s", raw.operation_timeout_s, 7 * 86_400),
            ("poll_interval_s", raw.poll_interval_s, 86_400),
        ] {
            if value == 0 || value > most {
                wrong(key, format!("{value} is not between 1 and {most}"));
            }
        }
        match listen {
            Ok(listen) if problems.is_empty() => Ok(Self {
                listen,
                credentials: raw.credentials,
                state: raw.state,
                request_timeout: Duration::from_secs(raw.request_timeout_s),
                operation_timeout: Duration::from_secs(raw.operation_timeout_s),
                poll_interval: Duration::from_secs(raw.poll_interval_s),
            }),
            _ => Err(ConfigError::Invalid(problems)),
        }
    }

    /// From the environment, as a pushed app has it: `PORT` (on all addresses; 8080 on loopback without it), `BROKER_USERNAME`,
    /// `BROKER_PASSWORD`, `BROKER_STATE` (a folder; `state` without it).
    ///
    /// # Errors
    /// When they are missing or cannot work.
    pub fn from_env() -> Result<Self, ConfigError> {
        let get = |key| std::env::var(key).ok().filter(|value| !value.is_empty());
        Self::check(RawSettings {
            listen: get("PORT").map_or("127.0.0.1:8080".into(), |port| format!("0.0.0.0:{port}")),
            credentials: vec![RawCredential {
                user: get("BROKER_USERNAME").unwrap_or_default(),
                password: Secret::new(get("BROKER_PASSWORD").unwrap_or_default()),
            }],
            state: get("BROKER_STATE").unwrap_or_else(|| "state".into()).into(),
            request_timeout_s: default_request_timeout_s(),
            operation_timeout_s: default_operation_timeout_s(),
            poll_interval_s: default_poll_interval_s(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_cannot_work_is_said_at_once() {
        let raw = RawSettings {
            listen: "here".into(),
            credentials: vec![RawCredential { user: "a:b".into(), password: Secret::new("") }],
            state: PathBuf::new(),
            request_timeout_s: 0,
            operation_timeout_s: 1,
            poll_interval_s: 1,
        };
        let said = Settings::check(raw).unwrap_err().to_string();
        for key in ["listen", "credentials.user", "credentials.password", "state", "request_timeout_s"] {
            assert!(said.contains(key), "{key} in {said}");
        }
        assert!(!said.contains("poll_interval_s"), "{said}");
    }
}
