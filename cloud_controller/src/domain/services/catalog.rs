//! Brings what a broker offers here in line with its catalog.
//!
//! [`compare`] says what is new, changed and gone, and knows neither table nor socket; [`apply`] carries it out in few
//! statements. What is gone from the catalog is deleted, or stays as unavailable while somebody has an instance of it.
//!
//! Source: cloud_controller_ng, `lib/services/service_brokers/service_manager.rb`.

use crate::{
    domain::{Result, Tx, audit, micros},
    store::{
        audit::{EventRow, insert_many},
        service_brokers::Broker,
        service_offerings::{self as offerings, Offering},
        service_plans::{self as plans, Plan},
    },
};
use osb::{
    Catalog,
    catalog::{Input, Problems, ServiceProblems},
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a broker before its catalog is looked at.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub offerings: Vec<Offering>,
    pub plans: Vec<Plan>,
    /// Guids of plans with instances.
    pub used: BTreeSet<String>,
}

/// What new rows begin with.
pub struct Fresh<'a> {
    pub broker: &'a Broker,
    /// Everybody sees new plans.
    pub public: bool,
    /// The moment (microseconds); each new row of a kind is a microsecond younger than the one before it in the catalog: lists
    /// are in order of creation, and so in the broker's.
    pub now: i64,
    pub guid: &'a mut dyn FnMut() -> String,
}

/// A row with what is new about it, for the event.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed<T> {
    pub row: T,
    pub data: Map<String, Value>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub new_offerings: Vec<Changed<Offering>>,
    pub changed_offerings: Vec<Changed<Offering>>,
    pub gone_offerings: Vec<Offering>,
    pub new_plans: Vec<Changed<Plan>>,
    pub changed_plans: Vec<Changed<Plan>>,
    pub gone_plans: Vec<Plan>,
    /// Ids of dashboard clients.
    pub new_clients: Vec<String>,
    pub gone_clients: Vec<String>,
    /// For the job.
    pub warnings: Vec<String>,
}

/// Compares what is known with a valid catalog.
///
/// # Errors
/// What of the catalog collides with what must stay.
pub fn compare(known: &Known, catalog: &Catalog, fresh: &mut Fresh<'_>) -> std::result::Result<Changes, Problems> {
    let problems = collisions(known, catalog);
    if !problems.is_empty() {
        return Err(problems);
    }
    let by_id: BTreeMap<&str, &Offering> = known.offerings.iter().map(|row| (row.catalog_id.as_str(), row)).collect();
    let mut changes = Changes::default();
    let mut seen = BTreeSet::new();
    for service in &catalog.services {
        let before = by_id.get(service.id.as_str()).copied();
        let after = offering_row(service, before, next(&changes.new_offerings, fresh.now), fresh);
        for plan in &service.plans {
            let of_plan = |row: &&Plan| row.catalog_id == plan.id && Some(&row.offering_guid) == before.map(|row| &row.guid);
            let plan_before = known.plans.iter().find(of_plan);
            let plan_after = plan_row(plan, &after.guid, plan_before, next(&changes.new_plans, fresh.now), fresh);
            seen.extend(plan_before.map(|row| row.guid.as_str()));
            note(plan_before, plan_after, plan_data, &mut changes.new_plans, &mut changes.changed_plans, |row| {
                row.updated_at = fresh.now;
            });
        }
        note(before, after, offering_data, &mut changes.new_offerings, &mut changes.changed_offerings, |row| {
            row.updated_at = fresh.now;
        });
    }
    vanished(known, catalog, &seen, fresh, &mut changes);
    changes.clients(known, catalog);
    Ok(changes)
}

impl Changes {
    fn clients(&mut self, known: &Known, catalog: &Catalog) {
        let before: BTreeSet<&str> = known.offerings.iter().filter_map(|row| row.dashboard_client_id.as_deref()).collect();
        let after: BTreeSet<&str> =
            catalog.services.iter().filter_map(|service| Some(service.dashboard_client.as_ref()?.id.as_str())).collect();
        self.new_clients = after.difference(&before).map(|id| (*id).to_owned()).collect();
        self.gone_clients = before.difference(&after).map(|id| (*id).to_owned()).collect();
    }
}

