//! Bindings of instances to apps, and keys; what is common to all bindings.
//!
//! A binding of a managed instance is made and removed by its broker: the row is written first, with what is to be sent in an
//! operation, and follows what the broker says (`binding_work`). One of a user-provided instance is only a row.
//!
//! Source: cloud_controller_ng, `app/actions/service_credential_binding_*.rb`, `app/actions/v3/service_binding_*.rb`.

use crate::{
    brokers::{Call, Request},
    domain::{
        Error, Hint, Result, Rule, Scope, Tx, apps as app_domain,
        metadata::MetadataChange,
        quotas::{self, Full},
        routes as route_domain,
        services::{
            binding_events::Told,
            binding_work::{SYNCHRONOUS, incomplete},
            context, mitigation,
            operations::{self, Kind, New, Originator, Target, polling_time},
            parameters, volumes,
        },
        taken,
    },
    store::{
        apps::{self, App},
        jobs::Job,
        metadata::{self, Described},
        routes,
        service_bindings::{self as store, Binding, CREDENTIAL_KIND, ROUTE_KIND},
        service_instances::{self, Instance},
        service_plans::{self, Offered},
    },
};
use serde_json::{Map, Value, json};

/// Bindings of one app to one instance; older ones stay valid until they are removed.
///
/// Source: capi-release, `cc.max_service_credential_bindings_per_app_service_instance`.
const MOST_OF_APP: usize = 5;
/// What a new binding to an app, or a new key, is to be.
#[derive(Clone, Debug, Default)]
pub struct NewBinding {
    /// None: a key.
    pub app: Option<String>,
    pub instance: String,
    pub name: Option<String>,
    pub parameters: Option<Map<String, Value>>,
    /// Further bindings of the same app and instance are welcome.
    pub multiple: bool,
    pub metadata: MetadataChange,
    pub request: Value,
}

/// What came of a request for a binding.
#[derive(Debug)]
pub enum Made {
    /// The broker is asked: the binding, and the job to look at.
    Begun(Box<Binding>, Box<Job>),
    /// It is there.
    There(Box<Described<Binding>>),
}

impl Made {
    /// What is to be waited for.
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Begun(_, job) => Some(job),
            Self::There(_) => None,
        }
    }
}

/// An instance that the caller sees: in its own space, or in one that it is shared to.
///
/// # Errors
/// [`Error::Invalid`] with `text`.
pub fn referred_instance(tx: &mut Tx<'_>, guid: &str, text: impl FnOnce() -> String) -> Result<(Instance, Scope)> {
    if let Some(instance) = service_instances::find(tx.conn, guid)?
        && let Some(scope) = Scope::find(tx, &instance.space_guid)?
    {
        if tx.who.reads_space(&scope.space.guid, &scope.org.guid) {
            return Ok((instance, scope));
        }
        for space in service_instances::shared_spaces(tx.conn, guid)? {
            if tx.who.reads_space(&space.guid, &space.org_guid) {
                return Ok((instance, scope));
            }
        }
    }
    Err(Error::Invalid(text()))
}

/// Begins to make a binding to an app (M in the app's space) or a key (W in the instance's own).
///
/// # Errors
/// [`Error::Invalid`] for everything that stands against it, in the contract's words.
pub fn create(tx: &mut Tx<'_>, new: &NewBinding) -> Result<Made> {
    let text = || format!("The service instance could not be found: '{}'", new.instance);
    let (instance, owner) = referred_instance(tx, &new.instance, text)?;
    if instance.plan_guid.is_none() && new.parameters.is_some() {
        return Err(Error::invalid("Binding parameters are not supported for user-provided service instances"));
    }
    match &new.app {
        Some(guid) => {
            let text = || Error::Invalid(format!("The app could not be found: '{guid}'"));
            let (app, scope) = match app_domain::readable(tx, guid) {
                Err(Error::NotFound(_)) => return Err(text()),
                other => other?,
            };
            scope.check(tx, scope.manages(tx))?;
            create_for_app(tx, &instance, &owner, &app, &scope, new, true)
        }
        None => {
            owner.check(tx, owner.writes(tx))?;
            create_key(tx, &instance, &owner, new)
        }
    }
}

