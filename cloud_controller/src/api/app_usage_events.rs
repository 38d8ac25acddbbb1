//! `/v3/app_usage_events`

use crate::{
    api::{Answer, Api, ok, page, query::ListSpec, service_usage_events::check},
    domain::{Caller, Error, Tx, app_usage},
    store::{
        app_usage::{self as store, AppUsageEvent},
        query::{List, Listed},
    },
};
use actix_web::{
    HttpRequest, get, post,
    web::{Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec { filters: &["after_guid"], labels: false, unprocessable: true, ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(index).service(reseed).service(show);
}

fn body(api: &Api, row: &AppUsageEvent) -> Value {
    let nothing = json!({ "guid": null, "name": null });
    let mut body = page::head(&row.guid, row.created_at, row.created_at);
    body.insert("state".into(), json!({ "current": row.state, "previous": row.previous_state }));
    body.insert("app".into(), json!({ "guid": row.app_guid, "name": row.app_name }));
    body.insert("process".into(), json!({ "guid": row.process_guid, "type": row.process_kind }));
    body.insert("space".into(), json!({ "guid": row.space_guid, "name": row.space_name }));
    body.insert("organization".into(), json!({ "guid": row.org_guid }));
    body.insert("buildpack".into(), nothing.clone());
    body.insert("task".into(), nothing);
    body.insert("memory_in_mb_per_instance".into(), json!({ "current": row.memory_mb, "previous": row.previous_memory_mb }));
    body.insert("instance_count".into(), json!({ "current": row.instances, "previous": row.previous_instances }));
    body.insert("links".into(), json!({ "self": page::link(api, &format!("/v3/app_usage_events/{}", row.guid)) }));
    body.into()
}

#[get("/v3/app_usage_events")]
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
                let wrong = "After guid filter must be a valid app usage event guid.";
                store::find(tx.conn, guid)?.ok_or_else(|| Error::invalid(wrong))?.position
            }
        };
        store::list(tx.conn, after, &asked)
    };
    page::answer(&api, &caller, &request, list, find, |row| body(&api, row)).await
}

#[get("/v3/app_usage_events/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let event = api.read(&caller, move |tx| app_usage::find(tx, &guid)).await?;
    ok(body(&api, &event))
}

#[post("/v3/app_usage_events/actions/destructively_purge_all_and_reseed")]
async fn reseed(api: Data<Api>, caller: Caller) -> Answer {
    api.write(&caller, app_usage::purge_and_reseed).await?;
    ok(json!({}))
}
