//! What should run: starts, stops, scale; versions and the feed.
//!
//! A version is new at every start. What it fixes (droplet, command, environment, memory, disk, checks, ports) stays for all
//! its instances however often they crash; only the number of instances and the routes follow the settings at once.

use crate::{
    domain::{
        Error, Result, Scope, Tx,
        environment::{self, About, AboutProcess, Vars},
        policy::Policy,
        process::{self as rules, DEFAULT_HEALTH_TIMEOUT_S, DEFAULT_INTERVAL_S, DEFAULT_INVOCATION_TIMEOUT_S, DEFAULT_PORT, WEB},
        services::{egress, files::Delivery, vcap},
    },
    store::{
        apps::App,
        droplets::{self, Droplet},
        env_group, feed, mapped,
        processes::{self, Process},
        versions::{self, Version},
        workloads,
    },
};
use cloud_controller_client::{
    Desired, DesiredProcess, Egress, HealthCheck, LaunchSpec, Route, ServicePort, Volume, WorkloadSpec,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, str::FromStr};
use types::VersionId;

/// What versions of workloads have in the place of a droplet's guid.
const WITHOUT_DROPLET: &str = "";

/// What a start fixed, apart from the columns of its row.
#[derive(Serialize, Deserialize)]
struct Fixed {
    app_name: String,
    space: (String, String),
    organization: (String, String),
    command: String,
    env: Vars,
    fds: u32,
    log_rate: i64,
    health_check: HealthCheck,
    droplet_sha256: String,
    ports: Vec<u16>,
    #[serde(default)]
    binding_files: BTreeMap<String, String>,
    #[serde(default)]
    volume: Option<Volume>,
    #[serde(default)]
    service_port: Option<ServicePort>,
}

/// What an app is told of the services that are bound to it.
pub struct Services {
    /// `VCAP_SERVICES` and others.
    pub variables: Vars,
    /// As [`LaunchSpec::binding_files`].
    pub files: BTreeMap<String, String>,
}

/// What an app is told of the services that are bound to it now.
///
/// # Errors
/// [`Error::Invalid`] when it wants files, and there can be none of that name or size.
pub fn services_of(tx: &mut Tx<'_>, app: &App) -> Result<Services> {
    let bound = vcap::of_app(tx, &app.guid)?;
    let delivery = Delivery::of(app);
    let mut variables = delivery.variables(&bound);
    variables.extend(vcap::database_url(&bound).map(|url| ("DATABASE_URL".to_owned(), url)));
    Ok(Services { variables, files: delivery.files(&bound)? })
}

/// Gives every process of an app a new version and tells the feed: the start of a stopped app, the restart of a running one.
///
/// # Errors
/// [`Error::Invalid`] without a droplet, or for a process with instances and no command.
pub fn launch(tx: &mut Tx<'_>, policy: &Policy, scope: &Scope, app: &App) -> Result<()> {
    let droplet = current_droplet(tx, app)?;
    for mut process in processes::of_app(tx.conn, &app.guid)? {
        launch_process(tx, policy, scope, app, &droplet, &mut process)?;
    }
    Ok(())
}

/// The droplet that the app would start with.
///
/// # Errors
/// [`Error::Invalid`] when there is none.
pub fn current_droplet(tx: &mut Tx<'_>, app: &App) -> Result<Droplet> {
    let found = match &app.droplet_guid {
        Some(guid) => droplets::find(tx.conn, guid)?,
        None => None,
    };
    found.filter(|droplet| droplet.state == "STAGED").ok_or_else(|| Error::invalid("Assign a droplet before starting this app."))
}