/// As [`create`], for an app, once role and instance were checked. `incomplete`: the broker may take its time.
pub fn create_for_app(
    tx: &mut Tx<'_>,
    instance: &Instance,
    owner: &Scope,
    app: &App,
    scope: &Scope,
    new: &NewBinding,
    incomplete: bool,
) -> Result<Made> {
    if owner.space.guid != app.space_guid && !service_instances::shared_to(tx.conn, &instance.guid, &app.space_guid)? {
        return Err(Error::invalid("The service instance and the app are in different spaces"));
    }
    let offered = offered(tx, instance)?;
    if offered.as_ref().is_some_and(|offered| !offered.bindable()) {
        return Err(Error::invalid("Service plan does not allow bindings"));
    }
    check_instance(instance, "Service instance not found")?;
    let before = check_others(tx, instance, app, new)?;
    let mut binding = fresh(tx, instance, "app");
    binding.name = new.name.clone();
    binding.app_guid = Some(app.guid.clone());
    let Some(offered) = offered else { return there(tx, binding, new, scope) };
    let mut resource = json!({ "app_guid": app.guid, "space_guid": scope.space.guid });
    let annotations = context::public_annotations(&metadata::of(tx.conn, apps::KIND, &app.guid)?);
    resource["app_annotations"] = annotations.into();
    let mut body = body(tx, &offered, owner, resource, new.parameters.as_ref())?;
    body["app_guid"] = app.guid.clone().into();
    if offered.plan.binding_rotatable
        && let Some(before) = before
    {
        body["predecessor_binding_id"] = before.into();
    }
    begin(tx, binding, instance, &offered, scope, new, Sent { body, incomplete })
}

/// What other bindings of the app say about one more; returns the newest that works.
fn check_others(tx: &mut Tx<'_>, instance: &Instance, app: &App, new: &NewBinding) -> Result<Option<String>> {
    let of_app = store::of_app(tx.conn, &app.guid)?;
    let (same, others): (Vec<_>, Vec<_>) = of_app.into_iter().partition(|other| other.instance_guid == instance.guid);
    let mut working: Vec<&Binding> = vec![];
    for binding in &same {
        match state(binding) {
            State::Failed => {}
            State::Making => {
                return Err(Error::Invalid(format!(
                    "There is already a binding in progress for this service instance and app (binding guid: {})",
                    binding.guid
                )));
            }
            State::Going | State::Stuck => return Err(Error::invalid("The binding is getting deleted or its deletion failed")),
            State::There if !new.multiple => {
                return Err(Error::invalid("The app is already bound to the service instance"));
            }
            State::There => working.push(binding),
        }
    }
    if working.len() >= MOST_OF_APP {
        return Err(Error::Invalid(format!(
            "The app has too many bindings to this service instance (limit: {MOST_OF_APP}). Consider deleting existing/orphaned bindings."
        )));
    }
    if working.iter().any(|binding| binding.name != new.name) {
        return Err(Error::invalid("The binding name cannot be changed for the same app and service instance"));
    }
    if let Some(name) = &new.name
        && others.iter().any(|other| other.name.as_ref() == Some(name))
    {
        return Err(Error::Invalid(format!(
            "The binding name is invalid. Binding names must be unique for a given service instance and app. The app already has a binding with name '{name}'."
        )));
    }
    for failed in same.iter().filter(|binding| state(binding) == State::Failed) {
        replace(tx, failed, instance)?;
    }
    Ok(working.last().map(|binding| binding.guid.clone()))
}

