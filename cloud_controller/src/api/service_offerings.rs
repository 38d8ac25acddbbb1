//! `/v3/service_offerings`

use crate::{
    api::{Answer, Api, body::Fields, no_content, ok, page, query::ListSpec},
    domain::{
        Caller, Error, Result, Tx, flags,
        services::{plans, visibility},
    },
    store::{
        metadata::{Described, describe, describe_one},
        query::{List, Listed},
        service_brokers::Broker,
        service_offerings::{self as store, KIND, Offering},
    },
};
use actix_web::{
    HttpRequest, delete, get, patch,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const LIST: ListSpec = ListSpec {
    filters: &[
        "names",
        "available",
        "broker_catalog_ids",
        "service_broker_guids",
        "service_broker_names",
        "space_guids",
        "organization_guids",
    ],
    order_by: &["name"],
    fields: &[("service_broker", BROKER_KEYS)],
    ..ListSpec::STANDARD
};
/// What may be asked for of a broker beside what it offers.
pub const BROKER_KEYS: &[&str] = &["guid", "name"];

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(index).service(show).service(update).service(remove);
}

/// An offering as the API shows it.
pub fn body(api: &Api, offering: &Described<Offering>, broker: &Broker) -> Value {
    let Described { row, metadata } = offering;
    let catalog = row.metadata();
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("description".into(), row.description.clone().into());
    body.insert("available".into(), row.available.into());
    body.insert("tags".into(), row.tag_list().into());
    body.insert("requires".into(), row.required().into());
    body.insert("shareable".into(), row.shareable().into());
    body.insert("documentation_url".into(), catalog.get("documentationUrl").cloned().unwrap_or_default());
    let features = json!({
        "plan_updateable": row.plan_updateable,
        "bindable": row.bindable,
        "instances_retrievable": row.instances_retrievable,
        "bindings_retrievable": row.bindings_retrievable,
        "allow_context_updates": row.allow_context_updates,
    });
    body.insert("broker_catalog".into(), json!({ "id": row.catalog_id, "metadata": catalog, "features": features }));
    let of_broker = json!({ "data": { "guid": broker.guid, "name": broker.name } });
    body.insert("relationships".into(), json!({ "service_broker": of_broker }));
    body.insert("metadata".into(), page::metadata(metadata));
    let links = json!({
        "self": page::link(api, &format!("/v3/service_offerings/{}", row.guid)),
        "service_plans": page::link(api, &format!("/v3/service_plans?service_offering_guids={}", row.guid)),
        "service_broker": page::link(api, &format!("/v3/service_brokers/{}", broker.guid)),
    });
    body.insert("links".into(), links);
    body.into()
}

/// Who looks at the marketplace: anybody, unless the operator hides it.
pub async fn visitor(api: &Api, caller: Option<Caller>, request: &HttpRequest) -> Result<Caller> {
    if let Some(caller) = caller {
        return Ok(caller);
    }
    if request.headers().contains_key("Authorization") {
        return Err(Error::InvalidToken);
    }
    let hidden = api.read(&Caller::system(), |tx| flags::enabled(tx, "hide_marketplace_from_unauthenticated_users")).await?;
    if hidden { Err(Error::NotAuthenticated) } else { Ok(Caller::anybody()) }
}

/// Refuses values of `available` that are not true or false.
pub fn check_available(list: &List) -> Result<()> {
    let given = list.values("available").unwrap_or_default();
    match given.iter().all(|value| value == "true" || value == "false") && given.len() <= 1 {
        true => Ok(()),
        false => Err(Error::BadQuery("Available only accepts values 'true' or 'false'".into())),
    }
}

