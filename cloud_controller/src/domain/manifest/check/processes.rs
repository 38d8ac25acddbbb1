//! What a manifest says of an app's processes.

use super::{Problems, read_text};
use crate::domain::{
    process::{CheckChange, MAX_HEALTH_TIMEOUT_S, ScaleChange, WEB, given_command},
    sizes::{self, SizeError},
};
use serde_json::{Map, Value};

/// One process of a manifest. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessManifest {
    /// `web`, `worker`, ...
    pub kind: String,
    /// Its command; `Some(None)`: the buildpack's.
    pub command: Option<Option<String>>,
    /// The user inside the container; only `vcap`.
    pub user: Option<String>,
    /// Its scale.
    pub scale: ScaleChange,
    /// Its health check.
    pub health: CheckChange,
    /// Its readiness check.
    pub readiness: CheckChange,
}

/// Keys of a process, which an app may have too, for its process `web`.
pub(super) const PROCESS_KEYS: &[&str] = &[
    "command",
    "user",
    "instances",
    "memory",
    "disk_quota",
    "disk-quota",
    "log-rate-limit-per-second",
    "health-check-type",
    "health-check-http-endpoint",
    "health-check-invocation-timeout",
    "health-check-interval",
    "readiness-health-check-type",
    "readiness-health-check-http-endpoint",
    "readiness-health-check-invocation-timeout",
    "readiness-health-check-interval",
    "timeout",
];

/// Reads the processes of an app.
pub(super) fn read(values: &Map<String, Value>, problems: &mut Problems) -> Vec<ProcessManifest> {
    let mut processes: Vec<ProcessManifest> = vec![];
    match values.get("processes") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            for entry in list {
                let Some(entry) = entry.as_object() else {
                    problems.push("Processes must be an array of process objects".into());
                    continue;
                };
                let kind = match entry.get("type") {
                    Some(Value::String(kind)) if !kind.is_empty() => kind.as_str(),
                    _ => {
                        problems.push("All Processes must specify a type".into());
                        continue;
                    }
                };
                if !is_process_type(kind) {
                    problems.push(format!(
                        "Process \"{}\": Type must be 1 to 255 of letters, digits, '-', '_' and '.'",
                        kind.escape_debug()
                    ));
                    continue;
                }
                if processes.iter().any(|process| process.kind == kind) {
                    problems.push(format!("Process \"{kind}\" may only be present once"));
                    continue;
                }
                processes.push(read_process(kind, entry, problems));
            }
        }
        Some(_) => problems.push("Processes must be an array of process objects".into()),
    }
    // Keys at the top of the app speak of the web process, unless `processes` does.
    let has_web = processes.iter().any(|process| process.kind == WEB);
    if !has_web && PROCESS_KEYS.iter().any(|key| values.contains_key(*key)) {
        processes.insert(0, read_process(WEB, values, problems));
    }
    processes
}

/// True for a text that may name a process type: it becomes part of log tags and lookups.
pub fn is_process_type(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with('.')
}

