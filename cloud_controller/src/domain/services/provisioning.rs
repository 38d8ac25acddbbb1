//! Work at brokers for managed instances: what is sent, and what becomes of the instance by the answers.

use crate::{
    brokers::{Failure, FailureKind, Object, Request},
    domain::{
        Error, Result, Rule, Tx,
        metadata::MetadataChange,
        services::{
            bindings, instances,
            operations::{self, Ended, Handler, Kind, Operation, Prepared, Step},
            usage,
        },
    },
    store::{
        service_bindings::{self, Binding},
        service_instances::{self as store, Instance, KIND},
        service_plans,
    },
};
use serde_json::{Value, json};

type Succeeded = Result<std::result::Result<Ended, Failure>>;

fn missing() -> Error {
    Error::NotFound("Service instance")
}

/// What the job of an operation says whose instance was forgotten meanwhile.
fn forgotten() -> Ended {
    Ended::failed(missing())
}

/// Takes over what an answer says about the instance itself.
fn take_over(instance: &mut Instance, body: &Object) {
    // Absent or null: it stays.
    if let Some(Value::String(url)) = body.get("dashboard_url") {
        instance.dashboard_url = Some(url.clone());
    }
    if let Some(metadata @ Value::Object(_)) = body.get("metadata") {
        instance.broker_metadata = Some(metadata.to_string());
    }
}

fn description(body: &Object) -> String {
    body.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What an instance that did not become what was asked for says about it.
fn why(failure: &Failure, verb: &str) -> String {
    match failure.kind {
        FailureKind::Overdue => format!("Service Broker failed to {verb} within the required time."),
        _ => failure.text.clone(),
    }
}

/// Shows what the broker says while it works.
pub fn progress(tx: &mut Tx<'_>, op: &Operation, description: Option<&str>) -> Result<()> {
    let (Some(mut instance), Some(description)) = (store::find(tx.conn, op.resource())?, description) else { return Ok(()) };
    if instance.op_description != description && instances::busy(&instance) {
        instance.op_description = description.to_owned();
        instance.op_updated_at = tx.micros();
        store::save(tx.conn, &instance)?;
    }
    Ok(())
}

/// True when the broker shows what it made.
fn retrievable(tx: &mut Tx<'_>, op: &Operation) -> Result<bool> {
    let Some(instance) = store::find(tx.conn, op.resource())? else { return Ok(false) };
    Ok(instances::offered(tx, &instance)?.is_some_and(|offered| offered.offering.instances_retrievable))
}

fn record(tx: &mut Tx<'_>, op: &Operation, verb: &str, instance: &Instance) -> Result<()> {
    let scope = instances::scope(tx, instance)?;
    let data = if op.data["request"].is_null() { json!({}) } else { json!({ "request": op.data["request"] }) };
    instances::record(tx, verb, instance, &scope, data)
}

/// Makes an instance.
pub struct Create;

impl Handler for Create {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        match store::find(tx.conn, op.resource())? {
            Some(instance) => Ok(Prepared::Send(Request::Provision { instance: instance.guid, body: op.data["body"].clone() })),
            None => Ok(Prepared::End(forgotten())),
        }
    }

    fn accepted(&self, tx: &mut Tx<'_>, op: &mut Operation, body: &Object) -> Result<()> {
        let Some(mut instance) = store::find(tx.conn, op.resource())? else { return Ok(()) };
        take_over(&mut instance, body);
        instance.op_updated_at = tx.micros();
        store::save(tx.conn, &instance)?;
        record(tx, op, "start_create", &instance)?;
        // Somebody may have asked for its deletion in the meantime.
        operations::wake(tx, Kind::InstanceDelete, op.resource())
    }

    fn progress(&self, tx: &mut Tx<'_>, op: &mut Operation, description: Option<&str>) -> Result<()> {
        progress(tx, op, description)
    }
    fn fetches(&self, tx: &mut Tx<'_>, op: &Operation) -> Result<bool> {
        retrievable(tx, op)
    }
    fn fetch_may_fail(&self) -> bool {
        true
    }

    fn succeeded(&self, tx: &mut Tx<'_>, op: &mut Operation, body: &Object) -> Succeeded {
        let Some(mut instance) = store::find(tx.conn, op.resource())? else { return Ok(Ok(forgotten())) };
        take_over(&mut instance, body);
        if !instances::deleting(&instance) {
            instances::note(tx, &mut instance, "create", "succeeded", &description(body));
        }
        store::save(tx.conn, &instance)?;
        record(tx, op, "create", &instance)?;
        let scope = instances::scope(tx, &instance)?;
        usage::record(tx, "CREATED", &instance, &scope)?;
        operations::wake(tx, Kind::InstanceDelete, op.resource())?;
        Ok(Ok(Ended::well()))
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        let Some(mut instance) = store::find(tx.conn, op.resource())? else { return Ok(forgotten()) };
        if !instances::deleting(&instance) {
            instances::note(tx, &mut instance, "create", "failed", &why(failure, "provision"));
            store::save(tx.conn, &instance)?;
        }
        operations::wake(tx, Kind::InstanceDelete, op.resource())?;
        let verb = if failure.kind == FailureKind::OperationFailed { "create" } else { "provision" };
        Ok(Ended::failed(op.unable(tx, verb, failure)?))
    }

    fn orphan(&self) -> Option<Kind> {
        Some(Kind::OrphanInstance)
    }
}