fn create_key(tx: &mut Tx<'_>, instance: &Instance, owner: &Scope, new: &NewBinding) -> Result<Made> {
    let Some(offered) = offered(tx, instance)? else {
        return Err(Error::invalid(
            "Service credential bindings of type 'key' are not supported for user-provided service instances.",
        ));
    };
    if !offered.bindable() {
        return Err(Error::invalid("Service plan does not allow bindings."));
    }
    check_instance(instance, "Service instance not found")?;
    let name = new.name.clone().unwrap_or_default();
    let lead =
        "The binding name is invalid. Key binding names must be unique. The service instance already has a key binding with name";
    for other in store::of_instance(tx.conn, &instance.guid)? {
        if other.kind != "key" || other.name.as_ref() != Some(&name) {
            continue;
        }
        match state(&other) {
            State::Failed => replace(tx, &other, instance)?,
            State::There | State::Making => return Err(Error::Invalid(format!("{lead} '{name}'."))),
            State::Going | State::Stuck => {
                return Err(Error::Invalid(format!("{lead} '{name}' getting deleted or its deletion failed.")));
            }
        }
    }
    check_key_quota(tx, owner)?;
    let mut binding = fresh(tx, instance, "key");
    binding.name = Some(name);
    let body = body(tx, &offered, owner, json!({}), new.parameters.as_ref())?;
    begin(tx, binding, instance, &offered, owner, new, Sent { body, incomplete: true })
}

fn check_key_quota(tx: &mut Tx<'_>, owner: &Scope) -> Result<()> {
    let text = match quotas::full(tx, owner, |limits| limits.total_service_keys, (store::keys_of_space, store::keys_of_org))? {
        Some(Full::Space) => "You have exceeded your space's limit for service binding of type key.",
        Some(Full::Org) => "You have exceeded your organization's limit for service binding of type key.",
        None => return Ok(()),
    };
    Err(Error::invalid(text))
}

/// Where a binding is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The broker is being asked to make it.
    Making,
    /// It could not be made; the broker may have it all the same.
    Failed,
    /// It works.
    There,
    /// The broker is being asked to remove it.
    Going,
    /// It could not be removed.
    Stuck,
}

/// Where a binding is in its life.
pub fn state(binding: &Binding) -> State {
    match (binding.op_type.as_str(), binding.op_state.as_str()) {
        ("create", "initial" | "in progress") => State::Making,
        ("create", "failed") => State::Failed,
        ("delete", "failed") => State::Stuck,
        ("delete", _) => State::Going,
        _ => State::There,
    }
}

/// The plan of a managed instance, with all above it.
pub fn offered(tx: &mut Tx<'_>, instance: &Instance) -> Result<Option<Offered>> {
    match &instance.plan_guid {
        Some(plan) => service_plans::find_offered(tx.conn, plan),
        None => Ok(None),
    }
}

/// Whether an instance can be bound now.
///
/// # Errors
/// [`Error::Invalid`]; with `missing` for one that was never made.
pub fn check_instance(instance: &Instance, missing: &str) -> Result<()> {
    match (instance.op_type.as_str(), instance.op_state.as_str()) {
        ("create", "failed") => Err(Error::invalid(missing)),
        (_, "initial" | "in progress") => Err(Error::invalid("There is an operation in progress for the service instance")),
        _ if instance.unusable => {
            Err(Error::invalid("The service broker reported that the service instance is not usable. Update or delete it first."))
        }
        _ => Ok(()),
    }
}

/// A new row.
pub fn fresh(tx: &mut Tx<'_>, instance: &Instance, kind: &str) -> Binding {
    let now = tx.micros();
    Binding {
        guid: tx.guid(),
        created_at: now,
        updated_at: now,
        kind: kind.to_owned(),
        name: None,
        instance_guid: instance.guid.clone(),
        app_guid: None,
        route_guid: None,
        credentials: None,
        syslog_drain_url: None,
        route_service_url: None,
        volume_mounts: None,
        endpoints: None,
        op_type: "create".into(),
        op_state: "initial".into(),
        op_description: String::new(),
        op_created_at: now,
        op_updated_at: now,
    }
}

/// Under which kind the metadata of a binding is kept: also the collection of the API that it is in.
pub fn metadata_kind(binding: &Binding) -> &'static str {
    if binding.kind == "route" { ROUTE_KIND } else { CREDENTIAL_KIND }
}

