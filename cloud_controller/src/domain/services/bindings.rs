//! Bindings of instances to apps, and keys; what is common to all bindings.
//!
//! A binding of a managed instance is made and removed by its broker: the row is written first, with what is to be sent in an
//! operation, and follows what the broker says. One of a user-provided instance is only a row.
//!
//! Source: cloud_controller_ng, `app/actions/service_credential_binding_*.rb`, `app/actions/v3/service_binding_*.rb`.

use crate::{
    brokers::{Call, Failure, FailureKind, Object, Request},
    domain::{
        Error, Hint, Result, Rule, Scope, Tx, apps as app_domain,
        audit::{self, HIDDEN},
        metadata::MetadataChange,
        routes as route_domain,
        services::{
            context, mitigation,
            operations::{self, Ended, Handler, Kind, New, Operation, Originator, Prepared, Target, polling_time},
            parameters,
        },
        taken,
    },
    store::{
        apps::{self, App},
        jobs::{self, Job},
        metadata::{self, Described},
        orgs, quotas as quota_store,
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
/// Source: cloud_controller_ng, `app/models/services/service_binding.rb`.
const MAX_DRAIN: usize = 10_000;
const MAX_MOUNTS: usize = 65_535;
/// What a broker may hand over in one binding.
const MAX_CREDENTIALS: usize = 1 << 20;

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
    Begun(Box<Binding>, Job),
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
    if let Some(offered) = &offered {
        if !offered.bindable() {
            return Err(Error::invalid("Service plan does not allow bindings"));
        }
        if offered.offering.required().iter().any(|needed| needed == "volume_mount") {
            return Err(Error::invalid("Support for volume mount services is disabled"));
        }
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
    orgs::lock(tx.conn, &owner.org.guid)?;
    if let Some(guid) = &owner.space.quota_guid {
        let most = quota_store::find_space_quota(tx.conn, guid)?.and_then(|quota| quota.total_service_keys);
        if let Some(most) = most
            && store::keys_of_space(tx.conn, &owner.space.guid)? >= most
        {
            return Err(Error::invalid("You have exceeded your space's limit for service binding of type key."));
        }
    }
    let most = quota_store::find_org_quota(tx.conn, &owner.org.quota_guid)?.and_then(|quota| quota.total_service_keys);
    if let Some(most) = most
        && store::keys_of_org(tx.conn, &owner.org.guid)? >= most
    {
        return Err(Error::invalid("You have exceeded your organization's limit for service binding of type key."));
    }
    Ok(())
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
fn word(kind: &str) -> &'static str {
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
        time: polling_time(offered.plan.maximum_polling_s),
        job: Some((&operation, (metadata_kind(&binding), &binding.guid))),
    };
    let job = operations::begin_job(tx, work, busy)?;
    Ok(Made::Begun(Box::new(binding), job))
}

fn busy() -> Error {
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
fn tell(tx: &mut Tx<'_>, binding: &Binding) -> Result<()> {
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
        let mounts = super::vcap::volume_mounts(&binding);
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
fn may_go(tx: &mut Tx<'_>, binding: &Binding) -> Result<bool> {
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
fn remove_part(tx: &mut Tx<'_>, binding: &Binding, user: Option<Originator>) -> Result<bool> {
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
        time: polling_time(offered.plan.maximum_polling_s),
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

fn operate(tx: &Tx<'_>, binding: &mut Binding, kind: &str, state: &str, description: &str) {
    binding.op_type = kind.to_owned();
    binding.op_state = state.to_owned();
    binding.op_description = description.to_owned();
    binding.op_updated_at = tx.micros();
    binding.updated_at = tx.micros();
}

/// What events say about a binding, also when it is gone.
#[derive(Clone, Debug)]
pub struct Told {
    kind: String,
    binding: String,
    name: String,
    space: String,
    org: String,
    request: Option<Value>,
    instance: String,
    app: Option<String>,
    route: Option<String>,
}

impl Told {
    fn of(binding: &Binding, scope: &Scope, mut request: Value) -> Self {
        if let Some(parameters) = request.get_mut("parameters").filter(|parameters| !parameters.is_null()) {
            *parameters = HIDDEN.into();
        }
        Self {
            kind: binding.kind.clone(),
            binding: binding.guid.clone(),
            name: binding.name.clone().unwrap_or_default(),
            space: scope.space.guid.clone(),
            org: scope.org.guid.clone(),
            request: Some(request),
            instance: binding.instance_guid.clone(),
            app: binding.app_guid.clone(),
            route: binding.route_guid.clone(),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "kind": self.kind, "binding": self.binding, "name": self.name, "space": self.space, "org": self.org,
            "request": self.request, "instance": self.instance, "app": self.app, "route": self.route,
        })
    }

    fn read(data: &Value) -> Self {
        let text = |name: &str| data["told"][name].as_str().map(str::to_owned);
        let or_empty = |name: &str| text(name).unwrap_or_default();
        Self {
            kind: or_empty("kind"),
            binding: or_empty("binding"),
            name: or_empty("name"),
            space: or_empty("space"),
            org: or_empty("org"),
            request: Some(data["told"]["request"].clone()).filter(|request| !request.is_null()),
            instance: or_empty("instance"),
            app: text("app"),
            route: text("route"),
        }
    }

    /// Writes `audit.<what>.<verb>` in the name of who asked for the operation, or of the caller.
    fn record(&self, tx: &mut Tx<'_>, op: Option<&Operation>, verb: &str) -> Result<()> {
        let (kind, data) = self.event(verb);
        let event = self.as_event(&kind, data);
        match op {
            Some(op) => op.record(tx, event),
            None => audit::record(tx, event),
        }
    }

    fn record_by(&self, tx: &mut Tx<'_>, user: Option<&Originator>, verb: &str) -> Result<()> {
        let (kind, data) = self.event(verb);
        let event = self.as_event(&kind, data);
        match user {
            Some(user) => audit::record_as(tx, audit::Actor { kind: "user", guid: &user.guid, name: &user.name }, event),
            None => audit::record(tx, event),
        }
    }

    fn event(&self, verb: &str) -> (String, Value) {
        let mut data = json!({});
        if let Some(request) = &self.request {
            data["request"] = request.clone();
        }
        if self.kind != "route" && verb != "show" {
            data["service_instance_guid"] = self.instance.clone().into();
        }
        if let Some(app) = &self.app {
            data["app_guid"] = app.clone().into();
        }
        if let Some(route) = &self.route {
            data["route_guid"] = route.clone().into();
        }
        (format!("audit.{}.{verb}", word(&self.kind)), data)
    }

    fn as_event<'a>(&'a self, kind: &'a str, data: Value) -> audit::Event<'a> {
        let target = (word(&self.kind), self.binding.as_str(), self.name.as_str());
        audit::Event { kind, target, space: Some(&self.space), org: Some(&self.org), data }
    }
}

/// Makes a binding at its broker.
pub struct Create;

impl Handler for Create {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        if store::find(tx.conn, op.resource())?.is_none() {
            return Ok(Prepared::End(Ended::well()));
        }
        Ok(Prepared::Send(Request::Bind {
            instance: op.target.instance.clone(),
            binding: op.resource().to_owned(),
            body: op.data["body"].clone(),
            accepts_incomplete: incomplete(op),
        }))
    }

    fn accepted(&self, tx: &mut Tx<'_>, op: &mut Operation, _: &Object) -> Result<()> {
        change(tx, op, "in progress", "")?;
        Told::read(&op.data).record(tx, Some(op), "start_create")
    }

    fn progress(&self, tx: &mut Tx<'_>, op: &mut Operation, description: Option<&str>) -> Result<()> {
        match description {
            Some(description) => change(tx, op, "in progress", description),
            None => Ok(()),
        }
    }

    fn fetches(&self, tx: &mut Tx<'_>, op: &Operation) -> Result<bool> {
        let Some(binding) = store::find(tx.conn, op.resource())? else { return Ok(false) };
        let instance = service_instances::find(tx.conn, &binding.instance_guid)?;
        let offered = match &instance {
            Some(instance) => offered(tx, instance)?,
            None => None,
        };
        Ok(offered.is_some_and(|offered| offered.offering.bindings_retrievable))
    }

    fn succeeded(&self, tx: &mut Tx<'_>, op: &mut Operation, body: &Object) -> Result<std::result::Result<Ended, Failure>> {
        let Some(mut binding) = store::find(tx.conn, op.resource())? else { return Ok(Ok(Ended::well())) };
        let (instance, _) = scope_of(tx, &binding)?;
        let Some(offered) = offered(tx, &instance)? else { return Ok(Ok(Ended::well())) };
        if op.step == operations::Step::Poll {
            let text = "The broker responded asynchronously but does not support fetching binding data.";
            return Ok(Err(Failure::new(FailureKind::BadResponse, text)));
        }
        if op.step == operations::Step::Fetch && !incomplete(op) {
            return Ok(Err(orphaned(SYNCHRONOUS)));
        }
        let handed = match Handed::read(body, &binding.kind, &offered.offering.required()) {
            Ok(handed) => handed,
            Err(text) => return Ok(Err(orphaned(text))),
        };
        if let Some(credentials) = handed.credentials {
            let plain = serde_json::to_vec(&credentials).map_err(|e| Error::internal("writing credentials", e))?;
            binding.credentials = Some(tx.seal(&Binding::place(&binding.guid), &plain)?);
        }
        binding.syslog_drain_url = handed.syslog_drain_url;
        binding.route_service_url = handed.route_service_url;
        binding.volume_mounts = handed.volume_mounts.map(|mounts| mounts.to_string());
        binding.endpoints = handed.endpoints.map(|endpoints| endpoints.to_string());
        operate(tx, &mut binding, "create", "succeeded", "");
        store::save(tx.conn, &binding)?;
        Told::read(&op.data).record(tx, Some(op), "create")?;
        tell(tx, &binding)?;
        wake_all(tx, &binding)?;
        Ok(Ok(Ended::well()))
    }

    fn retries(&self, _: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<bool> {
        // A push first asks for what can be had at once.
        let again = failure.kind == FailureKind::AsyncRequired && !incomplete(op);
        if again {
            op.data["incomplete"] = true.into();
        }
        Ok(again)
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        let text = op.explained(tx, failure)?;
        if let Some(mut binding) = store::find(tx.conn, op.resource())? {
            operate(tx, &mut binding, "create", "failed", &text);
            store::save(tx.conn, &binding)?;
            wake_all(tx, &binding)?;
        }
        Ok(Ended::failed(op.unable(tx, "bind", failure)?))
    }

    fn orphan(&self) -> Option<Kind> {
        Some(Kind::OrphanBinding)
    }
}

/// A broker that takes its time although it was not asked whether there is any.
const SYNCHRONOUS: &str = "The service broker responded asynchronously when a synchronous bind was requested.";

fn incomplete(op: &Operation) -> bool {
    op.data["incomplete"].as_bool().unwrap_or(true)
}

fn orphaned(text: impl Into<String>) -> Failure {
    Failure { orphan: true, ..Failure::new(FailureKind::BadResponse, text) }
}

fn change(tx: &mut Tx<'_>, op: &Operation, state: &str, description: &str) -> Result<()> {
    let Some(mut binding) = store::find(tx.conn, op.resource())? else { return Ok(()) };
    let kind = binding.op_type.clone();
    operate(tx, &mut binding, &kind, state, description);
    Ok(store::save(tx.conn, &binding)?)
}

/// Operations that wait for this binding look again.
fn wake_all(tx: &mut Tx<'_>, binding: &Binding) -> Result<()> {
    let waits = [
        ("instance.delete", Some(&binding.instance_guid)),
        ("instance.unshare", Some(&binding.instance_guid)),
        ("app.delete", binding.app_guid.as_ref()),
        ("route.delete", binding.route_guid.as_ref()),
    ];
    for (kind, resource) in waits {
        if let (Some(kind), Some(resource)) = (Kind::parse(kind), resource) {
            operations::wake(tx, kind, resource)?;
        }
    }
    Ok(())
}

/// Removes a binding at its broker.
pub struct Delete;

impl Handler for Delete {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        if store::find(tx.conn, op.resource())?.is_none() {
            return Ok(Prepared::End(Ended::well()));
        }
        Ok(Prepared::Send(Request::Unbind { of: op.target.of_instance(), binding: op.resource().to_owned() }))
    }

    fn accepted(&self, tx: &mut Tx<'_>, op: &mut Operation, _: &Object) -> Result<()> {
        change(tx, op, "in progress", "")?;
        Told::read(&op.data).record(tx, Some(op), "start_delete")
    }

    fn progress(&self, tx: &mut Tx<'_>, op: &mut Operation, description: Option<&str>) -> Result<()> {
        match description {
            Some(description) => change(tx, op, "in progress", description),
            None => Ok(()),
        }
    }

    fn succeeded(&self, tx: &mut Tx<'_>, op: &mut Operation, _: &Object) -> Result<std::result::Result<Ended, Failure>> {
        let Some(binding) = store::find(tx.conn, op.resource())? else { return Ok(Ok(Ended::well())) };
        metadata::forget(tx.conn, metadata_kind(&binding), std::slice::from_ref(&binding.guid))?;
        store::delete(tx.conn, &binding.guid)?;
        tell(tx, &binding)?;
        Told::read(&op.data).record(tx, Some(op), "delete")?;
        wake_all(tx, &binding)?;
        Ok(Ok(Ended::well()))
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        let text = op.explained(tx, failure)?;
        if let Some(mut binding) = store::find(tx.conn, op.resource())? {
            operate(tx, &mut binding, "delete", "failed", &text);
            store::save(tx.conn, &binding)?;
            wake_all(tx, &binding)?;
        }
        Ok(Ended::failed(op.unable(tx, "unbind", failure)?))
    }

    fn deletes(&self) -> bool {
        true
    }
}

/// What a broker hands over with a binding.
#[derive(Debug, Default, PartialEq)]
struct Handed {
    credentials: Option<Value>,
    syslog_drain_url: Option<String>,
    route_service_url: Option<String>,
    volume_mounts: Option<Value>,
    endpoints: Option<Value>,
}

impl Handed {
    /// Reads an answer to a bind.
    ///
    /// # Errors
    /// What breaks the contract, in words for the user.
    fn read(body: &Object, kind: &str, required: &[String]) -> Result<Self, String> {
        let declares = |what: &str| required.iter().any(|declared| declared == what);
        let given = |name: &str| body.get(name).filter(|value| !value.is_null());
        let mut handed = Self::default();
        match given("credentials") {
            Some(credentials @ Value::Object(_)) if credentials.to_string().len() <= MAX_CREDENTIALS => {
                handed.credentials = Some(credentials.clone());
            }
            Some(Value::Object(_)) => return Err("The service broker returned credentials that are too large.".into()),
            Some(_) => {
                return Err("The service broker returned an invalid response: 'credentials' must be a JSON object.".into());
            }
            None => {}
        }
        handed.syslog_drain_url = text(given("syslog_drain_url"), "syslog_drain_url", MAX_DRAIN)?;
        if handed.syslog_drain_url.is_some() && !declares("syslog_drain") {
            return Err("The service is attempting to stream logs from your application, but is not registered as a logging service. Please contact the service provider.".into());
        }
        if let Some(mounts) = given("volume_mounts") {
            check_mounts(mounts)?;
            if mounts.as_array().is_some_and(|mounts| !mounts.is_empty()) {
                if !declares("volume_mount") {
                    return Err("The service is attempting to supply volume mounts from your application, but is not registered as a volume mount service. Please contact the service provider.".into());
                }
                handed.volume_mounts = Some(mounts.clone());
            }
        }
        if kind == "route" {
            handed.route_service_url = text(given("route_service_url"), "route_service_url", MAX_DRAIN)?;
            if let Some(url) = &handed.route_service_url
                && !is_route_service(url)
            {
                return Err(format!(
                    "The service broker returned an invalid response: the route service URL '{url}' must be an https URL with a host."
                ));
            }
        }
        handed.endpoints = given("endpoints").filter(|endpoints| endpoints.is_array()).cloned();
        Ok(handed)
    }
}

/// True for an `https` URL with a host.
pub fn is_route_service(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| url.scheme() == "https" && url.host_str().is_some_and(|host| !host.starts_with('.')))
}

fn text(value: Option<&Value>, name: &str, most: usize) -> Result<Option<String>, String> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= most => Ok(Some(text.clone())),
        Some(_) => Err(format!(
            "The service broker returned an invalid response: '{name}' must be a string of at most {most} characters."
        )),
    }
}