fn launch_process(
    tx: &mut Tx<'_>,
    policy: &Policy,
    scope: &Scope,
    app: &App,
    droplet: &Droplet,
    process: &mut Process,
) -> Result<()> {
    let command = match rules::start_command(&process.kind, process.command.as_deref(), &droplet.commands()) {
        Ok(command) => command,
        Err(why) if process.instances > 0 => return Err(Error::Invalid(why)),
        Err(_) => String::new(),
    };
    let version = VersionId::random(&mut tx.rng).to_string();
    let health = process.health();
    let about = about(tx, policy, scope, app)?;
    let about_process = AboutProcess {
        guid: process.guid.clone(),
        kind: process.kind.clone(),
        version: version.clone(),
        memory_mb: process.memory(),
        disk_mb: process.disk(),
    };
    let group = env_group::vars(tx, "running")?;
    let own = app_env(tx, app)?;
    let services = services_of(tx, app)?;
    let fixed = Fixed {
        app_name: app.name.clone(),
        space: (scope.space.guid.clone(), scope.space.name.clone()),
        organization: (scope.org.guid.clone(), scope.org.name.clone()),
        command,
        env: environment::running(&group, &own, &about, &about_process, &services.variables),
        binding_files: services.files,
        fds: policy.limits.fds,
        log_rate: process.log_rate_limit,
        health_check: HealthCheck {
            kind: health.kind,
            timeout_s: health.timeout_s.unwrap_or(DEFAULT_HEALTH_TIMEOUT_S).min(policy.limits.max_health_timeout_s),
            invocation_timeout_s: health.invocation_timeout_s.unwrap_or(DEFAULT_INVOCATION_TIMEOUT_S),
            interval_s: health.interval_s.unwrap_or(DEFAULT_INTERVAL_S),
            http_endpoint: health.endpoint.unwrap_or_else(|| "/".into()),
        },
        droplet_sha256: droplet.sha256.clone().unwrap_or_default(),
        ports: ports(tx, process)?,
        volume: None,
        service_port: None,
    };
    let stack = droplet.stack.clone().or_else(|| app.stack.clone()).unwrap_or_else(|| policy.default_stack.clone());
    put_version(tx, process, version, &droplet.guid, stack, &fixed)
}

/// Gives the process of a workload a new version and tells the feed.
pub fn launch_workload(
    tx: &mut Tx<'_>,
    policy: &Policy,
    scope: &Scope,
    app: &App,
    process: &mut Process,
    spec: &WorkloadSpec,
) -> Result<()> {
    let version = VersionId::random(&mut tx.rng).to_string();
    let fixed = Fixed {
        app_name: app.name.clone(),
        space: (scope.space.guid.clone(), scope.space.name.clone()),
        organization: (scope.org.guid.clone(), scope.org.name.clone()),
        command: spec.command.clone(),
        env: spec.env.clone(),
        binding_files: BTreeMap::new(),
        fds: policy.limits.fds,
        log_rate: process.log_rate_limit,
        health_check: HealthCheck {
            kind: "port".into(),
            // A server that was killed reads all of its log first.
            timeout_s: policy.limits.max_health_timeout_s,
            invocation_timeout_s: DEFAULT_INVOCATION_TIMEOUT_S,
            interval_s: DEFAULT_INTERVAL_S,
            http_endpoint: "/".into(),
        },
        droplet_sha256: String::new(),
        ports: vec![spec.service_port.container_port],
        volume: Some(spec.volume.clone()),
        service_port: Some(spec.service_port),
    };
    put_version(tx, process, version, WITHOUT_DROPLET, spec.stack.clone(), &fixed)
}

/// Writes a new version, and tells the feed.
fn put_version(
    tx: &mut Tx<'_>,
    process: &mut Process,
    version: String,
    droplet: &str,
    stack: String,
    fixed: &Fixed,
) -> Result<()> {
    let plain = serde_json::to_vec(fixed).map_err(|e| Error::internal("writing a version", e))?;
    let spec = tx.seal(&place(&version), &plain)?;
    let row = Version {
        process_guid: process.guid.clone(),
        version: version.clone(),
        created_at: tx.micros(),
        droplet_guid: droplet.to_owned(),
        memory_mb: process.memory_mb,
        disk_mb: process.disk_mb,
        stack,
        spec,
    };
    versions::put(tx.conn, &row)?;
    process.version = version;
    processes::update(tx.conn, process)?;
    tell(tx, process, &row)
}

/// Tells the feed of the version that a process has, if it has one, as it should run now.
pub fn tell_again(tx: &mut Tx<'_>, process: &Process) -> Result<()> {
    match versions::of_process(tx.conn, &process.guid)? {
        Some(version) => tell(tx, process, &version),
        None => Ok(()),
    }
}