/// `service_binding`, `service_key`, `service_route_binding`: in events and jobs.
pub fn word(kind: &str) -> &'static str {
    match kind {
        "app" => "service_binding",
        "key" => "service_key",
        _ => "service_route_binding",
    }
}

/// Writes a binding of a user-provided instance, which is all that there is to do.
pub fn there(tx: &mut Tx<'_>, mut binding: Binding, new: &NewBinding, scope: &Scope) -> Result<Made> {
    binding.op_state = "succeeded".into();
    insert(tx, &binding)?;
    let metadata = new.metadata.apply(tx, metadata_kind(&binding), &binding.guid)?;
    let event = Told::of(&binding, scope, new.request.clone());
    event.record(tx, None, "create")?;
    tell(tx, &binding)?;
    Ok(Made::There(Box::new(Described { row: binding, metadata })))
}

fn insert(tx: &mut Tx<'_>, binding: &Binding) -> Result<()> {
    // Looked for before; of two requests at the same moment, this is the second.
    taken(store::insert(tx.conn, binding), || Error::invalid("There is an operation in progress for the service binding."))
}

/// How far a binding is that somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The broker was asked, and has not answered.
    Asked,
    /// The broker works on it.
    Polled,
    /// It is there, or gone again.
    Ended,
    /// It could not be made.
    Failed(String),
}

/// How far a binding is that somebody waits for.
pub fn progress(tx: &mut Tx<'_>, guid: &str) -> Result<Progress> {
    let Some(binding) = store::find(tx.conn, guid)? else { return Ok(Progress::Ended) };
    Ok(match state(&binding) {
        State::Failed => Progress::Failed(binding.op_description),
        State::Making => match operations::of(tx, Kind::BindingCreate, guid)? {
            Some(op) if op.step == operations::Step::Call => Progress::Asked,
            Some(op) if !incomplete(&op) => Progress::Failed(SYNCHRONOUS.into()),
            _ => Progress::Polled,
        },
        State::There | State::Going | State::Stuck => Progress::Ended,
    })
}

/// What is sent to a broker.
pub struct Sent {
    pub body: Value,
    /// The broker may take its time.
    pub incomplete: bool,
}

/// Writes a binding and the operation that makes it.
pub fn begin(
    tx: &mut Tx<'_>,
    binding: Binding,
    instance: &Instance,
    offered: &Offered,
    scope: &Scope,
    new: &NewBinding,
    sent: Sent,
) -> Result<Made> {
    parameters::check(offered.plan.bind_schema.as_deref(), new.parameters.as_ref(), offered)?;
    insert(tx, &binding)?;
    new.metadata.apply(tx, metadata_kind(&binding), &binding.guid)?;
    let told = Told::of(&binding, scope, new.request.clone());
    let data = json!({ "body": sent.body, "incomplete": sent.incomplete, "told": told.to_json() });
    let operation = format!("{}s.create", word(&binding.kind));
    let work = New {
        kind: Kind::BindingCreate,
        resource: &binding.guid,
        broker: Some(&offered.broker.guid),
        user: Originator::of(tx),
        target: target(&binding, instance, offered),
        data,
        time: polling_time(tx.max_polling, offered.plan.maximum_polling_s),
        job: Some((&operation, (metadata_kind(&binding), &binding.guid))),
    };
    let job = operations::begin_job(tx, work, busy)?;
    Ok(Made::Begun(Box::new(binding), Box::new(job)))
}

/// The broker works on the binding of an app.
pub fn in_progress(tx: &mut Tx<'_>, binding: &Binding) -> Result<Error> {
    let (instance, _) = scope_of(tx, binding)?;
    let app = app_name(tx, binding)?;
    let text =
        format!("An operation for the service binding between app {app} and service instance {} is in progress.", instance.name);
    Ok(Error::rule(Rule::BindingBusy, text))
}

/// The name of the app that is bound; empty where there is none.
pub fn app_name(tx: &mut Tx<'_>, binding: &Binding) -> Result<String> {
    let Some(app) = &binding.app_guid else { return Ok(String::new()) };
    Ok(apps::find_with_scope(tx.conn, app)?.map(|(app, ..)| app.name).unwrap_or_default())
}

