//! Work at brokers for bindings: what is sent, and what becomes of a binding by the answers.

use crate::{
    brokers::{Failure, FailureKind, Object, Request},
    domain::{
        Error, Result, Tx,
        services::{
            binding_answer::Handed,
            binding_events::Told,
            bindings::{self, metadata_kind, offered, operate, scope_of, tell},
            operations::{self, Ended, Handler, Kind, Operation, Prepared},
            volumes,
        },
    },
    store::{
        metadata,
        service_bindings::{self as store, Binding},
        service_instances,
    },
};

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
        let mut warnings = vec![];
        if let Some(mounts) = handed.volume_mounts.filter(|_| binding.kind == "app") {
            binding.volume_mounts = Some(volumes::seal(tx, &binding.guid, &mounts)?);
            let folders: Vec<_> =
                mounts.as_array().into_iter().flatten().map(|mount| volumes::folder(mount, &instance.name)).collect();
            warnings.push(volumes::text(&bindings::app_name(tx, &binding)?, &folders));
        }
        binding.endpoints = handed.endpoints.map(|endpoints| endpoints.to_string());
        operate(tx, &mut binding, "create", "succeeded", "");
        store::save(tx.conn, &binding)?;
        Told::read(&op.data).record(tx, Some(op), "create")?;
        tell(tx, &binding)?;
        wake_all(tx, op, &binding)?;
        Ok(Ok(Ended { error: None, warnings }))
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
        let mut failure = failure.clone();
        if !incomplete(op) && failure.status == Some(202) {
            failure.text = SYNCHRONOUS.to_owned();
        }
        let failure = &failure;
        let text = op.explained(tx, failure)?;
        if let Some(mut binding) = store::find(tx.conn, op.resource())? {
            operate(tx, &mut binding, "create", "failed", &text);
            store::save(tx.conn, &binding)?;
            wake_all(tx, op, &binding)?;
        }
        Ok(Ended::failed(op.unable(tx, "bind", failure)?))
    }

    fn orphan(&self) -> Option<Kind> {
        Some(Kind::OrphanBinding)
    }
}

/// A broker that takes its time although it was not asked whether there is any.
pub const SYNCHRONOUS: &str = "The service broker responded asynchronously when a synchronous bind was requested.";

/// The broker may take its time.
pub fn incomplete(op: &Operation) -> bool {
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
fn wake_all(tx: &mut Tx<'_>, op: &Operation, binding: &Binding) -> Result<()> {
    let space = Told::read(&op.data).space;
    let waits = [
        (Kind::InstanceDelete, Some(&binding.instance_guid)),
        (Kind::AppDelete, binding.app_guid.as_ref()),
        (Kind::RouteDelete, binding.route_guid.as_ref()),
        (Kind::SpaceDelete, Some(&space)),
    ];
    for (kind, resource) in waits {
        if let Some(resource) = resource {
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
        wake_all(tx, op, &binding)?;
        Ok(Ok(Ended::well()))
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        let text = op.explained(tx, failure)?;
        if let Some(mut binding) = store::find(tx.conn, op.resource())? {
            operate(tx, &mut binding, "delete", "failed", &text);
            store::save(tx.conn, &binding)?;
            wake_all(tx, op, &binding)?;
        }
        if failure.kind == FailureKind::Concurrency && op.data["told"]["kind"] == "app" {
            return Ok(Ended::failed(in_progress(tx, op)?));
        }
        Ok(Ended::failed(op.unable(tx, "unbind", failure)?))
    }

    fn deletes(&self) -> bool {
        true
    }
}

/// The broker works on the binding of an app.
fn in_progress(tx: &mut Tx<'_>, op: &Operation) -> Result<Error> {
    match store::find(tx.conn, op.resource())? {
        Some(binding) => bindings::in_progress(tx, &binding),
        None => Ok(bindings::busy()),
    }
}
