//! Instances that are shared to other spaces.
//!
//! Source: cloud_controller_ng, `app/actions/service_instance_share.rb`, `service_instance_unshare.rb`.

use crate::{
    domain::{
        Error, Result, Rule, Scope, Tx, flags,
        services::{
            bindings,
            instances::{self, visible_in},
            operations::Originator,
        },
    },
    store::{
        service_bindings::Binding,
        service_instances::{self as store, Instance, Share},
    },
};
use serde_json::json;

/// Shares an instance (W in its space and in each target); returns all spaces that it is shared to then.
pub fn share(tx: &mut Tx<'_>, guid: &str, targets: &[String]) -> Result<Vec<String>> {
    flags::require_for_all(tx, "service_instance_sharing")?;
    let (instance, scope) = instances::writable(tx, guid)?;
    let scopes = writable_targets(tx, &instance, targets)?;
    check_instance(tx, &instance, &scope)?;
    for target in &scopes {
        check_target(tx, &instance, &scope, target)?;
    }
    for target in &scopes {
        let row = Share { instance_guid: guid.to_owned(), space_guid: target.space.guid.clone(), created_at: tx.micros() };
        store::share(tx.conn, &row)?;
    }
    let data = json!({ "target_space_guids": targets });
    instances::record(tx, "share", &instance, &scope, data)?;
    Ok(store::shared_spaces(tx.conn, guid)?.into_iter().map(|space| space.guid).collect())
}

fn writable_targets(tx: &mut Tx<'_>, instance: &Instance, targets: &[String]) -> Result<Vec<Scope>> {
    let (mut scopes, mut unreadable, mut unwritable) = (vec![], vec![], vec![]);
    for target in targets {
        match Scope::readable(tx, target, "Space") {
            Ok(scope) if scope.check(tx, scope.writes(tx)).is_ok() => scopes.push(scope),
            Ok(_) => unwritable.push(format!("'{target}'")),
            Err(Error::NotFound(_)) => unreadable.push(format!("'{target}'")),
            Err(other) => return Err(other),
        }
    }
    let mut problems = vec![];
    let lead =
        |spaces: &[String]| format!("Unable to share service instance {} with spaces [{}].", instance.name, spaces.join(", "));
    if !unreadable.is_empty() {
        problems.push(format!("{} Ensure the spaces exist and that you have access to them.", lead(&unreadable)));
    }
    if !unwritable.is_empty() {
        let why = "Write permission is required in order to share a service instance with a space.";
        problems.push(format!("{} {why}", lead(&unwritable)));
    }
    if problems.is_empty() { Ok(scopes) } else { Err(Error::invalid(problems.join("\n"))) }
}

fn check_instance(tx: &mut Tx<'_>, instance: &Instance, _: &Scope) -> Result<()> {
    if instance.route_service_url.is_some() {
        return Err(Error::invalid("Route services cannot be shared."));
    }
    let Some(offered) = instances::offered(tx, instance)? else {
        return Err(Error::invalid("User-provided services cannot be shared."));
    };
    if offered.offering.required().iter().any(|required| required == "route_forwarding") {
        return Err(Error::invalid("Route services cannot be shared."));
    }
    if !offered.offering.shareable() {
        let text = format!("The {} service does not support service instance sharing.", offered.offering.name);
        return Err(Error::invalid(text));
    }
    Ok(())
}

fn check_target(tx: &mut Tx<'_>, instance: &Instance, own: &Scope, target: &Scope) -> Result<()> {
    let invalid = |text: String| Err(Error::invalid(text));
    if target.space.guid == own.space.guid {
        return invalid(format!(
            "Unable to share service instance '{}' with space '{}'. Service instances cannot be shared into the space where \
             they were created.",
            instance.name, own.space.guid
        ));
    }
    let Some(offered) = instances::offered(tx, instance)? else { return Ok(()) };
    if !offered.plan.available {
        return invalid(format!("The service instance could not be shared as the {} plan is inactive.", offered.plan.name));
    }
    if !visible_in(tx, &offered, target)? {
        return invalid(format!(
            "Access to service {} and plan {} is not enabled in {}/{}.",
            offered.offering.name, offered.plan.name, target.org.name, target.space.name
        ));
    }
    if let Some(other) = store::named(tx.conn, &target.space.guid, &instance.name)? {
        return match other.space_guid == target.space.guid {
            true => invalid(format!("A service instance called {} already exists in {}.", instance.name, target.space.name)),
            false => invalid(format!(
                "A service instance called {} has already been shared with {}.",
                instance.name, target.space.name
            )),
        };
    }
    if instances::create_failed(instance) {
        let text = format!("The service instance could not be found: {}", instance.name);
        return Err(Error::rule(Rule::InstanceNotFound, text));
    }
    if instances::busy(instance) && instance.op_type == "create" {
        return invalid("Service instance is currently being created. It can be shared after its creation succeeded.".into());
    }
    if instances::deleting(instance) {
        return invalid("The service instance is getting deleted.".into());
    }
    Ok(())
}

/// Begins to unbind the apps of a space from an instance that is shared to it (W in the instance's space).
pub fn begin_unshare(tx: &mut Tx<'_>, guid: &str, space: &str) -> Result<i64> {
    let (_, _) = instances::writable(tx, guid)?;
    check_shared(tx, guid, space)?;
    for binding in bindings_in(tx, guid, space)? {
        bindings::begin_delete(tx, &binding, Originator::of(tx))?;
    }
    Ok(tx.micros())
}

/// How an unsharing stands.
pub enum Unsharing {
    /// It is done.
    Done,
    /// Bindings are still being deleted.
    Waits,
}

/// Takes a share back, once nothing of the space is bound any more. `began`: when that was begun.
///
/// # Errors
/// [`Rule::UnshareFailed`] with what happened to bindings that could not be deleted.
pub fn finish_unshare(tx: &mut Tx<'_>, guid: &str, space: &str, began: i64, at_last: bool) -> Result<Unsharing> {
    let (instance, scope) = instances::writable(tx, guid)?;
    check_shared(tx, guid, space)?;
    let left = bindings_in(tx, guid, space)?;
    let failed =
        |binding: &Binding| binding.op_type == "delete" && binding.op_state == "failed" && binding.op_updated_at >= began;
    if left.iter().any(|binding| !failed(binding)) && !at_last {
        return Ok(Unsharing::Waits);
    }
    if !left.is_empty() {
        let pending = "There is an operation in progress for the service binding.".to_owned();
        let each: Vec<String> =
            left.iter().map(|binding| if failed(binding) { binding.op_description.clone() } else { pending.clone() }).collect();
        let lead = "Unshare of service instance failed because one or more bindings could not be deleted.";
        return Err(Error::rule(Rule::UnshareFailed, format!("{lead}\n\n{}", each.join("\n"))));
    }
    store::unshare(tx.conn, guid, space)?;
    instances::record(tx, "unshare", &instance, &scope, json!({ "target_space_guid": space }))?;
    Ok(Unsharing::Done)
}

fn check_shared(tx: &mut Tx<'_>, guid: &str, space: &str) -> Result<()> {
    if store::shared_to(tx.conn, guid, space)? {
        return Ok(());
    }
    let text = format!("Unable to unshare service instance from space {space}. Ensure the space exists.");
    Err(Error::invalid(text))
}

fn bindings_in(tx: &mut Tx<'_>, guid: &str, space: &str) -> Result<Vec<Binding>> {
    store::bindings_in_space(tx.conn, guid, space)
}