/// Changes an instance: parameters, plan, version, name.
pub struct Update;

impl Handler for Update {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        match store::find(tx.conn, op.resource())? {
            Some(instance) => Ok(Prepared::Send(Request::Update { instance: instance.guid, body: op.data["body"].clone() })),
            None => Ok(Prepared::End(forgotten())),
        }
    }

    fn accepted(&self, tx: &mut Tx<'_>, op: &mut Operation, body: &Object) -> Result<()> {
        let Some(mut instance) = store::find(tx.conn, op.resource())? else { return Ok(()) };
        take_over(&mut instance, body);
        instance.op_updated_at = tx.micros();
        store::save(tx.conn, &instance)?;
        record(tx, op, "start_update", &instance)
    }

    fn progress(&self, tx: &mut Tx<'_>, op: &mut Operation, description: Option<&str>) -> Result<()> {
        progress(tx, op, description)
    }
    fn fetches(&self, tx: &mut Tx<'_>, op: &Operation) -> Result<bool> {
        retrievable(tx, op)
    }
    fn fetch_may_fail(&self) -> bool {
        true
    }

    fn succeeded(&self, tx: &mut Tx<'_>, op: &mut Operation, body: &Object) -> Succeeded {
        let Some(mut instance) = store::find(tx.conn, op.resource())? else { return Ok(Ok(forgotten())) };
        let before = (instance.name.clone(), instance.plan_guid.clone());
        take_over(&mut instance, body);
        let mut ended = Ended::well();
        let change = op.data["change"].clone();
        if let Some(name) = change["name"].as_str() {
            match instances::check_rename(tx, &instance, name) {
                Ok(()) => instance.name = name.to_owned(),
                // Somebody else took it while the broker worked; the broker's part is done all the same.
                Err(why) => ended.warnings.push(why.to_string()),
            }
        }
        if change["tags"].is_array() {
            instance.tags = change["tags"].to_string();
        }
        if let Some(plan) = change["plan"].as_str() {
            // A plan that is gone by now cannot be referred to.
            if service_plans::find(tx.conn, plan)?.is_some() {
                instance.plan_guid = Some(plan.to_owned());
            }
        }
        if let Some(info) = change["maintenance_info"].as_object() {
            instance.maintenance_info = Some(json!(info).to_string());
        }
        instance.unusable = false;
        instances::note(tx, &mut instance, "update", "succeeded", &description(body));
        store::save(tx.conn, &instance)?;
        MetadataChange::parse(&change["metadata"], &mut vec![]).apply(tx, KIND, &instance.guid)?;
        record(tx, op, "update", &instance)?;
        if before != (instance.name.clone(), instance.plan_guid.clone()) {
            let scope = instances::scope(tx, &instance)?;
            usage::record(tx, "UPDATED", &instance, &scope)?;
        }
        Ok(Ok(ended))
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        let Some(mut instance) = store::find(tx.conn, op.resource())? else { return Ok(forgotten()) };
        let mut failure = failure.clone();
        if failure.update_repeatable == Some(false) {
            // Repeating it is up to whoever asked for it.
            failure.text.push_str(" The service broker says that repeating this update does not help.");
        }
        instance.unusable |= failure.instance_usable == Some(false);
        instances::note(tx, &mut instance, "update", "failed", &why(&failure, "update"));
        store::save(tx.conn, &instance)?;
        Ok(Ended::failed(op.unable(tx, "update", &failure)?))
    }
}

