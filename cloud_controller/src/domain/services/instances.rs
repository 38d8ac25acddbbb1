//! Service instances: managed ones, which brokers make, and user-provided ones, which are kept here only.
//!
//! Source: cloud_controller_ng, `app/actions/v3/service_instance_*.rb`, `app/actions/service_instance_*.rb`.

use crate::{
    domain::{
        Access, Error, Result, Rule, Scope, Tx, audit, flags,
        metadata::MetadataChange,
        quotas::{self, Full},
        services::{
            backups, context, mitigation,
            operations::{self, Kind, New, Originator, Target, polling_time},
            parameters, usage, visibility,
        },
        taken,
    },
    store::{
        jobs::Job,
        metadata::{self as metadata_store, Described},
        service_bindings,
        service_instances::{self as store, Instance, KIND},
        service_plans::{self, Offered},
    },
};
use serde_json::{Map, Value, json};

/// How long all tags of an instance may be together.
const MAX_TAGS: usize = 2048;

/// What a new managed instance is to be.
#[derive(Clone, Debug)]
pub struct NewManaged {
    pub name: String,
    pub space: String,
    pub plan: String,
    pub parameters: Option<Map<String, Value>>,
    pub tags: Vec<String>,
    pub metadata: MetadataChange,
    /// The instance to copy, and its backup.
    pub source: Option<(String, Option<String>)>,
    /// The request with its parameters hidden, for events.
    pub request: Value,
}

/// What a new user-provided instance is to be.
#[derive(Clone, Debug)]
pub struct NewUserProvided {
    pub name: String,
    pub space: String,
    pub credentials: Option<Map<String, Value>>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    pub tags: Vec<String>,
    pub metadata: MetadataChange,
    /// The request with its credentials hidden, for events.
    pub request: Value,
}

/// An instance that the caller reads, with the scope in which it was made: R there, or in a space to which it is shared.
///
/// # Errors
/// [`Error::NotFound`].
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<(Instance, Scope)> {
    let missing = || Error::NotFound("Service instance");
    let instance = store::find(tx.conn, guid)?.ok_or_else(missing)?;
    let scope = scope(tx, &instance)?;
    if tx.who.reads_space(&scope.space.guid, &scope.org.guid) {
        return Ok((instance, scope));
    }
    for space in store::shared_spaces(tx.conn, guid)? {
        if tx.who.reads_space(&space.guid, &space.org_guid) {
            return Ok((instance, scope));
        }
    }
    Err(missing())
}

/// An instance that the caller may change (W in the space in which it was made).
///
/// # Errors
/// [`Error::NotFound`], [`Error::Forbidden`], or the rule of a state that forbids writing.
pub fn writable(tx: &mut Tx<'_>, guid: &str) -> Result<(Instance, Scope)> {
    let (instance, scope) = readable(tx, guid)?;
    scope.check(tx, scope.writes(tx))?;
    Ok((instance, scope))
}

/// The scope in which an instance was made.
pub fn scope(tx: &mut Tx<'_>, instance: &Instance) -> Result<Scope> {
    Scope::find(tx, &instance.space_guid)?.ok_or_else(|| Error::internal("an instance", "its space is gone"))
}

/// The plan of a managed instance with all above it; none of a user-provided one.
pub fn offered(tx: &mut Tx<'_>, instance: &Instance) -> Result<Option<Offered>> {
    match &instance.plan_guid {
        Some(plan) => service_plans::find_offered(tx.conn, plan),
        None => Ok(None),
    }
}

/// Tags as the API shows them.
pub fn tags(instance: &Instance) -> Vec<String> {
    serde_json::from_str(&instance.tags).unwrap_or_default()
}

/// True while something is done to it.
pub fn busy(instance: &Instance) -> bool {
    instance.op_state == "in progress"
}
/// True when it could not be made.
pub fn create_failed(instance: &Instance) -> bool {
    instance.op_type == "create" && instance.op_state == "failed"
}
/// True while it is being deleted.
pub fn deleting(instance: &Instance) -> bool {
    instance.op_type == "delete" && busy(instance)
}

