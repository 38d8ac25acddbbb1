//! Backups of instances, kept by their broker: our extension of the broker API.
//!
//! Nothing of them is kept here: the broker knows which there are, and the platform chooses their ids, so that a repeat is the
//! same backup. Making, deleting and restoring one are operations of the instance: it has one at a time.
//!
//! Source: docs/broker-backups.md.

use crate::{
    brokers::{Call, Failure, FailureKind, Object, Request},
    domain::{
        Access, Error, Result, Tx,
        services::{
            instances, mitigation,
            operations::{self, Ended, Handler, Kind, New, Operation, Originator, Prepared, polling_time},
            provisioning,
        },
    },
    store::{
        jobs::Job,
        service_instances::{self as store, Instance},
        service_plans::Offered,
    },
};
use serde_json::json;

/// Makes a backup (W); returns its id and the job.
pub fn create(tx: &mut Tx<'_>, guid: &str) -> Result<(String, Job)> {
    let backup = tx.guid();
    let job = begin(tx, guid, Kind::BackupCreate, "service_instance.backup", &backup)?;
    Ok((backup, job))
}

/// Deletes a backup (W).
pub fn delete(tx: &mut Tx<'_>, guid: &str, backup: &str) -> Result<Job> {
    begin(tx, guid, Kind::BackupDelete, "service_instance.backup.delete", backup)
}

/// Makes the data of an instance that of one of its backups (W); bindings go on working.
pub fn restore(tx: &mut Tx<'_>, guid: &str, backup: &str) -> Result<Job> {
    begin(tx, guid, Kind::BackupRestore, "service_instance.restore", backup)
}

/// The request for the backups of an instance (R in its own space).
pub fn list(tx: &mut Tx<'_>, guid: &str) -> Result<Call> {
    let (instance, scope) = instances::readable(tx, guid)?;
    Access::require(tx.who.reads_space(&scope.space.guid, &scope.org.guid))?;
    let offered = supporting(tx, &instance)?;
    let user = Some(tx.who.caller.guid.clone());
    let (id, plan) = (tx.guid(), Some(offered.plan.name.clone()));
    let broker = operations::address(tx, offered.broker)?;
    Ok(Call { broker, id, user, plan, request: Request::ListBackups { instance: instance.guid } })
}

/// The plan of an instance whose broker makes backups.
///
/// # Errors
/// [`Error::Invalid`] when it does not.
pub fn supporting(tx: &mut Tx<'_>, instance: &Instance) -> Result<Offered> {
    let unsupported = |name: &str| Error::invalid(format!("The {name} service does not support backups."));
    let offered = instances::offered(tx, instance)?.ok_or_else(|| unsupported("user-provided"))?;
    match offered.offering.metadata()[osb::backup::METADATA_KEY].as_bool() {
        Some(true) => Ok(offered),
        _ => Err(unsupported(&offered.offering.name)),
    }
}

fn begin(tx: &mut Tx<'_>, guid: &str, kind: Kind, operation: &str, backup: &str) -> Result<Job> {
    let (mut instance, _) = instances::writable(tx, guid)?;
    let offered = supporting(tx, &instance)?;
    if instances::create_failed(&instance) {
        return Err(Error::NotFound("Service instance"));
    }
    if instances::busy(&instance) {
        return Err(instances::in_progress(&instance));
    }
    note(tx, &mut instance, "in progress", &format!("{} backup {backup}", words(kind).1));
    store::save(tx.conn, &instance)?;
    let user = Originator::of(tx);
    let work = New {
        kind,
        resource: guid,
        broker: Some(&offered.broker.guid),
        user,
        target: instances::target(&instance, &offered),
        data: json!({ "backup": backup }),
        time: polling_time(tx.max_polling, offered.plan.maximum_polling_s),
        job: Some((operation, ("service_instances", guid))),
    };
    operations::begin_job(tx, work, || instances::in_progress(&instance))
}

/// What is done, in texts; what is being done; what was done.
fn words(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::BackupDelete => ("delete backup", "Deleting", "Deleted"),
        Kind::BackupRestore => ("restore", "Restoring", "Restored"),
        _ => ("backup", "Making", "Made"),
    }
}

/// Notes what is being done about an instance: an update, for clients know no other word; the description says more.
fn note(tx: &Tx<'_>, instance: &mut Instance, state: &str, description: &str) {
    instances::note(tx, instance, "update", state, description);
}

/// The backup that an operation is about.
fn of(op: &Operation) -> &str {
    op.data["backup"].as_str().unwrap_or_default()
}

/// Makes, deletes and restores backups.
pub struct OfInstance;

impl OfInstance {
    fn ended(tx: &mut Tx<'_>, op: &Operation, state: &str, description: &str, usable: Option<bool>) -> Result<()> {
        let Some(mut instance) = store::find(tx.conn, op.resource())? else { return Ok(()) };
        instance.unusable |= usable == Some(false);
        note(tx, &mut instance, state, description);
        store::save(tx.conn, &instance)?;
        let scope = instances::scope(tx, &instance)?;
        if state == "succeeded" {
            let verb = words(op.kind).0.replace(' ', "_");
            instances::record(tx, &verb, &instance, &scope, json!({ "backup_guid": op.data["backup"] }))?;
        }
        operations::wake(tx, Kind::SpaceDelete, &instance.space_guid)
    }
}

impl Handler for OfInstance {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        if store::find(tx.conn, op.resource())?.is_none() {
            return Ok(Prepared::End(Ended::failed(Error::NotFound("Service instance"))));
        }
        let (instance, backup) = (op.resource().to_owned(), of(op).to_owned());
        Ok(Prepared::Send(match op.kind {
            Kind::BackupDelete => Request::DeleteBackup { instance, backup },
            Kind::BackupRestore => Request::Restore { instance, backup },
            _ => Request::CreateBackup { instance, backup },
        }))
    }

    fn progress(&self, tx: &mut Tx<'_>, op: &mut Operation, description: Option<&str>) -> Result<()> {
        provisioning::progress(tx, op, description)
    }

    fn succeeded(&self, tx: &mut Tx<'_>, op: &mut Operation, body: &Object) -> Result<std::result::Result<Ended, Failure>> {
        // A backup that could not be made is an answer too.
        if op.kind == Kind::BackupCreate && body.get("state").is_some_and(|state| state == "failed") {
            let why = body.get("description").and_then(serde_json::Value::as_str).unwrap_or("The backup failed.");
            return Ok(Err(Failure::new(FailureKind::OperationFailed, why)));
        }
        let done = format!("{} backup {}", words(op.kind).2, of(op));
        Self::ended(tx, op, "succeeded", &done, None)?;
        Ok(Ok(Ended::well()))
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        let text = match failure.kind {
            FailureKind::Overdue => format!("Service Broker failed to {} within the required time.", words(op.kind).0),
            _ => failure.text.clone(),
        };
        Self::ended(tx, op, "failed", &text, failure.instance_usable)?;
        // Unlike an instance that could not be made, nobody has a use for what there may be.
        let left = failure.orphan || matches!(failure.kind, FailureKind::OperationFailed | FailureKind::Overdue);
        if op.kind == Kind::BackupCreate && left {
            mitigation::begin_backup(tx, of(op), op.broker(), &op.target)?;
        }
        Ok(Ended::failed(op.unable(tx, words(op.kind).0, failure)?))
    }
}
