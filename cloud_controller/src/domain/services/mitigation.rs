//! Removes what may be left over at a broker of a request that failed, or of an instance that was replaced.
//!
//! Source: the Open Service Broker API specification, "Orphan Mitigation"; cloud_controller_ng, `docs/adr/0009`.

use crate::{
    brokers::{Failure, Object, Request},
    domain::{
        Error, Result, Tx,
        services::operations::{self, Ended, Handler, Kind, MAX_POLLING, New, Operation, Prepared, Target},
    },
};
use serde_json::Value;

/// Begins to remove an instance or a binding that may be left over, unless that is under way.
pub fn begin(tx: &mut Tx<'_>, kind: Kind, broker: Option<&str>, target: &Target) -> Result<()> {
    let resource = target.binding.as_ref().unwrap_or(&target.instance);
    if operations::of(tx, kind, resource)?.is_some() {
        return Ok(());
    }
    let new = New { kind, resource, broker, user: None, target: target.clone(), data: Value::Null, time: MAX_POLLING, job: None };
    operations::begin(tx, new, || Error::invalid("The removal is under way.")).map(drop)
}

/// Deletes, again and again, what is not known here any more.
pub struct Orphan;

impl Handler for Orphan {
    fn prepare(&self, _: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        let of = op.target.of_instance();
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