/// Notes what is done to an instance; the row is still to be written.
pub fn note(tx: &Tx<'_>, instance: &mut Instance, kind: &str, state: &str, description: &str) {
    if instance.op_type != kind || state == "in progress" && instance.op_state != state {
        instance.op_created_at = tx.micros();
    }
    instance.op_type = kind.to_owned();
    instance.op_state = state.to_owned();
    instance.op_description = description.to_owned();
    instance.op_updated_at = tx.micros();
    instance.updated_at = tx.micros();
}

/// The text for an operation that meets another one.
pub fn in_progress(instance: &Instance) -> Error {
    Error::rule(Rule::InstanceBusy, format!("An operation for service instance {} is in progress.", instance.name))
}

/// What brokers are told about an instance, and people about its plan.
pub fn target(instance: &Instance, offered: &Offered) -> Target {
    Target {
        instance: instance.guid.clone(),
        binding: None,
        service_id: offered.offering.catalog_id.clone(),
        plan_id: offered.plan.catalog_id.clone(),
        plan_name: offered.plan.name.clone(),
    }
}

fn referred_space(tx: &mut Tx<'_>, space: &str) -> Result<Scope> {
    flags::require(tx, "service_instance_creation")?;
    let scope = Scope::referred(tx, space, "Invalid space. Ensure that the space exists and you have access to it.")?;
    scope.check(tx, scope.writes(tx))?;
    Ok(scope)
}

/// Checks that a plan can be used in a space by the caller.
///
/// # Errors
/// [`Error::Invalid`] with the contract's text.
pub fn usable_plan(tx: &mut Tx<'_>, plan: &str, scope: &Scope) -> Result<Offered> {
    let unusable = "Invalid service plan. Ensure that the service plan exists, is available, and you have access to it.";
    let offered = service_plans::find_offered(tx.conn, plan)?.ok_or_else(|| Error::invalid(unusable))?;
    if !visibility::sees(tx, &offered)? {
        return Err(Error::invalid(unusable));
    }
    let of_plan = format!("'{}' with guid '{}'", offered.plan.name, offered.plan.guid);
    if !offered.plan.available {
        return Err(Error::invalid(format!(
            "Invalid service plan. The service plan {of_plan} has been removed from the service broker's catalog. It is not \
             possible to create new service instances using this plan."
        )));
    }
    if !visible_in(tx, &offered, scope)? {
        return Err(Error::invalid(format!(
            "Invalid service plan. This could be due to a space-scoped broker which is offering the service plan {of_plan} in \
             another space or that the plan is not enabled in this organization. Ensure that the service plan is visible in \
             your current space '{}' with guid '{}'.",
            scope.space.name, scope.space.guid
        )));
    }
    Ok(offered)
}

/// True when a plan is offered in a space: to everybody, to its organization, or by a broker of that space.
pub fn visible_in(tx: &mut Tx<'_>, offered: &Offered, scope: &Scope) -> Result<bool> {
    match &offered.broker.space_guid {
        Some(space) => Ok(*space == scope.space.guid),
        None if offered.plan.public => Ok(true),
        None => service_plans::is_granted(tx.conn, &offered.plan.guid, std::slice::from_ref(&scope.org.guid)),
    }
}

/// Checks that a name is free in a space, for an instance that may have it already. One that could not be made gives way.
fn free_name(tx: &mut Tx<'_>, scope: &Scope, name: &str) -> Result<()> {
    let Some(there) = store::named(tx.conn, &scope.space.guid, name)? else { return Ok(()) };
    if there.space_guid != scope.space.guid || !create_failed(&there) || store::count_bindings(tx.conn, &there.guid)? > 0 {
        return Err(Error::invalid(format!("The service instance name is taken: {name}.")));
    }
    // Whatever its broker may have made must go, or nobody would ever know of it again.
    if let Some(offered) = offered(tx, &there)? {
        mitigation::begin(tx, Kind::OrphanInstance, Some(&offered.broker.guid), &target(&there, &offered))?;
    }
    remove(tx, &there)
}

