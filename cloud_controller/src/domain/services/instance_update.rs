//! Changes of managed instances: which are refused, which are made at once, and which the broker is asked for.
//!
//! Source: cloud_controller_ng, `app/actions/v3/service_instance_update_managed.rb`.

use crate::{
    domain::{
        Error, Result, Rule, Scope, Tx,
        metadata::MetadataChange,
        services::{
            context, instances,
            operations::{self, Kind, New, Originator, polling_time},
            parameters, usage, visibility,
        },
        taken,
    },
    store::{
        jobs::Job,
        metadata::{self, Described},
        service_instances::{self as store, Instance, KIND},
        service_plans::{self, Offered},
    },
};
use serde_json::{Map, Value, json};

/// What a managed instance is to become.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub name: Option<String>,
    pub tags: Option<Vec<String>>,
    pub parameters: Option<Map<String, Value>>,
    pub plan: Option<String>,
    /// `maintenance_info.version`
    pub version: Option<String>,
    pub metadata: MetadataChange,
    /// Nothing but metadata is to change.
    pub metadata_only: bool,
    /// `metadata` as it came, to be applied once the broker is done.
    pub raw_metadata: Value,
    /// The request with its parameters hidden, for events.
    pub request: Value,
}

/// How a change goes on.
pub enum Changed {
    /// It is made.
    There(Box<Described<Instance>>),
    /// Its job.
    Begun(Job),
}

/// Changes a managed instance (W).
pub fn update(tx: &mut Tx<'_>, guid: &str, change: &Change) -> Result<Changed> {
    let (mut instance, scope) = instances::writable(tx, guid)?;
    let now = instances::offered(tx, &instance)?.ok_or(Error::NotFound("Service instance"))?;
    if instances::create_failed(&instance) {
        let text = format!("The service instance could not be found: {}", instance.name);
        return Err(Error::rule(Rule::InstanceNotFound, text));
    }
    if change.metadata_only && !instances::deleting(&instance) {
        let metadata = change.metadata.apply(tx, KIND, guid)?;
        instance.updated_at = tx.micros();
        store::save(tx.conn, &instance)?;
        instances::record(tx, "update", &instance, &scope, json!({ "request": change.request }))?;
        return Ok(Changed::There(Box::new(Described { row: instance, metadata })));
    }
    let then = match &change.plan {
        Some(plan) => wanted_plan(tx, plan, &now, &scope)?,
        None => now.clone(),
    };
    if let Some(name) = &change.name {
        instances::check_rename(tx, &instance, name)?;
        if *name != instance.name && !store::shared_spaces(tx.conn, guid)?.is_empty() {
            return Err(Error::invalid("Service instances that have been shared cannot be renamed"));
        }
    }
    if let Some(tags) = &change.tags {
        instances::check_tags(&instance.name, tags)?;
    }
    let moves = then.plan.guid != now.plan.guid;
    check_plan_change(tx, &instance, change, &now, &then, &scope)?;
    check_version(&instance, change, &now, moves)?;
    check_accessible(&instance, change, &now)?;
    if let Some(parameters) = &change.parameters {
        parameters::check(then.plan.update_schema.as_deref(), Some(parameters), &then)?;
    }
    if instances::busy(&instance) {
        return Err(instances::in_progress(&instance));
    }
    let renames = change.name.as_ref().is_some_and(|name| *name != instance.name) && now.offering.allow_context_updates;
    let version_changes = change.version.is_some() && change.version != instances::version(instance.maintenance_info.as_deref());
    if renames || moves || version_changes || change.parameters.is_some() {
        return begin(tx, instance, &scope, change, &now, &then).map(Changed::Begun);
    }
    let before = instance.name.clone();
    instance.name = change.name.clone().unwrap_or(instance.name);
    if let Some(tags) = &change.tags {
        instance.tags = json!(tags).to_string();
    }
    instances::note(tx, &mut instance, "update", "succeeded", "");
    let text = || Error::invalid(format!("The service instance name is taken: {}", instance.name));
    taken(store::save(tx.conn, &instance), text)?;
    let metadata = change.metadata.apply(tx, KIND, guid)?;
    instances::record(tx, "update", &instance, &scope, json!({ "request": change.request }))?;
    if before != instance.name {
        usage::record(tx, "UPDATED", &instance, &scope)?;
    }
    Ok(Changed::There(Box::new(Described { row: instance, metadata })))
}

fn wanted_plan(tx: &mut Tx<'_>, plan: &str, now: &Offered, scope: &Scope) -> Result<Offered> {
    let unusable =
        || Error::invalid("Invalid service plan. Ensure that the service plan exists, is available, and you have access to it.");
    let then = service_plans::find_offered(tx.conn, plan)?.ok_or_else(unusable)?;
    if then.plan.guid == now.plan.guid {
        return Ok(then);
    }
    if !visibility::sees(tx, &then)? || !then.plan.available {
        return Err(unusable());
    }
    if !instances::visible_in(tx, &then, scope)? {
        let text = "Invalid service plan. Ensure that the service plan is visible in your current space.";
        return Err(Error::invalid(text));
    }
    if then.offering.guid != now.offering.guid {
        return Err(Error::rule(Rule::InvalidRelation, "service plan relates to a different service offering"));
    }
    Ok(then)
}

