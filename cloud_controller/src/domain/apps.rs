//! Apps: create, change, start, stop, delete.

use crate::{
    domain::{
        Error, Hint, Result, Rule, Scope, Tx, app_usage,
        audit::{self, Event, HIDDEN},
        environment::{self, VarsChange},
        metadata::MetadataChange,
        policy::Policy,
        process::{Check, WEB},
        quota, running,
        services::{bindings, owners},
        taken, unmap, workloads,
    },
    store::{
        apps::{self, App},
        buildpacks, builds, droplets, feed, garbage,
        jobs::{self, Job},
        metadata as metadata_store, packages,
        processes::{self, Process},
        query::key,
        service_bindings, versions,
    },
};
use cloud_controller_client::Desired;
use serde_json::{Value, json};
use types::VersionId;

/// How an app is built: what a request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifecycleChange {
    /// `buildpack`, ...
    pub kind: Option<String>,
    /// Names and URLs; empty: the platform chooses.
    pub buildpacks: Option<Vec<String>>,
    /// `Some(None)`: the default.
    pub stack: Option<Option<String>>,
}

/// A new app.
#[derive(Clone, Debug, Default)]
pub struct NewApp {
    pub name: String,
    pub space: String,
    pub lifecycle: LifecycleChange,
    pub env: VarsChange,
    pub metadata: MetadataChange,
}

/// A change of an app.
#[derive(Clone, Debug, Default)]
pub struct AppChange {
    pub name: Option<String>,
    pub lifecycle: LifecycleChange,
    pub metadata: MetadataChange,
}

/// Finds an app that the caller reads.
///
/// # Errors
/// [`Error::NotFound`] about the app.
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<(App, Scope)> {
    let found = apps::find_with_scope(tx.conn, guid)?.ok_or(Error::NotFound("App"))?;
    let (app, space, org) = found;
    if !tx.who.reads_space(&space.guid, &org.guid) {
        return Err(Error::NotFound("App"));
    }
    Ok((app, Scope { space, org }))
}

/// Finds an app that the caller may create, edit and delete things of (W).
pub fn writable(tx: &mut Tx<'_>, guid: &str) -> Result<(App, Scope)> {
    let (app, scope) = readable(tx, guid)?;
    scope.check(tx, scope.writes(tx))?;
    Ok((app, scope))
}

/// Finds an app that the caller may run (M).
pub fn manageable(tx: &mut Tx<'_>, guid: &str) -> Result<(App, Scope)> {
    let (app, scope) = readable(tx, guid)?;
    scope.check(tx, scope.manages(tx))?;
    Ok((app, scope))
}

/// Finds the app that a body refers to (W).
///
/// # Errors
/// [`Error::Invalid`] with `text` when the caller does not read it.
pub fn referred(tx: &mut Tx<'_>, guid: &str, text: &str) -> Result<(App, Scope)> {
    match writable(tx, guid) {
        Err(Error::NotFound(_)) => Err(Error::invalid(text)),
        other => other,
    }
}

/// Writes an event about an app.
pub fn event(tx: &mut Tx<'_>, kind: &str, app: &App, scope: &Scope, data: Value) -> Result<()> {
    let (space, org) = (scope.space.guid.as_str(), scope.org.guid.as_str());
    audit::record(tx, Event { kind, target: ("app", &app.guid, &app.name), space: Some(space), org: Some(org), data })
}

/// Makes an app with a web process. `request` is what audit events repeat.
///
/// # Errors
/// [`Error::Invalid`] for a bad space or lifecycle, the rule of a taken name.
pub fn create(tx: &mut Tx<'_>, policy: &Policy, new: NewApp, request: Value) -> Result<(App, Scope)> {
    let scope = Scope::referred(tx, &new.space, "Invalid space. Ensure that the space exists and you have access to it.")?;
    scope.check(tx, scope.writes(tx))?;
    let app = create_in(tx, policy, &scope, new, request)?;
    Ok((app, scope))
}