/// Forgets an instance without bindings: row, shares and metadata.
pub fn remove(tx: &mut Tx<'_>, instance: &Instance) -> Result<()> {
    metadata_store::forget(tx.conn, KIND, std::slice::from_ref(&instance.guid))?;
    store::unshare_all(tx.conn, &instance.guid)?;
    store::delete(tx.conn, &instance.guid)
}

/// Checks that tags are not too long together.
pub fn check_tags(name: &str, tags: &[String]) -> Result<()> {
    if tags.iter().map(|tag| tag.chars().count()).sum::<usize>() > MAX_TAGS {
        let text = format!("Combined length of tags for service {name} must be {MAX_TAGS} characters or less.");
        return Err(Error::invalid(text));
    }
    Ok(())
}

/// Checks that another instance fits the quotas.
fn check_quotas(tx: &mut Tx<'_>, scope: &Scope) -> Result<()> {
    let count = (store::count_managed_in_space as _, store::count_managed_in_org as _);
    match quotas::full(tx, scope, |limits| limits.total_service_instances, count)? {
        Some(Full::Space) => Err(Error::invalid("You have exceeded your space's services limit.")),
        Some(Full::Org) => Err(Error::invalid("You have exceeded your organization's services limit.")),
        None => Ok(()),
    }
}

/// Checks that a plan that costs something is allowed. Space before organization.
pub fn check_paid(tx: &mut Tx<'_>, scope: &Scope, offered: &Offered) -> Result<()> {
    if offered.plan.free {
        return Ok(());
    }
    let lead = "The service instance cannot be created because paid service plans are not allowed";
    let (of_space, of_org) = quotas::limits_of(tx, scope)?;
    if of_space.is_some_and(|limits| !limits.paid_services) {
        return Err(Error::invalid(format!("{lead} for your space.")));
    }
    if of_org.is_some_and(|limits| !limits.paid_services) {
        return Err(Error::invalid(format!("{lead}.")));
    }
    Ok(())
}

/// Begins to make a managed instance (W).
pub fn create_managed(tx: &mut Tx<'_>, new: &NewManaged) -> Result<Job> {
    let scope = referred_space(tx, &new.space)?;
    let offered = usable_plan(tx, &new.plan, &scope)?;
    if let Some((source, _)) = &new.source {
        check_source(tx, source, &offered)?;
    }
    if !matches!(offered.broker.state.as_str(), "AVAILABLE" | "") {
        let why = "The service instance cannot be created because there is an operation in progress for the service broker.";
        return Err(Error::invalid(why));
    }
    check_tags(&new.name, &new.tags)?;
    check_paid(tx, &scope, &offered)?;
    check_quotas(tx, &scope)?;
    parameters::check(offered.plan.create_schema.as_deref(), new.parameters.as_ref(), &offered)?;
    free_name(tx, &scope, &new.name)?;
    let instance = Instance {
        plan_guid: Some(offered.plan.guid.clone()),
        maintenance_info: offered.plan.maintenance_info.clone(),
        op_state: "in progress".into(),
        ..blank(tx, &new.name, "managed", &scope, &new.tags)
    };
    taken(store::insert(tx.conn, &instance), || Error::invalid(format!("The service instance name is taken: {}.", new.name)))?;
    let metadata = new.metadata.apply(tx, KIND, &instance.guid)?;
    let mut context = context::of(tx, &scope, Some(&new.name))?;
    context["instance_annotations"] = context::public_annotations(&metadata).into();
    let mut body = json!({
        "service_id": offered.offering.catalog_id,
        "plan_id": offered.plan.catalog_id,
        "organization_guid": scope.org.guid,
        "space_guid": scope.space.guid,
        "context": context,
    });
    if let Some(parameters) = &new.parameters {
        body["parameters"] = parameters.clone().into();
    }
    if let Some(version) = version(offered.plan.maintenance_info.as_deref()) {
        body["maintenance_info"] = json!({ "version": version });
    }
    if let Some((source, backup)) = &new.source {
        body["cupola_clone_from"] = json!({ "instance_id": source });
        if let Some(backup) = backup {
            body["cupola_clone_from"]["backup_id"] = backup.clone().into();
        }
    }
    let user = Originator::of(tx);
    let work = New {
        kind: Kind::InstanceCreate,
        resource: &instance.guid,
        broker: Some(&offered.broker.guid),
        user,
        target: target(&instance, &offered),
        data: json!({ "body": body, "request": new.request }),
        time: polling_time(tx.max_polling, offered.plan.maximum_polling_s),
        job: Some(("service_instance.create", ("service_instances", &instance.guid))),
    };
    operations::begin_job(tx, work, || in_progress(&instance))
}

