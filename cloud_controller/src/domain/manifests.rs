//! Applying manifests to a space, and an app as a manifest.

use crate::{
    domain::{
        Error, Result, Scope, Tx,
        apps::{self as app_domain, AppChange, LifecycleChange, NewApp, add_process, event},
        audit::HIDDEN,
        destinations::{self, Wanted},
        manifest::{
            check::{AppManifest, ProcessManifest, RouteManifest, ServiceManifest},
            render,
        },
        metadata::MetadataChange,
        policy::Policy,
        process::WEB,
        processes::{self as process_domain, Found, ProcessChange},
        routes, running,
        services::bindings::{self, Made, NewBinding, State},
    },
    store::{
        self,
        apps::{self, App},
        mapped, metadata as metadata_store,
        processes::{self, Process},
        service_bindings,
        service_instances::{self, Instance},
    },
};
use rand::{Rng, RngExt};
use serde_json::{Map, Value, json};

/// Makes the apps of a manifest that do not exist yet, empty, so that their guids are known whatever follows. Returns the
/// guids of all, in order.
///
/// # Errors
/// When the caller may not write in the space.
pub fn create_missing(tx: &mut Tx<'_>, policy: &Policy, space: &str, manifest: &[AppManifest]) -> Result<Vec<(String, String)>> {
    let scope = Scope::readable(tx, space, "Space")?;
    scope.check(tx, scope.writes(tx))?;
    // Of two pushes at once the second waits here, and then finds the first one's app.
    store::orgs::lock(tx.conn, &scope.org.guid)?;
    let mut guids = vec![];
    for wanted in manifest {
        let app = match apps::find_by_name(tx.conn, &scope.space.guid, &wanted.name)? {
            Some(app) => app,
            None => {
                let new = NewApp {
                    name: wanted.name.clone(),
                    space: scope.space.guid.clone(),
                    lifecycle: LifecycleChange { kind: wanted.lifecycle.clone(), ..LifecycleChange::default() },
                    ..NewApp::default()
                };
                app_domain::create_in(tx, policy, &scope, new, json!({ "name": wanted.name }))
                    .map_err(|e| of_app(&wanted.name, e))?
            }
        };
        guids.push((app.guid, wanted.name.clone()));
    }
    Ok(guids)
}

/// An error of one app of a manifest.
pub fn of_app(name: &str, error: Error) -> Error {
    let lead = |text: String| format!("For application '{name}': {text}");
    match error {
        Error::Invalid(text) => Error::Invalid(lead(text)),
        Error::Rule(rule, text) => Error::Rule(rule, lead(text)),
        other => other,
    }
}

/// Applies one app of a manifest: features, processes, scale, lifecycle and metadata, routes, variables.
///
/// # Errors
/// The first rule that is broken, under the app's name; then nothing of this app was changed.
pub fn apply(tx: &mut Tx<'_>, policy: &Policy, guid: &str, wanted: &AppManifest, text: &Value) -> Result<(App, Scope)> {
    let (mut app, scope) = app_domain::writable(tx, guid)?;
    apply_in(tx, policy, &mut app, &scope, wanted).map_err(|e| of_app(&wanted.name, e))?;
    let text = serde_saphyr::to_string(&hidden(text)).unwrap_or_default();
    event(tx, "audit.app.apply_manifest", &app, &scope, json!({ "request": { "manifest": text } }))?;
    Ok((app, scope))
}

fn hidden(app: &Value) -> Value {
    let mut app = app.clone();
    if let Some(env) = app.get_mut("env") {
        *env = HIDDEN.into();
    }
    json!({ "applications": [app] })
}

fn apply_in(tx: &mut Tx<'_>, policy: &Policy, app: &mut App, scope: &Scope, wanted: &AppManifest) -> Result<()> {
    check_lifecycle(app, wanted)?;
    for (name, on) in &wanted.features {
        app_domain::set_feature(app, name, *on).map_err(|e| match e {
            Error::NotFound(_) => Error::invalid(format!("Features '{name}' is not a feature of apps")),
            other => other,
        })?;
    }
    for process in &wanted.processes {
        apply_process(tx, policy, app, scope, process)?;
    }
    let change = AppChange {
        // An app is found by its name without regard to case; the manifest's spelling does not rename it.
        name: None,
        lifecycle: LifecycleChange { kind: None, buildpacks: wanted.buildpacks.clone(), stack: wanted.stack.clone().map(Some) },
        metadata: metadata_change(wanted.metadata.as_ref())?,
    };
    let request = json!({ "name": app.name, "lifecycle": { "type": "buildpack", "data": { "buildpacks": wanted.buildpacks, "stack": wanted.stack } } });
    app_domain::update_in(tx, policy, app, scope, change, request)?;
    apply_routes(tx, policy, app, scope, wanted)?;
    if let Some(change) = &wanted.env {
        app_domain::update_env(tx, app, scope, change.clone())?;
    }
    for service in &wanted.services {
        instance(tx, scope, &service.name)?;
    }
    Ok(())
}