/// The address of the route that a binding is for.
pub fn route_address(tx: &mut Tx<'_>, binding: &Binding) -> Result<String> {
    let Some(guid) = &binding.route_guid else { return Ok(String::new()) };
    Ok(routes::find(tx.conn, guid)?.map(|(route, domain)| route.url(&domain.name)).unwrap_or_default())
}

/// Another operation of it runs.
pub fn busy() -> Error {
    Error::invalid("There is an operation in progress for the service binding.")
}

fn target(binding: &Binding, instance: &Instance, offered: &Offered) -> Target {
    Target {
        instance: instance.guid.clone(),
        binding: Some(binding.guid.clone()),
        service_id: offered.offering.catalog_id.clone(),
        plan_id: offered.plan.catalog_id.clone(),
        plan_name: offered.plan.name.clone(),
    }
}

/// The body of a bind request.
pub fn body(
    tx: &mut Tx<'_>,
    offered: &Offered,
    owner: &Scope,
    resource: Value,
    parameters: Option<&Map<String, Value>>,
) -> Result<Value> {
    let mut body = json!({
        "service_id": offered.offering.catalog_id,
        "plan_id": offered.plan.catalog_id,
        "bind_resource": resource,
        "context": context::of(tx, owner, None)?,
    });
    if let Some(parameters) = parameters {
        body["parameters"] = parameters.clone().into();
    }
    Ok(body)
}

/// Removes a binding that was never made, so that another can take its place.
pub fn replace(tx: &mut Tx<'_>, failed: &Binding, instance: &Instance) -> Result<()> {
    if let Some(offered) = offered(tx, instance)? {
        mitigation::begin(tx, Kind::OrphanBinding, Some(&offered.broker.guid), &target(failed, instance, &offered))?;
    }
    forget(tx, failed)
}

/// Removes the row of a binding; what runs is told.
pub fn forget(tx: &mut Tx<'_>, binding: &Binding) -> Result<()> {
    for kind in [Kind::BindingCreate, Kind::BindingDelete] {
        if let Some(op) = operations::of(tx, kind, &binding.guid)? {
            let why =
                Error::rule(Rule::UnableToPerform, "The service binding was removed while the service broker worked on it.");
            operations::cancel(tx, &op, &why)?;
        }
    }
    metadata::forget(tx.conn, metadata_kind(binding), std::slice::from_ref(&binding.guid))?;
    tell(tx, binding)?;
    store::delete(tx.conn, &binding.guid)
}

/// Removes a binding without asking: what the broker may have is removed in the background.
pub fn abandon(tx: &mut Tx<'_>, binding: &Binding) -> Result<()> {
    let instance = service_instances::find(tx.conn, &binding.instance_guid)?;
    match instance {
        Some(instance) => replace(tx, binding, &instance),
        None => forget(tx, binding),
    }
}

/// Has the DEAs look at what changed: where an app may connect to, or through what a route's requests go.
pub fn tell(tx: &mut Tx<'_>, binding: &Binding) -> Result<()> {
    if let Some(route) = &binding.route_guid {
        route_domain::tell_apps(tx, std::slice::from_ref(route))?;
    }
    if let Some(app) = binding.app_guid.as_deref().and_then(|app| app.parse().ok()) {
        tx.hint(Hint::Routes(app));
    }
    Ok(())
}

/// A binding to an app or a key that the caller reads, with its instance and the space that it belongs to.
///
/// # Errors
/// [`Error::NotFound`].
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<(Binding, Instance, Scope)> {
    let missing = || Error::NotFound("Service credential binding");
    let binding = store::find(tx.conn, guid)?.filter(|binding| binding.kind != "route").ok_or_else(missing)?;
    let (instance, scope) = scope_of(tx, &binding)?;
    if tx.who.reads_space(&scope.space.guid, &scope.org.guid) { Ok((binding, instance, scope)) } else { Err(missing()) }
}