fn tell(tx: &mut Tx<'_>, process: &Process, version: &Version) -> Result<()> {
    let workload = match version.droplet_guid.as_str() {
        WITHOUT_DROPLET => workloads::find(tx.conn, &process.app_guid)?,
        _ => None,
    };
    let cell = workload.as_ref().and_then(|workload| workload.cell.as_deref());
    let what = Desired::Process(DesiredProcess {
        app: id(&process.app_guid)?,
        process: id(&process.guid)?,
        process_type: process.kind.clone(),
        version: id(&version.version)?,
        instances: process.count(),
        memory_mb: version.memory_mb.unsigned_abs(),
        disk_mb: version.disk_mb.unsigned_abs(),
        stack: version.stack.clone(),
        only_on: cell.map(id).transpose()?,
        new_volume_mb: workload.as_ref().filter(|_| cell.is_none()).map_or(0, |workload| workload.volume_mb.unsigned_abs()),
    });
    feed::put(tx, &what).map(drop)
}

/// Tells the feed how many instances are wanted now; a process of a started app that never had a version gets its first.
///
/// # Errors
/// As [`launch`].
pub fn rescale(tx: &mut Tx<'_>, policy: &Policy, scope: &Scope, app: &App, process: &mut Process) -> Result<()> {
    if !app.started() {
        return Ok(());
    }
    match versions::of_process(tx.conn, &process.guid)? {
        // Nothing could have run without a command: the settings may have one now.
        Some(version) if process.instances == 0 || has_command(tx, &version)? => tell(tx, process, &version),
        _ if process.instances == 0 => Ok(()),
        _ => {
            let droplet = current_droplet(tx, app)?;
            launch_process(tx, policy, scope, app, &droplet, process)
        }
    }
}

fn has_command(tx: &mut Tx<'_>, version: &Version) -> Result<bool> {
    Ok(!fixed(tx, version)?.command.is_empty())
}

/// Tells the feed that nothing of an app should run.
pub fn halt(tx: &mut Tx<'_>, app: &App) -> Result<()> {
    for process in processes::of_app(tx.conn, &app.guid)? {
        if versions::remove(tx.conn, &process.guid)? {
            feed::put(tx, &Desired::NoProcess { process: id(&process.guid)? })?;
        }
    }
    Ok(())
}

/// All that a DEA needs to start instances of a version.
///
/// # Errors
/// [`Error::NotFound`] when the version is no longer wanted.
pub fn launch_spec(tx: &mut Tx<'_>, version: &str) -> Result<LaunchSpec> {
    let row = versions::find(tx.conn, version)?.ok_or(Error::NotFound("Version"))?;
    let process = processes::find(tx.conn, &row.process_guid)?.ok_or(Error::NotFound("Version"))?;
    let fixed = fixed(tx, &row)?;
    let routes = routes_of(tx, &[version.to_owned()])?.remove(version).unwrap_or_default();
    let egress = egress::of_app(tx, &process.app_guid)?;
    Ok(LaunchSpec {
        app: id(&process.app_guid)?,
        app_name: fixed.app_name,
        space: fixed.space,
        organization: fixed.organization,
        process: id(&process.guid)?,
        process_type: process.kind,
        version: id(&row.version)?,
        droplet: if row.droplet_guid == WITHOUT_DROPLET { None } else { Some(id(&row.droplet_guid)?) },
        droplet_sha256: fixed.droplet_sha256,
        stack: row.stack,
        command: fixed.command,
        env: fixed.env,
        memory_mb: row.memory_mb.unsigned_abs(),
        disk_mb: row.disk_mb.unsigned_abs(),
        fds: fixed.fds,
        log_rate_limit_bytes_per_second: fixed.log_rate,
        health_check: fixed.health_check,
        ports: fixed.ports,
        routes,
        binding_files: fixed.binding_files,
        egress,
        volume: fixed.volume,
        service_port: fixed.service_port,
    })
}

