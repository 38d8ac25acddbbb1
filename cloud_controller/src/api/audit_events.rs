//! `/v3/audit_events`

use crate::{
    api::{Answer, Api, ok, page, query::ListSpec},
    domain::{Caller, Error},
    store::{
        audit::{self, EventRow},
        query::List,
    },
};
use actix_web::{
    HttpRequest, get,
    web::{Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec {
    filters: &["types", "target_guids", "target_guids[not]", "space_guids", "organization_guids"],
    labels: false,
    ..ListSpec::STANDARD
};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(index).service(show);
}

fn body(api: &Api, event: &EventRow) -> Value {
    let mut body = page::head(&event.guid, event.created_at, event.created_at);
    let of = |guid: &Option<String>| guid.as_ref().map(|guid| json!({ "guid": guid }));
    body.insert("type".into(), event.kind.clone().into());
    body.insert("actor".into(), json!({ "guid": event.actor_guid, "type": event.actor_kind, "name": event.actor_name }));
    body.insert("target".into(), json!({ "guid": event.target_guid, "type": event.target_kind, "name": event.target_name }));
    body.insert("data".into(), serde_json::from_str(&event.data).unwrap_or_else(|_| json!({})));
    body.insert("space".into(), of(&event.space_guid).into());
    body.insert("organization".into(), of(&event.org_guid).into());
    body.insert("links".into(), json!({ "self": page::link(api, &format!("/v3/audit_events/{}", event.guid)) }));
    body.into()
}

#[get("/v3/audit_events")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let find = move |tx: &mut crate::domain::Tx<'_>, asked: List| {
        let who = tx.who.clone();
        audit::list(tx.conn, &who, &asked)
    };
    page::answer(&api, &caller, &request, list, find, |event| body(&api, event)).await
}

#[get("/v3/audit_events/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut crate::domain::Tx<'_>| {
        let who = tx.who.clone();
        audit::find(tx.conn, &who, &guid)?.ok_or(Error::NotFound("Event"))
    };
    let event = api.read(&caller, work).await?;
    ok(body(&api, &event))
}
