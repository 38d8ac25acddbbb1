//! `/v3/service_plans`

use crate::{
    api::{
        Answer, Api,
        body::Fields,
        include::Included,
        no_content, ok, page,
        query::ListSpec,
        service_offerings::{self, BROKER_KEYS, broker_fields, check_available, visitor},
    },
    domain::{
        Caller, Result, Tx,
        services::{
            plans,
            visibility::{self, Kind},
        },
    },
    store::{
        metadata::{Described, describe},
        query::{List, Listed},
        service_brokers::Broker,
        service_offerings::{self as offering_store, Offering},
        service_plans::{self as store, KIND, Plan},
    },
};
use actix_web::{
    HttpRequest, delete, get, patch,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

const LIST: ListSpec = ListSpec {
    filters: &[
        "names",
        "available",
        "broker_catalog_ids",
        "service_broker_guids",
        "service_broker_names",
        "space_guids",
        "organization_guids",
        "service_offering_guids",
        "service_offering_names",
        "service_instance_guids",
    ],
    order_by: &["name"],
    includes: &["service_offering", "space.organization"],
    fields: &[("service_offering.service_broker", BROKER_KEYS)],
    ..ListSpec::STANDARD
};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(index).service(show).service(update).service(remove);
}

/// A plan with all that is shown of it; plans of one offering share it.
struct View {
    plan: Described<Plan>,
    of: Arc<(Described<Offering>, Broker)>,
    kind: Kind,
}

/// Rows, what they show, and what was asked for besides.
struct Views {
    rows: Vec<View>,
    included: Included,
}

/// Adds all in a fixed number of statements.
fn views(tx: &mut Tx<'_>, list: &List, rows: Vec<Plan>) -> Result<Views> {
    let guids: Vec<String> = rows.iter().map(|row| row.guid.clone()).collect();
    let mut offerings: Vec<String> = rows.iter().map(|row| row.offering_guid.clone()).collect();
    offerings.sort();
    offerings.dedup();
    let above = offering_store::with_brokers(tx.conn, &offerings)?;
    let (rows_above, brokers): (Vec<Offering>, Vec<Broker>) = above.into_iter().unzip();
    let described = describe(tx.conn, offering_store::KIND, rows_above, |row| &row.guid)?;
    let above: BTreeMap<String, Arc<(Described<Offering>, Broker)>> = described
        .into_iter()
        .zip(brokers)
        .map(|(offering, broker)| (offering.row.guid.clone(), Arc::new((offering, broker))))
        .collect();
    let named = store::granted(tx.conn, &guids)?;
    let mut included = Included::default();
    if list.includes("space.organization") {
        let spaces = above.values().filter_map(|of| of.1.space_guid.clone()).collect();
        included.spaces(tx, spaces, true, true)?;
    }
    let mut shown = vec![];
    for plan in describe(tx.conn, KIND, rows, |row| &row.guid)? {
        let Some(of) = above.get(&plan.row.offering_guid).cloned() else { continue };
        let kind = Kind::of(&plan.row, of.1.space_guid.as_deref(), named.contains(&plan.row.guid));
        shown.push(View { plan, of, kind });
    }
    Ok(Views { rows: shown, included })
}

impl Views {
    fn included(&self, api: &Api, list: &List) -> Option<Value> {
        let mut included = self.included.body(api).unwrap_or_else(|| json!({}));
        let mut above: BTreeMap<(i64, &str), &(Described<Offering>, Broker)> = BTreeMap::new();
        for view in &self.rows {
            above.insert((view.of.0.row.created_at, &view.of.0.row.guid), &view.of);
        }
        if list.includes("service_offering") {
            let offerings = above.values().map(|(offering, broker)| service_offerings::body(api, offering, broker));
            included["service_offerings"] = offerings.collect();
        }
        if let Some(keys) = list.fields.get("service_offering.service_broker") {
            included["service_brokers"] = broker_fields(above.values().map(|(_, broker)| broker), keys);
        }
        included.as_object().is_some_and(|map| !map.is_empty()).then_some(included)
    }
}

fn body(api: &Api, view: &View) -> Value {
    let Described { row, metadata } = &view.plan;
    let (offering, broker) = (&view.of.0.row, &view.of.1);
    let extra = parsed(row.extra.as_deref());
    let path = format!("/v3/service_plans/{}", row.guid);
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("visibility_type".into(), view.kind.as_str().into());
    body.insert("available".into(), row.available.into());
    body.insert("free".into(), row.free.into());
    body.insert("costs".into(), costs(&extra["costs"]).into());
    body.insert("description".into(), row.description.clone().into());
    body.insert("maintenance_info".into(), parsed(row.maintenance_info.as_deref()));
    let features = json!({
        "bindable": row.bindable.unwrap_or(offering.bindable),
        "plan_updateable": row.plan_updateable.unwrap_or(offering.plan_updateable),
    });
    let catalog = json!({
        "id": row.catalog_id,
        "metadata": extra,
        "maximum_polling_duration": row.maximum_polling_s,
        "features": features,
    });
    body.insert("broker_catalog".into(), catalog);
    let schemas = json!({
        "service_instance": { "create": schema(row.create_schema.as_deref()), "update": schema(row.update_schema.as_deref()) },
        "service_binding": { "create": schema(row.bind_schema.as_deref()) },
    });
    body.insert("schemas".into(), schemas);
    let mut relationships = json!({ "service_offering": page::to_one(Some(&offering.guid)) });
    let mut links = json!({
        "self": page::link(api, &path),
        "service_offering": page::link(api, &format!("/v3/service_offerings/{}", offering.guid)),
        "visibility": page::link(api, &format!("{path}/visibility")),
    });
    if let Some(space) = &broker.space_guid {
        relationships["space"] = page::to_one(Some(space));
        links["space"] = page::link(api, &format!("/v3/spaces/{space}"));
    }
    body.insert("relationships".into(), relationships);
    body.insert("metadata".into(), page::metadata(metadata));
    body.insert("links".into(), links);
    body.into()
}

