//! Removes what may be left over at a broker of a request that failed, or of an instance that was replaced.
//!
//! Source: the Open Service Broker API specification, "Orphan Mitigation"; cloud_controller_ng, `docs/adr/0009`.

use crate::{
    brokers::{Failure, Object, Request},
    domain::{
        Error, Result, Tx,
        services::operations::{self, Ended, Handler, Kind, MAX_POLLING, New, Operation, Prepared, Target},
    },
    store::service_instances,
};
use serde_json::Value;

/// Begins to remove an instance or a binding that may be left over, unless that is under way.
pub fn begin(tx: &mut Tx<'_>, kind: Kind, broker: Option<&str>, target: &Target) -> Result<()> {
    let resource = target.binding.as_ref().unwrap_or(&target.instance);
    begin_of(tx, kind, resource, broker, target)
}

/// Begins to remove a backup that may be left over.
pub fn begin_backup(tx: &mut Tx<'_>, backup: &str, broker: Option<&str>, target: &Target) -> Result<()> {
    begin_of(tx, Kind::OrphanBackup, backup, broker, target)
}

fn begin_of(tx: &mut Tx<'_>, kind: Kind, resource: &str, broker: Option<&str>, target: &Target) -> Result<()> {
    if operations::of(tx, kind, resource)?.is_some() {
        return Ok(());
    }
    let new = New { kind, resource, broker, user: None, target: target.clone(), data: Value::Null, time: MAX_POLLING, job: None };
    operations::begin(tx, new, || Error::invalid("The removal is under way.")).map(drop)
}

/// Deletes, again and again, what is not known here any more.
pub struct Orphan;

impl Handler for Orphan {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        let of = op.target.of_instance();
        if op.kind == Kind::OrphanBackup {
            // Backups go with their instance.
            return Ok(match service_instances::find(tx.conn, &of.instance)? {
                Some(_) => Prepared::Send(Request::DeleteBackup { instance: of.instance, backup: op.resource().to_owned() }),
                None => Prepared::End(Ended::well()),
            });
        }
        Ok(Prepared::Send(match &op.target.binding {
            Some(binding) => Request::Unbind { of, binding: binding.clone() },
            None => Request::Deprovision(of),
        }))
    }
    fn succeeded(&self, _: &mut Tx<'_>, op: &mut Operation, _: &Object) -> Result<std::result::Result<Ended, Failure>> {
        tracing::info!(operation = op.guid(), resource = op.resource(), "what was left over at the broker is gone");
        Ok(Ok(Ended::well()))
    }
    fn failed(&self, _: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        let why = &failure.text;
        tracing::error!(operation = op.guid(), resource = op.resource(), why, "the broker keeps what nobody knows of any more");
        Ok(Ended::well())
    }
    fn deletes(&self) -> bool {
        true
    }
}