fn fixed(tx: &mut Tx<'_>, version: &Version) -> Result<Fixed> {
    let plain = tx.open(&place(&version.version), &version.spec)?;
    serde_json::from_slice(&plain).map_err(|e| Error::internal("reading a version", e))
}

fn place(version: &str) -> String {
    format!("versions.spec:{version}")
}

/// Routes of these versions, of those that are wanted.
pub fn routes_of(tx: &mut Tx<'_>, wanted: &[String]) -> Result<BTreeMap<String, Vec<Route>>> {
    let places = versions::places(tx.conn, wanted)?;
    let apps: Vec<String> = places.iter().map(|(_, app, ..)| app.clone()).collect();
    let mapped = mapped::of_apps(tx.conn, &apps)?;
    let each = places.into_iter().map(|(version, app, kind, _)| {
        let mut routes: Vec<Route> =
            mapped.iter().filter(|m| m.app_guid == app && m.process_type == kind).map(|m| m.route.clone()).collect();
        routes.sort();
        (version, routes)
    });
    Ok(each.collect())
}

/// Where the containers of these versions may connect to now, of those that are wanted.
pub fn egress_of(tx: &mut Tx<'_>, wanted: &[String]) -> Result<BTreeMap<String, Vec<Egress>>> {
    let places = versions::places(tx.conn, wanted)?;
    let apps: Vec<String> = places.iter().map(|(_, app, ..)| app.clone()).collect();
    let open = egress::of_apps(tx, &apps)?;
    let each = places.into_iter().map(|(version, app, ..)| (version, open.get(&app).cloned().unwrap_or_default()));
    Ok(each.collect())
}

fn ports(tx: &mut Tx<'_>, process: &Process) -> Result<Vec<u16>> {
    let mapped = mapped::of_apps(tx.conn, std::slice::from_ref(&process.app_guid))?;
    let mut ports: Vec<u16> = mapped.iter().filter(|m| m.process_type == process.kind).map(|m| m.route.port).collect();
    ports.sort_unstable_by_key(|port| (*port != DEFAULT_PORT, *port));
    ports.dedup();
    if ports.is_empty() && process.kind == WEB {
        ports.push(DEFAULT_PORT);
    }
    Ok(ports)
}

/// What the environment of an app says about it.
pub fn about(tx: &mut Tx<'_>, policy: &Policy, scope: &Scope, app: &App) -> Result<About> {
    let mut uris: Vec<String> =
        mapped::of_apps(tx.conn, std::slice::from_ref(&app.guid))?.into_iter().map(|mapped| mapped.route.uri).collect();
    uris.sort();
    uris.dedup();
    Ok(About {
        cf_api: policy.api_url.clone(),
        app: (app.guid.clone(), app.name.clone()),
        space: (scope.space.guid.clone(), scope.space.name.clone()),
        organization: (scope.org.guid.clone(), scope.org.name.clone()),
        uris,
    })
}

/// The app's own variables.
pub fn app_env(tx: &mut Tx<'_>, app: &App) -> Result<Vars> {
    open_vars(tx, &env_place(&app.guid), app.env.as_deref())
}

/// Where an app's variables belong.
pub fn env_place(app: &str) -> String {
    format!("apps.env:{app}")
}

/// Opens sealed variables.
pub fn open_vars(tx: &mut Tx<'_>, place: &str, sealed: Option<&[u8]>) -> Result<Vars> {
    let Some(sealed) = sealed else { return Ok(Vars::new()) };
    let plain = tx.open(place, sealed)?;
    serde_json::from_slice(&plain).map_err(|e| Error::internal("reading variables", e))
}

/// Seals variables; nothing for none.
pub fn seal_vars(tx: &mut Tx<'_>, place: &str, vars: &Vars) -> Result<Option<Vec<u8>>> {
    if vars.is_empty() {
        return Ok(None);
    }
    let plain = serde_json::to_vec(vars).map_err(|e| Error::internal("writing variables", e))?;
    tx.seal(place, &plain).map(Some)
}

/// Reads an id of ours.
pub fn id<T: FromStr>(text: &str) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|e| Error::internal("reading an id", e))
}
