//! `/v3/service_plans/:guid/visibility`

use crate::{
    api::{
        Answer, Api,
        body::{Fields, raw},
        no_content, ok,
    },
    domain::{
        Caller, Error, Result,
        services::visibility::{self, Change, Kind, Visibility},
    },
};
use actix_web::{
    delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(show).service(replace).service(extend).service(remove);
}

fn body(visibility: &Visibility, with_orgs: bool) -> Value {
    let mut body = json!({ "type": visibility.kind.as_str() });
    if visibility.kind == Kind::Organization && with_orgs {
        body["organizations"] = visibility.orgs.iter().map(|org| json!({ "guid": org.guid, "name": org.name })).collect();
    }
    if let (Kind::Space, Some(space)) = (visibility.kind, &visibility.space) {
        body["space"] = json!({ "guid": space.guid, "name": space.name });
    }
    body
}

/// Reads a wanted visibility; what is wrong with it is a bad request here.
fn read(bytes: &[u8], append: bool) -> Result<Change> {
    let mut fields = Fields::parse(bytes, &["type", "organizations"])?;
    let kind = match fields.string("type").as_deref() {
        Some("public") => Some(Kind::Public),
        Some("admin") => Some(Kind::Admin),
        Some("organization") => Some(Kind::Organization),
        _ => None,
    };
    if kind.is_none() {
        fields.problem("Type must be one of 'public', 'admin', 'organization'");
    }
    let mut orgs = vec![];
    match (kind, fields.take("organizations")) {
        (Some(Kind::Organization), Some(Value::Array(all))) if !all.is_empty() => {
            for org in &all {
                match org.get("guid").and_then(Value::as_str).filter(|guid| !guid.is_empty()) {
                    Some(guid) => orgs.push(guid.to_owned()),
                    None => fields.problem("Organizations organizations list must be structured like this: \"organizations\": [{\"guid\": \"valid-guid\"}]"),
                }
            }
        }
        (Some(Kind::Organization), Some(Value::Array(_)) | None) => fields.problem("Organizations can't be blank"),
        (Some(Kind::Organization), Some(_)) => fields.problem("Organizations must be an array"),
        (_, Some(_)) => fields.problem("Organizations must be blank"),
        (_, None) => {}
    }
    match fields.finish() {
        Err(Error::Invalid(text)) => Err(Error::BadRequest(text)),
        other => other,
    }?;
    orgs.sort();
    orgs.dedup();
    Ok(Change { kind: kind.unwrap_or(Kind::Admin), orgs, append, request: raw(bytes) })
}

#[get("/v3/service_plans/{guid}/visibility")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let visibility = api.read(&caller, move |tx| visibility::show(tx, &guid)).await?;
    ok(body(&visibility, true))
}

#[patch("/v3/service_plans/{guid}/visibility")]
async fn replace(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let change = read(&bytes, false)?;
    let visibility = api.write(&caller, move |tx| visibility::change(tx, &guid, &change)).await?;
    ok(body(&visibility, true))
}

#[post("/v3/service_plans/{guid}/visibility")]
async fn extend(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let change = read(&bytes, true)?;
    let visibility = api.write(&caller, move |tx| visibility::change(tx, &guid, &change)).await?;
    ok(body(&visibility, false))
}

#[delete("/v3/service_plans/{guid}/visibility/{org}")]
async fn remove(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (guid, org) = path.into_inner();
    api.write(&caller, move |tx| visibility::revoke(tx, &guid, &org)).await?;
    no_content()
}
