//! `/v3/jobs`

use crate::{
    api::{Answer, Api, ok, page},
    domain::{Caller, Error},
    store::jobs::{self, Job},
};
use actix_web::{
    get,
    web::{Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(show);
}

#[get("/v3/jobs/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let guid = guid.into_inner();
    let job = api.read(&caller, move |tx| jobs::find(tx.conn, &guid)).await?.ok_or(Error::NotFound("Job"))?;
    ok(body(&api, &job))
}

fn body(api: &Api, job: &Job) -> Value {
    let mut body = page::head(&job.guid, job.created_at, job.updated_at);
    body.insert("operation".into(), job.operation.clone().into());
    body.insert("state".into(), job.state.clone().into());
    body.insert("errors".into(), serde_json::from_str(&job.errors).unwrap_or_else(|_| json!([])));
    body.insert("warnings".into(), serde_json::from_str(&job.warnings).unwrap_or_else(|_| json!([])));
    let mut links = json!({ "self": page::link(api, &format!("/v3/jobs/{}", job.guid)) });
    // What was deleted has no address any more.
    if let (Some(kind), Some(guid), false) = (&job.resource_kind, &job.resource_guid, job.operation.ends_with(".delete")) {
        links[kind] = page::link(api, &format!("/v3/{kind}/{guid}"));
    }
    body.insert("links".into(), links);
    body.into()
}