/// As [`create`], in a space that was checked.
pub fn create_in(tx: &mut Tx<'_>, policy: &Policy, scope: &Scope, new: NewApp, request: Value) -> Result<App> {
    let now = tx.micros();
    let mut app = App {
        guid: tx.guid(),
        created_at: now,
        updated_at: now,
        name_key: key(&new.name),
        name: new.name,
        space_guid: scope.space.guid.clone(),
        state: "STOPPED".into(),
        lifecycle: "buildpack".into(),
        buildpacks: "[]".into(),
        stack: Some(policy.default_stack.clone()),
        env: None,
        droplet_guid: None,
        ssh_enabled: true,
        revisions_enabled: true,
        binding_k8s_enabled: false,
        file_based_services_enabled: false,
    };
    set_lifecycle(tx, policy, &mut app, &new.lifecycle, true)?;
    let mut vars = environment::Vars::new();
    environment::apply(&mut vars, new.env);
    app.env = running::seal_vars(tx, &running::env_place(&app.guid), &vars)?;
    let name = app.name.clone();
    taken(apps::insert(tx.conn, &app), || name_taken(&name))?;
    new.metadata.apply(tx, apps::KIND, &app.guid)?;
    event(tx, "audit.app.create", &app, scope, json!({ "request": hide(request) }))?;
    add_process(tx, policy, &app, scope, WEB)?;
    Ok(app)
}

fn name_taken(name: &str) -> Error {
    Error::rule(Rule::Uniqueness, format!("App with the name '{name}' already exists."))
}

/// A request without values that must not be seen.
pub fn hide(mut request: Value) -> Value {
    if let Some(vars) = request.get_mut("environment_variables").filter(|vars| !vars.is_null()) {
        *vars = HIDDEN.into();
    }
    if let Some(credentials) = request.pointer_mut("/lifecycle/data/credentials") {
        *credentials = HIDDEN.into();
    }
    if let Some(command) = request.get_mut("command").filter(|command| !command.is_null()) {
        *command = HIDDEN.into();
    }
    if let Some(Value::Array(buildpacks)) = request.pointer_mut("/lifecycle/data/buildpacks") {
        for buildpack in buildpacks {
            if let Some(text) = buildpack.as_str() {
                *buildpack = masked(text).into();
            }
        }
    }
    request
}

/// A URL whose password is not shown.
pub fn masked(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() || (!url.username().is_empty() && url.scheme().starts_with("http")) => {
            let _ = url.set_username("***");
            let _ = url.set_password(Some("***"));
            url.to_string()
        }
        _ => text.to_owned(),
    }
}

/// Applies what a request says about the lifecycle.
///
/// # Errors
/// [`Error::Invalid`] for unknown stacks and buildpacks and another type; a disabled feature for docker and cnb.
pub fn set_lifecycle(tx: &mut Tx<'_>, policy: &Policy, app: &mut App, change: &LifecycleChange, new: bool) -> Result<()> {
    match change.kind.as_deref() {
        None | Some("buildpack") => {}
        Some(kind @ ("docker" | "cnb")) if new => return Err(Error::feature_disabled(&format!("diego_{kind}"))),
        Some(kind @ ("docker" | "cnb")) => {
            return Err(Error::invalid(format!("Lifecycle type cannot be changed from {} to {kind}", app.lifecycle)));
        }
        Some(_) => return Err(Error::invalid("Lifecycle type is not included in the list: buildpack, docker, cnb")),
    }
    if let Some(stack) = &change.stack {
        let name = stack.clone().unwrap_or_else(|| policy.default_stack.clone());
        if app.stack.as_deref() != Some(&name) || new {
            let was_built = has_builds(tx, app)?;
            check_stack(tx, &name, was_built)?;
        }
        app.stack = Some(name);
    }
    if let Some(wanted) = &change.buildpacks {
        check_buildpacks(tx, wanted)?;
        app.buildpacks = json!(wanted).to_string();
    }
    Ok(())
}

fn has_builds(tx: &mut Tx<'_>, app: &App) -> Result<bool> {
    Ok(!builds::of_app(tx.conn, &app.guid)?.is_empty())
}

/// Whether apps may use a stack.
///
/// # Errors
/// [`Error::Invalid`] when it does not exist or its state forbids it.
pub fn check_stack(tx: &mut Tx<'_>, name: &str, was_built: bool) -> Result<()> {
    use crate::store::stack_state;
    let (state, reason) = stack_state::of(tx.conn, name)?.ok_or_else(|| Error::invalid("Stack must be an existing stack"))?;
    match state.as_str() {
        "DISABLED" => {}
        "RESTRICTED" if !was_built => {}
        _ => return Ok(()),
    }
    let text = format!("ERROR: Staging failed. The stack '{name}' is '{state}' and cannot be used for staging. {reason}");
    Err(Error::invalid(text.trim_end()))
}