fn instance(tx: &mut Tx<'_>, scope: &Scope, name: &str) -> Result<Instance> {
    let found = service_instances::named(tx.conn, &scope.space.guid, name)?;
    found.ok_or_else(|| Error::Invalid(format!("Service instance '{name}' not found")))
}

/// Begins to bind a service that a manifest names, unless it is bound; the binding to wait for, if there is one.
///
/// # Errors
/// Under the names of app and service.
pub fn bind(tx: &mut Tx<'_>, guid: &str, wanted: &ServiceManifest) -> Result<Option<String>> {
    let (app, scope) = app_domain::writable(tx, guid)?;
    bind_in(tx, &app, &scope, wanted).map_err(|e| of_service(&app.name, &wanted.name, e))
}

fn bind_in(tx: &mut Tx<'_>, app: &App, scope: &Scope, wanted: &ServiceManifest) -> Result<Option<String>> {
    let instance = instance(tx, scope, &wanted.name)?;
    let of_app = service_bindings::of_app(tx.conn, &app.guid)?;
    let ours: Vec<_> = of_app.iter().filter(|binding| binding.instance_guid == instance.guid).collect();
    if ours.iter().any(|binding| bindings::state(binding) == State::There) {
        return Ok(None);
    }
    if let Some(making) = ours.iter().find(|binding| bindings::state(binding) == State::Making) {
        return Ok(Some(making.guid.clone()));
    }
    if instance.plan_guid.is_none() && wanted.parameters.is_some() {
        return Err(Error::invalid("Binding parameters are not supported for user-provided service instances"));
    }
    let owner = Scope::find(tx, &instance.space_guid)?.ok_or(Error::NotFound("Space"))?;
    let request = json!({
        "type": "app",
        "name": wanted.binding_name,
        "parameters": wanted.parameters,
        "relationships": { "service_instance": { "data": { "guid": instance.guid } }, "app": { "data": { "guid": app.guid } } },
        "manifest_triggered": true,
    });
    let new = NewBinding {
        app: Some(app.guid.clone()),
        instance: instance.guid.clone(),
        name: wanted.binding_name.clone(),
        parameters: wanted.parameters.clone(),
        request,
        ..NewBinding::default()
    };
    Ok(match bindings::create_for_app(tx, &instance, &owner, app, scope, &new, false)? {
        Made::Begun(binding, _) => Some(binding.guid),
        Made::There(_) => None,
    })
}

/// An error of one service of an app of a manifest.
pub fn of_service(app: &str, service: &str, error: Error) -> Error {
    let lead = |text: String| match text.contains(&format!("'{service}'")) {
        true => text,
        false => format!("For service '{service}': {text}"),
    };
    let error = match error {
        Error::Invalid(text) => Error::Invalid(lead(text)),
        Error::Rule(rule, text) => Error::Rule(rule, lead(text)),
        other => other,
    };
    of_app(app, error)
}

fn check_lifecycle(app: &App, wanted: &AppManifest) -> Result<()> {
    match wanted.lifecycle.as_deref() {
        None => Ok(()),
        Some(kind) if kind == app.lifecycle => Ok(()),
        Some("docker") => Err(Error::invalid("Docker cannot be configured for a buildpack lifecycle app.")),
        Some(kind) => Err(Error::invalid(format!("Lifecycle type cannot be changed from {} to {kind}", app.lifecycle))),
    }
}

fn metadata_change(metadata: Option<&Value>) -> Result<MetadataChange> {
    let Some(metadata) = metadata else { return Ok(MetadataChange::default()) };
    let mut problems = vec![];
    let change = MetadataChange::parse(metadata, &mut problems);
    if problems.is_empty() { Ok(change) } else { Err(Error::Invalid(problems.join(", "))) }
}