/// Plans and offerings that are not in the catalog any more.
fn vanished(known: &Known, catalog: &Catalog, seen: &BTreeSet<&str>, fresh: &Fresh<'_>, changes: &mut Changes) {
    let mut kept: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for plan in known.plans.iter().filter(|plan| !seen.contains(plan.guid.as_str())) {
        if !known.used.contains(&plan.guid) {
            changes.gone_plans.push(plan.clone());
            continue;
        }
        kept.entry(plan.offering_guid.as_str()).or_default().push(plan.name.as_str());
        let after = Plan { available: false, ..plan.clone() };
        note(Some(plan), after, plan_data, &mut changes.new_plans, &mut changes.changed_plans, |row| row.updated_at = fresh.now);
    }
    for offering in known.offerings.iter().filter(|row| catalog.service(&row.catalog_id).is_none()) {
        if !kept.contains_key(offering.guid.as_str()) {
            changes.gone_offerings.push(offering.clone());
            continue;
        }
        let after = Offering { available: false, dashboard_client_id: None, ..offering.clone() };
        note(Some(offering), after, offering_data, &mut changes.new_offerings, &mut changes.changed_offerings, |row| {
            row.updated_at = fresh.now;
        });
    }
    let named = kept.iter().map(|(guid, names)| {
        let name = known.offerings.iter().find(|row| row.guid == *guid).map_or("", |row| row.name.as_str());
        (name, names)
    });
    changes.warnings.extend(deactivated(&fresh.broker.url, named.collect()));
}

/// The warning about plans that are gone from the catalog, but stay.
fn deactivated(url: &str, mut kept: Vec<(&str, &Vec<&str>)>) -> Option<String> {
    if kept.is_empty() {
        return None;
    }
    kept.sort();
    let mut text = format!(
        "Warning: Service plans are missing from the broker's catalog ({url}/v2/catalog) but can not be removed from Cloud \
         Foundry while instances exist. The plans have been deactivated to prevent users from attempting to provision new \
         instances of these plans. The broker should continue to support bind, unbind, and delete for existing instances; if \
         these operations fail contact your broker provider.\n"
    );
    for (offering, plans) in kept {
        let mut plans = plans.clone();
        plans.sort_unstable();
        text.push_str(&format!("\n{offering}\n"));
        plans.iter().for_each(|plan| text.push_str(&format!("  {plan}\n")));
    }
    Some(text)
}

/// What must stay, because it is used, and has a name or an id that the catalog gives to something else.
fn collisions(known: &Known, catalog: &Catalog) -> Problems {
    let mut problems = Problems::default();
    let stays = |offering: &Offering| {
        catalog.service(&offering.catalog_id).is_none()
            && known.plans.iter().any(|plan| plan.offering_guid == offering.guid && known.used.contains(&plan.guid))
    };
    let staying: Vec<&Offering> = known.offerings.iter().filter(|row| stays(row)).collect();
    let taken: Vec<String> = catalog
        .services
        .iter()
        .filter(|service| staying.iter().any(|row| row.name == service.name))
        .map(|service| format!("\"{}\"", service.name))
        .collect();
    if !taken.is_empty() {
        let names = taken.join(", ");
        problems
            .messages
            .push(format!("Service names must be unique within a broker. Services with names [{names}] already exist"));
    }
    for service in &catalog.services {
        let own = known.offerings.iter().find(|row| row.catalog_id == service.id).map(|row| &row.guid);
        let mut found = ServiceProblems { name: service.name.clone(), ..ServiceProblems::default() };
        for plan in &service.plans {
            let other =
                |row: &&Plan| row.catalog_id == plan.id && Some(&row.offering_guid) != own && known.used.contains(&row.guid);
            if let Some(other) = known.plans.iter().find(other) {
                found.messages.push(format!(
                    "Plan ids must be unique. Unable to register plan with id '{}' (plan name '{}') because it uses the same id \
                     as the existing plan '{}', which has instances",
                    plan.id, plan.name, other.name
                ));
            }
        }
        if !found.messages.is_empty() {
            problems.services.push(found);
        }
    }
    problems
}

