//! What to do with a request, given what there is: no I/O, no time.
//!
//! Source: specification, "Blocking Operations", and the tables of each operation; `docs/broker-backups.md`.

use crate::{Failure, Kind, store::operations};
use osb::{ErrorWord, OperationState};

/// What to do.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Begin an operation.
    Begin,
    /// The same operation runs already.
    Running(String),
    /// It is as it should be.
    Exists,
    /// It is not there, as it should be.
    Gone,
    /// Neither.
    Refuse(Failure),
}

/// What there is of an instance, binding or backup that a request is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    /// It is there.
    pub(crate) exists: bool,
    /// It was made to its end.
    pub(crate) complete: bool,
    /// It is what the request describes.
    pub(crate) same: bool,
}

fn busy() -> Verdict {
    let text = "Another operation for this service instance is in progress; wait for its end.";
    Verdict::Refuse(Failure::known(ErrorWord::ConcurrencyError, text))
}

/// A refusal of a platform that does not poll.
pub(crate) fn async_required() -> Failure {
    let text = "This service plan requires client support for asynchronous service operations.";
    Failure::known(ErrorWord::AsyncRequired, text)
}

/// An operation that runs and is the one that is asked for; a platform that does not poll cannot be told so.
fn joined(operation: &operations::Record, accepts_incomplete: bool) -> Verdict {
    match accepts_incomplete {
        true => Verdict::Running(operation.id.clone()),
        false => busy(),
    }
}

/// The operation that is asked for has ended, and is not to be done once more.
pub(crate) fn ended(operation: &operations::Record, accepts_incomplete: bool) -> Verdict {
    match operation.last.state {
        OperationState::Succeeded => Verdict::Exists,
        _ if accepts_incomplete => Verdict::Running(operation.id.clone()),
        _ => Verdict::Refuse(Failure::refused(operation.last.description.clone().unwrap_or_else(|| "it has failed".into()))),
    }
}

fn missing(what: &str) -> Verdict {
    Verdict::Refuse(Failure::not_found(format!("there is no such {what}")))
}

fn half_made() -> Verdict {
    Verdict::Refuse(Failure::refused("the service instance was not made to its end; it can only be deleted"))
}

type Running<'a> = &'a [operations::Record];

/// Make an instance.
pub(crate) fn provision(found: Found, running: Running<'_>, accepts_incomplete: bool) -> Verdict {
    let making = running.iter().find(|operation| operation.kind == Kind::Provision);
    match found {
        Found { exists: false, .. } => Verdict::Begin,
        Found { same: false, .. } => {
            Verdict::Refuse(Failure::conflict("a service instance with this id exists already, with other attributes"))
        }
        _ if running.iter().any(|operation| operation.kind == Kind::Deprovision) => busy(),
        Found { complete: true, .. } => Verdict::Exists,
        _ => making.map_or(Verdict::Begin, |operation| joined(operation, accepts_incomplete)),
    }
}

/// Change an instance. `found.same`: it is already as the request wants it.
pub(crate) fn update(found: Found, running: Running<'_>, wanted: &operations::UpdateData, accepts_incomplete: bool) -> Verdict {
    if !found.exists {
        return missing("service instance");
    }
    if let Some(operation) = running.first() {
        let same = operation.kind == Kind::Update && operation.data.update.as_ref() == Some(wanted);
        return if same { joined(operation, accepts_incomplete) } else { busy() };
    }
    match found {
        Found { complete: false, .. } => half_made(),
        Found { same: true, .. } => Verdict::Exists,
        _ => Verdict::Begin,
    }
}

/// Remove an instance.
pub(crate) fn deprovision(found: Found, running: Running<'_>, accepts_incomplete: bool) -> Verdict {
    match (found.exists, running.first()) {
        (false, _) => Verdict::Gone,
        (true, None) => Verdict::Begin,
        (true, Some(operation)) if operation.kind == Kind::Deprovision => joined(operation, accepts_incomplete),
        (true, Some(_)) => busy(),
    }
}

/// What runs on this binding, and whether something else keeps it from being touched.
fn around<'a>(running: Running<'a>, binding_id: &str) -> (Option<&'a operations::Record>, bool) {
    let own = running.iter().find(|operation| operation.subject.binding_id.as_deref() == Some(binding_id));
    (own, running.iter().any(|operation| !operation.kind.is_of_binding()))
}

/// Make a binding.
pub(crate) fn bind(instance: Found, found: Found, running: Running<'_>, binding_id: &str, accepts_incomplete: bool) -> Verdict {
    let (own, blocked) = around(running, binding_id);
    match (found, own) {
        _ if !instance.exists => missing("service instance"),
        (Found { exists: true, same: false, .. }, _) => {
            Verdict::Refuse(Failure::conflict("a service binding with this id exists already, with other attributes"))
        }
        (_, Some(operation)) if operation.kind == Kind::Bind => joined(operation, accepts_incomplete),
        (_, Some(_)) => busy(),
        (Found { complete: true, .. }, _) => Verdict::Exists,
        _ if blocked => busy(),
        _ if !instance.complete => half_made(),
        _ => Verdict::Begin,
    }
}

/// Remove a binding.
pub(crate) fn unbind(found: Found, running: Running<'_>, binding_id: &str, accepts_incomplete: bool) -> Verdict {
    let (own, blocked) = around(running, binding_id);
    match own {
        _ if !found.exists => Verdict::Gone,
        Some(operation) if operation.kind == Kind::Unbind => joined(operation, accepts_incomplete),
        Some(_) => busy(),
        None if blocked => busy(),
        None => Verdict::Begin,
    }
}

/// Make a backup.
pub(crate) fn backup(instance: Found, found: Found, running: Running<'_>, backup_id: &str, accepts_incomplete: bool) -> Verdict {
    if !instance.exists {
        return missing("service instance");
    }
    match running.first() {
        Some(operation) if operation.kind == Kind::Backup && operation.subject.backup_id.as_deref() == Some(backup_id) => {
            joined(operation, accepts_incomplete)
        }
        _ if found.complete => Verdict::Exists,
        Some(_) => busy(),
        None if !instance.complete => half_made(),
        None => Verdict::Begin,
    }
}

/// Delete a backup.
pub(crate) fn delete_backup(found: Found, running: Running<'_>, backup_id: &str, accepts_incomplete: bool) -> Verdict {
    match running.first() {
        _ if !found.exists => Verdict::Gone,
        Some(operation) if operation.kind == Kind::DeleteBackup && operation.subject.backup_id.as_deref() == Some(backup_id) => {
            joined(operation, accepts_incomplete)
        }
        Some(_) => busy(),
        None => Verdict::Begin,
    }
}

/// Go back to a backup.
pub(crate) fn restore(
    instance: Found,
    backup: Found,
    running: Running<'_>,
    backup_id: &str,
    accepts_incomplete: bool,
) -> Verdict {
    match running.first() {
        _ if !instance.exists => missing("service instance"),
        _ if !backup.exists => missing("backup"),
        Some(operation) if operation.kind == Kind::Restore && operation.subject.backup_id.as_deref() == Some(backup_id) => {
            joined(operation, accepts_incomplete)
        }
        Some(_) => busy(),
        None if !instance.complete => half_made(),
        None if !backup.complete => Verdict::Refuse(Failure::refused("this backup was not made to its end")),
        None => Verdict::Begin,
    }
}