/// Checks that an instance may be copied: whoever has the copy has the data, so only developers of its space may do that.
fn check_source(tx: &mut Tx<'_>, source: &str, wanted: &Offered) -> Result<()> {
    let unusable =
        || Error::invalid("Invalid source. Ensure that the service instance exists and that you may write in its space.");
    let (instance, scope) = match readable(tx, source) {
        Err(Error::NotFound(_)) => return Err(unusable()),
        other => other?,
    };
    if !scope.writes(tx) || create_failed(&instance) || deleting(&instance) {
        return Err(unusable());
    }
    let offered = backups::supporting(tx, &instance)?;
    if offered.offering.guid != wanted.offering.guid {
        return Err(Error::invalid("Invalid source. The service instance is of a different service offering."));
    }
    Ok(())
}

/// `version` of a `maintenance_info` as the tables have it.
pub fn version(maintenance_info: Option<&str>) -> Option<String> {
    let info: Value = serde_json::from_str(maintenance_info?).ok()?;
    info["version"].as_str().map(str::to_owned)
}

fn blank(tx: &mut Tx<'_>, name: &str, kind: &str, scope: &Scope, tags: &[String]) -> Instance {
    Instance {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        name: name.to_owned(),
        kind: kind.to_owned(),
        space_guid: scope.space.guid.clone(),
        plan_guid: None,
        tags: json!(tags).to_string(),
        dashboard_url: None,
        maintenance_info: None,
        broker_metadata: None,
        credentials: None,
        syslog_drain_url: None,
        route_service_url: None,
        unusable: false,
        op_type: "create".into(),
        op_state: "succeeded".into(),
        op_description: "Operation succeeded".into(),
        op_created_at: tx.micros(),
        op_updated_at: tx.micros(),
    }
}

/// Makes a user-provided instance (W).
pub fn create_user_provided(tx: &mut Tx<'_>, new: &NewUserProvided) -> Result<Described<Instance>> {
    let scope = referred_space(tx, &new.space)?;
    check_tags(&new.name, &new.tags)?;
    free_name(tx, &scope, &new.name)?;
    let mut instance = Instance {
        syslog_drain_url: new.syslog_drain_url.clone(),
        route_service_url: new.route_service_url.clone(),
        ..blank(tx, &new.name, "user-provided", &scope, &new.tags)
    };
    instance.credentials = seal_credentials(tx, &instance.guid, new.credentials.as_ref())?;
    taken(store::insert(tx.conn, &instance), || Error::invalid(format!("The service instance name is taken: {}.", new.name)))?;
    let metadata = new.metadata.apply(tx, KIND, &instance.guid)?;
    record(tx, "create", &instance, &scope, json!({ "request": new.request }))?;
    usage::record(tx, "CREATED", &instance, &scope)?;
    Ok(Described { row: instance, metadata })
}

fn seal_credentials(tx: &mut Tx<'_>, guid: &str, credentials: Option<&Map<String, Value>>) -> Result<Option<Vec<u8>>> {
    match credentials {
        Some(credentials) => Ok(Some(tx.seal(&Instance::place(guid), json!(credentials).to_string().as_bytes())?)),
        None => Ok(None),
    }
}

/// What a user-provided instance is to become; outer `None`: as it is.
#[derive(Clone, Debug)]
pub struct UserProvidedChange {
    pub name: Option<String>,
    pub credentials: Option<Option<Map<String, Value>>>,
    pub syslog_drain_url: Option<Option<String>>,
    pub route_service_url: Option<Option<String>>,
    pub tags: Option<Vec<String>>,
    pub metadata: MetadataChange,
    pub request: Value,
}