/// A JSON object of a row; `{}` where there is none.
fn parsed(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| json!({}))
}

fn schema(text: Option<&str>) -> Value {
    match text.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        Some(schema) => json!({ "parameters": schema }),
        None => json!({}),
    }
}

/// The costs of a plan's metadata as a flat list; nothing if one of them is not what it should be.
fn costs(costs: &Value) -> Vec<Value> {
    let flat = || -> Option<Vec<Value>> {
        let mut all = vec![];
        for cost in costs.as_array()? {
            let unit = cost["unit"].as_str().filter(|unit| !unit.is_empty())?;
            let amounts: &Map<String, Value> = cost["amount"].as_object().filter(|amounts| !amounts.is_empty())?;
            for (currency, amount) in amounts {
                let amount = amount.as_f64().filter(|_| !currency.is_empty())?;
                all.push(json!({ "currency": currency.to_uppercase(), "amount": amount, "unit": unit }));
            }
        }
        Some(all)
    };
    flat().unwrap_or_default()
}

#[get("/v3/service_plans")]
async fn index(api: Data<Api>, caller: Option<Caller>, request: HttpRequest) -> Answer {
    let caller = visitor(&api, caller, &request).await?;
    let list = LIST.parse(request.query_string())?;
    check_available(&list)?;
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        let reach = visibility::reach(tx, &asked)?;
        let Listed { rows, total } = store::list(tx.conn, &reach, &asked)?;
        Ok((views(tx, &asked, rows)?, total))
    };
    let (found, total) = api.read(&caller, work).await?;
    let resources = found.rows.iter().map(|view| body(&api, view)).collect();
    let included = found.included(&api, &list);
    ok(page::document(&api, request.path(), request.query_string(), &list, total, resources, included))
}

#[get("/v3/service_plans/{guid}")]
async fn show(api: Data<Api>, caller: Option<Caller>, guid: Path<String>, request: HttpRequest) -> Answer {
    let caller = visitor(&api, caller, &request).await?;
    let list = LIST.parse_show(request.query_string())?;
    one(&api, &caller, guid.into_inner(), list).await
}

async fn one(api: &Api, caller: &Caller, guid: String, list: List) -> Answer {
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        let offered = visibility::seen(tx, &guid)?;
        views(tx, &asked, vec![offered.plan])
    };
    let found = api.read(caller, work).await?;
    let mut shown = found.rows.first().map(|view| body(api, view)).unwrap_or_default();
    if let Some(included) = found.included(api, &list) {
        shown["included"] = included;
    }
    ok(shown)
}

#[patch("/v3/service_plans/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["metadata"])?;
    let change = fields.metadata();
    fields.finish()?;
    let guid = guid.into_inner();
    let plan = guid.clone();
    api.write(&caller, move |tx| plans::describe_plan(tx, &plan, &change)).await?;
    one(&api, &caller, guid, List::default()).await
}

#[delete("/v3/service_plans/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    api.write(&caller, move |tx| plans::delete_plan(tx, &guid)).await?;
    no_content()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_flattened_and_one_bad_entry_hides_all() {
        let good =
            json!([{ "amount": { "usd": 99, "eur": 49.5 }, "unit": "MONTHLY" }, { "amount": { "usd": 0.5 }, "unit": "1GB" }]);
        assert_eq!(
            costs(&good),
            [
                json!({ "currency": "EUR", "amount": 49.5, "unit": "MONTHLY" }),
                json!({ "currency": "USD", "amount": 99.0, "unit": "MONTHLY" }),
                json!({ "currency": "USD", "amount": 0.5, "unit": "1GB" }),
            ]
        );
        for bad in [
            json!([{ "amount": { "usd": "99" }, "unit": "MONTHLY" }, { "amount": { "usd": 1 }, "unit": "X" }]),
            json!([{ "amount": {}, "unit": "MONTHLY" }]),
            json!([{ "amount": { "": 1 }, "unit": "MONTHLY" }]),
            json!([{ "amount": { "usd": 1 } }]),
            json!("free"),
            Value::Null,
        ] {
            assert_eq!(costs(&bad), Vec::<Value>::new(), "{bad}");
        }
    }
}
