//! Servers that the platform's own brokers have it run: databases of one instance each, with a disk that stays.
//!
//! Each is an app with one process of one instance in the organization `system`, in a space named after its broker; the row
//! beside it says whose it is, what disk and port it has, and where that disk is. Nobody changes such an app by the public API:
//! [`check_foreign`] stands before everything that writes there.
//!
//! Nothing here waits. What claims and DEAs tell is taken in by [`settle`] and [`reported`], as often as somebody looks.

use crate::{
    domain::{
        Error, Result, Rule, Scope, Tx, app_usage, apps as app_domain, orgs::DEFAULT_QUOTA, policy::Policy, process::WEB,
        running, taken,
    },
    store::{
        apps::{self, App},
        orgs::{self, Org},
        processes::{self, Process},
        query::key,
        quotas,
        spaces::{self, Space},
        stack_state,
        workloads::{self as store, VolumePlace, Workload},
    },
};
use cloud_controller_client::{LaunchSpec, VolumesReport, WorkloadSpec, WorkloadState, WorkloadStatus};
use messages::claims::{Holder, InstanceRecord, InstanceState};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use types::{AppId, DeaId};

/// The organization of all workloads. Its guid makes it what it is; its name may be `system-2` where users had the other one.
const SYSTEM_ORG: &str = "5379c0de-0000-4000-8000-6375706f6c61";
const SYSTEM_ORG_NAME: &str = "system";
/// The longest command and the largest environment: well within what a new process may be given.
const MOST_COMMAND: usize = 32 << 10;
const MOST_ENV: usize = 64 << 10;
/// The smallest file system that Warden makes.
const LEAST_VOLUME_MB: u32 = 16;

/// Keeps everybody but the platform itself away from workloads and what they are in.
///
/// # Errors
/// [`Error::Invalid`] saying who looks after them.
pub fn check_foreign(tx: &Tx<'_>, scope: &Scope) -> Result<()> {
    if scope.org.guid != SYSTEM_ORG || tx.who.caller.is_system() {
        return Ok(());
    }
    let broker = scope.space.name.strip_suffix("_broker").unwrap_or(&scope.space.name);
    Err(Error::invalid(format!("This is managed by the broker {broker}; use its service instance.")))
}

/// As [`check_foreign`], for the organization as a whole.
///
/// # Errors
/// As [`check_foreign`].
pub fn check_foreign_org(tx: &Tx<'_>, org: &Org) -> Result<()> {
    if org.guid != SYSTEM_ORG || tx.who.caller.is_system() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "The organization '{}' is managed by the platform: its brokers keep their servers there.",
        org.name
    )))
}

/// Has a workload run, or stopped, as `spec` says.
///
/// # Errors
/// [`Error::Invalid`] with all that is wrong with `spec`; [`Error::NotFound`] for somebody else's;
/// [`Rule::WorkloadConflict`] when its volume would change, and while it is being deleted.
pub fn put(tx: &mut Tx<'_>, policy: &Policy, owner: &str, guid: AppId, spec: &WorkloadSpec) -> Result<()> {
    let guid = guid.to_string();
    let before = match store::find(tx.conn, &guid)? {
        Some(row) if row.owner != owner => return Err(Error::NotFound("Workload")),
        Some(row) if row.deleting => return Err(conflict("the workload is being deleted")),
        before => before,
    };
    let row = row(tx, owner, &guid, spec, before.as_ref())?;
    let mut problems = problems(spec);
    problems.extend(problems_with_others(tx, &row, spec)?);
    if !problems.is_empty() {
        return Err(Error::Invalid(problems.join("; ")));
    }
    match before {
        Some(before) => change(tx, policy, &before, row, spec),
        None => create(tx, policy, row, spec),
    }
}

fn conflict(text: &str) -> Error {
    Error::rule(Rule::WorkloadConflict, text)
}