/// Deletes an instance: first its bindings, then its shares, then at the broker.
///
/// While the instance is being made, the broker is asked all the same. Until it has agreed, the creation sleeps; if it does not
/// agree, the creation goes on.
pub struct Delete;

/// What people call a binding.
fn called(tx: &mut Tx<'_>, binding: &Binding) -> Result<String> {
    Ok(match binding.kind.as_str() {
        "app" => format!("binding of app '{}'", bindings::app_name(tx, binding)?),
        "key" => format!("key '{}'", binding.name.as_deref().unwrap_or_default()),
        _ => format!("binding of route '{}'", bindings::route_address(tx, binding)?),
    })
}

/// What went with an instance: our side of it, and what the broker says.
struct Gone {
    went: Vec<String>,
    said: String,
}

impl Gone {
    fn read(op: &Operation, body: &Object) -> Self {
        let went = op.data["went"].as_object().into_iter().flat_map(|went| went.values());
        let mut went: Vec<String> = went.filter_map(|text| text.as_str().map(str::to_owned)).collect();
        went.sort();
        Self { went, said: description(body).trim().to_owned() }
    }

    /// For the event.
    fn data(&self, op: &Operation) -> Value {
        let mut data = json!({});
        if !op.data["request"].is_null() {
            data["request"] = op.data["request"].clone();
        }
        if !self.went.is_empty() {
            data["removed"] = self.went.clone().into();
        }
        if !self.said.is_empty() {
            data["broker_description"] = self.said.clone().into();
        }
        data
    }

    /// For whoever asked for it.
    fn texts(&self, name: &str) -> Vec<String> {
        let mut texts = vec![];
        if !self.went.is_empty() {
            texts.push(format!("With service instance '{name}' went: {}.", self.went.join(", ")));
        }
        if !self.said.is_empty() {
            texts.push(format!("The service broker says of service instance '{name}': {}", self.said));
        }
        texts
    }
}

impl Delete {
    fn give_up(tx: &mut Tx<'_>, op: &Operation, why: &str, usable: Option<bool>) -> Result<()> {
        let Some(mut instance) = store::find(tx.conn, op.resource())? else { return Ok(()) };
        if operations::of(tx, Kind::InstanceCreate, op.resource())?.is_some() && !instances::deleting(&instance) {
            operations::wake(tx, Kind::InstanceCreate, op.resource())?;
        } else {
            instance.unusable |= usable == Some(false);
            instances::note(tx, &mut instance, "delete", "failed", why);
            store::save(tx.conn, &instance)?;
        }
        operations::wake(tx, Kind::SpaceDelete, &instance.space_guid)
    }

    /// Ends a creation whose deletion the broker agreed to.
    fn cancel_create(tx: &mut Tx<'_>, instance: &Instance) -> Result<()> {
        if let Some(create) = operations::of(tx, Kind::InstanceCreate, &instance.guid)? {
            let why = format!("create could not be completed: The service instance {} is being deleted.", instance.name);
            operations::cancel(tx, &create, &Error::rule(Rule::UnableToPerform, why))?;
        }
        Ok(())
    }
}

