//! Service usage events.

use crate::{
    domain::{Error, Result, Scope, Tx},
    store::{
        service_instances::Instance,
        service_plans::{self, Offered},
        service_usage::{self as store, InUse, UsageEvent},
    },
};

/// Writes what became of an instance: `CREATED`, `UPDATED` (its name or plan changed), `DELETED`.
pub fn record(tx: &mut Tx<'_>, state: &str, instance: &Instance, scope: &Scope) -> Result<()> {
    let position = store::next_position(tx.conn)?;
    let offered = match &instance.plan_guid {
        Some(plan) => service_plans::find_offered(tx.conn, plan)?,
        None => None,
    };
    let event = event(tx, position, state, instance, scope, offered.as_ref());
    Ok(store::insert(tx.conn, &[event])?)
}

/// Forgets all events, and writes that every instance there is was created now (A).
pub fn purge_and_reseed(tx: &mut Tx<'_>) -> Result<()> {
    tx.who.require_admin()?;
    store::purge(tx.conn)?;
    let all = store::instances(tx.conn)?;
    let events: Vec<UsageEvent> = (1..)
        .zip(all)
        .map(|(position, InUse { instance, space, org, offered })| {
            let scope = Scope { space, org };
            event(tx, position, "CREATED", &instance, &scope, offered.as_ref())
        })
        .collect();
    Ok(store::insert(tx.conn, &events)?)
}

/// Finds an event (G).
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(tx: &mut Tx<'_>, guid: &str) -> Result<UsageEvent> {
    let found = if tx.who.global_reader() { store::find(tx.conn, guid)? } else { None };
    found.ok_or(Error::NotFound("Service usage event"))
}

fn event(
    tx: &mut Tx<'_>,
    position: i64,
    state: &str,
    instance: &Instance,
    scope: &Scope,
    offered: Option<&Offered>,
) -> UsageEvent {
    let kind = if instance.kind == "managed" { "managed_service_instance" } else { "user_provided_service_instance" };
    UsageEvent {
        guid: tx.guid(),
        position,
        created_at: tx.micros(),
        state: state.to_owned(),
        space_guid: scope.space.guid.clone(),
        space_name: scope.space.name.clone(),
        org_guid: scope.org.guid.clone(),
        instance_guid: instance.guid.clone(),
        instance_name: instance.name.clone(),
        instance_kind: kind.to_owned(),
        plan_guid: offered.map(|of| of.plan.guid.clone()),
        plan_name: offered.map(|of| of.plan.name.clone()),
        offering_guid: offered.map(|of| of.offering.guid.clone()),
        offering_name: offered.map(|of| of.offering.name.clone()),
        broker_guid: offered.map(|of| of.broker.guid.clone()),
        broker_name: offered.map(|of| of.broker.name.clone()),
    }
}