fn check_mounts(mounts: &Value) -> Result<(), String> {
    let lead = "The service broker returned an invalid response:";
    let Some(all) = mounts.as_array() else { return Err(format!("{lead} 'volume_mounts' must be an array.")) };
    if mounts.to_string().len() > MAX_MOUNTS {
        return Err(format!("{lead} 'volume_mounts' is too large."));
    }
    for mount in all {
        for name in ["driver", "container_dir", "mode", "device_type"] {
            if mount[name].as_str().is_none_or(str::is_empty) {
                return Err(format!("{lead} a volume mount must have '{name}'."));
            }
        }
        if mount["device"]["volume_id"].as_str().is_none_or(str::is_empty) {
            return Err(format!("{lead} a volume mount must have a 'device' with 'volume_id'."));
        }
        if !(mount["device"]["mount_config"].is_null() || mount["device"]["mount_config"].is_object()) {
            return Err(format!("{lead} 'mount_config' of a volume mount must be an object."));
        }
    }
    Ok(())
}

/// Removes what binds an app, or a route, and then the thing itself.
pub struct Owner {
    /// True: an app; else a route.
    pub app: bool,
}

impl Owner {
    fn bindings(&self, tx: &mut Tx<'_>, guid: &str) -> Result<Vec<Binding>> {
        if self.app { store::of_app(tx.conn, guid) } else { store::of_routes(tx.conn, &[guid.to_owned()]) }
    }