/// The instance of a binding, and the space that the binding belongs to: that of its app or route, else that of the instance.
pub fn scope_of(tx: &mut Tx<'_>, binding: &Binding) -> Result<(Instance, Scope)> {
    let broken = || Error::internal("a binding", "what it binds is gone");
    let instance = service_instances::find(tx.conn, &binding.instance_guid)?.ok_or_else(broken)?;
    let scope = match (&binding.app_guid, &binding.route_guid) {
        (Some(app), _) => apps::find_with_scope(tx.conn, app)?.map(|(_, space, org)| Scope { space, org }),
        (None, Some(route)) => match crate::store::routes::find(tx.conn, route)? {
            Some((route, _)) => Scope::find(tx, &route.space_guid)?,
            None => None,
        },
        (None, None) => Scope::find(tx, &instance.space_guid)?,
    };
    Ok((instance, scope.ok_or_else(broken)?))
}

/// Changes metadata (W).
pub fn update(tx: &mut Tx<'_>, found: (Binding, Scope), change: &MetadataChange, request: Value) -> Result<Described<Binding>> {
    let (mut binding, scope) = found;
    scope.check(tx, scope.writes(tx))?;
    if state(&binding) == State::Going {
        return Err(Error::invalid("The service binding is being deleted"));
    }
    binding.updated_at = tx.micros();
    store::save(tx.conn, &binding)?;
    let metadata = change.apply(tx, metadata_kind(&binding), &binding.guid)?;
    Told::of(&binding, &scope, request).record(tx, None, "update")?;
    Ok(Described { row: binding, metadata })
}

/// What the holder of secrets (S) of the binding's space reads.
pub fn details(tx: &mut Tx<'_>, guid: &str) -> Result<Value> {
    let (binding, instance, scope) = readable(tx, guid)?;
    if !tx.who.reads_secrets(&scope.space.guid) {
        return Err(Error::NotFound("Service credential binding"));
    }
    check_made(&binding)?;
    let mut told = Told::of(&binding, &scope, Value::Null);
    told.request = None;
    told.record(tx, None, "show")?;
    let mut body = json!({ "credentials": super::vcap::credentials(tx, &binding, &instance)? });
    if binding.kind == "app" {
        if let Some(url) = super::vcap::syslog_drain_url(&binding, &instance) {
            body["syslog_drain_url"] = url.into();
        }
        let mounts = volumes::of(tx, &binding)?;
        if !mounts.is_empty() {
            body["volume_mounts"] = mounts.into();
        }
    }
    Ok(body)
}

/// Whether there is anything to know of a binding.
///
/// # Errors
/// A 404 that says what it lacks.
pub fn check_made(binding: &Binding) -> Result<()> {
    let what = if binding.kind == "key" { "key" } else { "binding" };
    match state(binding) {
        State::Making => Err(Error::rule(Rule::NotMade, format!("Creation of service {what} in progress"))),
        State::Failed => Err(Error::rule(Rule::NotMade, format!("Creation of service {what} failed"))),
        _ => Ok(()),
    }
}

/// Begins to remove a binding to an app (M) or a key (W); none: it is gone.
///
/// # Errors
/// [`Error::Invalid`] while an operation of it or of its instance runs.
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Option<Job>> {
    let (binding, instance, scope) = readable(tx, guid)?;
    let allowed = if binding.kind == "key" { scope.writes(tx) } else { scope.manages(tx) };
    scope.check(tx, allowed)?;
    delete_in(tx, &binding, &instance, &scope)
}

/// As [`delete`], once the role was checked.
pub fn delete_in(tx: &mut Tx<'_>, binding: &Binding, instance: &Instance, scope: &Scope) -> Result<Option<Job>> {
    if !may_go(tx, binding)? {
        return Err(busy());
    }
    if matches!(instance.op_state.as_str(), "initial" | "in progress") {
        return Err(Error::invalid("There is an operation in progress for the service instance."));
    }
    let user = Originator::of(tx);
    remove(tx, binding, instance, scope, user, true)
}

