//! Spaces and organizations with services: what brokers have of them goes first, then the rest.
//!
//! A broker that does not answer stops the deletion with a list of what stays; the space is usable as before, and purging those
//! instances gets on with it.
//!
//! Source: cloud_controller_ng, `app/actions/space_delete.rb`, `organization_delete.rb`.

use crate::{
    brokers::{Failure, Object},
    domain::{
        Error, Result, Rule, Scope, Tx, orgs,
        services::{
            bindings, brokers, instances,
            operations::{self, Ended, Handler, Kind, MAX_POLLING, New, Operation, Originator, Prepared, Target},
        },
        spaces,
    },
    store::{
        self,
        jobs::{self, Job},
        orgs::Org,
        service_bindings::Binding,
        service_instances::{self, Instance},
        spaces::Space,
    },
};
use serde_json::{Value, json};

/// True when services must go before the space can.
pub fn has_services(tx: &mut Tx<'_>, space: &str) -> Result<bool> {
    Ok(!service_instances::of_space(tx.conn, space)?.is_empty()
        || !service_instances::foreign_bindings(tx.conn, space)?.is_empty()
        || !store::service_brokers::of_space(tx.conn, space)?.is_empty())
}

/// Begins to delete a space with its services.
pub fn begin_space(tx: &mut Tx<'_>, space: &Space) -> Result<Job> {
    let user = Originator::of(tx);
    let job = Some(("space.delete", ("spaces", space.guid.as_str())));
    let new = new(Kind::SpaceDelete, &space.guid, user, json!({ "org": space.org_guid }), job);
    operations::begin_job(tx, new, || Error::rule(Rule::BeingDeleted, "The space is being deleted"))
}

/// Begins to delete an organization with its services.
pub fn begin_org(tx: &mut Tx<'_>, org: &Org) -> Result<Job> {
    let user = Originator::of(tx);
    let job = Some(("organization.delete", ("organizations", org.guid.as_str())));
    let new = new(Kind::OrgDelete, &org.guid, user, json!({ "failed": {} }), job);
    operations::begin_job(tx, new, || Error::rule(Rule::BeingDeleted, "The organization is being deleted"))
}

fn new<'a>(
    kind: Kind,
    resource: &'a str,
    user: Option<Originator>,
    data: Value,
    job: Option<(&'a str, (&'a str, &'a str))>,
) -> New<'a> {
    New { kind, resource, broker: None, user, target: Target::default(), data, time: MAX_POLLING, job }
}

/// Says that nothing is ever sent: such work has no broker.
fn unsent() -> Error {
    Error::internal("deleting with services", "an answer to nothing")
}

fn final_failure(why: &Error) -> bool {
    !matches!(why, Error::Internal(..) | Error::Contention(_) | Error::Unavailable(..))
}

/// Deletes a space.
pub struct OfSpace;

impl OfSpace {
    /// Ends it, and has the organization's deletion know.
    fn end(tx: &mut Tx<'_>, op: &Operation, error: Option<Error>) -> Result<Prepared> {
        let org = op.data["org"].as_str().unwrap_or_default().to_owned();
        if let Some(mut parent) = operations::of(tx, Kind::OrgDelete, &org)? {
            if let Some(why) = &error {
                parent.data["failed"][op.resource()] = why.to_string().into();
                parent.save(tx)?;
            }
            operations::wake(tx, Kind::OrgDelete, &org)?;
        }
        Ok(Prepared::End(Ended { error, warnings: vec![] }))
    }
}

/// What became of the parts of something.
#[derive(Default)]
struct Parts {
    waiting: bool,
    failed: Vec<String>,
}

fn instance_part(tx: &mut Tx<'_>, op: &Operation, instance: &Instance, scope: &Scope, parts: &mut Parts) -> Result<()> {
    if instance.kind != "managed" {
        return instances::delete_user_provided(tx, instance, scope);
    }
    if operations::of(tx, Kind::InstanceDelete, &instance.guid)?.is_some() {
        parts.waiting = true;
    } else if instance.op_type == "delete" && instance.op_state == "failed" && instance.op_updated_at >= op.began() {
        parts.failed.push(format!("{}: {}", instance.name, instance.op_description));
    } else if instances::busy(instance) && instance.op_type != "create" {
        parts.failed.push(format!("{}: There is an operation in progress for the service instance.", instance.name));
    } else if tried(op, &instance.guid) {
        // The broker did not agree to stop making it.
        parts.failed.push(format!("{}: An operation for service instance {0} is in progress.", instance.name));
    } else {
        instances::begin_delete(tx, instance, op.user.clone(), None)?;
        parts.waiting = true;
    }
    Ok(())
}

fn failed(scope: &Scope, parts: &Parts) -> Error {
    let lead =
        format!("Deletion of space {} failed because one or more resources within could not be deleted.", scope.space.name);
    Error::rule(Rule::SpaceDeletionFailed, format!("{lead}\n\n{}", parts.failed.join("\n")))
}

fn tried(op: &Operation, guid: &str) -> bool {
    op.data["tried"][guid].as_bool().unwrap_or(false)
}