/// Whether each of these is an admin buildpack or a URL.
pub fn check_buildpacks(tx: &mut Tx<'_>, wanted: &[String]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let known = buildpacks::all(tx.conn, "buildpack")?;
    let mut problems = vec![];
    for name in wanted {
        let admin = known.iter().find(|buildpack| buildpack.name == *name);
        match admin {
            Some(_) if name.is_empty() => problems.push("Buildpacks entries must be between 1 and 4096 characters".to_owned()),
            Some(buildpack) if buildpack.state != "READY" && !known.iter().any(|b| b.name == *name && b.state == "READY") => {
                problems.push(format!("\"{name}\" must be in ready state"));
            }
            Some(_) => {}
            None if is_buildpack_url(name) => {}
            None => {
                problems.push(format!("Buildpack \"{}\" must be an existing admin buildpack or a valid git URI", masked(name)))
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems.join(", "))) }
}

/// True for what a staging can download.
pub fn is_buildpack_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "git" | "ssh") && url.has_host())
        || text.strip_prefix("git@").is_some_and(|rest| rest.contains(':'))
}

/// Adds a process of a type with the defaults of that type.
pub fn add_process(tx: &mut Tx<'_>, policy: &Policy, app: &App, scope: &Scope, kind: &str) -> Result<Process> {
    let now = tx.micros();
    let limit = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let mut process = Process {
        // The first web process has the app's own guid, as everybody expects.
        guid: if kind == WEB { app.guid.clone() } else { tx.guid() },
        created_at: now,
        updated_at: now,
        app_guid: app.guid.clone(),
        kind: kind.to_owned(),
        version: VersionId::random(&mut tx.rng).to_string(),
        command: None,
        process_user: None,
        instances: i32::from(kind == WEB),
        memory_mb: limit(policy.limits.default_memory_mb),
        disk_mb: limit(policy.limits.default_disk_mb),
        log_rate_limit: -1,
        health_type: String::new(),
        health_timeout_s: None,
        health_invocation_timeout_s: None,
        health_interval_s: None,
        health_endpoint: None,
        readiness_type: "process".into(),
        readiness_invocation_timeout_s: None,
        readiness_interval_s: None,
        readiness_endpoint: None,
    };
    process.set_health(Check::default_for(kind));
    processes::insert(tx.conn, &process)?;
    event(tx, "audit.app.process.create", app, scope, json!({ "process_guid": process.guid, "process_type": kind }))?;
    Ok(process)
}

/// Changes an app.
pub fn update(tx: &mut Tx<'_>, policy: &Policy, guid: &str, change: AppChange, request: Value) -> Result<(App, Scope)> {
    let (mut app, scope) = writable(tx, guid)?;
    update_in(tx, policy, &mut app, &scope, change, request)?;
    Ok((app, scope))
}

/// As [`update`], of an app that was checked.
pub fn update_in(
    tx: &mut Tx<'_>,
    policy: &Policy,
    app: &mut App,
    scope: &Scope,
    change: AppChange,
    request: Value,
) -> Result<()> {
    set_lifecycle(tx, policy, app, &change.lifecycle, false)?;
    if let Some(name) = change.name {
        app.name_key = key(&name);
        app.name = name;
    }
    save(tx, app)?;
    change.metadata.apply(tx, apps::KIND, &app.guid)?;
    event(tx, "audit.app.update", app, scope, json!({ "request": hide(request) }))
}

/// Writes an app's row.
pub fn save(tx: &mut Tx<'_>, app: &mut App) -> Result<()> {
    app.updated_at = tx.micros();
    let name = app.name.clone();
    taken(apps::update(tx.conn, app), || name_taken(&name)).map(drop)
}

/// Changes variables of an app; running instances keep what they have.
pub fn update_env(tx: &mut Tx<'_>, app: &mut App, scope: &Scope, change: VarsChange) -> Result<environment::Vars> {
    let mut vars = running::app_env(tx, app)?;
    environment::apply(&mut vars, change);
    app.env = running::seal_vars(tx, &running::env_place(&app.guid), &vars)?;
    save(tx, app)?;
    event(tx, "audit.app.update", app, scope, json!({ "request": { "environment_variables": HIDDEN } }))?;
    Ok(vars)
}