fn apply_process(tx: &mut Tx<'_>, policy: &Policy, app: &App, scope: &Scope, wanted: &ProcessManifest) -> Result<()> {
    let lead = |error: Error| match error {
        Error::Invalid(text) => Error::Invalid(format!("Process \"{}\": {text}", wanted.kind)),
        other => other,
    };
    let process = match processes::find_of_app(tx.conn, &app.guid, &wanted.kind)? {
        Some(process) => process,
        None => add_process(tx, policy, app, scope, &wanted.kind)?,
    };
    let mut found = Found { process, app: app.clone(), scope: scope.clone() };
    let change = ProcessChange {
        command: wanted.command.clone(),
        user: wanted.user.clone().map(Some),
        health: wanted.health.clone(),
        readiness: wanted.readiness.clone(),
        metadata: MetadataChange::default(),
    };
    let asks = change.command.is_some()
        || change.user.is_some()
        || change.health != Default::default()
        || change.readiness != Default::default();
    if asks {
        process_domain::update_in(tx, policy, &mut found, &change, json!({ "manifest_triggered": true })).map_err(lead)?;
    }
    if wanted.scale != Default::default() {
        process_domain::scale_in(tx, policy, &mut found, wanted.scale, json!({ "manifest_triggered": true })).map_err(lead)?;
    }
    Ok(())
}

fn apply_routes(tx: &mut Tx<'_>, policy: &Policy, app: &App, scope: &Scope, wanted: &AppManifest) -> Result<()> {
    if wanted.no_route {
        return crate::domain::unmap::all_of_app(tx, app, scope);
    }
    for route in &wanted.routes {
        map(tx, policy, app, scope, route).map_err(|e| of_route(&route.route, e))?;
    }
    let has_routes = !wanted.routes.is_empty() || !mapped::of_apps(tx.conn, std::slice::from_ref(&app.guid))?.is_empty();
    if has_routes || !(wanted.random_route || wanted.default_route) {
        return Ok(());
    }
    let domain =
        store::domains::default_of(tx.conn, &scope.org.guid)?.ok_or_else(|| Error::invalid("No default domains available"))?;
    let host = if wanted.random_route { random_host(&app.name, &mut tx.rng) } else { app.name.clone() };
    let spelled = routes::Spelled { host: host.clone(), ..routes::Spelled::default() };
    let problems = spelled.problems();
    if !problems.is_empty() {
        return Err(Error::invalid(format!("Failed to create default route from app name: {}", problems.join(", "))));
    }
    let text = format!("{host}.{}", domain.name);
    map(tx, policy, app, scope, &RouteManifest { route: text.clone(), protocol: None, options: None })
        .map_err(|e| of_route(&text, e))
}

fn of_route(route: &str, error: Error) -> Error {
    match error {
        Error::Invalid(text) if text.contains(route) || text.starts_with("No domains exist") => Error::Invalid(text),
        Error::Invalid(text) => Error::Invalid(format!("For route '{route}': {text}")),
        other => other,
    }
}

fn map(tx: &mut Tx<'_>, policy: &Policy, app: &App, scope: &Scope, wanted: &RouteManifest) -> Result<()> {
    let options: Map<String, Value> = wanted.options.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    let problems = routes::option_problems(&options);
    if !problems.is_empty() {
        return Err(Error::Invalid(problems.join(", ")));
    }
    if wanted.protocol.as_deref() == Some("tcp") {
        return Err(Error::invalid("Cannot use 'tcp' protocol for http routes; valid options are: [http1, http2]."));
    }
    let mut route = routes::for_manifest(tx, &policy.system_domain, scope, &wanted.route, &options)?;
    if !options.is_empty() && routes::options_of(&route) != options {
        routes::set_options(tx, &mut route, &options)?;
    }
    let present = store::routes::destinations_of(tx.conn, std::slice::from_ref(&route.guid))?;
    let of_web = |d: &&store::routes::Destination| d.app_guid == app.guid && d.process_type == WEB;
    let mut ours = present.iter().filter(of_web).peekable();
    if ours.peek().is_some() {
        // Another protocol replaces the mapping; none asked for keeps it.
        let Some(protocol) = &wanted.protocol else { return Ok(()) };
        for old in ours.filter(|old| old.protocol != *protocol) {
            destinations::remove(tx, &route, scope, old)?;
        }
    }
    let wanted =
        Wanted { app: app.guid.clone(), process_type: WEB.into(), port: None, protocol: wanted.protocol.clone(), weight: None };
    destinations::map(tx, &route, app, scope, &wanted).map(drop)
}

const ADJECTIVES: [&str; 32] = [
    "active",
    "bold",
    "brave",
    "bright",
    "busy",
    "calm",
    "chipper",
    "clever",
    "cheerful",
    "daring",
    "eager",
    "fast",
    "fine",
    "funny",
    "generous",
    "gentle",
    "grateful",
    "happy",
    "kind",
    "lean",
    "mellow",
    "noisy",
    "patient",
    "quick",
    "quiet",
    "reliable",
    "sleepy",
    "smart",
    "surprised",
    "tired",
    "turbulent",
    "wise",
];
const NOUNS: [&str; 32] = [
    "badger", "bear", "bilby", "buffalo", "cat", "cheetah", "crane", "dingo", "dugong", "elephant", "fox", "gecko", "hyena",
    "impala", "jackal", "kangaroo", "koala", "lemur", "lion", "mandrill", "meerkat", "okapi", "otter", "panda", "possum",
    "quokka", "rabbit", "raven", "serval", "tiger", "wallaby", "wombat",
];

