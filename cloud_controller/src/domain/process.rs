//! Rules of processes: scale, start command, health checks.

use std::collections::BTreeMap;

/// The longest time that a start may take, in seconds.
pub const MAX_HEALTH_TIMEOUT_S: u32 = 180;
/// Time for a start unless the user says otherwise, in seconds.
pub const DEFAULT_HEALTH_TIMEOUT_S: u32 = 60;
/// Time for one probe unless the user says otherwise, in seconds.
pub const DEFAULT_INVOCATION_TIMEOUT_S: u32 = 1;
/// Time between probes of a running instance unless the user says otherwise, in seconds.
pub const DEFAULT_INTERVAL_S: u32 = 30;
/// The type that gets an instance and a port by itself.
pub const WEB: &str = "web";
/// The port of a process that says none.
pub const DEFAULT_PORT: u16 = 8080;

/// How a process shows that it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `port`, `http` or `process`.
    pub kind: String,
    /// Time for the start.
    pub timeout_s: Option<u32>,
    /// Time for one probe.
    pub invocation_timeout_s: Option<u32>,
    /// Time between probes.
    pub interval_s: Option<u32>,
    /// Path of the `http` check.
    pub endpoint: Option<String>,
}

impl Check {
    /// What a new process of this type has.
    pub fn default_for(process_type: &str) -> Self {
        let kind = if process_type == WEB { "port" } else { "process" };
        Self { kind: kind.into(), timeout_s: None, invocation_timeout_s: None, interval_s: None, endpoint: None }
    }
}

/// A change of a [`Check`]: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckChange {
    /// `port`, `http` or `process`.
    pub kind: Option<String>,
    /// Time for the start; `Some(None)` resets it.
    pub timeout_s: Option<Option<u32>>,
    /// Time for one probe.
    pub invocation_timeout_s: Option<Option<u32>>,
    /// Time between probes.
    pub interval_s: Option<Option<u32>>,
    /// Path of the `http` check.
    pub endpoint: Option<Option<String>>,
}

impl CheckChange {
    /// Rules that hold whatever the process has now; `lead` is `Health check` or `Readiness health check`.
    pub fn problems(&self, lead: &str, max_timeout_s: u32) -> Vec<String> {
        let mut problems = vec![];
        if let Some(kind) = &self.kind
            && !matches!(kind.as_str(), "port" | "http" | "process")
        {
            problems.push(format!(r#"{lead} type must be "port", "process", or "http""#));
        }
        match self.timeout_s {
            Some(Some(0)) => problems.push(format!("{lead} timeout must be greater than or equal to 1")),
            Some(Some(timeout)) if timeout > max_timeout_s => {
                problems.push(format!("{lead} timeout Maximum exceeded: max {max_timeout_s}s"));
            }
            _ => {}
        }
        if self.invocation_timeout_s == Some(Some(0)) {
            problems.push(format!("{lead} invocation timeout must be greater than or equal to 1"));
        }
        if self.interval_s == Some(Some(0)) {
            problems.push(format!("{lead} interval must be greater than or equal to 1"));
        }
        if let Some(Some(endpoint)) = &self.endpoint {
            if !endpoint.starts_with('/') || endpoint.chars().any(|c| c.is_whitespace() || c.is_control()) {
                problems.push(format!("{lead} endpoint must be a valid URI path"));
            } else if endpoint.chars().count() > 255 {
                problems.push(format!("{lead} endpoint is too long (maximum is 255 characters)"));
            }
        }
        problems
    }

    /// Applies the change. Another kind than `http` clears the endpoint.
    ///
    /// # Errors
    /// When an endpoint is set and the outcome is not an `http` check.
    pub fn apply(&self, check: &mut Check, lead: &str) -> Result<(), String> {
        if let Some(kind) = &self.kind {
            check.kind.clone_from(kind);
        }
        check.timeout_s = self.timeout_s.unwrap_or(check.timeout_s);
        check.invocation_timeout_s = self.invocation_timeout_s.unwrap_or(check.invocation_timeout_s);
        check.interval_s = self.interval_s.unwrap_or(check.interval_s);
        if check.kind != "http" {
            check.endpoint = None;
            if let Some(Some(_)) = &self.endpoint {
                return Err(format!(r#"{lead} type must be "http" to set a health check HTTP endpoint"#));
            }
        } else if let Some(endpoint) = &self.endpoint {
            check.endpoint.clone_from(endpoint);
        }
        Ok(())
    }
}

/// A change of scale: what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScaleChange {
    /// How many.
    pub instances: Option<u32>,
    /// Memory of each.
    pub memory_mb: Option<u32>,
    /// Disk of each.
    pub disk_mb: Option<u32>,
    /// Log bytes a second of each; -1: no limit.
    pub log_rate: Option<i64>,
}

/// The command that starts a process: the user's own, else the droplet's of the same type.
///
/// # Errors
/// When there is none, in words for the user.
pub fn start_command(process_type: &str, own: Option<&str>, droplet: &BTreeMap<String, String>) -> Result<String, String> {
    own.filter(|command| !command.trim().is_empty())
        .or_else(|| droplet.get(process_type).map(String::as_str).filter(|command| !command.trim().is_empty()))
        .map(str::to_owned)
        .ok_or_else(|| format!("Start command not specified for process `{process_type}`"))
}

/// The command as users may give it: `default`, `null` and nothing mean the buildpack's.
pub fn given_command(text: Option<&str>) -> Option<String> {
    text.filter(|text| !matches!(*text, "default" | "null")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: Option<&str>, endpoint: Option<&str>) -> CheckChange {
        CheckChange { kind: kind.map(Into::into), endpoint: endpoint.map(|e| Some(e.to_owned())), ..CheckChange::default() }
    }

    #[test]
    fn an_endpoint_needs_an_http_check_and_goes_with_it() {
        let mut check = Check::default_for(WEB);
        assert!(change(None, Some("/health")).apply(&mut check, "Health check").unwrap_err().contains("must be \"http\""));
        change(Some("http"), Some("/health")).apply(&mut check, "Health check").unwrap();
        assert_eq!((check.kind.as_str(), check.endpoint.as_deref()), ("http", Some("/health")));
        change(Some("port"), None).apply(&mut check, "Health check").unwrap();
        assert_eq!(check.endpoint, None);
    }

    #[test]
    fn limits_of_checks_are_said_together() {
        let change = CheckChange {
            kind: Some("tcp".into()),
            timeout_s: Some(Some(181)),
            invocation_timeout_s: Some(Some(0)),
            interval_s: Some(Some(0)),
            endpoint: Some(Some("no path".into())),
        };
        let problems = change.problems("Health check", MAX_HEALTH_TIMEOUT_S);
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(
            problems[0].contains(r#"must be "port", "process", or "http""#) && problems[1].contains("Maximum exceeded: max 180s")
        );
    }

    #[test]
    fn a_user_s_command_wins_over_the_droplet_s() {
        let droplet = BTreeMap::from([("web".to_owned(), "npm start".to_owned()), ("empty".to_owned(), String::new())]);
        assert_eq!(start_command("web", Some("./run"), &droplet).unwrap(), "./run");
        assert_eq!(start_command("web", None, &droplet).unwrap(), "npm start");
        assert!(start_command("worker", None, &droplet).unwrap_err().contains("`worker`"));
        assert!(start_command("empty", None, &droplet).is_err());
        assert_eq!(given_command(Some("default")), None);
        assert_eq!(given_command(Some("ls")), Some("ls".into()));
    }
}