/// Changes a user-provided instance (W); its bindings follow.
pub fn update_user_provided(tx: &mut Tx<'_>, guid: &str, change: &UserProvidedChange) -> Result<Described<Instance>> {
    let (mut instance, scope) = writable(tx, guid)?;
    let before = instance.name.clone();
    if let Some(name) = &change.name {
        check_rename(tx, &instance, name)?;
        instance.name.clone_from(name);
    }
    if let Some(tags) = &change.tags {
        check_tags(&instance.name, tags)?;
        instance.tags = json!(tags).to_string();
    }
    if let Some(credentials) = &change.credentials {
        instance.credentials = seal_credentials(tx, &instance.guid, credentials.as_ref())?;
    }
    if let Some(url) = &change.syslog_drain_url {
        instance.syslog_drain_url.clone_from(url);
    }
    if let Some(url) = &change.route_service_url {
        instance.route_service_url.clone_from(url);
    }
    note(tx, &mut instance, "update", "succeeded", "Operation succeeded");
    taken(store::save(tx.conn, &instance), || name_taken(&instance.name))?;
    super::bindings::follow_user_provided(tx, &instance)?;
    let metadata = change.metadata.apply(tx, KIND, guid)?;
    record(tx, "update", &instance, &scope, json!({ "request": change.request }))?;
    if before != instance.name {
        usage::record(tx, "UPDATED", &instance, &scope)?;
    }
    Ok(Described { row: instance, metadata })
}

fn name_taken(name: &str) -> Error {
    Error::invalid(format!("The service instance name is taken: {name}"))
}

/// Checks that an instance may be called so.
pub fn check_rename(tx: &mut Tx<'_>, instance: &Instance, name: &str) -> Result<()> {
    let mut spaces = vec![instance.space_guid.clone()];
    spaces.extend(store::shared_spaces(tx.conn, &instance.guid)?.into_iter().map(|space| space.guid));
    for space in spaces {
        if store::named(tx.conn, &space, name)?.is_some_and(|other| other.guid != instance.guid) {
            return Err(name_taken(name));
        }
    }
    Ok(())
}

/// The credentials of a user-provided instance (S).
pub fn credentials(tx: &mut Tx<'_>, guid: &str) -> Result<Value> {
    let (instance, scope) = readable(tx, guid)?;
    if instance.kind == "managed" {
        return Err(Error::NotFound("Service instance"));
    }
    Access::require(tx.who.reads_secrets(&scope.space.guid))?;
    record(tx, "show", &instance, &scope, json!({}))?;
    match &instance.credentials {
        Some(sealed) => {
            let opened = tx.open(&Instance::place(&instance.guid), sealed)?;
            serde_json::from_slice(&opened).map_err(|e| Error::internal("the credentials of an instance", e))
        }
        None => Ok(json!({})),
    }
}

/// What the caller may do with an instance: manage, read.
///
/// # Errors
/// [`Error::NotFound`] when there is none; whoever may not read it is told so.
pub fn permissions(tx: &mut Tx<'_>, guid: &str) -> Result<(bool, bool)> {
    let instance = store::find(tx.conn, guid)?.ok_or(Error::NotFound("Service instance"))?;
    let scope = scope(tx, &instance)?;
    let reads = readable(tx, guid).is_ok();
    Ok((scope.check(tx, scope.writes(tx)).is_ok(), reads))
}

/// Deletes an instance with its bindings and shares (W); returns the job, unless it is done.
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Option<Job>> {
    let (instance, scope) = writable(tx, guid)?;
    if busy(&instance) && instance.op_type != "create" {
        return Err(Error::invalid("There is an operation in progress for the service instance."));
    }
    if instance.kind != "managed" {
        delete_user_provided(tx, &instance, &scope)?;
        return Ok(None);
    }
    let user = Originator::of(tx);
    let job = Some(("service_instance.delete", ("service_instances", guid)));
    begin_delete(tx, &instance, user, job)
}