fn read_process(kind: &str, values: &Map<String, Value>, problems: &mut Problems) -> ProcessManifest {
    let mut found = vec![];
    let process = ProcessManifest {
        kind: kind.to_owned(),
        command: read_command(values.get("command"), &mut found),
        user: read_text(values, "user", "User", 255, &mut found),
        scale: ScaleChange {
            instances: read_number(values, "instances", "Instances", &mut found),
            memory_mb: read_megabytes(values, &["memory"], "Memory", &mut found),
            disk_mb: read_megabytes(values, &["disk_quota", "disk-quota"], "Disk quota", &mut found),
            log_rate: read_log_rate(values.get("log-rate-limit-per-second"), &mut found),
        },
        health: CheckChange {
            kind: read_check_kind(values.get("health-check-type"), "Health check type", &mut found),
            timeout_s: read_number(values, "timeout", "Timeout", &mut found).map(Some),
            invocation_timeout_s: read_number(
                values,
                "health-check-invocation-timeout",
                "Health check invocation timeout",
                &mut found,
            )
            .map(Some),
            interval_s: read_number(values, "health-check-interval", "Health check interval", &mut found).map(Some),
            endpoint: read_text(values, "health-check-http-endpoint", "Health check http endpoint", 255, &mut found).map(Some),
        },
        readiness: CheckChange {
            kind: read_check_kind(values.get("readiness-health-check-type"), "Readiness health check type", &mut found),
            timeout_s: None,
            invocation_timeout_s: read_number(
                values,
                "readiness-health-check-invocation-timeout",
                "Readiness health check invocation timeout",
                &mut found,
            )
            .map(Some),
            interval_s: read_number(values, "readiness-health-check-interval", "Readiness health check interval", &mut found)
                .map(Some),
            endpoint: read_text(
                values,
                "readiness-health-check-http-endpoint",
                "Readiness health check http endpoint",
                255,
                &mut found,
            )
            .map(Some),
        },
    };
    if let Some(user) = process.user.as_deref().filter(|user| *user != "vcap") {
        found.push(format!("User invalid (requested user '{user}' not allowed, permitted users are: 'vcap')"));
    }
    found.extend(process.health.problems("Health check", MAX_HEALTH_TIMEOUT_S));
    found.extend(process.readiness.problems("Readiness health check", MAX_HEALTH_TIMEOUT_S));
    problems.extend(found.into_iter().map(|problem| format!("Process \"{kind}\": {problem}")));
    process
}

fn read_command(value: Option<&Value>, problems: &mut Problems) -> Option<Option<String>> {
    match value? {
        Value::Null => Some(None),
        Value::String(text) if text.is_empty() || text.chars().count() > 4096 => {
            problems.push("Command must be between 1 and 4096 characters".into());
            None
        }
        Value::String(text) if text.contains('\0') => {
            problems.push("Command must not contain NUL".into());
            None
        }
        Value::String(text) => Some(given_command(Some(text))),
        _ => {
            problems.push("Command must be a string".into());
            None
        }
    }
}

fn read_number(values: &Map<String, Value>, key: &str, label: &str, problems: &mut Problems) -> Option<u32> {
    let value = values.get(key).filter(|value| !value.is_null())?;
    let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
    match number {
        Some(number) if number < 0 => problems.push(format!("{label} must be greater than or equal to 0")),
        Some(number) if number > i64::from(i32::MAX) => {
            problems.push(format!("{label} must be less than or equal to {}", i32::MAX))
        }
        Some(number) => return u32::try_from(number).ok(),
        None => problems.push(format!("{label} is not a number")),
    }
    None
}

fn size_text(value: &Value) -> Result<String, SizeError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(SizeError::Number),
    }
}

fn read_megabytes(values: &Map<String, Value>, keys: &[&str], label: &str, problems: &mut Problems) -> Option<u32> {
    let value = keys.iter().find_map(|key| values.get(*key)).filter(|value| !value.is_null())?;
    match size_text(value).and_then(|text| sizes::parse_megabytes(&text)) {
        Ok(0) => problems.push(format!("{label} must be greater than 0MB")),
        Ok(mb) => return Some(mb),
        Err(problem) => problems.push(format!("{label} {}", problem.text())),
    }
    None
}

fn read_log_rate(value: Option<&Value>, problems: &mut Problems) -> Option<i64> {
    let value = value.filter(|value| !value.is_null())?;
    let read = size_text(value).and_then(|text| match text.trim() {
        "-1" => Ok(-1),
        "0" => Ok(0),
        text => sizes::parse_bytes(text).and_then(|bytes| i64::try_from(bytes).map_err(|_| SizeError::Number)),
    });
    match read {
        Ok(rate) => Some(rate),
        Err(problem) => {
            problems.push(format!("Log rate limit per second {}", problem.text()));
            None
        }
    }
}

fn read_check_kind(value: Option<&Value>, label: &str, problems: &mut Problems) -> Option<String> {
    match value.filter(|value| !value.is_null())? {
        Value::String(kind) if kind == "none" => Some("process".into()),
        Value::String(kind) => Some(kind.clone()),
        _ => {
            problems.push(format!("{label} must be a string"));
            None
        }
    }
}
