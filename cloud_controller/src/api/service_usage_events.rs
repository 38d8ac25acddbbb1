//! `/v3/service_usage_events`

use crate::{
    api::{Answer, Api, ok, page, query::ListSpec},
    domain::{Caller, Error, Tx, services::usage},
    store::{
        query::{List, Listed},
        service_usage::{self as store, UsageEvent},
    },
};
use actix_web::{
    HttpRequest, get, post,
    web::{Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec {
    filters: &["after_guid", "service_instance_types", "service_offering_guids"],
    labels: false,
    unprocessable: true,
    ..ListSpec::STANDARD
};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(index).service(reseed).service(show);
}

fn body(api: &Api, row: &UsageEvent) -> Value {
    let mut body = page::head(&row.guid, row.created_at, row.created_at);
    body.insert("state".into(), row.state.clone().into());
    body.insert("space".into(), json!({ "guid": row.space_guid, "name": row.space_name }));
    body.insert("organization".into(), json!({ "guid": row.org_guid }));
    let instance = json!({ "guid": row.instance_guid, "name": row.instance_name, "type": row.instance_kind });
    body.insert("service_instance".into(), instance);
    body.insert("service_plan".into(), json!({ "guid": row.plan_guid, "name": row.plan_name }));
    body.insert("service_offering".into(), json!({ "guid": row.offering_guid, "name": row.offering_name }));
    body.insert("service_broker".into(), json!({ "guid": row.broker_guid, "name": row.broker_name }));
    body.insert("links".into(), json!({ "self": page::link(api, &format!("/v3/service_usage_events/{}", row.guid)) }));
    body.into()
}

#[get("/v3/service_usage_events")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    check(&list)?;
    let find = move |tx: &mut Tx<'_>, asked: List| {
        if !tx.who.global_reader() {
            return Ok(Listed { rows: vec![], total: 0 });
        }
        let after = match asked.first("after_guid") {
            None => 0,
            Some(guid) => {
                let wrong = "After guid filter must be a valid service usage event guid.";
                store::find(tx.conn, guid)?.ok_or_else(|| Error::invalid(wrong))?.position
            }
        };
        store::list(tx.conn, after, &asked)
    };
    page::answer(&api, &caller, &request, list, find, |row| body(&api, row)).await
}

/// What lists of usage events know less than others.
pub fn check(list: &List) -> Result<(), Error> {
    if list.values("after_guid").is_some_and(|guids| guids.len() > 1) {
        return Err(Error::invalid("After guid filter accepts only one guid"));
    }
    if list.updated != Default::default() {
        return Err(Error::invalid("Filtering by 'updated_ats' is not allowed on this resource."));
    }
    if list.order().0 == "updated_at" {
        return Err(Error::invalid("Order by can only be: 'created_at'"));
    }
    Ok(())
}

#[get("/v3/service_usage_events/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let event = api.read(&caller, move |tx| usage::find(tx, &guid)).await?;
    ok(body(&api, &event))
}

#[post("/v3/service_usage_events/actions/destructively_purge_all_and_reseed")]
async fn reseed(api: Data<Api>, caller: Caller) -> Answer {
    api.write(&caller, usage::purge_and_reseed).await?;
    ok(json!({}))
}