    /// Begins the deletion of an app or route whose role was checked; none: nothing stands in its way, delete it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is being deleted.
    pub fn begin(&self, tx: &mut Tx<'_>, guid: &str) -> Result<Option<Job>> {
        let managed = self.bindings(tx, guid)?.into_iter().map(|binding| {
            let instance = service_instances::find(tx.conn, &binding.instance_guid)?;
            Ok(instance.is_some_and(|instance| instance.plan_guid.is_some()))
        });
        if !managed.collect::<Result<Vec<bool>>>()?.contains(&true) {
            return Ok(None);
        }
        let (kind, operation, collection) = match self.app {
            true => (Kind::AppDelete, "app.delete", "apps"),
            false => (Kind::RouteDelete, "route.delete", "routes"),
        };
        if let Some(running) = operations::of(tx, kind, guid)? {
            return jobs::find(tx.conn, running.guid());
        }
        let work = New {
            kind,
            resource: guid,
            broker: None,
            user: Originator::of(tx),
            target: Target::default(),
            data: Value::Null,
            time: operations::MAX_POLLING,
            job: Some((operation, (collection, guid))),
        };
        operations::begin(tx, work, busy)
    }
}

impl Handler for Owner {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        let guid = op.resource().to_owned();
        let mut waits = false;
        let mut stuck = vec![];
        for binding in self.bindings(tx, &guid)? {
            if state(&binding) == State::Stuck && binding.op_updated_at >= op.began() {
                stuck.push(binding.op_description.clone());
            } else {
                waits |= !remove_part(tx, &binding, op.user.clone())?;
            }
        }
        if waits {
            return Ok(Prepared::Wait);
        }
        if !stuck.is_empty() {
            let lead = "unbind could not be completed: ";
            let texts: Vec<String> = stuck.into_iter().map(|text| format!("{lead}{text}")).collect();
            let what = if self.app { "app" } else { "route" };
            let text = format!(
                "Deletion of {what} {guid} failed because one or more associated resources could not be deleted.\n\n{}",
                texts.join("\n")
            );
            return Ok(Prepared::End(Ended::failed(Error::rule(Rule::AppRecursiveDelete, text))));
        }
        if self.app {
            if let Some((app, space, org)) = apps::find_with_scope(tx.conn, &guid)? {
                app_domain::delete_in(tx, &app, &Scope { space, org })?;
            }
        } else {
            route_domain::delete_all(tx, &[guid])?;
        }
        Ok(Prepared::End(Ended::well()))
    }

    fn succeeded(&self, _: &mut Tx<'_>, _: &mut Operation, _: &Object) -> Result<std::result::Result<Ended, Failure>> {
        Ok(Ok(Ended::well()))
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        Ok(Ended::failed(op.unable(tx, "delete", failure)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value, kind: &str, required: &[&str]) -> Result<Handed, String> {
        let required: Vec<String> = required.iter().map(|text| (*text).to_owned()).collect();
        let Value::Object(body) = body else { panic!() };
        Handed::read(&body, kind, &required)
    }

    #[test]
    fn what_a_broker_hands_over_is_taken_as_it_is() {
        let mount = json!([{ "driver": "nfs", "container_dir": "/d", "mode": "rw", "device_type": "shared", "device": { "volume_id": "v" } }]);
        let body = json!({ "credentials": { "uri": "x" }, "syslog_drain_url": "syslog://l", "volume_mounts": mount,
            "endpoints": [{ "host": "10.0.0.1", "ports": ["1"] }], "route_service_url": "nonsense", "unknown": 1 });
        let handed = read(body, "app", &["syslog_drain", "volume_mount"]).unwrap();
        assert_eq!(handed.credentials, Some(json!({ "uri": "x" })));
        assert_eq!(handed.syslog_drain_url.as_deref(), Some("syslog://l"));
        assert_eq!((handed.volume_mounts, handed.route_service_url), (Some(mount), None));
        assert!(handed.endpoints.is_some());
        assert_eq!(
            read(json!({ "credentials": null, "syslog_drain_url": null, "volume_mounts": [] }), "app", &[]),
            Ok(Handed::default())
        );
        let routed = read(json!({ "route_service_url": "https://r.x/p" }), "route", &[]).unwrap();
        assert_eq!(routed.route_service_url.as_deref(), Some("https://r.x/p"));
    }

    #[test]
    fn what_the_catalog_does_not_declare_or_the_contract_forbids_is_refused() {
        let cases = [
            (json!({ "credentials": "x" }), "app", "'credentials' must be a JSON object"),
            (json!({ "syslog_drain_url": "syslog://l" }), "app", "not registered as a logging service"),
            (json!({ "syslog_drain_url": 5 }), "app", "'syslog_drain_url' must be a string"),
            (json!({ "volume_mounts": {} }), "app", "'volume_mounts' must be an array"),
            (json!({ "volume_mounts": [{}] }), "app", "must have 'driver'"),
            (
                json!({ "volume_mounts": [{ "driver": "n", "container_dir": "/d", "mode": "r", "device_type": "shared", "device": {} }] }),
                "app",
                "'device' with 'volume_id'",
            ),
            (
                json!({ "volume_mounts": [{ "driver": "n", "container_dir": "/d", "mode": "r", "device_type": "shared", "device": { "volume_id": "v" } }] }),
                "app",
                "not registered as a volume mount service",
            ),
            (json!({ "route_service_url": "http://r.x" }), "route", "must be an https URL"),
            (json!({ "route_service_url": "https://.com" }), "route", "must be an https URL"),
        ];
        for (body, kind, expected) in cases {
            let told = read(body.clone(), kind, &[]).unwrap_err();
            assert!(told.contains(expected), "{body}: {told}");
        }
    }
}