/// True unless the broker was just sent something about this binding whose answer is not here: a removal must not overtake it.
pub fn may_go(tx: &mut Tx<'_>, binding: &Binding) -> Result<bool> {
    Ok(match state(binding) {
        State::Going => false,
        State::Making => match operations::of(tx, Kind::BindingCreate, &binding.guid)? {
            Some(op) => op.step == operations::Step::Poll,
            None => true,
        },
        State::Failed | State::There | State::Stuck => true,
    })
}

/// Removes a binding as a part of something larger, which is woken when it is gone or could not go.
///
/// What the broker is asked about at this moment goes on: its end wakes, too.
pub fn begin_delete(tx: &mut Tx<'_>, binding: &Binding, user: Option<Originator>) -> Result<()> {
    remove_part(tx, binding, user).map(drop)
}

/// Forgets a binding and its operations without asking the broker.
pub fn purge(tx: &mut Tx<'_>, binding: &Binding) -> Result<()> {
    forget(tx, binding)
}

/// A user-provided instance has changed: its bindings show what it has, and routes go where it says at once.
pub fn follow_user_provided(tx: &mut Tx<'_>, instance: &Instance) -> Result<()> {
    let routes = store::routes_of_instances(tx.conn, std::slice::from_ref(&instance.guid))?;
    route_domain::tell_apps(tx, &routes)
}

/// As [`begin_delete`]; true once it is gone.
pub fn remove_part(tx: &mut Tx<'_>, binding: &Binding, user: Option<Originator>) -> Result<bool> {
    if !may_go(tx, binding)? {
        return Ok(false);
    }
    let (instance, scope) = scope_of(tx, binding)?;
    remove(tx, binding, &instance, &scope, user, false)?;
    Ok(instance.plan_guid.is_none())
}

fn remove(
    tx: &mut Tx<'_>,
    binding: &Binding,
    instance: &Instance,
    scope: &Scope,
    user: Option<Originator>,
    job: bool,
) -> Result<Option<Job>> {
    let mut told = Told::of(binding, scope, Value::Null);
    told.request = None;
    let Some(offered) = offered(tx, instance)? else {
        told.record_by(tx, user.as_ref(), "delete")?;
        forget(tx, binding)?;
        return Ok(None);
    };
    if let Some(making) = operations::of(tx, Kind::BindingCreate, &binding.guid)? {
        let why = Error::rule(Rule::UnableToPerform, "bind could not be completed: The service binding is being deleted.");
        operations::cancel(tx, &making, &why)?;
    }
    let mut row = binding.clone();
    operate(tx, &mut row, "delete", "initial", "");
    row.op_created_at = tx.micros();
    store::save(tx.conn, &row)?;
    let operation = format!("{}s.delete", word(&binding.kind));
    let work = New {
        kind: Kind::BindingDelete,
        resource: &binding.guid,
        broker: Some(&offered.broker.guid),
        user,
        target: target(binding, instance, &offered),
        data: json!({ "told": told.to_json() }),
        time: polling_time(tx.max_polling, offered.plan.maximum_polling_s),
        job: job.then_some((&operation, (metadata_kind(binding), &binding.guid))),
    };
    operations::begin(tx, work, busy)
}

/// The request for what the broker says of a binding now.
pub fn fetch(tx: &mut Tx<'_>, binding: &Binding, instance: &Instance, offered: Offered) -> Result<Call> {
    let of = target(binding, instance, &offered).of_instance();
    let caller = &tx.who.caller;
    let user = (!caller.is_system()).then(|| caller.guid.clone());
    let request = Request::FetchBinding { of, binding: binding.guid.clone() };
    let plan = Some(offered.plan.name);
    Ok(Call { id: tx.guid(), broker: operations::address(tx, offered.broker)?, user, plan, request })
}

/// Notes what is being done about a binding.
pub fn operate(tx: &Tx<'_>, binding: &mut Binding, kind: &str, state: &str, description: &str) {
    binding.op_type = kind.to_owned();
    binding.op_state = state.to_owned();
    binding.op_description = description.to_owned();
    binding.op_updated_at = tx.micros();
    binding.updated_at = tx.micros();
}