/// Starts an app; of a started one nothing changes.
///
/// # Errors
/// [`Error::Invalid`] without a droplet or over a quota.
pub fn start(tx: &mut Tx<'_>, policy: &Policy, guid: &str) -> Result<(App, Scope)> {
    let (mut app, scope) = readable(tx, guid)?;
    workloads::check_foreign(tx, &scope)?;
    running::current_droplet(tx, &app)?;
    scope.check(tx, scope.manages(tx))?;
    if !app.started() {
        begin(tx, policy, &mut app, &scope)?;
    }
    event(tx, "audit.app.start", &app, &scope, json!({}))?;
    Ok((app, scope))
}

/// Stops an app; of a stopped one nothing changes.
pub fn stop(tx: &mut Tx<'_>, guid: &str) -> Result<(App, Scope)> {
    let (mut app, scope) = manageable(tx, guid)?;
    if app.started() {
        app.state = "STOPPED".into();
        save(tx, &mut app)?;
        app_usage::turned(tx, &app, &scope, false)?;
        running::halt(tx, &app)?;
    }
    event(tx, "audit.app.stop", &app, &scope, json!({}))?;
    Ok((app, scope))
}

/// Starts an app anew: every process gets a new version.
///
/// # Errors
/// As [`start`].
pub fn restart(tx: &mut Tx<'_>, policy: &Policy, guid: &str) -> Result<(App, Scope)> {
    let (mut app, scope) = readable(tx, guid)?;
    workloads::check_foreign(tx, &scope)?;
    running::current_droplet(tx, &app)?;
    scope.check(tx, scope.manages(tx))?;
    if app.started() {
        running::launch(tx, policy, &scope, &app)?;
    } else {
        begin(tx, policy, &mut app, &scope)?;
    }
    event(tx, "audit.app.restart", &app, &scope, json!({}))?;
    Ok((app, scope))
}

fn begin(tx: &mut Tx<'_>, policy: &Policy, app: &mut App, scope: &Scope) -> Result<()> {
    let all = processes::of_app(tx.conn, &app.guid)?;
    quota::check_running(tx, policy, scope, &all, &[])?;
    app.state = "STARTED".into();
    save(tx, app)?;
    app_usage::turned(tx, app, scope, true)?;
    running::launch(tx, policy, scope, app)
}

/// Makes a droplet the one that the next start uses, and the processes that it names.
///
/// # Errors
/// [`Error::Invalid`] when it is not a staged droplet of this app, or names no process.
pub fn assign_droplet(tx: &mut Tx<'_>, policy: &Policy, guid: &str, droplet: Option<&str>) -> Result<(App, Scope)> {
    let (mut app, scope) = manageable(tx, guid)?;
    let Some(droplet) = droplet else {
        return Err(Error::invalid("Current droplet cannot be removed. Replace it with a preferred droplet."));
    };
    let found = droplets::find(tx.conn, droplet)?.filter(|found| found.app_guid == app.guid && found.state == "STAGED");
    let droplet = found
        .ok_or_else(|| Error::invalid("Unable to assign current droplet. Ensure the droplet exists and belongs to this app."))?;
    let commands = droplet.commands();
    let have = processes::of_app(tx.conn, &app.guid)?;
    if commands.is_empty() && have.iter().all(|process| process.command.is_none()) {
        return Err(Error::invalid(
            "Unable to create process types for this app's droplet. Please provide a droplet with valid process types.",
        ));
    }
    for kind in commands.keys().filter(|kind| !have.iter().any(|process| process.kind == **kind)) {
        add_process(tx, policy, &app, &scope, kind)?;
    }
    app.droplet_guid = Some(droplet.guid.clone());
    save(tx, &mut app)?;
    event(tx, "audit.app.droplet.mapped", &app, &scope, json!({ "request": { "droplet_guid": droplet.guid } }))?;
    Ok((app, scope))
}

/// Deletes an app and everything of it; its routes stay, unmapped. Where brokers must be asked first, that has only begun.
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Job> {
    let (app, scope) = writable(tx, guid)?;
    if let Some(job) = (owners::Owner { app: true }).begin(tx, &app.guid)? {
        return Ok(job);
    }
    delete_in(tx, &app, &scope)?;
    jobs::done(tx, "app.delete", Some(("apps", &app.guid)))
}