fn binding_part(tx: &mut Tx<'_>, op: &Operation, binding: &Binding, parts: &mut Parts) -> Result<()> {
    if binding.op_type == "delete" && binding.op_state == "failed" && binding.op_updated_at >= op.began() {
        parts.failed.push(binding.op_description.clone());
    } else {
        bindings::begin_delete(tx, binding, op.user.clone())?;
        parts.waiting |= store::service_bindings::find(tx.conn, &binding.guid)?.is_some();
    }
    Ok(())
}

impl Handler for OfSpace {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        let Some(scope) = Scope::find(tx, op.resource())? else { return Self::end(tx, op, None) };
        let mut parts = Parts::default();
        for instance in service_instances::of_space(tx.conn, &scope.space.guid)? {
            instance_part(tx, op, &instance, &scope, &mut parts)?;
            op.data["tried"][&instance.guid] = true.into();
        }
        for binding in service_instances::foreign_bindings(tx.conn, &scope.space.guid)? {
            binding_part(tx, op, &binding, &mut parts)?;
        }
        if parts.waiting {
            return Ok(Prepared::Wait);
        }
        if !parts.failed.is_empty() {
            return Self::end(tx, op, Some(failed(&scope, &parts)));
        }
        // With instances gone, brokers can go: what UAA has of their dashboards, then they themselves.
        for broker in store::service_brokers::of_space(tx.conn, &scope.space.guid)? {
            match op.data["failed"][&broker.guid].as_str() {
                Some(why) => parts.failed.push(format!("{}: {why}", broker.name)),
                None => {
                    brokers::delete_part(tx, &broker, op.user.clone())?;
                    parts.waiting = true;
                }
            }
        }
        if parts.waiting {
            return Ok(Prepared::Wait);
        }
        if !parts.failed.is_empty() {
            return Self::end(tx, op, Some(failed(&scope, &parts)));
        }
        match spaces::delete_with_all(tx, &scope.space, &scope.org) {
            Ok(()) => Self::end(tx, op, None),
            Err(why) if final_failure(&why) => Self::end(tx, op, Some(why)),
            Err(why) => Err(why),
        }
    }

    fn succeeded(&self, _: &mut Tx<'_>, _: &mut Operation, _: &Object) -> Result<std::result::Result<Ended, Failure>> {
        Err(unsent())
    }
    fn failed(&self, _: &mut Tx<'_>, _: &mut Operation, failure: &Failure) -> Result<Ended> {
        Ok(Ended::failed(Error::rule(Rule::SpaceDeletionFailed, failure.text.clone())))
    }
}

/// Deletes an organization, all its spaces side by side.
pub struct OfOrg;

impl Handler for OfOrg {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        let Some(org) = store::orgs::find(tx.conn, op.resource())? else { return Ok(Prepared::End(Ended::well())) };
        let mut waiting = false;
        for space in store::spaces::of_org(tx.conn, &org.guid)? {
            if op.data["failed"][&space.guid].is_string() {
                continue;
            }
            waiting = true;
            if operations::of(tx, Kind::SpaceDelete, &space.guid)?.is_none() {
                let data = json!({ "org": org.guid });
                let part = new(Kind::SpaceDelete, &space.guid, op.user.clone(), data, None);
                operations::begin(tx, part, || Error::rule(Rule::BeingDeleted, "The space is being deleted"))?;
            }
        }
        if waiting {
            return Ok(Prepared::Wait);
        }
        let failed: Vec<&str> = op.data["failed"].as_object().into_iter().flatten().filter_map(|(_, why)| why.as_str()).collect();
        if !failed.is_empty() {
            let lead = format!(
                "Deletion of organization {} failed because one or more resources within could not be deleted.",
                org.name
            );
            let text = format!("{lead}\n\n{}", failed.join("\n"));
            return Ok(Prepared::End(Ended::failed(Error::rule(Rule::OrgDeletionFailed, text))));
        }
        match orgs::delete_with_all(tx, &org) {
            Ok(()) => Ok(Prepared::End(Ended::well())),
            Err(why) if final_failure(&why) => Ok(Prepared::End(Ended::failed(why))),
            Err(why) => Err(why),
        }
    }

    fn succeeded(&self, _: &mut Tx<'_>, _: &mut Operation, _: &Object) -> Result<std::result::Result<Ended, Failure>> {
        Err(unsent())
    }
    fn failed(&self, _: &mut Tx<'_>, _: &mut Operation, failure: &Failure) -> Result<Ended> {
        Ok(Ended::failed(Error::rule(Rule::OrgDeletionFailed, failure.text.clone())))
    }
}

/// Deletes a space: at once, or beginning with its services.
pub fn delete_space(tx: &mut Tx<'_>, scope: &Scope) -> Result<Job> {
    if has_services(tx, &scope.space.guid)? {
        return begin_space(tx, &scope.space);
    }
    spaces::delete_with_all(tx, &scope.space, &scope.org)?;
    jobs::done(tx, "space.delete", Some(("spaces", &scope.space.guid)))
}

/// Deletes an organization: at once, or beginning with its services.
pub fn delete_org(tx: &mut Tx<'_>, org: &Org) -> Result<Job> {
    for space in store::spaces::of_org(tx.conn, &org.guid)? {
        if has_services(tx, &space.guid)? {
            return begin_org(tx, org);
        }
    }
    orgs::delete_with_all(tx, org)?;
    jobs::done(tx, "organization.delete", Some(("organizations", &org.guid)))
}