fn row(tx: &mut Tx<'_>, owner: &str, guid: &str, spec: &WorkloadSpec, before: Option<&Workload>) -> Result<Workload> {
    let plain = serde_json::to_vec(spec).map_err(|e| Error::internal("writing a workload", e))?;
    Ok(Workload {
        guid: guid.to_owned(),
        created_at: before.map_or(tx.micros(), |before| before.created_at),
        updated_at: tx.micros(),
        owner: owner.to_owned(),
        name: spec.name.clone(),
        volume_id: spec.volume.id.clone(),
        volume_mb: column(spec.volume.size_mb),
        volume_path: spec.volume.path.clone(),
        service_port: spec.service_port.port.into(),
        container_port: spec.service_port.container_port.into(),
        cell: before.and_then(|before| before.cell.clone()),
        deleting: false,
        spec: tx.seal(&place(guid), &plain)?,
    })
}

fn column(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn place(guid: &str) -> String {
    format!("workloads.spec:{guid}")
}

fn spec_of(tx: &Tx<'_>, row: &Workload) -> Result<WorkloadSpec> {
    let plain = tx.open(&place(&row.guid), &row.spec)?;
    serde_json::from_slice(&plain).map_err(|e| Error::internal("reading a workload", e))
}

/// What is wrong with a specification in itself.
fn problems(spec: &WorkloadSpec) -> Vec<String> {
    let mut problems = vec![];
    let mut rule = |holds: bool, text: String| {
        if !holds {
            problems.push(text);
        }
    };
    let WorkloadSpec { name, command, env, volume, service_port, .. } = spec;
    let good_name = (1..=63).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    rule(good_name, format!("name `{name}` must be 1 to 63 of a-z, 0-9 and -"));
    rule(!command.trim().is_empty(), "command must not be empty".into());
    rule(command.len() <= MOST_COMMAND, format!("command has {} bytes, at most {MOST_COMMAND} are possible", command.len()));
    rule(!command.contains('\0'), "command must not contain NUL".into());
    for (key, value) in env {
        rule(is_variable(key), format!("env: `{}` is not a name of a variable that may be set", key.escape_debug()));
        rule(!value.contains('\0'), format!("env: the value of `{}` must not contain NUL", key.escape_debug()));
    }
    let size: usize = env.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    rule(size <= MOST_ENV, format!("env has {size} bytes, at most {MOST_ENV} are possible"));
    let megabytes = |mb: u32, least: u32| (least..=i32::MAX.unsigned_abs()).contains(&mb);
    rule(megabytes(spec.memory_mb, 1), format!("memory_mb: {} is not possible", spec.memory_mb));
    rule(megabytes(spec.disk_mb, 1), format!("disk_mb: {} is not possible", spec.disk_mb));
    rule(megabytes(volume.size_mb, LEAST_VOLUME_MB), format!("volume.size_mb: {} is not possible", volume.size_mb));
    let good_id =
        (1..=64).contains(&volume.id.len()) && volume.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    rule(good_id, format!("volume.id `{}` must be 1 to 64 letters, digits, - and _", volume.id.escape_debug()));
    let path = volume.path.escape_debug();
    rule(is_normal(&volume.path), format!("volume.path `{path}` must be an absolute path without `.`, `..` and `//`"));
    let taken = ["proc", "sys", "dev"].iter().any(|root| volume.path.split('/').nth(1) == Some(root));
    rule(!taken, format!("volume.path `{path}` is the system's own"));
    rule(service_port.port > 0, "service_port.port must not be 0".into());
    rule(service_port.container_port > 0, "service_port.container_port must not be 0".into());
    problems
}

fn is_variable(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let own = name == "PORT" || ["VCAP_", "CF_INSTANCE_", "INSTANCE_"].iter().any(|own| name.starts_with(own));
    !own && name.bytes().next().is_some_and(|b| !b.is_ascii_digit()) && name.bytes().all(good)
}

fn is_normal(path: &str) -> bool {
    let parts = path.strip_prefix('/').map(|rest| rest.split('/'));
    path.len() <= 255
        && !path.chars().any(char::is_control)
        && parts.is_some_and(|mut parts| parts.all(|part| !matches!(part, "" | "." | "..")))
}

/// What of a specification does not fit what there is.
fn problems_with_others(tx: &mut Tx<'_>, row: &Workload, spec: &WorkloadSpec) -> Result<Vec<String>> {
    let mut problems = vec![];
    if stack_state::of(tx.conn, &spec.stack)?.is_none() {
        problems.push(format!("there is no stack `{}`", spec.stack.escape_debug()));
    }
    for other in store::in_the_way(tx.conn, row)? {
        if other.service_port == row.service_port {
            problems.push(format!("service_port.port {} belongs to another workload", row.service_port));
        }
        if other.volume_id == row.volume_id {
            problems.push(format!("volume.id `{}` belongs to another workload", row.volume_id));
        }
        if (&other.owner, &other.name) == (&row.owner, &row.name) {
            problems.push(format!("name `{}` belongs to another workload", row.name));
        }
    }
    Ok(problems)
}

fn create(tx: &mut Tx<'_>, policy: &Policy, row: Workload, spec: &WorkloadSpec) -> Result<()> {
    if apps::find_with_scope(tx.conn, &row.guid)?.is_some() {
        return Err(Error::invalid("the guid belongs to an app"));
    }
    let scope = home(tx, &row.owner)?;
    let mut app = App {
        guid: row.guid.clone(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        name_key: key(&row.name),
        name: row.name.clone(),
        space_guid: scope.space.guid.clone(),
        state: "STOPPED".into(),
        lifecycle: "buildpack".into(),
        buildpacks: "[]".into(),
        stack: Some(spec.stack.clone()),
        // The API shows an app's variables; those of a workload are in its own row.
        env: None,
        droplet_guid: None,
        ssh_enabled: false,
        revisions_enabled: false,
        binding_k8s_enabled: false,
        file_based_services_enabled: false,
    };
    taken(apps::insert(tx.conn, &app), || Error::invalid(format!("name `{}` belongs to another workload", row.name)))?;
    app_domain::event(tx, "audit.app.create", &app, &scope, json!({}))?;
    let mut process = app_domain::add_process(tx, policy, &app, &scope, WEB)?;
    set(&mut process, spec);
    processes::update(tx.conn, &process)?;
    taken(store::insert(tx.conn, &row), || Error::invalid("port, volume or name belong to another workload"))?;
    if spec.running { start(tx, policy, &mut app, &scope, &mut process, spec) } else { Ok(()) }
}

fn set(process: &mut Process, spec: &WorkloadSpec) {
    process.command = Some(spec.command.clone());
    process.memory_mb = column(spec.memory_mb);
    process.disk_mb = column(spec.disk_mb);
}

fn change(tx: &mut Tx<'_>, policy: &Policy, before: &Workload, row: Workload, spec: &WorkloadSpec) -> Result<()> {
    let was = spec_of(tx, before)?;
    if was == *spec {
        return Ok(());
    }
    if was.volume != spec.volume {
        return Err(conflict("the volume of a workload never changes"));
    }
    let (mut app, scope, mut process) = parts(tx, &row.guid)?;
    let old = process.clone();
    set(&mut process, spec);
    process.updated_at = tx.micros();
    processes::update(tx.conn, &process)?;
    app.name_key = key(&row.name);
    app.name.clone_from(&row.name);
    app.stack = Some(spec.stack.clone());
    app_domain::save(tx, &mut app)?;
    taken(store::save(tx.conn, &row), || Error::invalid("port or name belong to another workload"))?;
    app_domain::event(tx, "audit.app.update", &app, &scope, json!({}))?;
    match (app.started(), spec.running) {
        (true, true) => {
            app_usage::scaled(tx, &app, &scope, &process, &old)?;
            running::launch_workload(tx, policy, &scope, &app, &mut process, spec)
        }
        (false, true) => start(tx, policy, &mut app, &scope, &mut process, spec),
        (true, false) => stop(tx, &mut app, &scope),
        (false, false) => Ok(()),
    }
}

fn start(
    tx: &mut Tx<'_>,
    policy: &Policy,
    app: &mut App,
    scope: &Scope,
    process: &mut Process,
    spec: &WorkloadSpec,
) -> Result<()> {
    app.state = "STARTED".into();
    app_domain::save(tx, app)?;
    app_usage::turned(tx, app, scope, true)?;
    running::launch_workload(tx, policy, scope, app, process, spec)?;
    app_domain::event(tx, "audit.app.start", app, scope, json!({}))
}

fn stop(tx: &mut Tx<'_>, app: &mut App, scope: &Scope) -> Result<()> {
    if !app.started() {
        return Ok(());
    }
    app.state = "STOPPED".into();
    app_domain::save(tx, app)?;
    app_usage::turned(tx, app, scope, false)?;
    running::halt(tx, app)?;
    app_domain::event(tx, "audit.app.stop", app, scope, json!({}))
}

/// The app of a workload, where it is, and its process.
fn parts(tx: &mut Tx<'_>, guid: &str) -> Result<(App, Scope, Process)> {
    let gone = |what| Error::internal("a workload", format!("its {what} is gone"));
    let (app, space, org) = apps::find_with_scope(tx.conn, guid)?.ok_or_else(|| gone("app"))?;
    let process = processes::find(tx.conn, guid)?.ok_or_else(|| gone("process"))?;
    Ok((app, Scope { space, org }, process))
}

/// The space of a broker's workloads; it and its organization are made when they are missing.
fn home(tx: &mut Tx<'_>, owner: &str) -> Result<Scope> {
    let org = match orgs::find(tx.conn, SYSTEM_ORG)? {
        Some(org) => org,
        None => make_org(tx)?,
    };
    if let Some(space) = spaces::of_org(tx.conn, &org.guid)?.into_iter().find(|space| space.name == owner) {
        return Ok(Scope { space, org });
    }
    let space = Space {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        name: owner.to_owned(),
        name_key: key(owner),
        org_guid: org.guid.clone(),
        suspended: false,
        deleting: false,
        allow_ssh: false,
        quota_guid: None,
    };
    spaces::insert(tx.conn, &space)?;
    Ok(Scope { space, org })
}

fn make_org(tx: &mut Tx<'_>) -> Result<Org> {
    let quota = quotas::find_org_quota_named(tx.conn, DEFAULT_QUOTA)?;
    let quota = quota.ok_or_else(|| Error::internal("making an organization", "there is no default quota"))?;
    let mut name = SYSTEM_ORG_NAME.to_owned();
    for number in 2.. {
        if !orgs::has_name(tx.conn, &name)? {
            break;
        }
        // Its members must not become those of the platform's own.
        name = format!("{SYSTEM_ORG_NAME}-{number}");
    }
    let org = Org {
        guid: SYSTEM_ORG.to_owned(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        name_key: key(&name),
        name,
        suspended: false,
        deleting: false,
        quota_guid: quota.guid,
    };
    orgs::insert(tx.conn, &org)?;
    Ok(org)
}

/// What the tables have of a workload.
pub struct Found {
    pub row: Workload,
    process: Process,
    started: bool,
}

/// Finds a workload of an owner.
///
/// # Errors
/// [`Error::NotFound`], also for somebody else's.
pub fn find(tx: &mut Tx<'_>, owner: &str, guid: AppId) -> Result<Found> {
    let row = store::find(tx.conn, &guid.to_string())?.filter(|row| row.owner == owner).ok_or(Error::NotFound("Workload"))?;
    let (app, _, process) = parts(tx, &row.guid)?;
    Ok(Found { row, process, started: app.started() })
}

/// Stops a workload for good; what is left of it goes by and by.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete(tx: &mut Tx<'_>, owner: &str, guid: AppId) -> Result<()> {
    let Found { mut row, .. } = find(tx, owner, guid)?;
    if row.deleting {
        return Ok(());
    }
    let (mut app, scope, _) = parts(tx, &row.guid)?;
    stop(tx, &mut app, &scope)?;
    row.deleting = true;
    row.updated_at = tx.micros();
    Ok(store::save(tx.conn, &row)?)
}

/// What has become of a workload. `records`: all that the claims say of its app.
pub fn status(found: &Found, records: &[InstanceRecord]) -> WorkloadStatus {
    let version = found.process.version.clone();
    let newest = records.iter().find(|record| record.version.to_string() == version && record.index == 0);
    let left = records.iter().flat_map(holders).any(|holder| holder.state != InstanceState::Crashed);
    let (state, reason) = match newest {
        _ if found.row.deleting => (WorkloadState::Deleting, None),
        _ if !found.started && left => (WorkloadState::Stopping, None),
        _ if !found.started => (WorkloadState::Stopped, None),
        None => (WorkloadState::Starting, None),
        Some(record) => wanted_state(&found.row, record),
    };
    WorkloadStatus { state, reason, version }
}

fn wanted_state(row: &Workload, record: &InstanceRecord) -> (WorkloadState, Option<String>) {
    let exit = || record.last_exit.as_ref().map(|exit| exit.reason.clone());
    let why = || record.unplaced.clone().or_else(exit);
    match record.owner.as_ref().map(|owner| (owner.state, owner.dea)) {
        Some((InstanceState::Running | InstanceState::Evacuating, dea)) if row.cell == Some(dea.to_string()) => {
            (WorkloadState::Running, None)
        }
        Some((InstanceState::Crashed, _)) => (WorkloadState::Down, why()),
        None if record.unplaced.is_some() => (WorkloadState::Down, why()),
        _ => (WorkloadState::Starting, exit()),
    }
}

fn holders(record: &InstanceRecord) -> impl Iterator<Item = &Holder> {
    record.owner.iter().chain(&record.predecessor)
}

/// Whether [`settle`] would have anything to do.
pub fn is_news(records: &[InstanceRecord], left: bool) -> bool {
    !left || running_owner(records).is_some()
}

fn running_owner(records: &[InstanceRecord]) -> Option<&Holder> {
    let runs = |holder: &&Holder| holder.state == InstanceState::Running;
    records.iter().filter_map(|record| record.owner.as_ref()).find(runs)
}

/// Takes in what the claims say of a workload: notes the DEA that has its volume, for good, once an instance accepts
/// connections there; forgets a deleted workload that never got so far. `left`: an instance may be left.
///
/// Another DEA that may have a volume of it is told to remove it, whenever it reports that.
pub fn settle(tx: &mut Tx<'_>, guid: &str, records: &[InstanceRecord], left: bool) -> Result<()> {
    let Some(mut row) = store::find(tx.conn, guid)?.filter(|row| row.cell.is_none()) else { return Ok(()) };
    if let Some(holder) = running_owner(records) {
        row.cell = Some(holder.dea.to_string());
        row.updated_at = tx.micros();
        store::save(tx.conn, &row)?;
        let (_, _, process) = parts(tx, guid)?;
        return running::tell_again(tx, &process);
    }
    if row.deleting && !left { forget(tx, &row) } else { Ok(()) }
}

fn forget(tx: &mut Tx<'_>, row: &Workload) -> Result<()> {
    let (app, scope, _) = parts(tx, &row.guid)?;
    app_domain::delete_in(tx, &app, &scope)
}

/// What a DEA needs to start a workload that it claimed. It may have the volume from now on, and that is noted first: what was
/// never noted need not be looked for.
///
/// # Errors
/// [`Error::NotFound`] when the version is no longer wanted, or not there: the volume is on another DEA.
pub fn hand_out(tx: &mut Tx<'_>, version: &str, dea: DeaId) -> Result<LaunchSpec> {
    let spec = running::launch_spec(tx, version)?;
    let app = spec.app.to_string();
    let row = store::find(tx.conn, &app)?.ok_or(Error::NotFound("Version"))?;
    let dea = dea.to_string();
    if let Some(cell) = row.cell.as_ref().filter(|cell| **cell != dea) {
        tracing::warn!(app.id = app, dea.id = dea, "a workload must not start here: its volume is on {cell}");
        return Err(Error::NotFound("Version"));
    }
    store::put_place(tx.conn, &VolumePlace { volume_id: row.volume_id, dea, app_guid: app, version: version.to_owned() })?;
    Ok(spec)
}

/// Starts of a deleted workload that DEAs were told of, for asking whether instances of them are left; there will be no more.
/// `None`: it is not deleted.
pub fn told(tx: &mut Tx<'_>, guid: &str) -> Result<Option<Vec<String>>> {
    if !store::find(tx.conn, guid)?.is_some_and(|row| row.deleting) {
        return Ok(None);
    }
    Ok(Some(store::places_of(tx.conn, guid)?.into_iter().map(|place| place.version).collect()))
}

/// Guids of the workloads that wait for what claims say.
pub fn unsettled(tx: &mut Tx<'_>) -> Result<Vec<String>> {
    Ok(store::unsettled(tx.conn)?.into_iter().filter(|row| row.cell.is_none()).map(|row| row.guid).collect())
}

/// Workloads of which this DEA has something that is no longer needed, each with the starts that the DEA was told of.
pub fn leaving(tx: &mut Tx<'_>, report: &VolumesReport) -> Result<BTreeMap<String, Vec<String>>> {
    let dea = report.dea.to_string();
    let mut leaving: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for place in store::places_on(tx.conn, &dea)? {
        if store::find(tx.conn, &place.app_guid)?.is_none_or(|row| row.deleting) {
            leaving.entry(place.app_guid).or_default().push(place.version);
        }
    }
    let known = store::of_volumes(tx.conn, &report.volumes)?;
    for row in known.into_iter().filter(|row| row.deleting).chain(store::going_on(tx.conn, &dea)?) {
        leaving.entry(row.guid).or_default();
    }
    Ok(leaving)
}

/// What follows from a report.
#[derive(Debug, PartialEq, Eq)]
pub struct Reported {
    /// Volumes to remove.
    pub remove: Vec<String>,
    /// Volumes that were never heard of.
    pub strangers: Vec<String>,
}

/// Takes in which volumes a DEA has. `free`: workloads of which no instance is left.
///
/// Only what a deleted workload left is removed. A workload is gone once the DEA that has its volume for good has it no more.
pub fn reported(tx: &mut Tx<'_>, report: &VolumesReport, free: &BTreeSet<String>) -> Result<Reported> {
    let dea = report.dea.to_string();
    let has: BTreeSet<&String> = report.volumes.iter().collect();
    let places = store::places_on(tx.conn, &dea)?;
    let known = store::of_volumes(tx.conn, &report.volumes)?;
    let mut outcome = Reported { remove: vec![], strangers: vec![] };
    for volume in &has {
        let row = known.iter().find(|row| row.volume_id == **volume);
        let place = places.iter().find(|place| place.volume_id == **volume);
        let (of, deleted) = match (row, place) {
            (Some(row), _) => (&row.guid, row.deleting),
            (None, Some(place)) => (&place.app_guid, true),
            (None, None) => {
                outcome.strangers.push((*volume).clone());
                continue;
            }
        };
        if deleted && free.contains(of) {
            outcome.remove.push((*volume).clone());
        }
    }
    for place in places.iter().filter(|place| !has.contains(&place.volume_id) && free.contains(&place.app_guid)) {
        if store::find(tx.conn, &place.app_guid)?.is_none_or(|row| row.deleting) {
            store::forget_place(tx.conn, place)?;
        }
    }
    for row in store::going_on(tx.conn, &dea)? {
        if !has.contains(&row.volume_id) && free.contains(&row.guid) {
            forget(tx, &row)?;
        }
    }
    Ok(outcome)
}