/// These keys of brokers, each broker once, in order of creation.
pub fn broker_fields<'a>(brokers: impl Iterator<Item = &'a Broker>, keys: &[String]) -> Value {
    let each: BTreeMap<(i64, &str), &Broker> =
        brokers.map(|broker| ((broker.created_at, broker.guid.as_str()), broker)).collect();
    let shown = each.values().map(|broker| {
        let mut shown = Map::new();
        for key in keys {
            let value = if key == "guid" { &broker.guid } else { &broker.name };
            shown.insert(key.clone(), value.clone().into());
        }
        Value::Object(shown)
    });
    shown.collect()
}

/// Rows with their brokers.
type Views = Vec<(Described<Offering>, Broker)>;

/// Adds metadata and brokers.
pub fn views(tx: &mut Tx<'_>, rows: Vec<Offering>) -> Result<Views> {
    let guids: Vec<String> = rows.iter().map(|row| row.guid.clone()).collect();
    let brokers: BTreeMap<String, Broker> =
        store::with_brokers(tx.conn, &guids)?.into_iter().map(|(_, broker)| (broker.guid.clone(), broker)).collect();
    let all = describe(tx.conn, KIND, rows, |row| &row.guid)?;
    Ok(all.into_iter().filter_map(|row| brokers.get(&row.row.broker_guid).cloned().map(|broker| (row, broker))).collect())
}

#[get("/v3/service_offerings")]
async fn index(api: Data<Api>, caller: Option<Caller>, request: HttpRequest) -> Answer {
    let caller = visitor(&api, caller, &request).await?;
    let list = LIST.parse(request.query_string())?;
    check_available(&list)?;
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        let reach = visibility::reach(tx, &asked)?;
        let found = store::list(tx.conn, &reach, &asked)?;
        Ok(Listed { total: found.total, rows: views(tx, found.rows)? })
    };
    let found = api.read(&caller, work).await?;
    let resources = found.rows.iter().map(|(row, broker)| body(&api, row, broker)).collect();
    let included = included(&list, found.rows.iter().map(|(_, broker)| broker));
    ok(page::document(&api, request.path(), request.query_string(), &list, found.total, resources, included))
}

fn included<'a>(list: &List, brokers: impl Iterator<Item = &'a Broker>) -> Option<Value> {
    list.fields.get("service_broker").map(|keys| json!({ "service_brokers": broker_fields(brokers, keys) }))
}

#[get("/v3/service_offerings/{guid}")]
async fn show(api: Data<Api>, caller: Option<Caller>, guid: Path<String>, request: HttpRequest) -> Answer {
    let caller = visitor(&api, caller, &request).await?;
    let list = LIST.parse_show(request.query_string())?;
    let work = move |tx: &mut Tx<'_>| {
        let (offering, broker) = plans::offering(tx, &guid)?;
        Ok((describe_one(tx.conn, KIND, offering, &guid)?, broker))
    };
    let (offering, broker) = api.read(&caller, work).await?;
    let mut shown = body(&api, &offering, &broker);
    if let Some(included) = included(&list, std::iter::once(&broker)) {
        shown["included"] = included;
    }
    ok(shown)
}

#[patch("/v3/service_offerings/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["metadata"])?;
    let change = fields.metadata();
    fields.finish()?;
    let (offering, broker) = api.write(&caller, move |tx| plans::describe_offering(tx, &guid, &change)).await?;
    ok(body(&api, &offering, &broker))
}

#[delete("/v3/service_offerings/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let mut purge = false;
    for (name, value) in url::form_urlencoded::parse(request.query_string().as_bytes()) {
        match (&*name, &*value) {
            ("purge", "true") => purge = true,
            ("purge", "false") => purge = false,
            ("purge", _) => return Err(Error::BadQuery("Purge must be a boolean".into()).into()),
            (other, _) => {
                let text = format!("Unknown query parameter(s): '{other}'. Valid parameters are: 'purge'");
                return Err(Error::BadQuery(text).into());
            }
        }
    }
    let work = move |tx: &mut Tx<'_>| match purge {
        true => plans::purge_offering(tx, &guid),
        false => plans::delete_offering(tx, &guid),
    };
    api.write(&caller, work).await?;
    no_content()
}
