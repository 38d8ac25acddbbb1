//! Plans and offerings, as far as users change them.

use crate::{
    domain::{
        Access, Error, Result, Tx, audit,
        metadata::MetadataChange,
        services::{instances, visibility},
    },
    store::{
        metadata::Described,
        service_brokers::Broker,
        service_instances, service_offerings as offerings,
        service_offerings::Offering,
        service_plans::{self as plans, Offered},
    },
};
use serde_json::{Value, json};

/// An offering that the caller sees: one of its plans is seen, or it is of a broker of an own space.
///
/// # Errors
/// [`Error::NotFound`].
pub fn offering(tx: &mut Tx<'_>, guid: &str) -> Result<(Offering, Broker)> {
    let missing = Error::NotFound("Service offering");
    let Some((offering, broker)) = offerings::find_with_broker(tx.conn, guid)? else { return Err(missing) };
    let who = tx.who.clone();
    if who.global_reader() || broker.space_guid.as_ref().is_some_and(|space| who.own_spaces().contains(space)) {
        return Ok((offering, broker));
    }
    let all = plans::of_offering(tx.conn, guid)?;
    let own = who.own_orgs();
    for plan in &all {
        if broker.space_guid.is_none() && (plan.public || plans::is_granted(tx.conn, &plan.guid, &own)?) {
            return Ok((offering, broker));
        }
    }
    Err(missing)
}

/// Describes an offering (A; W for that of a space's broker).
pub fn describe_offering(tx: &mut Tx<'_>, guid: &str, change: &MetadataChange) -> Result<(Described<Offering>, Broker)> {
    let (mut row, broker) = writable_offering(tx, guid)?;
    row.updated_at = tx.micros();
    offerings::save(tx.conn, &row)?;
    let metadata = change.apply(tx, offerings::KIND, guid)?;
    Ok((Described { row, metadata }, broker))
}

/// Deletes an offering without plans (A; W for that of a space's broker).
///
/// # Errors
/// [`Error::Invalid`] while there are plans.
pub fn delete_offering(tx: &mut Tx<'_>, guid: &str) -> Result<()> {
    let (offering, _) = writable_offering(tx, guid)?;
    if !plans::of_offering(tx.conn, guid)?.is_empty() {
        return Err(Error::invalid("Please delete the service_plans associations for your services."));
    }
    offerings::delete(tx.conn, &[guid.to_owned()])?;
    record_offering(tx, &offering, json!({}))
}

/// Forgets an offering with its plans, their instances and bindings; the broker is not asked (A; W for that of a space's broker).
pub fn purge_offering(tx: &mut Tx<'_>, guid: &str) -> Result<()> {
    let (offering, _) = writable_offering(tx, guid)?;
    let all: Vec<String> = plans::of_offering(tx.conn, guid)?.into_iter().map(|plan| plan.guid).collect();
    for plan in &all {
        for instance in service_instances::of_plan(tx.conn, plan)? {
            let scope = instances::scope(tx, &instance)?;
            instances::purge_unchecked(tx, &instance, &scope)?;
        }
    }
    plans::delete(tx.conn, &all)?;
    offerings::delete(tx.conn, &[guid.to_owned()])?;
    record_offering(tx, &offering, json!({ "request": { "purge": true } }))
}

fn writable_offering(tx: &mut Tx<'_>, guid: &str) -> Result<(Offering, Broker)> {
    let found = offering(tx, guid)?;
    Access::require(visibility::may_write(&tx.who, found.1.space_guid.as_deref()))?;
    Ok(found)
}

fn record_offering(tx: &mut Tx<'_>, offering: &Offering, data: Value) -> Result<()> {
    let target = ("service", offering.guid.as_str(), offering.name.as_str());
    audit::record(tx, audit::Event { kind: "audit.service.delete", target, space: None, org: None, data })
}

/// Describes a plan (A; W for that of a space's broker).
pub fn describe_plan(tx: &mut Tx<'_>, guid: &str, change: &MetadataChange) -> Result<()> {
    let mut offered = writable_plan(tx, guid)?;
    offered.plan.updated_at = tx.micros();
    plans::save(tx.conn, &offered.plan)?;
    change.apply(tx, plans::KIND, guid).map(drop)
}

/// Deletes a plan without instances (A; W for that of a space's broker).
///
/// # Errors
/// [`Error::Invalid`] while there are instances.
pub fn delete_plan(tx: &mut Tx<'_>, guid: &str) -> Result<()> {
    let offered = writable_plan(tx, guid)?;
    if !plans::in_use(tx.conn, &[guid.to_owned()])?.is_empty() {
        return Err(Error::invalid("Please delete the service_instances associations for your service_plans."));
    }
    plans::delete(tx.conn, &[guid.to_owned()])?;
    let target = ("service_plan", guid, offered.plan.name.as_str());
    audit::record(tx, audit::Event { kind: "audit.service_plan.delete", target, space: None, org: None, data: json!({}) })
}

fn writable_plan(tx: &mut Tx<'_>, guid: &str) -> Result<Offered> {
    let offered = visibility::seen(tx, guid)?;
    Access::require(visibility::may_write(&tx.who, offered.broker.space_guid.as_deref()))?;
    Ok(offered)
}