impl Handler for Delete {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        let Some(mut instance) = store::find(tx.conn, op.resource())? else { return Ok(Prepared::End(Ended::well())) };
        match operations::of(tx, Kind::InstanceCreate, &instance.guid)? {
            Some(create) if create.step == Step::Call => return Ok(Prepared::Wait),
            Some(mut create) => operations::pause(tx, &mut create)?,
            None if !instances::deleting(&instance) => {
                instances::note(tx, &mut instance, "delete", "in progress", "");
                store::save(tx.conn, &instance)?;
            }
            None => {}
        }
        let began = op.began();
        let failed_now =
            |binding: &Binding| binding.op_type == "delete" && binding.op_state == "failed" && binding.op_updated_at >= began;
        for binding in service_bindings::of_instance(tx.conn, &instance.guid)? {
            op.data["went"][&binding.guid] = called(tx, &binding)?.into();
            if !failed_now(&binding) {
                bindings::begin_delete(tx, &binding, op.user.clone())?;
            }
        }
        let left = service_bindings::of_instance(tx.conn, &instance.guid)?;
        if left.iter().any(|binding| !failed_now(binding)) {
            return Ok(Prepared::Wait);
        }
        if !left.is_empty() {
            let each: Vec<&str> = left.iter().map(|binding| binding.op_description.as_str()).collect();
            let text = format!(
                "Deletion of service instance {} failed because one or more associated resources could not be deleted.\n\n{}",
                instance.name,
                each.join("\n")
            );
            Self::give_up(tx, op, &text, None)?;
            return Ok(Prepared::End(Ended::failed(Error::rule(Rule::InstanceRecursiveDelete, text))));
        }
        store::unshare_all(tx.conn, &instance.guid)?;
        Ok(Prepared::Send(Request::Deprovision(op.target.of_instance())))
    }

    fn accepted(&self, tx: &mut Tx<'_>, op: &mut Operation, _: &Object) -> Result<()> {
        let Some(mut instance) = store::find(tx.conn, op.resource())? else { return Ok(()) };
        Self::cancel_create(tx, &instance)?;
        instances::note(tx, &mut instance, "delete", "in progress", "");
        store::save(tx.conn, &instance)?;
        record(tx, op, "start_delete", &instance)
    }

    fn progress(&self, tx: &mut Tx<'_>, op: &mut Operation, description: Option<&str>) -> Result<()> {
        progress(tx, op, description)
    }

    fn succeeded(&self, tx: &mut Tx<'_>, op: &mut Operation, body: &Object) -> Succeeded {
        let Some(instance) = store::find(tx.conn, op.resource())? else { return Ok(Ok(Ended::well())) };
        Self::cancel_create(tx, &instance)?;
        if store::count_bindings(tx.conn, &instance.guid)? > 0 {
            // Somebody bound it meanwhile; with its service gone nothing is left to be unbound.
            for binding in service_bindings::of_instance(tx.conn, &instance.guid)? {
                op.data["went"][&binding.guid] = called(tx, &binding)?.into();
                bindings::purge(tx, &binding)?;
            }
        }
        let scope = instances::scope(tx, &instance)?;
        instances::remove(tx, &instance)?;
        let gone = Gone::read(op, body);
        instances::record(tx, "delete", &instance, &scope, gone.data(op))?;
        usage::record(tx, "DELETED", &instance, &scope)?;
        operations::wake(tx, Kind::SpaceDelete, &instance.space_guid)?;
        Ok(Ok(Ended { error: None, warnings: gone.texts(&instance.name) }))
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        let Some(instance) = store::find(tx.conn, op.resource())? else { return Ok(Ended::well()) };
        let text = match failure.kind {
            FailureKind::Overdue => why(failure, "deprovision"),
            _ => format!("Service instance {}: {}", instance.name, failure.text),
        };
        Self::give_up(tx, op, &text, failure.instance_usable)?;
        let error = match failure.kind {
            FailureKind::Concurrency => instances::in_progress(&instance),
            _ => op.unable(tx, "delete", &Failure { text, ..failure.clone() })?,
        };
        Ok(Ended::failed(error))
    }

    fn deletes(&self) -> bool {
        true
    }
}