/// Notes a row that is new or has changed; `touch` says when.
fn note<T: Clone + PartialEq>(
    before: Option<&T>,
    mut after: T,
    data: impl Fn(&T) -> Map<String, Value>,
    new: &mut Vec<Changed<T>>,
    changed: &mut Vec<Changed<T>>,
    touch: impl FnOnce(&mut T),
) {
    match before {
        None => new.push(Changed { data: data(&after), row: after }),
        Some(before) if *before == after => {}
        Some(before) => {
            let old = data(before);
            let data = data(&after).into_iter().filter(|(key, value)| old.get(key) != Some(value)).collect();
            touch(&mut after);
            changed.push(Changed { row: after, data });
        }
    }
}

/// When the row that follows these is made.
fn next<T>(rows: &[Changed<T>], now: i64) -> i64 {
    now.saturating_add(i64::try_from(rows.len()).unwrap_or(i64::MAX))
}

fn offering_row(service: &osb::ServiceOffering, before: Option<&Offering>, made: i64, fresh: &mut Fresh<'_>) -> Offering {
    Offering {
        guid: before.map_or_else(&mut *fresh.guid, |row| row.guid.clone()),
        created_at: before.map_or(made, |row| row.created_at),
        updated_at: before.map_or(made, |row| row.updated_at),
        broker_guid: fresh.broker.guid.clone(),
        catalog_id: service.id.clone(),
        name: service.name.clone(),
        description: service.description.clone(),
        available: true,
        bindable: service.bindable,
        plan_updateable: service.plan_updateable,
        instances_retrievable: service.instances_retrievable,
        bindings_retrievable: service.bindings_retrievable,
        allow_context_updates: service.allow_context_updates,
        tags: json!(service.tags).to_string(),
        requires: json!(service.requires).to_string(),
        extra: service.metadata.as_ref().map(|metadata| json!(metadata).to_string()),
        dashboard_client_id: service.dashboard_client.as_ref().map(|client| client.id.clone()),
    }
}

fn plan_row(plan: &osb::Plan, offering: &str, before: Option<&Plan>, made: i64, fresh: &mut Fresh<'_>) -> Plan {
    let schema = |input| plan.schema(input).map(Value::to_string);
    Plan {
        guid: before.map_or_else(&mut *fresh.guid, |row| row.guid.clone()),
        created_at: before.map_or(made, |row| row.created_at),
        updated_at: before.map_or(made, |row| row.updated_at),
        offering_guid: offering.to_owned(),
        catalog_id: plan.id.clone(),
        name: plan.name.clone(),
        description: plan.description.clone(),
        free: plan.is_free(),
        available: true,
        public: before.map_or(fresh.public, |row| row.public),
        bindable: plan.bindable,
        plan_updateable: plan.plan_updateable,
        binding_rotatable: plan.binding_rotatable,
        extra: plan.metadata.as_ref().map(|metadata| json!(metadata).to_string()),
        create_schema: schema(Input::CreateInstance),
        update_schema: schema(Input::UpdateInstance),
        bind_schema: schema(Input::CreateBinding),
        maximum_polling_s: plan.maximum_polling_duration.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
        maintenance_info: plan.maintenance_info.as_ref().map(|info| json!(info).to_string()),
    }
}