fn random_host(app: &str, rng: &mut impl Rng) -> String {
    let letters = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '-' };
    let name: String = app.chars().map(letters).take(40).collect();
    let adjective = ADJECTIVES[rng.random_range(0..ADJECTIVES.len())];
    let noun = NOUNS[rng.random_range(0..NOUNS.len())];
    let suffix: String = (0..2).map(|_| char::from(b'a' + rng.random_range(0..26))).collect();
    format!("{name}-{adjective}-{noun}-{suffix}")
}

/// An app as a manifest (S).
///
/// # Errors
/// [`Error::Forbidden`] for those who may not read its variables.
pub fn of(tx: &mut Tx<'_>, guid: &str) -> Result<render::Document> {
    let (app, scope) = app_domain::readable(tx, guid)?;
    if !tx.who.reads_secrets(&scope.space.guid) {
        return Err(Error::Forbidden);
    }
    Ok(render::Document { applications: vec![rendered(tx, &app)?] })
}

/// The apps of a space that a manifest names, as manifests; `None` for those that do not exist (W).
pub fn existing(tx: &mut Tx<'_>, space: &str, names: &[String]) -> Result<Vec<Option<render::App>>> {
    let scope = Scope::readable(tx, space, "Space")?;
    scope.check(tx, scope.writes(tx))?;
    let mut found = vec![];
    for name in names {
        found.push(match apps::find_by_name(tx.conn, space, name)? {
            Some(app) => Some(rendered(tx, &app)?),
            None => None,
        });
    }
    Ok(found)
}

fn rendered(tx: &mut Tx<'_>, app: &App) -> Result<render::App> {
    let metadata = metadata_store::of(tx.conn, apps::KIND, &app.guid)?;
    let mut routes: Vec<render::Route> = vec![];
    for found in mapped::of_apps(tx.conn, std::slice::from_ref(&app.guid))? {
        let options = found.route.loadbalancing.as_ref().map(|algorithm| json!({ "loadbalancing": algorithm }));
        routes.push(render::Route { route: found.route.uri, protocol: Some(found.route.protocol), options });
    }
    routes.sort_by(|a, b| a.route.cmp(&b.route));
    routes.dedup_by(|a, b| a.route == b.route);
    let services = rendered_services(tx, app)?;
    let mut all: Vec<render::Process> = processes::of_app(tx.conn, &app.guid)?.iter().map(rendered_process).collect();
    all.sort_by(|a, b| a.r#type.cmp(&b.r#type));
    Ok(render::App {
        name: app.name.clone(),
        env: running::app_env(tx, app)?,
        lifecycle: app.lifecycle.clone(),
        buildpacks: app.chosen_buildpacks(),
        stack: app.stack.clone().unwrap_or_default(),
        features: app_domain::features(app).iter().map(|(name, _, on)| ((*name).to_owned(), *on)).collect(),
        services,
        routes,
        metadata: render::Metadata { labels: metadata.labels, annotations: metadata.annotations },
        processes: all,
    })
}

fn rendered_services(tx: &mut Tx<'_>, app: &App) -> Result<Vec<render::Service>> {
    let service = |shown: service_bindings::Shown| match shown.binding.name {
        Some(binding_name) => render::Service::Named { name: shown.instance.name, binding_name },
        None => render::Service::Plain(shown.instance.name),
    };
    let mut services: Vec<_> = service_bindings::usable_of_app(tx.conn, &app.guid)?.into_iter().map(service).collect();
    services.sort_by(|a, b| a.name().cmp(b.name()));
    services.dedup_by(|a, b| a.name() == b.name());
    Ok(services)
}

fn rendered_process(process: &Process) -> render::Process {
    let (health, readiness) = (process.health(), process.readiness());
    let shown = render::Process {
        r#type: process.kind.clone(),
        command: process.command.clone(),
        health_check_type: health.kind,
        health_check_http_endpoint: health.endpoint,
        health_check_invocation_timeout: health.invocation_timeout_s,
        health_check_interval: health.interval_s,
        readiness_health_check_type: readiness.kind,
        readiness_health_check_http_endpoint: readiness.endpoint,
        readiness_health_check_invocation_timeout: readiness.invocation_timeout_s,
        readiness_health_check_interval: readiness.interval_s,
        timeout: health.timeout_s,
        ..render::Process::default()
    };
    shown.scaled(process.count(), process.memory(), process.disk(), process.log_rate_limit)
}