/// As [`delete`], of an app that was checked (also when its space goes).
pub fn delete_in(tx: &mut Tx<'_>, app: &App, scope: &Scope) -> Result<()> {
    event(tx, "audit.app.delete-request", app, scope, json!({}))?;
    if app.started() {
        app_usage::turned(tx, app, scope, false)?;
    }
    running::halt(tx, app)?;
    for binding in service_bindings::of_app(tx.conn, &app.guid)? {
        bindings::abandon(tx, &binding)?;
    }
    let own_builds = builds::of_app(tx.conn, &app.guid)?;
    for build in own_builds.iter().filter(|build| build.staging()) {
        feed::put(tx, &Desired::NoBuild { build: running::id(&build.guid)? })?;
        tx.hint(Hint::StagingStop(running::id(&app.guid)?));
        if let Some(droplet) = &build.droplet_guid {
            garbage::add(tx, &droplets::blob(droplet))?;
        }
    }
    let own_packages = packages::of_app(tx.conn, &app.guid)?;
    for package in &own_packages {
        garbage::add(tx, &packages::blob(&package.guid))?;
    }
    let own_droplets = droplets::of_app(tx.conn, &app.guid)?;
    for droplet in &own_droplets {
        garbage::add(tx, &droplets::blob(&droplet.guid))?;
    }
    clear_cache(tx, app)?;
    unmap::all_of_app(tx, app, scope)?;
    let own_processes = processes::of_app(tx.conn, &app.guid)?;
    for process in &own_processes {
        versions::remove(tx.conn, &process.guid)?;
    }
    let guids = |all: Vec<&String>| all.into_iter().cloned().collect::<Vec<_>>();
    metadata_store::forget(tx.conn, builds::KIND, &guids(own_builds.iter().map(|x| &x.guid).collect()))?;
    metadata_store::forget(tx.conn, packages::KIND, &guids(own_packages.iter().map(|x| &x.guid).collect()))?;
    metadata_store::forget(tx.conn, droplets::KIND, &guids(own_droplets.iter().map(|x| &x.guid).collect()))?;
    metadata_store::forget(tx.conn, processes::KIND, &guids(own_processes.iter().map(|x| &x.guid).collect()))?;
    metadata_store::forget(tx.conn, apps::KIND, std::slice::from_ref(&app.guid))?;
    apps::delete(tx.conn, &app.guid)
}

/// Forgets what earlier stagings of an app kept, on every stack.
pub fn clear_cache(tx: &mut Tx<'_>, app: &App) -> Result<()> {
    for stack in crate::store::stack_state::names(tx.conn)? {
        garbage::add(tx, &cache_blob(&app.guid, &stack))?;
    }
    Ok(())
}

/// The key of a build cache.
pub fn cache_blob(app: &str, stack: &str) -> String {
    format!("caches/{app}-{stack}")
}

/// Switches a feature of an app. Effect: at the next start.
///
/// # Errors
/// [`Error::NotFound`] for an unknown one; [`Error::Invalid`] for two that exclude each other.
pub fn set_feature(app: &mut App, name: &str, enabled: bool) -> Result<()> {
    match name {
        "ssh" => app.ssh_enabled = enabled,
        "revisions" => app.revisions_enabled = enabled,
        "service-binding-k8s" => app.binding_k8s_enabled = enabled,
        "file-based-vcap-services" => app.file_based_services_enabled = enabled,
        _ => return Err(Error::NotFound("Feature")),
    }
    if app.binding_k8s_enabled && app.file_based_services_enabled {
        return Err(Error::invalid(
            "'file-based-vcap-services' and 'service-binding-k8s' features cannot be enabled at the same time.",
        ));
    }
    Ok(())
}

/// Name, description and state of all features of an app.
pub fn features(app: &App) -> [(&'static str, &'static str, bool); 4] {
    [
        ("ssh", "Enable SSHing into the app.", app.ssh_enabled),
        ("revisions", "Enable versioning of an application", app.revisions_enabled),
        ("service-binding-k8s", "Enable k8s service bindings for the app", app.binding_k8s_enabled),
        ("file-based-vcap-services", "Enable file-based VCAP service bindings for the app", app.file_based_services_enabled),
    ]
}
