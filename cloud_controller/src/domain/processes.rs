//! Processes: settings and scale.

use crate::{
    domain::{
        Error, Result, Scope, Tx, app_usage,
        apps::{self as app_domain, event, hide},
        metadata::MetadataChange,
        policy::Policy,
        process::{CheckChange, ScaleChange},
        quota, running,
    },
    store::{
        apps::App,
        processes::{self, Process},
    },
};
use serde_json::{Value, json};

/// A change of a process; what is `None` stays. Everything but the scale waits for the next start.
#[derive(Clone, Debug, Default)]
pub struct ProcessChange {
    /// `Some(None)`: the droplet's.
    pub command: Option<Option<String>>,
    /// The user inside the container.
    pub user: Option<Option<String>>,
    /// Its health check.
    pub health: CheckChange,
    /// Its readiness check.
    pub readiness: CheckChange,
    /// Labels and annotations.
    pub metadata: MetadataChange,
}

/// Which process is meant.
#[derive(Clone, Debug)]
pub enum Which {
    /// By its guid.
    Guid(String),
    /// By its app and type.
    OfApp(String, String),
}

/// A process with its app and where that lies.
#[derive(Clone, Debug)]
pub struct Found {
    pub process: Process,
    pub app: App,
    pub scope: Scope,
}

/// Finds a process that the caller reads.
///
/// # Errors
/// [`Error::NotFound`] about the app or the process.
pub fn readable(tx: &mut Tx<'_>, which: &Which) -> Result<Found> {
    let not_found = || Error::NotFound("Process");
    let (app, process) = match which {
        Which::Guid(guid) => {
            let process = processes::find(tx.conn, guid)?.ok_or_else(not_found)?;
            (process.app_guid.clone(), Some(process))
        }
        Which::OfApp(app, _) => (app.clone(), None),
    };
    let (app, scope) = match app_domain::readable(tx, &app) {
        Err(Error::NotFound(_)) if process.is_some() => return Err(not_found()),
        other => other?,
    };
    let process = match (process, which) {
        (Some(process), _) => process,
        (None, Which::OfApp(_, kind)) => processes::find_of_app(tx.conn, &app.guid, kind)?.ok_or_else(not_found)?,
        (None, Which::Guid(_)) => return Err(not_found()),
    };
    Ok(Found { process, app, scope })
}

/// Finds a process that the caller may run (M).
pub fn manageable(tx: &mut Tx<'_>, which: &Which) -> Result<Found> {
    let found = readable(tx, which)?;
    found.scope.check(tx, found.scope.manages(tx))?;
    Ok(found)
}

/// Changes settings of a process.
pub fn update(tx: &mut Tx<'_>, policy: &Policy, which: &Which, change: &ProcessChange, request: Value) -> Result<Found> {
    let mut found = manageable(tx, which)?;
    update_in(tx, policy, &mut found, change, request)?;
    Ok(found)
}

/// As [`update`], of a process that was checked.
pub fn update_in(tx: &mut Tx<'_>, policy: &Policy, found: &mut Found, change: &ProcessChange, request: Value) -> Result<()> {
    let mut problems = change.health.problems("Health check", policy.limits.max_health_timeout_s);
    problems.extend(change.readiness.problems("Readiness health check", policy.limits.max_health_timeout_s));
    let process = &mut found.process;
    if let Some(command) = &change.command {
        process.command.clone_from(command);
    }
    if let Some(user) = &change.user {
        if let Some(user) = user.as_deref().filter(|user| *user != "vcap") {
            problems.push(format!("User invalid (requested user '{user}' not allowed, permitted users are: 'vcap')"));
        }
        process.process_user.clone_from(user);
    }
    let (mut health, mut readiness) = (process.health(), process.readiness());
    problems.extend(change.health.apply(&mut health, "Health check").err());
    problems.extend(change.readiness.apply(&mut readiness, "Readiness health check").err());
    if !problems.is_empty() {
        return Err(Error::Invalid(problems.join(", ")));
    }
    process.set_health(health);
    process.set_readiness(readiness);
    process.updated_at = tx.micros();
    processes::update(tx.conn, process)?;
    change.metadata.apply(tx, processes::KIND, &process.guid)?;
    let data = json!({ "process_guid": process.guid, "process_type": process.kind, "request": hide(request) });
    event(tx, "audit.app.process.update", &found.app, &found.scope, data)
}

/// Changes how many instances there are, and how large. The number acts at once, the rest at the next start.
pub fn scale(tx: &mut Tx<'_>, policy: &Policy, which: &Which, change: ScaleChange, request: Value) -> Result<Found> {
    let mut found = manageable(tx, which)?;
    scale_in(tx, policy, &mut found, change, request)?;
    Ok(found)
}

/// As [`scale`], of a process that was checked.
pub fn scale_in(tx: &mut Tx<'_>, policy: &Policy, found: &mut Found, change: ScaleChange, request: Value) -> Result<()> {
    let before = found.process.clone();
    let process = &mut found.process;
    let column = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    process.instances = change.instances.map_or(process.instances, column);
    process.memory_mb = change.memory_mb.map_or(process.memory_mb, column);
    process.disk_mb = change.disk_mb.map_or(process.disk_mb, column);
    process.log_rate_limit = change.log_rate.unwrap_or(process.log_rate_limit);
    check_disk(policy, process)?;
    if found.app.started() {
        quota::check_running(tx, policy, &found.scope, std::slice::from_ref(process), std::slice::from_ref(&before))?;
    }
    process.updated_at = tx.micros();
    processes::update(tx.conn, process)?;
    app_usage::scaled(tx, &found.app, &found.scope, process, &before)?;
    if process.instances != before.instances {
        running::rescale(tx, policy, &found.scope, &found.app, process)?;
    }
    let data = json!({ "process_guid": process.guid, "process_type": process.kind, "request": request });
    event(tx, "audit.app.process.scale", &found.app, &found.scope, data)
}

fn check_disk(policy: &Policy, process: &Process) -> Result<()> {
    let (asked, most) = (process.disk(), policy.limits.max_disk_mb);
    if asked <= most {
        return Ok(());
    }
    Err(Error::invalid(format!("disk_quota too much disk requested (requested {asked} MB - must be less than {most} MB)")))
}

/// Notes that an instance is to be replaced.
///
/// # Errors
/// [`Error::NotFound`] for an index beyond the number of instances.
pub fn terminate(tx: &mut Tx<'_>, which: &Which, index: u32) -> Result<Found> {
    let found = manageable(tx, which)?;
    if index >= found.process.count() || !found.app.started() {
        return Err(Error::NotFound("Instance"));
    }
    let data = json!({ "process_guid": found.process.guid, "process_type": found.process.kind, "process_index": index });
    event(tx, "audit.app.process.terminate_instance", &found.app, &found.scope, data)?;
    Ok(found)
}