/// What events tell of an offering.
fn offering_data(row: &Offering) -> Map<String, Value> {
    let data = json!({
        "name": row.name,
        "description": row.description,
        "unique_id": row.catalog_id,
        "service_broker_guid": row.broker_guid,
        "available": row.available,
        "bindable": row.bindable,
        "plan_updateable": row.plan_updateable,
        "instances_retrievable": row.instances_retrievable,
        "bindings_retrievable": row.bindings_retrievable,
        "allow_context_updates": row.allow_context_updates,
        "tags": row.tag_list(),
        "requires": row.required(),
        "metadata": row.metadata(),
        "dashboard_client_id": row.dashboard_client_id,
    });
    object(data)
}

/// What events tell of a plan.
fn plan_data(row: &Plan) -> Map<String, Value> {
    let parsed = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let data = json!({
        "name": row.name,
        "description": row.description,
        "unique_id": row.catalog_id,
        "service_offering_guid": row.offering_guid,
        "available": row.available,
        "free": row.free,
        "bindable": row.bindable,
        "plan_updateable": row.plan_updateable,
        "binding_rotatable": row.binding_rotatable,
        "metadata": parsed(&row.extra),
        "create_instance_schema": parsed(&row.create_schema),
        "update_instance_schema": parsed(&row.update_schema),
        "create_binding_schema": parsed(&row.bind_schema),
        "maximum_polling_duration": row.maximum_polling_s,
        "maintenance_info": parsed(&row.maintenance_info),
    });
    object(data)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Brings a broker's offerings and plans in line with its catalog; returns warnings for the user.
///
/// `Err` inside with what is wrong with the catalog: then nothing was changed.
pub fn apply(
    tx: &mut Tx<'_>,
    broker: &Broker,
    catalog: &Catalog,
    public: bool,
) -> Result<std::result::Result<Vec<String>, Problems>> {
    let rows = plans::of_broker(tx.conn, &broker.guid)?;
    let guids: Vec<String> = rows.iter().map(|plan| plan.guid.clone()).collect();
    let known =
        Known { offerings: offerings::of_broker(tx.conn, &broker.guid)?, used: plans::in_use(tx.conn, &guids)?, plans: rows };
    let claimed = claimed_by_others(tx, broker, catalog)?;
    if !claimed.is_empty() {
        return Ok(Err(claimed));
    }
    let now = tx.micros();
    let rng = &mut tx.rng;
    let mut guid = || types::AppId::random(rng).to_string();
    let mut fresh = Fresh { broker, public, now, guid: &mut guid };
    let changes = match compare(&known, catalog, &mut fresh) {
        Ok(changes) => changes,
        Err(problems) => return Ok(Err(problems)),
    };
    carry_out(tx, broker, &changes)?;
    Ok(Ok(changes.warnings))
}

/// Dashboard clients that are another broker's.
fn claimed_by_others(tx: &mut Tx<'_>, broker: &Broker, catalog: &Catalog) -> Result<Problems> {
    let client = |service: &osb::ServiceOffering| service.dashboard_client.as_ref().map(|client| client.id.clone());
    let wanted: Vec<String> = catalog.services.iter().filter_map(client).collect();
    let taken = match wanted.is_empty() {
        true => vec![],
        false => offerings::clients_of_others(tx.conn, &broker.guid, &wanted)?,
    };
    Ok(clients_taken(catalog, &taken))
}

/// What is wrong with a catalog whose dashboard clients are taken.
pub fn clients_taken(catalog: &Catalog, taken: &[String]) -> Problems {
    let mut problems = Problems::default();
    for service in &catalog.services {
        if service.dashboard_client.as_ref().is_some_and(|client| taken.contains(&client.id)) {
            let messages = vec!["Service dashboard client id must be unique".to_owned()];
            problems.services.push(ServiceProblems { name: service.name.clone(), messages, plans: vec![] });
        }
    }
    problems
}

fn carry_out(tx: &mut Tx<'_>, broker: &Broker, changes: &Changes) -> Result<()> {
    let guids = |rows: &[Plan]| rows.iter().map(|row| row.guid.clone()).collect::<Vec<_>>();
    if !changes.gone_plans.is_empty() {
        plans::delete(tx.conn, &guids(&changes.gone_plans))?;
    }
    let gone: Vec<String> = changes.gone_offerings.iter().map(|row| row.guid.clone()).collect();
    if !gone.is_empty() {
        offerings::delete(tx.conn, &gone)?;
    }
    if !(changes.new_clients.is_empty() && changes.gone_clients.is_empty()) {
        // A client may go from one offering to another; it is a unique key.
        let changed: Vec<String> = changes.changed_offerings.iter().map(|changed| changed.row.guid.clone()).collect();
        offerings::let_go_of_clients(tx.conn, &changed)?;
    }
    for changed in &changes.changed_offerings {
        offerings::save(tx.conn, &changed.row)?;
    }
    let new: Vec<Offering> = changes.new_offerings.iter().map(|new| new.row.clone()).collect();
    offerings::insert(tx.conn, &new)?;
    let new: Vec<Plan> = changes.new_plans.iter().map(|new| new.row.clone()).collect();
    plans::insert(tx.conn, &new)?;
    for changed in &changes.changed_plans {
        plans::save(tx.conn, &changed.row)?;
    }
    record(tx, broker, changes)
}

fn record(tx: &mut Tx<'_>, broker: &Broker, changes: &Changes) -> Result<()> {
    let mut events = Events { broker, now: micros(tx.now), rows: vec![] };
    let rng = &mut tx.rng;
    let mut guid = || types::AppId::random(rng).to_string();
    for (verb, rows) in [("create", &changes.new_offerings), ("update", &changes.changed_offerings)] {
        for Changed { row, data } in rows {
            events.add(guid(), "service", verb, (&row.guid, &row.name), data.clone());
        }
    }
    for row in &changes.gone_offerings {
        events.add(guid(), "service", "delete", (&row.guid, &row.name), Map::new());
    }
    for (verb, rows) in [("create", &changes.new_plans), ("update", &changes.changed_plans)] {
        for Changed { row, data } in rows {
            events.add(guid(), "service_plan", verb, (&row.guid, &row.name), data.clone());
        }
    }
    for row in &changes.gone_plans {
        events.add(guid(), "service_plan", "delete", (&row.guid, &row.name), Map::new());
    }
    for (verb, ids) in [("create", &changes.new_clients), ("delete", &changes.gone_clients)] {
        for id in ids {
            let data = object(json!({ "secret": audit::HIDDEN }));
            events.add(guid(), "service_dashboard_client", verb, (id, id), data);
        }
    }
    insert_many(tx.conn, &events.rows)
}

/// Events whose actor is the broker.
struct Events<'a> {
    broker: &'a Broker,
    now: i64,
    rows: Vec<EventRow>,
}

impl Events<'_> {
    fn add(&mut self, guid: String, kind: &str, verb: &str, target: (&str, &str), data: Map<String, Value>) {
        self.rows.push(EventRow {
            guid,
            created_at: self.now,
            kind: format!("audit.{kind}.{verb}"),
            actor_guid: self.broker.guid.clone(),
            actor_kind: "service_broker".into(),
            actor_name: self.broker.name.clone(),
            target_guid: target.0.to_owned(),
            target_kind: kind.to_owned(),
            target_name: target.1.to_owned(),
            data: Value::Object(data).to_string(),
            space_guid: None,
            org_guid: None,
        });
    }
}

/// Removes all that a broker without instances offers.
pub fn remove_all(tx: &mut Tx<'_>, broker: &Broker) -> Result<()> {
    let changes = Changes {
        gone_plans: plans::of_broker(tx.conn, &broker.guid)?,
        gone_offerings: offerings::of_broker(tx.conn, &broker.guid)?,
        ..Changes::default()
    };
    let clients = changes.gone_offerings.iter().filter_map(|row| row.dashboard_client_id.clone()).collect();
    carry_out(tx, broker, &Changes { gone_clients: clients, ..changes })
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