/// Deletes a user-provided instance with its bindings.
pub fn delete_user_provided(tx: &mut Tx<'_>, instance: &Instance, scope: &Scope) -> Result<()> {
    for binding in service_bindings::of_instance(tx.conn, &instance.guid)? {
        super::bindings::begin_delete(tx, &binding, Originator::of(tx))?;
    }
    remove(tx, instance)?;
    record(tx, "delete", instance, scope, json!({}))?;
    usage::record(tx, "DELETED", instance, scope)
}

/// Begins to delete a managed instance; [`super::provisioning::Delete`] goes on with it.
pub fn begin_delete(
    tx: &mut Tx<'_>,
    instance: &Instance,
    user: Option<Originator>,
    job: Option<(&str, (&str, &str))>,
) -> Result<Option<Job>> {
    let offered = offered(tx, instance)?.ok_or_else(|| Error::internal("a managed instance", "it has no plan"))?;
    let cancels = busy(instance) && instance.op_type == "create";
    if !cancels {
        let mut instance = instance.clone();
        note(tx, &mut instance, "delete", "in progress", "");
        store::save(tx.conn, &instance)?;
    }
    let work = New {
        kind: Kind::InstanceDelete,
        resource: &instance.guid,
        broker: Some(&offered.broker.guid),
        user,
        target: target(instance, &offered),
        data: Value::Null,
        time: polling_time(tx.max_polling, offered.plan.maximum_polling_s),
        job,
    };
    let busy = || Error::invalid("There is an operation in progress for the service instance.");
    operations::begin(tx, work, busy)
}

/// Forgets an instance and its bindings without asking its broker (A; W for user-provided ones and space-scoped brokers).
pub fn purge(tx: &mut Tx<'_>, guid: &str) -> Result<()> {
    let (instance, scope) = writable(tx, guid)?;
    if let Some(offered) = offered(tx, &instance)? {
        let allowed = match &offered.broker.space_guid {
            Some(space) => tx.who.writes_space(space),
            None => tx.who.admin(),
        };
        Access::require(allowed)?;
    }
    purge_unchecked(tx, &instance, &scope)
}

/// As [`purge`], when the right to do so was found elsewhere.
pub fn purge_unchecked(tx: &mut Tx<'_>, instance: &Instance, scope: &Scope) -> Result<()> {
    for binding in service_bindings::of_instance(tx.conn, &instance.guid)? {
        super::bindings::purge(tx, &binding)?;
    }
    let gone = Error::rule(Rule::InstanceNotFound, format!("The service instance could not be found: {}", instance.guid));
    let under_way = [Kind::InstanceCreate, Kind::InstanceUpdate, Kind::BackupCreate, Kind::BackupDelete, Kind::BackupRestore];
    for kind in under_way {
        if let Some(op) = operations::of(tx, kind, &instance.guid)? {
            operations::cancel(tx, &op, &gone)?;
        }
    }
    if let Some(op) = operations::of(tx, Kind::InstanceDelete, &instance.guid)? {
        operations::complete(tx, &op)?;
    }
    remove(tx, instance)?;
    record(tx, "purge", instance, scope, json!({}))?;
    usage::record(tx, "DELETED", instance, scope)?;
    operations::wake(tx, Kind::SpaceDelete, &scope.space.guid)
}

/// Writes an event of the caller about an instance.
pub fn record(tx: &mut Tx<'_>, verb: &str, instance: &Instance, scope: &Scope, data: Value) -> Result<()> {
    let family = family(instance);
    let kind = format!("audit.{family}.{verb}");
    let target = (family, instance.guid.as_str(), instance.name.as_str());
    audit::record(tx, audit::Event { kind: &kind, target, space: Some(&scope.space.guid), org: Some(&scope.org.guid), data })
}

/// The word that events have for an instance.
pub fn family(instance: &Instance) -> &'static str {
    if instance.kind == "managed" { "service_instance" } else { "user_provided_service_instance" }
}