fn check_plan_change(
    tx: &mut Tx<'_>,
    instance: &Instance,
    change: &Change,
    now: &Offered,
    then: &Offered,
    scope: &Scope,
) -> Result<()> {
    if change.plan.is_none() || now.plan.guid == then.plan.guid {
        return Ok(());
    }
    instances::check_paid(tx, scope, then)?;
    if !now.plan_updateable() {
        return Err(Error::invalid("The service does not support changing plans."));
    }
    if !then.bindable() && store::count_bindings(tx.conn, &instance.guid)? > 0 {
        let text = "The service plan is invalid: cannot switch to non-bindable plan when service bindings exist";
        return Err(Error::invalid(text));
    }
    Ok(())
}

fn check_version(instance: &Instance, change: &Change, now: &Offered, moves: bool) -> Result<()> {
    let Some(version) = &change.version else { return Ok(()) };
    if moves {
        return Err(Error::invalid("maintenance_info should not be changed when switching to different plan."));
    }
    let Some(of_plan) = instances::version(now.plan.maintenance_info.as_deref()) else {
        let text = "The service broker does not support upgrades for service instances created from this plan.";
        return Err(Error::invalid(text));
    };
    let current = instances::version(instance.maintenance_info.as_deref());
    if *version != of_plan && Some(version) != current.as_ref() {
        return Err(Error::invalid(
            "maintenance_info.version requested is invalid. Please ensure the catalog is up to date and you are providing a \
             version supported by this service plan.",
        ));
    }
    Ok(())
}

/// A plan that left the catalog leaves its instances as they are, unless they move to another plan.
fn check_accessible(instance: &Instance, change: &Change, now: &Offered) -> Result<()> {
    if now.plan.available {
        return Ok(());
    }
    let current = instances::version(instance.maintenance_info.as_deref());
    let what = if change.parameters.is_some() {
        "parameters"
    } else if now.offering.allow_context_updates && change.name.is_some() {
        "name"
    } else if change.version.is_some() && change.version != current {
        "maintenance_info"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("Cannot update {what} of a service instance that belongs to inaccessible plan")))
}

fn begin(tx: &mut Tx<'_>, mut instance: Instance, scope: &Scope, change: &Change, now: &Offered, then: &Offered) -> Result<Job> {
    let moves = now.plan.guid != then.plan.guid;
    let name = change.name.as_deref().unwrap_or(&instance.name);
    let current = instances::version(instance.maintenance_info.as_deref());
    let mut context = context::of(tx, scope, Some(name))?;
    let of_instance = metadata::of(tx.conn, KIND, &instance.guid)?;
    context["instance_annotations"] = context::public_annotations(&of_instance).into();
    let mut body = json!({
        "service_id": then.offering.catalog_id,
        "plan_id": then.plan.catalog_id,
        "context": context,
        "parameters": change.parameters.clone().unwrap_or_default(),
        "previous_values": {
            "service_id": now.offering.catalog_id,
            "plan_id": now.plan.catalog_id,
            "organization_id": scope.org.guid,
            "space_id": scope.space.guid,
        },
    });
    if let Some(version) = &current {
        body["previous_values"]["maintenance_info"] = json!({ "version": version });
    }
    let version = if moves { instances::version(then.plan.maintenance_info.as_deref()) } else { change.version.clone() };
    let mut becomes = json!({ "metadata": change.raw_metadata });
    if let Some(version) = version {
        body["maintenance_info"] = json!({ "version": version });
        let info = then.plan.maintenance_info.as_deref().and_then(|info| serde_json::from_str::<Value>(info).ok());
        let info = info.filter(|info| info["version"] == version.as_str());
        becomes["maintenance_info"] = info.unwrap_or_else(|| json!({ "version": version }));
    }
    if let Some(name) = &change.name {
        becomes["name"] = name.clone().into();
    }
    if let Some(tags) = &change.tags {
        becomes["tags"] = json!(tags);
    }
    if moves {
        becomes["plan"] = then.plan.guid.clone().into();
    }
    instances::note(tx, &mut instance, "update", "in progress", "");
    store::save(tx.conn, &instance)?;
    let user = Originator::of(tx);
    let work = New {
        kind: Kind::InstanceUpdate,
        resource: &instance.guid,
        broker: Some(&now.broker.guid),
        user,
        target: instances::target(&instance, now),
        data: json!({ "body": body, "change": becomes, "request": change.request }),
        time: polling_time(tx.max_polling, then.plan.maximum_polling_s),
        job: Some(("service_instance.update", ("service_instances", &instance.guid))),
    };
    operations::begin_job(tx, work, || instances::in_progress(&instance))
}
